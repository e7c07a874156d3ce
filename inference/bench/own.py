"""This project's engine as the benchmarks measure it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from ryzanstein.inference.kernels._linear import read_bytes
from ryzanstein.inference.kernels._program import PAGE
from ryzanstein.inference.kernels.pack import Head
from ryzanstein.inference.load import load_model
from ryzanstein.inference.model import Model

__all__ = ["OwnEngine", "log_probabilities"]

_PROBE_BYTES: Final = 256 << 20
_PROBE_SECONDS: Final = 0.2
_SCORED_AT_ONCE: Final = 128
# How much of its recurrent state a token writes: Mamba-2's is changed once in a chunk of 16.
_WRITES: Final = {"mamba2": 1 / 16}


class OwnEngine:
    """A model of this project, loaded when it is described."""

    def __init__(
        self,
        path: Path,
        threads: int,
        context: int,
        precision: str,
        form: str | None = None,
        head: Head | None = None,
    ) -> None:
        self._path = path
        self._threads = threads
        self._context = context
        self._precision = precision
        self._form = form
        self._head: Head = head or "auto"
        self._loaded: Model | None = None

    @property
    def _model(self) -> Model:
        if self._loaded is None:
            self._loaded = load_model(
                self._path,
                self._threads,
                self._precision,
                context_tokens=self._context,
                ternary=self._form,
                head=self._head,
            )
        return self._loaded

    def describe(self) -> dict[str, Any]:
        """Loads the model; returns load_s, isa, threads and the bytes of its weights."""
        started = time.perf_counter()
        model = self._model
        return {
            "load_s": time.perf_counter() - started,
            "isa": model.isa,
            "threads": model.threads,
            "weight_bytes": model.nbytes,
            "bytes_per_token": model.weight_bytes_per_token,
            "layouts": model.layouts,
        }

    def speed(self, ids: Sequence[int], new_tokens: int) -> dict[str, float]:
        """Times a prefill and a greedy decode; also says what the sequence's state takes.

        `state_traffic` is what a decoded token reads and writes of it, on average: the keys and
        values of all positions before it, and all of a recurrent state twice, or as _WRITES says.
        """
        model, state = self._model, self._model.new_state()
        started = time.perf_counter()
        token = model.next_token(ids, state).token
        first = time.perf_counter()
        for _ in range(new_tokens):
            token = model.next_token([token], state).token
        seconds = {"prefill": first - started, "decode": time.perf_counter() - first}
        attended = len(ids) + (new_tokens + 1) / 2
        cached = state.shape.page_bytes / PAGE * attended
        written = _WRITES.get(str(model.config.get("model_type")), 1.0)
        traffic = cached + (1 + written) * state.shape.fixed_bytes
        return seconds | {"state_bytes": state.nbytes, "state_traffic": traffic}

    def score(self, ids: Sequence[int], first: int) -> float:
        """Sums the log-probabilities of ids[first:]."""
        model, state = self._model, self._model.new_state()
        if first > 1:
            model.forward(ids[: first - 1], state)
        total = 0.0
        for at in range(first - 1, len(ids) - 1, _SCORED_AT_ONCE):
            part = ids[at : min(at + _SCORED_AT_ONCE, len(ids) - 1)]
            logits = model.forward(part, state, all_logits=True)
            total += log_probabilities(logits, ids[at + 1 : at + 1 + len(part)])
        return total

    def probe(self) -> float:
        """Reads a large buffer with as many threads; best of several passes."""
        buffer = np.ones(_PROBE_BYTES, np.uint8)
        parts = np.array_split(buffer, self._threads)
        barrier = threading.Barrier(self._threads)
        ends: list[float] = []
        starts: list[float] = []

        def read(part: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
            barrier.wait()
            started = time.perf_counter()
            passes = 0
            while time.perf_counter() - started < _PROBE_SECONDS:
                read_bytes(part)
                passes += 1
            starts.append(passes * part.nbytes)
            ends.append(time.perf_counter() - started)

        threads = [threading.Thread(target=read, args=(part,)) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(count / seconds for count, seconds in zip(starts, ends, strict=True))


def log_probabilities(
    logits: np.ndarray[Any, np.dtype[np.float32]], targets: Sequence[int]
) -> float:
    """Sum of the natural log-probabilities of one target a row."""
    top = logits.max(axis=1, keepdims=True)
    norm = np.log(np.exp(logits - top).sum(axis=1, dtype=np.float64)) + top[:, 0]
    chosen = logits[np.arange(len(targets)), np.asarray(targets)]
    total = float((chosen - norm).sum())
    return total if math.isfinite(total) else -math.inf
