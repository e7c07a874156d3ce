"""Words and pairs of neighbouring words of a text as a vector, rare ones longest.

What averaged word vectors lose, the word itself and the order of two, is what many examples teach.
Each word (its first letters, for endings) and each pair is hashed to one of a fixed number of
places (Weinberger et al. 2009, Feature Hashing), so that there is no vocabulary to keep.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ryzanstein.memory.text import all_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PLACES", "Grams"]

PLACES = 2048
_STEM = 7
_SMALL = 1e-9
# Pairs beyond this length of text say no more of what it is about.
_LOOKED_AT = 4_000


class Grams:
    """Weighs words and pairs by how few of some texts have them.

    Args:
        texts: What the rarity of a word is counted in; a word that none has counts nothing.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        held = np.zeros(PLACES, dtype=np.float32)
        for text in texts:
            held[_places(text)] += 1
        rarity = np.log(1 + (len(texts) - held + 0.5) / (held + 0.5))
        self._rarity = np.where(held > 0, rarity, 0).astype(np.float32)

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 [len(texts), PLACES], unit rows; zeros where no word is known."""
        result = np.zeros((len(texts), PLACES), dtype=np.float32)
        for row, text in enumerate(texts):
            places = _places(text)
            result[row, places] = self._rarity[places]
        norms = np.linalg.norm(result, axis=1, keepdims=True)
        result /= np.maximum(norms, _SMALL)
        return result


def _places(text: str) -> list[int]:
    words = all_words(text[:_LOOKED_AT])
    grams = {word[:_STEM] for word in words}
    grams.update(f"{a} {b}" for a, b in pairwise(words))
    return sorted({zlib.crc32(gram.encode()) % PLACES for gram in grams})
