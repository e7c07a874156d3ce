"""Trained models of one to two million parameters that come with the package, and a self-test.

    bitnet/         BitNet b1.58; `load_model("tiny-bitnet")`
    mamba/          Mamba; `load_model("tiny-mamba")`
    rwkv7/          RWKV-7; `load_model("tiny-rwkv7")`
    held_out.txt    4 KiB of text that none of them was trained on

`scripts/train_tiny.py` made them; the README.md of each is its card. All read and write bytes, and
all were trained on the same text. `self_test` runs one on held_out.txt and compares what it finds
with what PyTorch found with the same weights: a wrong kernel, cache or tokenizer shows in it.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ryzanstein.inference.model import Model

__all__ = ["SelfTest", "bits_per_byte", "card", "held_out", "self_test"]

_FOLDER = Path(__file__).parent
# Quantised activations and a half-precision cache move the figure in the third decimal.
_TOLERANCE = 0.01
_WINDOW = 256  # bytes: all of them were trained on windows of that size


@dataclass(frozen=True, slots=True)
class SelfTest:
    """How a model that comes with the package did on text it was not trained on.

    Attributes:
        bits_per_byte: What this machine found.
        expected: What PyTorch found with the same weights.
        seconds: Loading and scoring together.
    """

    bits_per_byte: float
    expected: float
    seconds: float

    @property
    def passed(self) -> bool:
        """The two are the same, but for rounding."""
        return abs(self.bits_per_byte - self.expected) < _TOLERANCE


def self_test(threads: int | None = None) -> SelfTest:
    """Scores held_out.txt with tiny-bitnet, in well under a second.

    Raises:
        ModelLoadError: the model's files are damaged.
    """
    from ryzanstein.inference.load import load_model

    began = time.perf_counter()
    with load_model(_FOLDER / "bitnet", threads, keep_packed=False) as model:
        found = bits_per_byte(model, held_out())
    expected = float(card("bitnet")["bits_per_byte_excerpt"])
    return SelfTest(found, expected, time.perf_counter() - began)


def held_out() -> bytes:
    """Returns the text that `bits_per_byte_excerpt` of the cards is for."""
    return (_FOLDER / "held_out.txt").read_bytes()


def card(name: str) -> dict[str, Any]:
    """Returns the numbers of a model's card: the front matter of its README.md."""
    import yaml

    text = (_FOLDER / name / "README.md").read_text(encoding="utf-8")
    front: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return front


def bits_per_byte(model: Model, text: bytes) -> float:
    """Scores a text in windows of 256 bytes, cut end to end.

    In front of each stands the token that begins a text, so that every byte is foretold once.
    """
    begin = model.config["bos_token_id"]
    nats = 0.0
    for start in range(0, len(text), _WINDOW):
        window = np.frombuffer(text[start : start + _WINDOW], np.uint8)
        inputs = np.concatenate([[begin], window[:-1]])
        logits = model.forward(inputs, model.new_state(), all_logits=True).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[np.arange(len(window)), window]
        nats += float((np.log(np.exp(logits).sum(axis=1)) - chosen).sum())
    return nats / math.log(2) / len(text)
