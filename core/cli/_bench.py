"""What `ryzanstein bench` measures, as dictionaries that go to JSON."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from ryzanstein.cli.ask import bring_model
from ryzanstein.cli.serving import SERVERS
from ryzanstein.errors import ServerUnavailable
from ryzanstein.mcp_servers._shared import shared

__all__ = ["inference_speed", "perplexity", "routing_quality", "server_starts"]


def inference_speed(
    *,
    model: str | None,
    threads: int | None,
    prompt_tokens: int,
    new_tokens: int,
    peer: str | None,
    precision: str = "auto",
    **_: Any,
) -> dict[str, Any]:
    """Speed of a model, and of a peer on the same file."""
    from ryzanstein.inference.bench import bench_inference

    bring_model(model)
    return bench_inference(
        model or shared().catalogue.default(),
        settings=shared().settings,
        registry=shared().registry,
        threads=threads,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        peer=peer,
        precision=precision,
    )


def perplexity(
    *,
    model: str | None,
    threads: int | None,
    data: Path,
    windows: int,
    window_tokens: int,
    peer: str | None,
    precision: str = "auto",
    **_: Any,
) -> dict[str, Any]:
    """Perplexity of a text's first windows."""
    from ryzanstein.inference.bench import bench_perplexity

    bring_model(model)
    return bench_perplexity(
        model or shared().catalogue.default(),
        settings=shared().settings,
        registry=shared().registry,
        threads=threads,
        data=data,
        windows=windows,
        window_tokens=window_tokens,
        peer=peer,
        precision=precision,
    )


def routing_quality(
    *, data: Path | None, labels: Path | None, embedding: str | None
) -> dict[str, Any]:
    """How often routing is right, on the registry's own tasks or a file's."""
    from ryzanstein.agents.bench.routing import run

    embedding = embedding or shared().settings.embedding
    return run(registry=shared().registry, data=data, labels=labels, embedding=embedding)


def server_starts(runs: int) -> dict[str, Any]:
    """Seconds from the start of each server's process to its answer to tools/list."""
    starts = {name: sorted(_start(name) for _ in range(runs)) for name in SERVERS}
    return {
        "runs": runs,
        "slowest_s": round(max(times[-1] for times in starts.values()), 3),
        "median_s": {name: round(statistics.median(times), 3) for name, times in starts.items()},
    }


def _start(server: str) -> float:
    command = [sys.executable, "-m", "ryzanstein.cli", "mcp", server]
    lines = "".join(f"{line}\n" for line in _HANDSHAKE)
    started = perf_counter()
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(lines)
        process.stdin.flush()
        answers = [process.stdout.readline() for _ in range(2)]
        seconds = perf_counter() - started
        process.stdin.close()
    if '"tools"' not in answers[1]:
        raise ServerUnavailable(f"The {server} server did not list its tools.")
    return seconds


_HANDSHAKE = (
    '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25",'
    '"capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}',
    '{"jsonrpc":"2.0","method":"notifications/initialized"}',
    '{"jsonrpc":"2.0","id":2,"method":"tools/list"}',
)
