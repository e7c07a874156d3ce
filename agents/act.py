"""Acting: a tool, its arguments, its result, again, until the answer can be given.

    choose -> fill -> call -> result ─┬─> choose …          at most `most` times
                                      └─> answer            when the model says so or repeats

Where a value is to be counted or calculated, the answer is not offered before a tool gave one, a
program's number is calculated a second way, and the answer must state it. Where no tool gave one,
the answer says so: a made-up number is worse than none.
"""

from __future__ import annotations

from collections.abc import Sequence

from ryzanstein.agents import menu, prompting, step, verify
from ryzanstein.agents.run import Run
from ryzanstein.agents.services import ToolSpec
from ryzanstein.agents.step import Call, Step
from ryzanstein.agents.verify import Check

__all__ = ["act"]

# Greedy decoding would write the call that just failed again.
RETRY_TEMPERATURE = 0.8
# What a step needs at least; with less to spare, the answer comes now.
LEAST_TOKENS = 64
# Tools that give a record a line; a small model mixes neighbouring ones up unless it quotes one.
RECORDS = frozenset({"git_inspect", "search_files"})
LEAST_LINES = 3
MOST_LINES = 60


async def act(run: Run, known: str, allowed: Sequence[ToolSpec], most: int) -> None:
    """Uses tools and answers.

    Args:
        run: The run; steps, checks and the answer are added to it.
        known: What was looked up and recalled, as text.
        allowed: The tools that may be used.
        most: Steps.
    """
    shown = await menu.menu(
        run.task, run.around.named, allowed, run.services, computes=run.computes
    )
    if await _use_tools(run, known, shown, most):
        line = ""
        if run.talk.spare >= LEAST_TOKENS:
            await _recalculate(run)
            line = await _telling_line(run)
        await run.say(prompting.answer_question(run.task, line))
        await _compare(run)
    else:
        await run.say(prompting.unknown_question(run.task))


async def _use_tools(run: Run, known: str, shown: Sequence[ToolSpec], most: int) -> bool:
    """Calls tools; False where a value was to be found and none was."""
    by_name = {tool.name: tool for tool in shown}
    question = f"{prompting.opening(run.task, known, shown)}\n\n{prompting.first_question()}"
    must_act = run.computes and not run.facts
    seen: set[str] = set()
    notes: dict[str, str] = {}
    repeated = False
    for _ in range(most):
        if run.talk.spare < LEAST_TOKENS:
            break
        await run.tell("think", "chooses a tool")
        since = run.mark()
        names = list(by_name) if must_act else [*by_name, prompting.ANSWER]
        name = await step.choose(run.talk, question, names)
        if name == prompting.ANSWER:
            break
        call = await _filled(run, by_name[name], notes.pop(name, ""))
        if call.key in seen:
            del by_name[name]
            if repeated or not by_name:
                break
            repeated = True
            question = prompting.repeated_question(name, run.task)
            continue
        seen.add(call.key)
        made = run.note(await _called(run, call), since)
        run.talk.hear(prompting.result_text(call.tool, made.ok, made.observation))
        settled = menu.settles(made)
        must_act = must_act and not settled
        if settled and run.computes and prompting.is_single(run.task):
            break
        if not made.ok:
            notes[name] = prompting.retry_note(name, made.observation)
        question = prompting.next_question(run.task)
    return not must_act


async def _filled(run: Run, tool: ToolSpec, note: str) -> Call:
    await run.tell("act", f"uses {tool.name}")
    named = run.around.named
    known = menu.clear_arguments(tool.name, run.task, named)
    tried = [made.arguments for made in run.steps if made.tool == tool.name]
    choices = {
        name: [value for value in values if value not in [one.get(name) for one in tried]]
        for name, values in menu.options(tool.name, run.around).items()
    }
    only_files = all(one.kind == "file" for one in named)
    paths = [one.path for one in named] if only_files else None

    def question(argument: str) -> str:
        return note + prompting.argument_question(tool, argument, run.task, paths)

    heat = RETRY_TEMPERATURE if note else 0.0
    found = await step.fill(run.talk, tool, question, known, choices, temperature=heat)
    return Call(tool.name, found)


async def _called(run: Run, call: Call) -> Step:
    outcome = await run.services.call_tool(call.tool, call.arguments)
    share = int(run.talk.window * prompting.RESULT_SHARE)
    text = await run.talk.fit(outcome.text, min(share, max(64, run.talk.room // 3)))
    if call.tool in menu.COMPUTES:
        text = verify.rounded(text, prompting.decimals(run.task))
    await run.tell("observe", f"{call.tool} {'answered' if outcome.ok else 'failed'}")
    return Step("tool", call.tool, call.arguments, text, outcome.ok)


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
    question = prompting.line_question(run.task)
    return await step.choose(run.talk, question, list(dict.fromkeys(lines)), most=80)


async def _recalculate(run: Run) -> None:
    """Finds a program's number a second way; where both differ, the model decides."""
    last = run.steps[-1] if run.steps else None
    if run.around.named or last is None or last.tool != "run_python" or not last.ok:
        return
    found = verify.numbers(last.observation)
    if len(found) != 1:
        return
    await run.tell("verify", "calculates it again")
    since = run.mark()
    line = await run.talk.ask(
        prompting.again_question(run.task), max_tokens=step.LINE_TOKENS, stop=["\n"]
    )
    expression = step.bare(line.text, "evaluate_expression")
    outcome = await run.services.call_tool("evaluate_expression", {"expression": expression})
    values = verify.numbers(outcome.text.splitlines()[-1]) if outcome.ok and outcome.text else []
    if len(values) != 1:
        return
    held = verify.close(found[0], values[0])
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
    ways = {
        "A": f"{first.tool} gave {first.observation}",
        "B": f"{second.arguments['expression']} gave {second.observation}",
    }
    question = prompting.decide_question(run.task, ways)
    letter = await step.choose(run.talk, question, list(ways))
    chosen = first if letter == "A" else second
    run.note(Step("tool", chosen.tool, chosen.arguments, chosen.observation), since)


async def _compare(run: Run) -> None:
    """Has the answer state the number that was found; one more try where it does not."""
    if not run.results or run.talk.spare < LEAST_TOKENS:
        return
    if verify.agrees(run.answer, run.results[-1].observation) is not False:
        return
    await run.tell("reflect", "the answer does not state the result")
    await run.say(prompting.restate_question(run.task, run.results[-1].observation))
