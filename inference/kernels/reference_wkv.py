"""RWKV-6 and RWKV-7 in NumPy, in the precision of the tensors: what the kernels are held against.

    model = Rwkv7(tensors, head_dim=64)
    logits = model(tokens)                float64 [tokens, vocabulary]; the next call goes on

Tensors have BlinkDL's names, with matrices [out, in] and vectors one-dimensional. Follows
`rwkv/model.py` of the `rwkv` package, layer by layer: only the recurrences go token by token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Rwkv6", "Rwkv7", "group_norm", "layer_norm", "sigmoid", "wkv6", "wkv7"]

Array = npt.NDArray[np.floating[Any]]
Tensors = Mapping[str, Array]


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    half: Array = 0.5 * (np.tanh(0.5 * x) + 1)
    return half


def layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    """Norm over the last axis."""
    gap = x - x.mean(-1, keepdims=True)
    normed: Array = gap / np.sqrt((gap**2).mean(-1, keepdims=True) + eps) * weight + bias
    return normed


def group_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """Norm of each head's outputs: x [tokens, heads, dim] to [tokens, heads * dim]."""
    one = np.ones((), x.dtype)
    return layer_norm(x, one, 0 * one, eps).reshape(len(x), -1) * weight + bias


def wkv6(state: Array, r: Array, k: Array, v: Array, w: Array, u: Array) -> Array:
    """Outputs [tokens, heads, dim]; the state [heads, keys, values] is changed.

    Args:
        state: before the first token; after the last one when it returns.
        r: [tokens, heads, dim], like k, v and the decays w.
        k: keys.
        v: values.
        w: decays.
        u: [heads, dim], how much more a token counts for itself.
    """
    out: Array = (r * u * k).sum(-1, keepdims=True) * v
    for t in range(len(r)):
        out[t] += (r[t][:, None] @ state)[:, 0]
        state *= w[t][:, :, None]
        state += k[t][:, :, None] * v[t][:, None]
    return out


def wkv7(state: Array, r: Array, k: Array, v: Array, w: Array, unit: Array, a: Array) -> Array:
    """Like `wkv6`, with `unit` the key to remove, of length 1, and `a` how much of it."""
    out, put = np.empty_like(v), -unit * a
    for t in range(len(r)):
        asked = unit[t][:, None] @ state
        state *= w[t][:, :, None]
        state += put[t][:, :, None] * asked
        state += k[t][:, :, None] * v[t][:, None]
        out[t] = (r[t][:, None] @ state)[:, 0]
    return out


