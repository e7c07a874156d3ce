"""Tiny random RWKV-4 and RWKV-5 models of any shape, as BlinkDL's .pth files.

write_pth(tmp_path / "model.pth", Shape("5.1", heads=3, head_dim=24))
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

Array = np.ndarray
Tensors = dict[str, Array]


@dataclass(frozen=True)
class Shape:
    """What a tiny model looks like; `old` names and stores the bonus as the first files of 5."""

    version: str = "4"
    layers: int = 3
    heads: int = 2
    head_dim: int = 64
    inner: int = 160
    vocab: int = 96
    old: bool = False
    seed: int = 0

    @property
    def hidden(self) -> int:
        return self.heads * self.head_dim


class _Draw:
    def __init__(self, shape: Shape) -> None:
        self._rng, self._hidden = np.random.default_rng(shape.seed), shape.hidden

    def normal(self, *size: int, scale: float = 1.0) -> Array:
        return (self._rng.standard_normal(size) * scale).astype(np.float32)

    def matrix(self, rows: int, cols: int) -> Array:
        return self.normal(rows, cols, scale=1.5 * cols**-0.5)

    def uniform(self, *size: int, low: float = 0.0, high: float = 1.0) -> Array:
        return self._rng.uniform(low, high, size).astype(np.float32)

    def norm(self, name: str) -> Tensors:
        bias = self.normal(self._hidden, scale=0.1)
        return {
            f"{name}.weight": self.uniform(self._hidden, low=0.5, high=1.5),
            f"{name}.bias": bias,
        }


def tensors(shape: Shape) -> Tensors:
    """Random tensors of the sizes that trained ones have, float32, as BlinkDL's files hold them."""
    draw = _Draw(shape)
    made: Tensors = {"emb.weight": draw.normal(shape.vocab, shape.hidden)}
    for layer in range(shape.layers):
        block = f"blocks.{layer}"
        for norm in ("ln0", "ln1", "ln2") if layer == 0 else ("ln1", "ln2"):
            made |= draw.norm(f"{block}.{norm}")
        made |= {f"{block}.att.{name}": value for name, value in _time(shape, draw).items()}
        if shape.version != "4":
            made |= draw.norm(f"{block}.att.ln_x")
        made |= {f"{block}.ffn.{name}": value for name, value in _channel(shape, draw).items()}
    made |= draw.norm("ln_out")
    made["head.weight"] = draw.matrix(shape.vocab, shape.hidden)
    return made


def _time(shape: Shape, draw: _Draw) -> Tensors:
    hidden, gated = shape.hidden, shape.version in ("5.1", "5.2")
    size: tuple[int, ...] = (hidden,)
    if shape.version != "4":
        size = (shape.heads, shape.head_dim) if shape.version == "5.2" else (shape.heads,)
    bonus = "time_first" if shape.version == "4" or shape.old else "time_faaaa"
    names = ["receptance", "key", "value", "output"] + ["gate"] * gated
    return {
        "time_decay": draw.uniform(*size, low=-5.0, high=1.0),
        bonus: draw.normal(*size, scale=0.5),
        **{f"time_mix_{part}": draw.uniform(1, 1, hidden) for part in "rkvg"[: 3 + gated]},
        **{f"{name}.weight": draw.matrix(hidden, hidden) for name in names},
    }


def _channel(shape: Shape, draw: _Draw) -> Tensors:
    return {
        **{f"time_mix_{part}": draw.uniform(1, 1, shape.hidden) for part in "kr"},
        "key.weight": draw.matrix(shape.inner, shape.hidden),
        "value.weight": draw.matrix(shape.hidden, shape.inner),
        "receptance.weight": draw.matrix(shape.hidden, shape.hidden),
    }


def write_pth(path: Path, shape: Shape) -> Path:
    """Writes the file as BlinkDL's trainers do."""
    import torch

    torch.save({name: torch.from_numpy(value) for name, value in tensors(shape).items()}, path)
    return path
