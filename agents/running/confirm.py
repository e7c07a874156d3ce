"""From the results to the answer: the telling line, a second way to a number, the number stated.

Each failed check is reflected on once: two ways that differ are decided between, and an answer
that does not state the number that was found is asked for once more.
"""

from __future__ import annotations

from ryzanstein.agents.running import answering, prompting, step
from ryzanstein.agents.running.act import LEAST_TOKENS
from ryzanstein.agents.running.run import Run
from ryzanstein.agents.running.step import Step
from ryzanstein.agents.verification.checks import Check, agrees, close, numbers

__all__ = ["answer"]

# Tools that give a record a line; a small model mixes neighbouring ones up unless it quotes one.
RECORDS = frozenset({"git_inspect", "search_files"})
LEAST_LINES = 3
MOST_LINES = 60


async def answer(run: Run) -> None:
    """Answers from what the tools gave for every part, and says where they gave nothing."""
    if len(run.parts) > 1:
        without = [part for part, found in zip(run.parts, run.found, strict=False) if not found]
        await answering.say(run, prompting.answers_question(run.parts, without))
        await _compare(run)
    elif not all(run.found):
        await answering.say(run, prompting.unknown_question(run.brief))
    else:
        line = ""
        if run.talk.spare >= LEAST_TOKENS:
            await _recalculate(run)
            line = await _telling_line(run)
        quoted = run.services.caller.line(line) if line else ""
        await answering.say(run, prompting.answer_question(run.brief, quoted))
        await _compare(run)


async def _telling_line(run: Run) -> str:
    """The one line of a list of records that answers the task, chosen among them; else ""."""
    last = run.results[-1] if run.results else None
    if last is None:
        return ""
    lines = [line.strip() for line in last.observation.splitlines() if line.strip()]
    if last.tool not in RECORDS or run.computes or prompting.asks_for_order(run.task):
        return ""
    if not LEAST_LINES <= len(lines) <= MOST_LINES:
        return ""
    question = prompting.line_question(run.brief)
    chosen = await step.choose(run.talk, question, list(dict.fromkeys(lines)), most=80)
    return chosen if chosen in lines else ""


async def _recalculate(run: Run) -> None:
    """Finds a program's number a second way; where both differ, the model decides."""
    last = run.steps[-1] if run.steps else None
    if run.around.named or last is None or last.tool != "run_python" or not last.ok:
        return
    found = numbers(last.observation)
    if len(found) != 1:
        return
    await run.tell("verify", "calculates it again")
    since = run.mark()
    line = await run.talk.ask(
        prompting.again_question(run.brief), max_tokens=step.LINE_TOKENS, stop=["\n"]
    )
    expression = step.bare(line.text, "evaluate_expression")
    outcome = await run.services.call_tool("evaluate_expression", {"expression": expression})
    values = numbers(outcome.text.splitlines()[-1]) if outcome.ok and outcome.text else []
    if len(values) != 1:
        return
    held = close(found[0], values[0])
    detail = outcome.text.strip()
    run.checks.append(Check(f"{expression} gives the same", held or None, detail))
    made = Step("check", "evaluate_expression", {"expression": expression}, detail, held)
    second = run.note(made, since)
    if not held:
        await _decide(run, last, second)


async def _decide(run: Run, first: Step, second: Step) -> None:
    """Asks which of two results is right; it becomes the last result."""
    await run.tell("reflect", "two ways gave two results")
    since = run.mark()
    quoted = run.services.caller.line
    ways = {
        "A": f"{first.tool} gave {quoted(first.observation)}",
        "B": f"{second.arguments['expression']} gave {quoted(second.observation)}",
    }
    question = prompting.decide_question(run.brief, ways)
    letter = await step.choose(run.talk, question, list(ways))
    chosen = first if letter == "A" else second
    run.note(Step("tool", chosen.tool, chosen.arguments, chosen.observation), since)


async def _compare(run: Run) -> None:
    """Has the answer state the numbers that were found; one more try where it does not."""
    results = [made.observation for made in run.results][-len(run.parts) :]
    left_out = [result for result in results if agrees(run.answer, result) is False]
    if not left_out or run.talk.spare < LEAST_TOKENS:
        return
    await run.tell("reflect", "the answer does not state the result")
    quoted = run.services.caller.quote("\n".join(results))
    await answering.say(run, prompting.restate_question(run.brief, quoted))
