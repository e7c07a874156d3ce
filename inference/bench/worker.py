"""An engine in a child process, driven by one JSON object a line.

parent -> child   {"op": "load" | "speed" | "score" | "probe" | "memory", …}
child -> parent   the result, or {"error": {"code", "message", "hint"}}

python -m ryzanstein.inference.bench.worker ENGINE MODEL THREADS CONTEXT PRECISION [FORM]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self, TextIO, cast

from ryzanstein.errors import InferenceError, RyzansteinError, ValidationError, from_wire
from ryzanstein.machine import peak_memory

__all__ = ["ENGINES", "Measured", "Worker", "main"]

ENGINES: Final = ("ryzanstein", "llama-cpp")


class Measured(Protocol):
    """What an engine does in a child process; token ids in, seconds and scores out."""

    def describe(self) -> dict[str, Any]:
        """Loads the model; returns load_s and what else there is to say about it."""
        ...

    def speed(self, ids: Sequence[int], new_tokens: int) -> dict[str, float]:
        """Returns seconds: `prefill` of the ids up to the first token, `decode` of the rest."""
        ...

    def score(self, ids: Sequence[int], first: int) -> float:
        """Returns the sum of log-probabilities of ids[first:], each after all before it."""
        ...

    def probe(self) -> float:
        """Returns the bytes a second that the same threads can read from memory."""
        ...


class Worker:
    """The parent's side: starts an engine, asks, and ends it.

    Args:
        engine: One of ENGINES.
        path: The model.
        threads: Of the engine, and of the probe.
        context: Tokens of the longest sequence.
        precision: Of this project's engine.
        isa: Instruction set for this project's engine in place of the best.
        form: How it packs ternary matrices, in place of its own choice.
        head: How it packs the output matrix, in place of its own choice.
    """

    def __init__(
        self,
        engine: str,
        path: Path,
        threads: int,
        context: int,
        precision: str = "auto",
        *,
        isa: str | None = None,
        form: str | None = None,
        head: str | None = None,
    ) -> None:
        arguments = [engine, str(path), str(threads), str(context), precision]
        self._child = subprocess.Popen(
            [sys.executable, "-m", __name__, *arguments, form or "", head or ""],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=os.environ | ({"RYZANSTEIN_ISA": isa} if isa else {}),
        )

    def ask(self, op: str, **arguments: Any) -> Any:
        """Asks for one operation and waits for its result.

        Raises:
            RyzansteinError: what the child reported, or that it died.
        """
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise InferenceError(f"The measured process ended with status {self._child.wait()}.")
        answer = json.loads(line)
        if "error" in answer:
            raise from_wire(**answer["error"])
        return answer["result"]

    def end(self) -> None:
        """Ends the engine; whoever waits for its answer hears that it died."""
        self._child.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.kill()
        self._child.communicate()


def _engine(arguments: Sequence[str]) -> Measured:
    name, path, threads, context, precision, form, head = arguments
    if name == "ryzanstein":
        from ryzanstein.inference.bench.own import OwnEngine

        return OwnEngine(
            Path(path), int(threads), int(context), precision, form or None, cast(Any, head or None)
        )
    if name == "llama-cpp":
        from ryzanstein.inference.bench.peer import LlamaCpp

        return LlamaCpp(Path(path), int(threads), int(context))
    raise ValidationError(
        f"There is no engine {name!r} to measure.", hint=f"Known: {', '.join(ENGINES)}."
    )


def _answer(engine: Measured, request: dict[str, Any]) -> Any:
    match request.pop("op"):
        case "load":
            return engine.describe()
        case "speed":
            return engine.speed(**request)
        case "score":
            return engine.score(**request)
        case "probe":
            return engine.probe()
        case "memory":
            return peak_memory()
        case other:
            raise ValidationError(f"There is no operation {other!r}.")


def main(arguments: Sequence[str]) -> None:
    """Serves requests from stdin until it ends."""
    out = _own_stdout()
    try:
        engine = _engine(arguments)
        for line in sys.stdin:
            print(json.dumps({"result": _answer(engine, json.loads(line))}), file=out, flush=True)
    except RyzansteinError as error:
        print(json.dumps({"error": error.to_wire()}), file=out, flush=True)


def _own_stdout() -> TextIO:
    """The real stdout; descriptor 1 becomes stderr, since native code of a peer may print to it."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


if __name__ == "__main__":
    main(sys.argv[1:])
