"""Acting: a tool, its arguments, its result, again, until nothing more is needed for a part.

    choose ─> fill ─> call ─> result ─┬─> choose …     while steps, tokens and room are left
                                      └─> done         the model says so, the value is there, or
                                                       it does or finds the same again

Where a value is to be counted or calculated, `answer` is not offered before a tool gave one. The
state is handed out behind every finished step, so that the run can be gone on with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ryzanstein.agents.clients.services import ToolOutcome, ToolSpec
from ryzanstein.agents.running import menu, prompting, sections, step
from ryzanstein.agents.running.conversation import OutOfBudget
from ryzanstein.agents.running.run import Acting, Run
from ryzanstein.agents.running.step import Call, Step, Unfilled
from ryzanstein.agents.verification.checks import rounded
from ryzanstein.errors import (
    APPROVAL_REQUIRED,
    ConnectionFailed,
    ServerUnavailable,
    TimedOut,
)

__all__ = ["LEAST_TOKENS", "use_tools"]

# Greedy decoding would write the call that just failed again.
RETRY_TEMPERATURE = 0.8
# What a step needs at least; with less to spare, the answer comes now.
LEAST_TOKENS = 64
# These come to the same where they are done twice.
REPEATABLE = frozenset({"remember", "make_folder"})
MAY_BE_DONE = "It was interrupted, and may have been done. Look at what is there before going on."
# Doing or finding the same so often ends the use of tools.
MOST_STALE = 2


async def use_tools(run: Run, known: str, allowed: Sequence[ToolSpec], most: int) -> None:
    """Calls tools for the part that is at work, and goes on to the next one.

    Args:
        run: The run; steps are added to it, and whether the part found what it needs.
        known: What was looked up and recalled, as text.
        allowed: The tools that may be used.
        most: Steps of the whole run; each later part keeps one.
    """
    if run.acting is None:
        run.acting = await _begun(run, known, allowed, most)
    acting = run.acting
    tools = {name: await run.services.describe_tool(name) for name in acting.shown}
    if acting.pending is not None:
        await _interrupted(run, acting, acting.pending)
    while acting.left > 0 and acting.shown and run.talk.spare >= LEAST_TOKENS:
        acting.left -= 1
        run.taken += 1
        try:
            goes_on = await _step(run, acting, tools)
        except OutOfBudget as error:
            await run.failed(f"{error} It answers from what was found until then.")
            break
        if not goes_on:
            break
        await run.save()
    run.found.append(not acting.must_act)
    run.part, run.acting = run.part + 1, None
    await run.save()


async def _begun(run: Run, known: str, allowed: Sequence[ToolSpec], most: int) -> Acting:
    """Retrieves the tools for a part and asks for the first one."""
    shown = await menu.menu(run.aim, run.around.named, allowed, run.services, computes=run.computes)
    lines = await sections.tool_lines(shown, run.talk, run.services.caller.line)
    names = [tool.name for tool in shown[: len(lines)]]
    if len(names) < len(shown):
        await run.tell("prompt", f"shows {len(names)} of {len(shown)} tools, for want of room")
    if run.part == 0:
        question = prompting.opening(run.task, known, lines)
        asked = run.aim if len(run.parts) > 1 else ""
    else:
        question, asked = prompting.tools_text(lines), run.aim
    question = f"{question}\n\n{prompting.first_question(asked)}"
    later = len(run.parts) - run.part - 1
    left = max(most - run.taken - later, min(1, most - run.taken))
    must_act = (run.computes and not run.facts) or bool(prompting.to_remember(run.aim))
    return Acting(question, names, left, must_act)


async def _step(run: Run, acting: Acting, tools: Mapping[str, ToolSpec]) -> bool:
    """Takes one step; says whether another may be needed."""
    await run.tell("think", "chooses a tool")
    since = run.mark()
    offered = list(acting.shown) if acting.must_act else [*acting.shown, prompting.ANSWER]
    name = await step.choose(run.talk, acting.question, offered)
    if name == prompting.ANSWER:
        return False
    if name not in acting.shown:
        await run.failed(f"The model chose {name[:60]!r}, which is no tool it was shown.")
        return False
    try:
        call = await _filled(run, tools[name], acting.notes.pop(name, ""))
    except Unfilled as error:
        # It would be written the same way again.
        acting.shown.remove(name)
        made = run.note(Step("tool", name, {}, str(error), ok=False), since)
        return await _heard(run, acting, made) and bool(acting.shown)
    if call.key in acting.seen:
        return _again(run, acting, name)
    acting.seen.append(call.key)
    if not tools[name].read_only and name not in REPEATABLE:
        acting.pending, run.changed = {"tool": name, "arguments": dict(call.arguments)}, True
        await run.save()
    made = run.note(await _called(run, call), since)
    acting.pending = None
    return await _heard(run, acting, made)


async def _interrupted(run: Run, acting: Acting, call: Mapping[str, Any]) -> None:
    """Tells of a call that was under way when the run was interrupted, instead of making it."""
    acting.pending = None
    made = run.note(Step("tool", call["tool"], call["arguments"], MAY_BE_DONE, False), run.mark())
    await run.failed(f"{made.tool} was interrupted; it is not called that way again.")
    quoted = run.services.caller.quote(made.observation)
    await run.talk.hear(prompting.result_text(made.tool, made.ok, quoted))
    acting.question = prompting.next_question(run.brief)
    await run.save()


def _again(run: Run, acting: Acting, name: str) -> bool:
    """Takes a tool away that was called the same way again."""
    acting.shown.remove(name)
    acting.stale += 1
    acting.question = prompting.repeated_question(name, run.brief)
    return acting.stale < MOST_STALE and bool(acting.shown)


async def _heard(run: Run, acting: Acting, made: Step) -> bool:
    """Puts a result into the conversation; says whether another step may be needed."""
    quoted = run.services.caller.quote(made.observation)
    await run.talk.hear(prompting.result_text(made.tool, made.ok, quoted))
    settled = menu.settles(made)
    acting.must_act = acting.must_act and not settled
    alone = run.computes or prompting.to_remember(run.aim)
    if settled and alone and prompting.is_single(run.aim):
        return False
    if made.observation in [one.observation for one in run.steps[:-1] if one.tool == made.tool]:
        acting.stale += 1
    if not made.ok:
        acting.notes[made.tool] = prompting.retry_note(
            made.tool, made.observation, run.services.caller.line
        )
    acting.question = prompting.next_question(run.brief)
    return acting.stale < MOST_STALE


async def _filled(run: Run, tool: ToolSpec, note: str) -> Call:
    await run.tell("act", f"uses {tool.name}")
    named = run.around.named
    known = menu.clear_arguments(tool.name, run.aim, named)
    tried = [made.arguments for made in run.steps if made.tool == tool.name]
    choices = {
        name: [value for value in values if value not in [one.get(name) for one in tried]]
        for name, values in menu.options(tool.name, run.around).items()
    }
    only_files = all(one.kind == "file" for one in named)
    paths = [one.path for one in named] if only_files else None

    def question(argument: str) -> str:
        quoted = run.services.caller.line
        return note + prompting.argument_question(tool, argument, run.brief, paths, quoted)

    heat = RETRY_TEMPERATURE if note else 0.0
    found = await step.fill(run.talk, tool, question, known, choices, temperature=heat)
    # A folder given once is given: small models write it into the pattern again.
    place = f"{known['path']}/" if "path" in known else ""
    inside = {
        name: value.removeprefix(place) if isinstance(value, str) and name != "path" else value
        for name, value in found.items()
    }
    return Call(tool.name, inside)


async def _called(run: Run, call: Call) -> Step:
    try:
        outcome = await run.services.call_tool(call.tool, call.arguments)
    except (ConnectionFailed, ServerUnavailable, TimedOut) as error:
        await run.failed(f"{call.tool} could not be called: {error}")
        outcome = ToolOutcome(False, str(error))
    if outcome.reason == APPROVAL_REQUIRED:
        outcome = await _approved(run, call, outcome)
    share = int(run.talk.window * sections.RESULT_SHARE)
    text = await run.talk.fit(outcome.text, min(share, max(64, run.talk.room // 3)))
    if call.tool in menu.COMPUTES:
        text = rounded(text, prompting.decimals(run.aim))
    await run.tell("observe", f"{call.tool} {'answered' if outcome.ok else 'failed'}")
    return Step("tool", call.tool, call.arguments, text, outcome.ok)


async def _approved(run: Run, call: Call, refused: ToolOutcome) -> ToolOutcome:
    """Asks whether a call that would destroy something may be made, and makes it where it may."""
    await run.tell("approve", f"{call.tool} needs to be allowed")
    allowed = await run.approve(refused.would) if run.approve is not None else None
    if allowed:
        return await run.services.call_tool(call.tool, call.arguments, grants=(refused.grant,))
    nobody = "nobody could be asked" if allowed is None else "the user refused"
    await run.failed(f"{call.tool} was not allowed: {nobody}.")
    return refused
