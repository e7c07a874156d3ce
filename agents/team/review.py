"""A panel that reviews code: each member with the eyes of its field, one list comes of it.

    code ─┬─ ruff ───────────────────────────┐
          ├─ APEX      at most three findings ┤  same line and alike: one finding, both names
          ├─ CIPHER    …                      ┼─ on no such line, or nothing said: dropped
          └─ …                                ┘  sorted by severity, then by how many saw it

What a member says is decoded under a schema, so that it always has a line, a severity, a problem
and a repair. A member only points; what a tool found counts as seen, what a model found as said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio

from ryzanstein.agents.running.conversation import Budget, Conversation
from ryzanstein.agents.running.menu import FILE
from ryzanstein.agents.running.persona import system_message, window_of
from ryzanstein.agents.running.sections import TASK_SHARE
from ryzanstein.agents.team.members import members_of
from ryzanstein.errors import InvalidRequest, RyzansteinError
from ryzanstein.tools.fences import blocks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ryzanstein.agents.clients.services import Services
    from ryzanstein.registry import Registry

__all__ = ["TEAM", "Finding", "Review", "code_of", "review", "shown"]

TEAM = "code review"
SEVERITIES = ("critical", "major", "minor")
MOST_FINDINGS = 3
MOST_LINES = 2000
PART_LINES = 100
# What stands where a result of a tool was too long.
LEFT_OUT = "characters left out; ask for a smaller part"
FINDINGS_TOKENS = 400
SECONDS = 300.0
# Of the words of two findings on one line, from which on they say the same.
ALIKE = 0.3
LINTER = "ruff"
_WORD = re.compile(r"[a-z_]{3,}")
_QUESTION = (
    "Review this code, whose lines are numbered:\n{code}\n\n"
    "Look for faults in your own field, {domain}: things that go wrong when the code runs. "
    "Name at most {most}, the worst first, each with its line, what goes wrong and when, and the "
    "repair. Name none that you are not sure of."
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of a line, and who found it.

    Attributes:
        line: From 1.
        severity: critical, major or minor.
        problem: What goes wrong.
        repair: What to do about it; "" where the finder did not say.
        by: Codenames, or the name of a tool.
    """

    line: int
    severity: str
    problem: str
    repair: str
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Review:
    """What a panel found, worst first.

    Attributes:
        findings: Each once, with everybody who found it.
        members: Who read the code.
        failures: Who could not, and why.
        tokens: Tokens generated.
    """

    findings: tuple[Finding, ...]
    members: tuple[str, ...]
    failures: tuple[str, ...]
    tokens: int

    def to_json(self) -> dict[str, Any]:
        """The wire form."""
        return asdict(self)


async def code_of(task: str, services: Services) -> tuple[str, str]:
    """The code that a task wants reviewed, and its path; from a fenced block, else a named file.

    Raises:
        InvalidRequest: The task has no code and names no file that can be read.
    """
    fenced = [block for block in blocks(task) if block.closed]
    if fenced:
        return fenced[0].text, ""
    refused = ""
    for path in dict.fromkeys(FILE.findall(task)):
        code, why = await _read_whole(path, services)
        if code:
            return code, path
        refused = f" {path}: {why}"
    raise InvalidRequest(
        f"There is no code to review.{refused}",
        hint="Name a file under an allowed folder, or put the code between ``` marks.",
    )


async def _read_whole(path: str, services: Services) -> tuple[str, str]:
    """A file's text, in parts that no result is too short for; else why there is none.

    Raises:
        InvalidRequest: It is too long.
    """
    lines: list[str] = []
    size = PART_LINES
    while True:
        request = {"path": path, "start": len(lines) + 1, "lines": size}
        outcome = await services.call_tool("read_file", request)
        if not outcome.ok or not isinstance(outcome.data, dict):
            return "", outcome.text
        if not outcome.data["bytes"]:
            return "", "The file is empty."
        if LEFT_OUT in outcome.text and size > 1:
            size //= 2
            continue
        # Behind the file's own lines a note may follow.
        lines += outcome.text.splitlines()[: outcome.data["lines"]]
        total = outcome.data["total_lines"]
        if total > MOST_LINES:
            raise InvalidRequest(
                f"{path} has {total} lines; a panel reads at most {MOST_LINES}.",
                hint="Put the part that matters between ``` marks.",
            )
        if len(lines) >= total:
            return "\n".join(lines) + "\n", ""


