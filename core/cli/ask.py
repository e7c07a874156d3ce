"""`ryzanstein ask`: the main job."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import click

from ryzanstein.cli._client import call, read_text
from ryzanstein.cli._group import command
from ryzanstein.cli._output import Output
from ryzanstein.cli._permissions import grant, permit, read_only
from ryzanstein.cli._progress import Bytes, Live
from ryzanstein.errors import InvalidRequest

__all__ = [
    "MAX_TASK",
    "ask",
    "bring_model",
    "checked_task",
    "failures",
    "goes_on",
    "limits",
    "show",
]

MAX_TASK = 100_000


def limits(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of what a run may spend."""
    for option in (
        click.option("--seconds", type=click.FloatRange(1, 86_400), help="At most so long."),
        click.option(
            "--tokens", type=click.IntRange(16, 1_000_000), help="At most so many new tokens."
        ),
        click.option("--steps", type=click.IntRange(1, 100), help="At most so many steps."),
    ):
        function = option(function)
    return function


@command(
    "ask",
    'ryzanstein ask "What is 17 % of 2,340?"',
    'ryzanstein ask "Write a function that checks ISBN-13 numbers, and test it" --agent APEX',
    "git diff | ryzanstein ask - --agent MENTOR --no-tools",
    'ryzanstein ask --team "code review" "Review src/login.py"',
    'ryzanstein ask --team auto "1. Add up sales.csv. 2. Which port does server.ini set?"',
    'ryzanstein ask --grant delete_file "Delete the log files that are older than a week"',
    "ryzanstein ask --resume run-3f0c2a9d81b64e75",
)
@click.argument("task", required=False)
@click.option("--agent", metavar="CODENAME", help="This agent, without routing.")
@click.option(
    "--team",
    metavar="TEAM",
    help="Several agents: auto takes who fits each part; a team of the registry, or A,B,C.",
)
@click.option("--model", metavar="NAME|PATH", help="Another model than the default.")
@click.option("--no-tools", is_flag=True, help="Answer from the model alone; nothing is run.")
@limits
@click.option("--resume", metavar="RUN_ID", help="Go on with a run behind its last finished step.")
@read_only
@grant
def ask(
    out: Output,
    task: str | None,
    agent: str | None,
    team: str | None,
    model: str | None,
    no_tools: bool,
    steps: int | None,
    tokens: int | None,
    seconds: float | None,
    resume: str | None,
    read_only: bool,
    grant: tuple[str, ...],
) -> None:
    """Give TASK to the agent that fits: it recalls, thinks, uses tools, checks, answers, remembers.

    TASK is a text, or - to read it from stdin.
    """
    if task is None and resume is None:
        raise click.UsageError("Missing argument 'TASK'.")
    if agent and team:
        raise click.UsageError("--agent and --team exclude each other.")
    text = checked_task(read_text(task)) if task is not None else ""
    permit(read_only=read_only, grants=grant)
    arguments = {
        "task": text,
        "run_id": resume,
        "model": None if resume else bring_model(model),
        "tools": not no_tools,
        "max_steps": steps,
        "max_tokens": tokens,
        "max_seconds": seconds,
    }
    with Live() as live, goes_on(live, out):
        if agent:
            arguments["codename"] = agent
            result = call("orchestrator", "run_agent", arguments, live.report, live.paused)
        else:
            arguments["team"] = team
            result = call("orchestrator", "run_task", arguments, live.report, live.paused)
    out.result(result, lambda: show(result))


@contextlib.contextmanager
def goes_on(live: Live, out: Output) -> Iterator[None]:
    """Says how an interrupted run can be gone on with."""
    try:
        yield
    except KeyboardInterrupt:
        if live.run_id:
            out.note(f"Go on with it by: ryzanstein runs resume {live.run_id}")
        raise


def checked_task(text: str) -> str:
    """Returns a task of a length that can be worked on.

    Raises:
        InvalidRequest: It is empty or too long.
    """
    if not text.strip():
        raise InvalidRequest("The task is empty.", hint="Say what is to be done.")
    if len(text) > MAX_TASK:
        raise InvalidRequest(
            f"The task has {len(text):,} characters; {MAX_TASK:,} are the limit.",
            hint="Put the material into a file and name the file in the task.",
        )
    return text


def bring_model(name: str | None) -> str | None:
    """Brings a model of the catalogue here, with a bar, where it is not; returns its name."""
    if name is None and not _runs_here():
        return None
    models = call("model", "list_models", {"limit": 100})["models"]
    wanted = [one for one in models if (one["name"] == name if name else one["default"])]
    if wanted and not wanted[0]["present"]:
        with Bytes(wanted[0]["name"]) as bar:
            call("model", "pull_model", {"name": wanted[0]["name"]}, bar.report)
    return name


def _runs_here() -> bool:
    """Whether this machine's engine is the backend that comes first."""
    from ryzanstein.registry import load_registry

    enabled = [one for one in load_registry().backends if one.enabled]
    return min(enabled, key=lambda one: one.order).kind == "local" if enabled else True


def show(result: dict[str, Any]) -> None:
    """Prints the answer, then what it took."""
    print(result["answer"].strip())
    print()
    for name, text in facts(result):
        print(f"{name:<12}{text}")


def facts(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns what is worth saying about a run besides its answer, as (name, text)."""
    found = [
        ("agent", result["agent"]),
        ("steps", _steps(result["steps"])),
        ("check", _verdict(result["verified"], result["checks"])),
        ("tokens", f"{result['tokens']:,}"),
        ("time", f"{result['seconds']:.1f} s"),
        ("run", result["run_id"]),
    ]
    return [*found, *_experiences(result["experiences"]), *failures(result.get("failures", []))]


def _verdict(verified: bool | None, checks: list[dict[str, Any]]) -> str:
    if verified is None:
        return "nothing could be checked"
    if verified:
        return f"passed: {'; '.join(check['name'] for check in checks)}"
    failed = [check for check in checks if check["passed"] is False]
    return f"FAILED: {'; '.join(check['name'] + ' ' + check['detail'] for check in failed)}"


def _steps(steps: list[dict[str, Any]]) -> str:
    names = [
        str(step.get("tool") or step.get("action") or step.get("kind") or "") for step in steps
    ]
    used = " > ".join(name for name in names if name)
    return f"{len(steps)} ({used})" if used else str(len(steps))


def failures(reasons: list[str]) -> list[tuple[str, str]]:
    """What went wrong on the way to the answer."""
    names = ["failures", *[""] * len(reasons)]
    return [(name, " ".join(reason.split())) for name, reason in zip(names, reasons, strict=False)]


def _experiences(used: list[dict[str, Any]]) -> list[tuple[str, str]]:
    if not used:
        return []
    tasks = [(one["id"], one["outcome"], " ".join(one["task"].split())[:80]) for one in used]
    found = "1 similar past task" if len(used) == 1 else f"{len(used)} similar past tasks"
    lines = [f"{id}, {outcome}: {task}" for id, outcome, task in tasks]
    return [("experience", f"used {found}"), *(("", line) for line in lines)]