class _Rwkv:
    """A model with its state."""

    def __init__(self, tensors: Tensors, head_dim: int, group_eps: float = 64e-5) -> None:
        """Takes the tensors as they are; `head_dim` is the width of a head."""
        self._tensors, self._dim, self._eps = tensors, head_dim, group_eps
        layers = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
        heads = len(tensors["blocks.0.att.key.weight"]) // head_dim
        width, dtype = tensors["emb.weight"].shape[1], tensors["emb.weight"].dtype
        self._states = [np.zeros((heads, head_dim, head_dim), dtype) for _ in range(layers)]
        self._before = np.zeros((layers, 2, width), dtype)

    def __call__(self, tokens: npt.NDArray[np.integer[Any]]) -> Array:
        """Logits after each of the next tokens."""
        table = self._tensors["emb.weight"]
        x = self._norm("blocks.0.ln0", table[tokens])
        for layer in range(len(self._states)):
            block = f"blocks.{layer}"
            x = x + self._time(layer, self._norm(f"{block}.ln1", x))
            x = x + self._channel(layer, self._norm(f"{block}.ln2", x))
        logits: Array = self._norm("ln_out", x) @ self._tensors["head.weight"].T
        return logits

    def _norm(self, name: str, x: Array) -> Array:
        return layer_norm(x, self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"])

    def _part(self, prefix: str) -> Tensors:
        return {
            name.removeprefix(prefix): value
            for name, value in self._tensors.items()
            if name.startswith(prefix)
        }

    def _change(self, layer: int, which: int, x: Array) -> Array:
        """The token before minus each token."""
        before = np.concatenate([self._before[layer, which][None], x[:-1]])
        self._before[layer, which] = x[-1]
        return before - x

    def _heads(self, x: Array) -> Array:
        return x.reshape(len(x), -1, self._dim)

    def _time(self, layer: int, x: Array) -> Array:
        raise NotImplementedError

    def _channel(self, layer: int, x: Array) -> Array:
        raise NotImplementedError


class Rwkv7(_Rwkv):
    """RWKV-7 "Goose" (x070)."""

    _first: Array

    def _time(self, layer: int, x: Array) -> Array:
        t = self._part(f"blocks.{layer}.att.")
        change = self._change(layer, 0, x)
        mixed = {name: x + change * t[f"x_{name}"] for name in "rwkvag"}
        projected: dict[str, Array] = {
            name[0]: mixed[name[0]] @ t[f"{name}.weight"].T
            for name in ("receptance", "key", "value")
        }
        r, k, v = projected["r"], projected["k"], projected["v"]
        w: Array = np.exp(
            -np.exp(-0.5) * sigmoid(t["w0"] + np.tanh(mixed["w"] @ t["w1"].T) @ t["w2"].T)
        )
        a: Array = sigmoid(t["a0"] + mixed["a"] @ t["a1"].T @ t["a2"].T)
        gate = sigmoid(mixed["g"] @ t["g1"].T) @ t["g2"].T
        if layer == 0:
            self._first = v
        else:
            v = v + (self._first - v) * sigmoid(t["v0"] + mixed["v"] @ t["v1"].T @ t["v2"].T)
        unit: Array = self._heads(k * t["k_k"])
        unit = unit / np.maximum(np.linalg.norm(unit, axis=-1, keepdims=True), 1e-12)
        k = k * (1 + (a - 1) * t["k_a"])
        r, k, v = self._heads(r), self._heads(k), self._heads(v)
        out = wkv7(self._states[layer], r, k, v, self._heads(w), unit, self._heads(a))
        out = group_norm(out, t["ln_x.weight"], t["ln_x.bias"], self._eps)
        bonus = (r * k * t["r_k"].reshape(-1, self._dim)).sum(-1, keepdims=True) * v
        mixed_out: Array = ((out + bonus.reshape(out.shape)) * gate) @ t["output.weight"].T
        return mixed_out

    def _channel(self, layer: int, x: Array) -> Array:
        t = self._part(f"blocks.{layer}.ffn.")
        mixed = x + self._change(layer, 1, x) * t["x_k"]
        out: Array = np.maximum(mixed @ t["key.weight"].T, 0) ** 2 @ t["value.weight"].T
        return out


class Rwkv6(_Rwkv):
    """RWKV-6 "Finch" (x060)."""

    def _time(self, layer: int, x: Array) -> Array:
        t = self._part(f"blocks.{layer}.att.")
        change = self._change(layer, 0, x)
        inner = np.tanh((x + change * t["time_maa_x"]) @ t["time_maa_w1"].T)
        by_data = np.einsum("nor,tnr->nto", t["time_maa_w2"], inner.reshape(len(x), 5, -1))
        mixed = {
            name: x + change * (t[f"time_maa_{name}"] + more)
            for name, more in zip("wkvrg", by_data, strict=True)
        }
        names = ("receptance", "key", "value", "gate")
        r, k, v, gate = (mixed[name[0]] @ t[f"{name}.weight"].T for name in names)
        w = t["time_decay"] + np.tanh(mixed["w"] @ t["time_decay_w1"].T) @ t["time_decay_w2"].T
        u = t["time_faaaa"].reshape(-1, self._dim)
        r, k, v, w = (self._heads(part) for part in (r, k, v, np.exp(-np.exp(w))))
        out = wkv6(self._states[layer], r, k, v, w, u)
        out = group_norm(out, t["ln_x.weight"], t["ln_x.bias"], self._eps)
        mixed_out: Array = (out * gate * sigmoid(gate)) @ t["output.weight"].T
        return mixed_out

    def _channel(self, layer: int, x: Array) -> Array:
        t = self._part(f"blocks.{layer}.ffn.")
        change = self._change(layer, 1, x)
        inner = np.maximum((x + change * t["time_maa_k"]) @ t["key.weight"].T, 0) ** 2
        gate = sigmoid((x + change * t["time_maa_r"]) @ t["receptance.weight"].T)
        out: Array = gate * (inner @ t["value.weight"].T)
        return out
