"""A recurrent model in ten lines of NumPy: a `Model` whose program is a leaky sum of embeddings.

Its state is one fixed block, as of Mamba and RWKV, so caches and files of such states can be tested
without their kernels; and it can be stopped within a chunk, where the block is half moved on.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from ryzanstein.inference.kernels._program import Program
from ryzanstein.inference.model import Model
from ryzanstein.inference.models.weights import Weights

WIDTH = 64


class Recurrence:
    """Stands for a compiled program: h = 0.9 h + embedding(token), logits = matrix h."""

    scans = False
    threads = 1
    isa = "numpy"
    chunk = 32
    page_bytes = 0
    state_bytes = 4 * WIDTH

    def __init__(self, vocabulary: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self._embedding = random.standard_normal((vocabulary, WIDTH), np.float32)
        self._matrix = random.standard_normal((vocabulary, WIDTH), np.float32)
        self.tokens = 0
        self.halfway: Callable[[], None] = lambda: None  # called in the middle of every chunk

    def timings(self) -> list[tuple[str, int, float]]:
        return [("leak", 0, 0.0)]

    def run(
        self,
        tokens: Any,
        start: int,
        pages: Any,
        logits: Any = None,
        *,
        state: Any,
        all_logits: bool = False,
        cancel: Any = None,
    ) -> bool:
        assert len(pages) == 0
        h = state.view(np.float32)
        for place, token in enumerate(tokens):
            if place == len(tokens) // 2:
                self.halfway()
                if cancel is not None and cancel.is_set() and len(tokens) > 1:
                    return False
            h *= np.float32(0.9)
            h += self._embedding[token]
            self.tokens += 1
            if logits is not None and (all_logits or place == len(tokens) - 1):
                logits[place if all_logits else 0] = self._matrix @ h
        return True

    def close(self) -> None: ...


def recurrent_model(
    vocabulary: int = 320, context: int = 4096, seed: int = 0, form: str = "float"
) -> Model:
    """A model whose states are recurrent; other seeds are other models."""
    weights = SimpleNamespace(
        nbytes=0,
        read_bytes=0,
        layouts={},
        fingerprint=f"leaky sum {seed}",
        form=form,
        name=f"leaky-{seed}",
    )
    program = Recurrence(vocabulary, seed)
    config = {"vocab_size": vocabulary, "model_type": "leaky"}
    return Model(config, cast(Program, program), cast(Weights, weights), context)


def program_of(model: Model) -> Recurrence:
    """The program behind such a model."""
    return cast(Recurrence, model._program)
