"""What `ryzanstein bench teams` measures, in folders and stores of its own that are thrown away."""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["teams"]

_PLACES = ("RYZANSTEIN_MODELS_DIR", "RYZANSTEIN_DATA_DIR", "RYZANSTEIN_ROOTS")


def teams(model: str | None, limit: int | None, seconds: float) -> dict[str, Any]:
    """Gives the tasks to one agent and to a team, through the orchestrator as a client would."""
    import anyio

    from ryzanstein.agents.bench.teams import measure
    from ryzanstein.agents.clients.services import Services
    from ryzanstein.config import load_settings
    from ryzanstein.mcp_servers._shared import shared

    async def ask(task: str, team: str | None) -> dict[str, Any]:
        arguments = {"task": task, "model": model, "team": team, "max_seconds": seconds}
        async with Services(names=("orchestrator",)) as services:
            return await services.call("orchestrator", "run_task", arguments)

    numbers = itertools.count(1)
    before = {name: os.environ.get(name) for name in _PLACES}
    os.environ["RYZANSTEIN_MODELS_DIR"] = str(load_settings().models_path)
    try:
        with tempfile.TemporaryDirectory(prefix="teams-") as made:

            def fresh() -> Path:
                place = Path(made) / str(next(numbers))
                home = place / "home"
                home.mkdir(parents=True)
                os.environ["RYZANSTEIN_DATA_DIR"] = str(place / "data")
                os.environ["RYZANSTEIN_ROOTS"] = str(home)
                shared().reset(keep=("engine", "registry", "router"))
                return home

            found = anyio.run(lambda: measure(ask, fresh, limit=limit, say=_say))
            shared().reset(keep=("engine",))
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    return {"model": model or "default", **found}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
