"""Text as bytes: training windows, held-out windows, bits per byte.

    id      0 … 255    the byte itself
            256        BEGIN, in front of every window and every prompt; ends a text too

A window is BEGIN and the bytes after it; what follows is to be foretold of each of them. Training
windows begin at a random line. Scored windows cut the text end to end, so every byte counts once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["BEGIN", "VOCABULARY", "Corpus", "bits_per_byte", "scored_windows", "written"]

BEGIN = 256
VOCABULARY = 260  # rounded up: ternary rows are packed by fours
_HELD_OUT = 0.1
_EXCERPT = 4096
_WINDOWS_AT_ONCE = 16


class Corpus:
    """A text, split into a training part and the held-out last tenth.

    Args:
        path: UTF-8 text; carriage returns should not be in it.
        context: Tokens of a window, BEGIN included.

    Attributes:
        training: What batches are drawn from.
        held_out: The last tenth.
        excerpt: The beginning of `held_out`, whole lines, about 4 KiB.
    """

    def __init__(self, path: Path, context: int) -> None:
        raw = path.read_bytes()
        cut = raw.index(b"\n", int(len(raw) * (1 - _HELD_OUT))) + 1
        self.training, self.held_out = raw[:cut], raw[cut:]
        self.excerpt = self.held_out[: self.held_out.find(b"\n", _EXCERPT) + 1 or None]
        self.context = context
        self._bytes = torch.tensor(list(self.training), dtype=torch.long)
        starts = (self._bytes == ord("\n")).nonzero().flatten() + 1
        self._starts = starts[starts <= len(self._bytes) - context]

    def batch(self, windows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws windows at random lines: inputs and targets, both (windows, context)."""
        drawn = torch.randint(len(self._starts), (windows,), generator=generator)
        offsets = self._starts[drawn, None] + torch.arange(self.context)
        targets = self._bytes[offsets]
        return _begun(targets), targets


def scored_windows(text: bytes, context: int) -> list[tuple[Tensor, Tensor]]:
    """Cuts a text into windows of `context` targets, the last one shorter: inputs and targets."""
    tokens = torch.tensor(list(text), dtype=torch.long)
    parts = [tokens[None, start : start + context] for start in range(0, len(text), context)]
    return [(_begun(part), part) for part in parts]


def bits_per_byte(logits: Callable[[Tensor], Tensor], text: bytes, context: int) -> float:
    """Scores a text.

    Args:
        logits: The model: ids (windows, context) to logits (windows, context, vocabulary).
        text: What to score.
        context: Tokens of a window, BEGIN included.
    """
    total = 0.0
    windows = scored_windows(text, context)
    whole = [pair for pair in windows if pair[1].shape[1] == context]
    rest = windows[len(whole) :]
    batches = [
        (torch.cat([inputs for inputs, _ in part]), torch.cat([targets for _, targets in part]))
        for start in range(0, len(whole), _WINDOWS_AT_ONCE)
        if (part := whole[start : start + _WINDOWS_AT_ONCE])
    ]
    with torch.no_grad():
        for inputs, targets in [*batches, *rest]:
            chances = logits(inputs).float().log_softmax(-1)
            total -= chances.gather(-1, targets[..., None]).double().sum().item()
    return total / math.log(2) / len(text)


def written(
    logits: Callable[[Tensor], Tensor], prompt: str, tokens: int, temperature: float, seed: int
) -> str:
    """Returns a prompt with `tokens` bytes that a model draws after it."""
    generator = torch.Generator().manual_seed(seed)
    ids = [BEGIN, *prompt.encode()]
    with torch.no_grad():
        for _ in range(tokens):
            chances = (logits(torch.tensor([ids]))[0, -1, :BEGIN].float() / temperature).softmax(-1)
            ids.append(int(torch.multinomial(chances, 1, generator=generator)))
    return bytes(ids[1:]).decode("utf-8", "replace")


def _begun(targets: Tensor) -> Tensor:
    begin = torch.full((len(targets), 1), BEGIN, dtype=torch.long)
    return torch.cat([begin, targets[:, :-1]], dim=1)
