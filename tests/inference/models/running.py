"""Small models as the tests of logits run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.model import Model, build_model

Array = np.ndarray


def load(path: Path, **options: Any) -> Model:
    return build_model(open_checkpoint(path), **({"threads": 1, "precision": "float"} | options))


def in_pieces(model: Model, tokens: Array, size: int) -> Array:
    state = model.new_state()
    pieces = [tokens[at : at + size] for at in range(0, len(tokens), size)]
    return np.concatenate([model.forward(piece, state, all_logits=True) for piece in pieces])


def likeliest(model: Model, prompt: list[int], count: int) -> list[int]:
    """The likeliest token, again and again."""
    state, found = model.new_state(), list(prompt)
    while len(found) < len(prompt) + count:
        found.append(model.next_token(found[state.length :], state).token)
    return found[len(prompt) :]


def ids(vocabulary: int, count: int) -> Array:
    """Tokens without sense, the same each time."""
    return np.random.default_rng(7).integers(0, vocabulary, count)


def worst(got: Array, want: Array) -> float:
    """Largest difference, in units of the logits' spread."""
    return float(np.abs(got - want).max() / want.std())