async def review(
    code: str,
    *,
    path: str = "",
    services: Services,
    registry: Registry,
    members: Sequence[str] | None = None,
    model: str | None = None,
    tell: Callable[[str, str], Awaitable[None]] | None = None,
) -> Review:
    """Has every member read the code, and puts their findings together.

    Args:
        code: Text of one file.
        path: Where it is; a Python file is also read by the linter.
        services: The servers.
        registry: Agents and teams.
        members: Codenames; None is the registry's team for code review.
        model: Name or path; None leaves each member its own.
        tell: Hears (codename, message) of each member.
    """
    names = tuple(members or members_of(TEAM, registry))
    lines = code.splitlines()
    found: dict[str, list[Finding]] = {}
    failures: list[str] = []
    spent = 0

    async def read(name: str) -> None:
        nonlocal spent
        try:
            mine, tokens = await _read(name, lines, services, registry, model)
        except RyzansteinError as error:
            failures.append(f"{name} could not read it: {error}")
            return
        found[name] = mine
        spent += tokens
        if tell is not None:
            await tell(name, f"finds {len(mine)}")

    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(read, name)
    seen = await _linted(code, path, services)
    said = [one for name in names for one in found.get(name, ())]
    return Review(_joined([*seen, *said]), tuple(found), tuple(failures), spent)


async def _read(
    name: str, lines: Sequence[str], services: Services, registry: Registry, model: str | None
) -> tuple[list[Finding], int]:
    """One member's findings on lines that are there, and the tokens they took."""
    profile = registry.agent(name)
    model = model or profile.model
    window = window_of(model, registry)
    talk = Conversation(services, Budget(4 * FINDINGS_TOKENS, SECONDS), window=window, model=model)
    await talk.system(system_message(profile, window))
    numbered = "\n".join(f"{at}: {line}" for at, line in enumerate(lines, 1))
    fitted = await talk.fit(numbered, int(window * TASK_SHARE))
    question = _QUESTION.format(
        code=services.caller.quote(fitted, kind="code"), domain=profile.domain, most=MOST_FINDINGS
    )
    answer = await talk.ask(
        question, max_tokens=FINDINGS_TOKENS, json_schema=_schema(len(lines)), final=True
    )
    return _parsed(answer.text, name, lines), answer.tokens


def _schema(lines: int) -> dict[str, Any]:
    text = {"type": "string", "minLength": 8, "maxLength": 160}
    fields = {
        "line": {"type": "integer", "minimum": 1, "maximum": max(1, lines)},
        "severity": {"type": "string", "enum": list(SEVERITIES)},
        "problem": text,
        "repair": text,
    }
    item = {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }
    findings = {"type": "array", "items": item, "maxItems": MOST_FINDINGS}
    return {
        "type": "object",
        "properties": {"findings": findings},
        "required": ["findings"],
        "additionalProperties": False,
    }


def _parsed(text: str, name: str, lines: Sequence[str]) -> list[Finding]:
    """Findings of a reply; those on blank or missing lines are dropped, as is a cut reply."""
    try:
        wire = json.loads(text)["findings"]
    except (ValueError, KeyError, TypeError):
        return []
    return [
        Finding(one["line"], one["severity"], _line(one["problem"]), _line(one["repair"]), (name,))
        for one in wire
        if 1 <= one["line"] <= len(lines) and lines[one["line"] - 1].strip()
    ]


async def _linted(code: str, path: str, services: Services) -> list[Finding]:
    """What the linter sees in Python; nothing where the tool is not allowed or not Python."""
    if path and not path.endswith(".py"):
        return []
    outcome = await services.call_tool("lint_code", {"code": code})
    data: Mapping[str, Any] = outcome.data if isinstance(outcome.data, dict) else {}
    return [
        Finding(int(one["line"]), "minor", f"{one['code']}: {_line(one['message'])}", "", (LINTER,))
        for one in data.get("findings", ())
    ]


def _joined(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings of one line that say the same become one, worst first."""
    kept: list[Finding] = []
    for one in found:
        at = next((at for at, other in enumerate(kept) if _same(one, other)), None)
        if at is None:
            kept.append(one)
            continue
        other = kept[at]
        worse = min(one.severity, other.severity, key=SEVERITIES.index)
        by = tuple(dict.fromkeys((*other.by, *one.by)))
        kept[at] = replace(other, severity=worse, by=by, repair=other.repair or one.repair)
    order = {severity: at for at, severity in enumerate(SEVERITIES)}
    return tuple(sorted(kept, key=lambda one: (order[one.severity], -len(one.by), one.line)))


def _same(one: Finding, other: Finding) -> bool:
    if one.line != other.line:
        return False
    mine, theirs = (set(_WORD.findall(each.problem.lower())) for each in (one, other))
    return len(mine & theirs) >= ALIKE * max(1, min(len(mine), len(theirs)))


def _line(text: str) -> str:
    return " ".join(str(text).split())


def shown(found: Review, path: str = "") -> str:
    """A review as Markdown, each finding with its line and everybody who found it."""
    where = f" in {path}" if path else ""
    if not found.findings:
        return f"Nobody of {', '.join(found.members)} found a fault{where}."
    lines = [
        f"- **{one.severity}**, line {one.line}: {one.problem}"
        + (f" Repair: {one.repair}" if one.repair else "")
        + f" ({', '.join(one.by)})"
        for one in found.findings
    ]
    return f"{len(found.findings)} findings{where}:\n\n" + "\n".join(lines)
