"""The work of a run, between what it recalled and its answer, stage by stage.

    look    what the task names, opened; what is known, within its share of the window
    work    from what is known alone      no tools, or the user told it before
            by code                       asserts, code, run, one reflection
            by tools, part by part        tools retrieved for each part

A run that is gone on with begins behind the last stage that is done, and inside of the tools
behind the last finished step.
"""

from __future__ import annotations

from ryzanstein.agents.clients.services import ToolSpec
from ryzanstein.agents.running import (
    answering,
    coding,
    confirm,
    ground,
    menu,
    plan,
    prompting,
    sections,
)
from ryzanstein.agents.running.act import use_tools
from ryzanstein.agents.running.run import Run
from ryzanstein.agents.running.step import Step
from ryzanstein.errors import ConnectionFailed, InferenceError, ServerUnavailable, TimedOut

__all__ = ["work"]


async def work(run: Run, tools: bool, steps: int) -> None:
    """Finds the answer: by code, by tools, or from what is known.

    Args:
        run: The run, with its conversation opened and memories recalled.
        tools: False uses none.
        steps: At most so many.
    """
    run.brief = await _brief(run, run.task)
    if not tools or prompting.is_small_talk(run.task):
        await _plainly(run, await _known(run))
        return
    try:
        if run.stage not in {"looked", "coded"}:
            await _look(run)
            run.stage = "looked"
            await run.save()
        run.services.caller.grants = menu.granted(run.task, run.around.named)
        allowed = await menu.allowed_tools(run.profile, run.around.named, run.services)
    except (ConnectionFailed, ServerUnavailable, TimedOut) as error:
        await run.failed(f"It answers without tools: {error}")
        await _plainly(run, await _known(run))
        return
    known = await _known(run)
    if run.told and not run.around.named and not run.computes and prompting.only_asks(run.task):
        await _plainly(run, known)
    elif prompting.asks_for_code(run.task) and any(one.name == "run_python" for one in allowed):
        await _code(run, known)
    else:
        await _by_parts(run, known, allowed, steps)


async def _by_parts(run: Run, known: str, allowed: tuple[ToolSpec, ...], steps: int) -> None:
    """Uses tools for one part after the other, then answers."""
    if not run.parts:
        run.parts = plan.parts(run.task)
        if len(run.parts) > 1:
            await run.tell("plan", f"has {len(run.parts)} parts", parts=list(run.parts))
    while run.part < len(run.parts):
        run.brief = await _brief(run, run.aim)
        await use_tools(run, known, allowed, steps)
    if len(run.parts) > 1:
        run.brief = await _brief(run, run.task)
    await confirm.answer(run)


async def _plainly(run: Run, known: str) -> None:
    most = answering.MOST_TOKENS * (1 if run.complexity.level == "direct" else 2)
    await answering.say(run, prompting.plain_question(run.task, known), most)


async def _look(run: Run) -> None:
    run.around = await ground.look(run.task, run.services)
    for one in run.around.named:
        run.steps.append(Step("look", arguments={"path": one.path}, observation=one.text))
        await run.tell("observe", f"{one.path} is a {one.kind}")


async def _brief(run: Run, text: str) -> str:
    """The task as later questions name it: whole, or within its share of the window."""
    brief = await run.talk.fit(text, int(run.window * sections.BRIEF_SHARE))
    run.talk.closing = max(run.talk.reserve, 2 * await run.talk.count(brief))
    return brief


async def _known(run: Run) -> str:
    """What was looked up and recalled, within its share of the window."""
    quote = run.services.caller.quote
    parts = [quote(one.text, one.path, one.kind) for one in run.around.named]
    parts += [quote(text, "a colleague") for text in run.notes]
    parts += [quote(text, "memory") for text in (*run.facts, *run.reminders)]
    if not parts:
        return ""
    room = sections.known_room(run.talk, await run.talk.count(run.task))
    text = "\n".join(parts)
    fitted = await run.talk.fit(text, room) if room else ""
    if fitted != text:
        await run.tell("prompt", f"shows {len(fitted)} of {len(text)} characters of what is known")
    return fitted or prompting.NO_ROOM


async def _code(run: Run, known: str) -> None:
    """Writes code, checks it, and explains it; the code in the answer is the code that was run."""
    if run.stage != "coded":
        since = run.mark()
        opening = prompting.task_text(run.task, known)
        attempt = await coding.write_code(run, opening, _original(run))
        run.checks = list(attempt.checks)
        said = "\n".join(f"{check.name}: {check.detail}" for check in attempt.failed)
        run.note(Step("check", "run_python", {"code": attempt.code}, said, not said), since)
        run.answer, run.stage = f"```python\n{attempt.code.strip()}\n```", "coded"
        await run.save()
    code = run.answer
    try:
        await answering.say(run, prompting.EXPLAIN)
        explained = run.answer.partition("```")[0].strip()
    except InferenceError as error:
        explained = ""
        await run.failed(f"The code is not explained: {error}")
    run.answer = f"{code}\n\n{explained}".strip()


def _original(run: Run) -> str:
    """The code a task wants corrected, where it names a Python file."""
    if not prompting.asks_to_correct(run.task):
        return ""
    texts = [one.text for one in run.around.named if one.path.endswith(".py")]
    return texts[0] if len(texts) == 1 else ""
