#!/usr/bin/env python3
"""Runs the everyday suite of tests/everyday through `ask` and prints how many tasks are solved.

    scripts/everyday.py --model qwen2.5-coder-1.5b [--only KIND|ID …] [--held-back] [--cli] [--json]

Every task gets a folder and a store of its own. In one process the model stays loaded between
tasks; with --cli each ask is a process of its own, as a user starts it. The last line of stdout is
JSON: model, solved, total, by_kind, seconds, tokens, failed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.pop(1)  # the folder of this script

from everyday.checks import Scene
from everyday.scene import make_scene
from everyday.tasks import HELD_BACK, KINDS, TASKS, EverydayTask

from ryzanstein.config import load_settings
from ryzanstein.errors import RyzansteinError
from ryzanstein.tools import ToolContext, call_tool

SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one task went; an empty fault means solved."""

    task: EverydayTask
    fault: str
    answer: str
    result: dict[str, Any]
    seconds: float


def main() -> int:
    """Runs the tasks asked for; exits 0 whatever they come to."""
    options = _options()
    logging.disable(logging.INFO)
    tasks = HELD_BACK if options.held_back else TASKS
    chosen = [task for task in tasks if _wanted(task, options.only)]
    outcomes = anyio.run(partial(_run, chosen, options))
    print(json.dumps(_summary(outcomes, options)))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", help="catalogue name or path; the default model without")
    parser.add_argument("--only", nargs="+", default=[], metavar="KIND|ID", help=", ".join(KINDS))
    parser.add_argument("--held-back", action="store_true", help="the ten tasks held back")
    parser.add_argument("--cli", action="store_true", help="one process for each ask")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    return parser.parse_args()


def _wanted(task: EverydayTask, only: Sequence[str]) -> bool:
    return not only or task.kind in only or task.id in only


async def _run(tasks: Sequence[EverydayTask], options: argparse.Namespace) -> list[Outcome]:
    models = load_settings().models_path
    with tempfile.TemporaryDirectory(prefix="everyday-") as made:
        place = Path(made)
        os.environ["RYZANSTEIN_MODELS_DIR"] = str(models)
        os.environ["RYZANSTEIN_DATA_DIR"] = str(place / "data")
        os.environ["RYZANSTEIN_ROOTS"] = str(place / "home")
        outcomes = []
        for task in tasks:
            _prepare(place)
            outcome = await _solve(task, place / "home", options)
            outcomes.append(outcome)
            if not options.json:
                _show(outcome)
        return outcomes


def _prepare(place: Path) -> None:
    """Empties the store and the folder, and forgets what this process knew of them."""
    from ryzanstein.mcp_servers._shared import shared

    shared().reset(keep=("engine", "registry", "router"))
    for name in ("data", "home"):
        shutil.rmtree(place / name, ignore_errors=True)
        (place / name).mkdir()
    make_scene(place / "home")


async def _solve(task: EverydayTask, home: Path, options: argparse.Namespace) -> Outcome:
    began = time.monotonic()
    result: dict[str, Any] = {}
    try:
        for text in task.asks:
            ask = _ask_cli if options.cli else _ask
            result = await ask(text, options.model, home)
        fault = await _checked(task, str(result["answer"]), home)
    except RyzansteinError as error:
        fault = f"{error.code}: {error}"
    seconds = time.monotonic() - began
    return Outcome(task, fault, str(result.get("answer", "")), result, seconds)


async def _ask(text: str, model: str | None, home: Path) -> dict[str, Any]:
    from ryzanstein.agents.clients.services import Services

    arguments = {"task": text, "model": model}
    async with Services(names=("orchestrator",)) as services:
        return await services.call("orchestrator", "run_task", arguments, seconds=SECONDS)


async def _ask_cli(text: str, model: str | None, home: Path) -> dict[str, Any]:
    line = [sys.executable, "-P", "-m", "ryzanstein.cli", "ask", text, "--json"]
    line += ["--model", model] if model else []
    work = partial(subprocess.run, line, cwd=home, capture_output=True, text=True, check=False)
    done = await anyio.to_thread.run_sync(work)
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    if done.returncode or "error" in found:
        told = found.get("error", {}).get("message", done.stderr.strip()[-300:])
        raise RyzansteinError(f"ask ended with status {done.returncode}: {told}")
    return found


async def _checked(task: EverydayTask, answer: str, home: Path) -> str:
    """Checks the answer; code in it runs in the sandbox, in an event loop of its own."""
    context = ToolContext(roots=(home,))

    def run_python(code: str) -> tuple[bool, str]:
        result = anyio.run(call_tool, context, "run_python", {"code": code})
        return result.ok, result.text.replace("\n[It ended with status 1.]", "")

    scene = Scene(root=home, task=task.asks[-1], run_python=run_python)
    return await anyio.to_thread.run_sync(task.check, answer, scene)


def _show(outcome: Outcome) -> None:
    result = outcome.result
    verified = {True: "passed", False: "failed", None: "none"}[result.get("verified")]
    print(
        f"{'FAILED' if outcome.fault else 'solved':7}{outcome.task.id:24}{outcome.seconds:7.1f} s"
        f"{result.get('tokens', 0):6} tokens  {result.get('agent', ''):10} check {verified}"
    )
    if outcome.fault:
        print(f"       {outcome.fault}")
        for step in result.get("steps", ()):
            said = " ".join(str(step["observation"]).split())[:200]
            called = f"{step['kind']} {step['tool']} {json.dumps(step['arguments'])}"
            print(f"       {called[:500]} -> {said}")
        print(f"       answer: {' '.join(outcome.answer.split())[:500]}")
    sys.stdout.flush()


def _summary(outcomes: Sequence[Outcome], options: argparse.Namespace) -> dict[str, Any]:
    kinds = [kind for kind in KINDS if any(one.task.kind == kind for one in outcomes)]
    grouped = {kind: [one for one in outcomes if one.task.kind == kind] for kind in kinds}
    models = {one.result.get("model") for one in outcomes} - {None, ""}
    return {
        "suite": "everyday held back" if options.held_back else "everyday",
        "model": options.model or next(iter(models), None),
        "solved": sum(not one.fault for one in outcomes),
        "total": len(outcomes),
        "by_kind": {
            kind: [sum(not one.fault for one in found), len(found)]
            for kind, found in grouped.items()
        },
        "seconds": round(sum(one.seconds for one in outcomes), 1),
        "tokens": sum(int(one.result.get("tokens", 0)) for one in outcomes),
        "failed": [one.task.id for one in outcomes if one.fault],
    }


if __name__ == "__main__":
    sys.exit(main())
