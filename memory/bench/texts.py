"""As many different passages as are wanted, cut from one text, and their vectors.

A passage is two pieces from random places, 4 to 20 words each: cut in one piece, a million passages
from a small text overlap so much that each one's neighbours are its own copies, and are found by
any form.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ryzanstein.errors import InvalidRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ryzanstein.memory.embed import Embedder

__all__ = ["embedded", "passages"]

_PIECES = 2
_SHORTEST, _LONGEST = 4, 20
_LEAST_WORDS = 1_000
_BATCH = 4_096


def passages(data: Path, seed: int = 1) -> Iterator[str]:
    """Cuts passages from a text file without end, always the same ones for a seed.

    Raises:
        InvalidRequest: The file cannot be read, or has fewer than 1,000 words.
    """
    try:
        words = data.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{data} cannot be read as text: {error}") from error
    if len(words) < _LEAST_WORDS:
        raise InvalidRequest(
            f"{data} has {len(words)} words, not {_LEAST_WORDS:,}", hint="Take a longer text."
        )
    return _cut(words, random.Random(seed))


def _cut(words: list[str], chooser: random.Random) -> Iterator[str]:
    while True:
        taken: list[str] = []
        for _ in range(_PIECES):
            start = chooser.randrange(len(words) - _LONGEST)
            taken += words[start : start + chooser.randint(_SHORTEST, _LONGEST)]
        yield " ".join(taken)


def embedded(embedder: Embedder, texts: Iterator[str], count: int) -> NDArray[np.float32]:
    """Returns the vectors of the next `count` texts, float32 [count, dimension]."""
    vectors = np.empty((count, embedder.dimension), dtype=np.float32)
    for start in range(0, count, _BATCH):
        batch = list(islice(texts, min(_BATCH, count - start)))
        vectors[start : start + len(batch)] = embedder.embed(batch)
    return vectors
