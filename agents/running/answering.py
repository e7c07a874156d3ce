"""The answer, from a model that may say nothing, the same for ever, or another language.

    nothing, or the question itself
                        asked once more; then what the tools found is the answer, and says so
    the same for ever   cut where it begins to repeat itself, with a mark
    too long            the mark says after how many tokens it was cut off
    another language    asked once more; then a check that failed

So every run has an answer or an error, and the run's record has the reason.
"""

from __future__ import annotations

import re

from ryzanstein.agents.clients.services import Completion
from ryzanstein.agents.running import language, prompting
from ryzanstein.agents.running.run import Run
from ryzanstein.agents.verification.checks import Check
from ryzanstein.errors import InferenceError

__all__ = ["cut_repeats", "say"]

MOST_TOKENS = 200
# Greedy decoding would say the same again.
AGAIN_TEMPERATURE = 0.7
SEED = 2
LEAST_REPEATED = 60
SHOWN = 500
_REPEATS = re.compile(r"(.{1,160}?)\1{3,}", re.S)
_LANGUAGE = "the answer is in the language of the task"


async def say(run: Run, question: str, most: int = MOST_TOKENS) -> None:
    """Asks for the answer, once more where it is none, and puts it into the run.

    Raises:
        InferenceError: The model said nothing twice, and no tool had found anything.
    """
    await run.tell("answer", "writes the answer")
    found = await run.talk.ask(question, max_tokens=most, final=True)
    text, fault = _judged(run, found)
    if fault and run.budget.tokens_left >= MOST_TOKENS // 4:
        await run.failed(fault)
        await run.tell("reflect", "asks for the answer once more")
        again = await run.talk.ask(
            prompting.once_more_question(run.brief),
            max_tokens=most,
            final=True,
            temperature=AGAIN_TEMPERATURE,
            seed=SEED,
        )
        second, fault = _judged(run, again)
        text = second or text
    run.checks = [check for check in run.checks if check.name != _LANGUAGE]
    if text and fault:
        run.checks.append(Check(_LANGUAGE, False, fault))
    run.answer = text or await _from_results(run, fault)


def _judged(run: Run, found: Completion) -> tuple[str, str]:
    """The answer without what it repeats, and what is wrong with it."""
    text = cut_repeats(found.text.strip())
    if not any(letter.isalnum() for letter in text):
        return "", "The model answered with nothing."
    if text.startswith(prompting.AGAIN):
        return "", "The model answered with the question."
    if found.finish_reason == "length" and text == found.text.strip():
        text += f"\n[... cut off after {found.tokens} tokens ...]"
    quoted = "".join(made.observation for made in run.steps) + "".join(run.facts)
    other = language.foreign(run.task, text, quoted)
    return text, f"The model answered in another language: {other}." if other else ""


def cut_repeats(text: str) -> str:
    """The text up to where it says one thing over and over, with a mark that says so."""
    for found in _REPEATS.finditer(text):
        unit = found.group(1)
        if len(found.group()) >= LEAST_REPEATED and any(letter.isalnum() for letter in unit):
            rest = text[found.end() :].strip()
            if len(rest) <= len(unit):
                times = len(found.group()) // len(unit)
                return f"{text[: found.end(1)].rstrip()}\n[... the same {times - 1} times more ...]"
    return text


async def _from_results(run: Run, fault: str) -> str:
    """What the tools found, in place of an answer.

    Raises:
        InferenceError: They found nothing either.
    """
    if not run.results:
        raise InferenceError(
            fault or "The model answered with nothing.", hint="Try another model, or say more."
        )
    await run.failed("The model gave no answer; what the tools found stands in for it.")
    found = [f"{made.tool}: {made.observation.strip()[:SHOWN]}" for made in run.results]
    return "\n".join(("The model gave no answer. This was found:", *found))
