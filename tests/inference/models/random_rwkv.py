"""Tiny random RWKV-6 and RWKV-7 models of any shape, as BlinkDL's .pth files and as their tensors.

shape = Shape(version=7, head_dim=16, decay_rank=24)
write_pth(tmp_path / "model.pth", shape)
tensors(shape)                        the same, float64, with matrices [out, in]
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

Array = np.ndarray
Tensors = dict[str, Array]


@dataclass(frozen=True)
class Shape:
    """What a tiny model looks like."""

    version: int = 7
    layers: int = 3
    heads: int = 2
    head_dim: int = 64
    inner: int = 160
    vocab: int = 96
    decay_rank: int = 32
    a_rank: int = 16
    v_rank: int = 8
    gate_rank: int = 24
    mix_rank: int = 8
    seed: int = 0

    @property
    def hidden(self) -> int:
        return self.heads * self.head_dim


def tensors(shape: Shape) -> Tensors:
    """Random tensors of the sizes that trained ones have, float64 of float32 values."""
    draw = _Draw(shape)
    made: Tensors = {"emb.weight": draw.normal(shape.vocab, shape.hidden)}
    for layer in range(shape.layers):
        block = f"blocks.{layer}"
        for norm in ("ln0", "ln1", "ln2") if layer == 0 else ("ln1", "ln2"):
            draw.norm(made, f"{block}.{norm}")
        draw.norm(made, f"{block}.att.ln_x")
        (_time7 if shape.version == 7 else _time6)(made, f"{block}.att", shape, draw)
        made[f"{block}.ffn.key.weight"] = draw.matrix(shape.inner, shape.hidden)
        made[f"{block}.ffn.value.weight"] = draw.matrix(shape.hidden, shape.inner)
    draw.norm(made, "ln_out")
    made["head.weight"] = draw.matrix(shape.vocab, shape.hidden)
    return made


class _Draw:
    def __init__(self, shape: Shape) -> None:
        self._rng, self._hidden = np.random.default_rng(shape.seed), shape.hidden

    def normal(self, *size: int, scale: float = 1.0) -> Array:
        values = self._rng.standard_normal(size) * scale
        return values.astype(np.float32).astype(np.float64)

    def matrix(self, rows: int, cols: int) -> Array:
        return self.normal(rows, cols, scale=1.5 * cols**-0.5)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Array:
        values = self._rng.uniform(low, high, self._hidden)
        return values.astype(np.float32).astype(np.float64)

    def norm(self, made: Tensors, name: str) -> None:
        made[f"{name}.weight"] = self.uniform(0.5, 1.5)
        made[f"{name}.bias"] = self.normal(self._hidden, scale=0.1)


def _projections(made: Tensors, name: str, shape: Shape, draw: _Draw, names: str) -> None:
    for projection in names.split():
        made[f"{name}.{projection}.weight"] = draw.matrix(shape.hidden, shape.hidden)


def _time7(made: Tensors, name: str, shape: Shape, draw: _Draw) -> None:
    ranks = {
        "w": shape.decay_rank,
        "a": shape.a_rank,
        "v": shape.v_rank,
        "g": shape.gate_rank,
    }
    for letter in "rwkvag":
        made[f"{name}.x_{letter}"] = draw.uniform()
    for letter, rank in ranks.items():
        if letter == "v" and name.startswith("blocks.0."):
            continue
        made[f"{name}.{letter}1"] = draw.matrix(rank, shape.hidden)
        made[f"{name}.{letter}2"] = draw.matrix(shape.hidden, rank)
        if letter != "g":
            made[f"{name}.{letter}0"] = draw.uniform(-3.0, 1.0)
    made[f"{name}.k_k"] = draw.uniform(0.5, 1.0)
    made[f"{name}.k_a"] = draw.uniform(0.8, 1.2)
    made[f"{name}.r_k"] = draw.normal(shape.hidden, scale=0.3)
    _projections(made, name, shape, draw, "receptance key value output")
    made[f"{name.replace('att', 'ffn')}.x_k"] = draw.uniform()


def _time6(made: Tensors, name: str, shape: Shape, draw: _Draw) -> None:
    rank = shape.mix_rank
    for letter in "xwkvrg":
        made[f"{name}.time_maa_{letter}"] = draw.uniform()
    made[f"{name}.time_maa_w1"] = draw.matrix(5 * rank, shape.hidden)
    made[f"{name}.time_maa_w2"] = draw.normal(5, shape.hidden, rank, scale=0.5 * rank**-0.5)
    made[f"{name}.time_decay"] = draw.uniform(-5.0, 1.0)
    made[f"{name}.time_decay_w1"] = draw.matrix(shape.decay_rank, shape.hidden)
    made[f"{name}.time_decay_w2"] = draw.matrix(shape.hidden, shape.decay_rank)
    made[f"{name}.time_faaaa"] = draw.normal(shape.hidden, scale=0.5)
    _projections(made, name, shape, draw, "receptance key value gate output")
    channel = name.replace("att", "ffn")
    _projections(made, channel, shape, draw, "receptance")
    for letter in "kr":
        made[f"{channel}.time_maa_{letter}"] = draw.uniform()


def stored(shape: Shape) -> Tensors:
    """float32, in the shapes and orientations of BlinkDL's files."""
    return {name: _stored(name, value, shape) for name, value in tensors(shape).items()}


def _stored(name: str, value: Array, shape: Shape) -> Array:
    last = name.rsplit(".", 1)[-1]
    if last == "r_k" or last == "time_faaaa":
        value = value.reshape(shape.heads, shape.head_dim)
    elif last.startswith(("x_", "time_maa_", "time_decay")) and value.ndim == 1:
        value = value.reshape(1, 1, -1)
    elif last[-2:] in ("w1", "a1", "v1", "g1", "w2", "a2", "v2", "g2"):
        value = value.swapaxes(-1, -2)
    elif last in ("w0", "a0", "v0", "k_k", "k_a"):
        value = value.reshape(1, 1, -1)
    return np.ascontiguousarray(value, np.float32)


def write_pth(path: Path, shape: Shape) -> Path:
    """Writes the file as BlinkDL's trainers do; returns its path."""
    import torch

    torch.save({name: torch.from_numpy(value) for name, value in stored(shape).items()}, path)
    return path
