"""RWKV-6 and RWKV-7 in NumPy, in the precision of the tensors: what the kernels are held against.

    logits = rwkv7(tensors, head_dim=64)(tokens)         float64 [tokens, vocabulary]

Tensors have BlinkDL's names, with matrices [out, in] and vectors one-dimensional. A model keeps its
state between calls. Follows `rwkv/model.py` of the `rwkv` package, token by token.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

__all__ = ["Rwkv6", "Rwkv7", "group_norm", "layer_norm", "sigmoid", "wkv6", "wkv7"]

Array = npt.NDArray[np.floating]
Tensors = Mapping[str, Array]


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    half: Array = 0.5 * (np.tanh(0.5 * x) + 1)
    return half


def layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    """Norm of each row."""
    gap = x - x.mean(-1, keepdims=True)
    normed: Array = gap / np.sqrt((gap**2).mean(-1, keepdims=True) + eps) * weight + bias
    return normed


def group_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """Norm of each head's outputs: x [heads, dim], weight and bias [heads * dim]."""
    one = np.ones((), x.dtype)
    return layer_norm(x, one, 0 * one, eps).reshape(-1) * weight + bias


def wkv6(state: Array, r: Array, k: Array, v: Array, w: Array, u: Array) -> Array:
    """One token: state [heads, dim of keys, dim of values] is changed; the rest is [heads, dim]."""
    new = k[:, :, None] * v[:, None, :]
    out: Array = np.einsum("hj,hji->hi", r, state + u[:, :, None] * new)
    state *= w[:, :, None]
    state += new
    return out


def wkv7(state: Array, r: Array, k: Array, v: Array, w: Array, unit: Array, a: Array) -> Array:
    """One token, with `unit` the key to remove, of length 1; shapes as of `wkv6`."""
    asked = np.einsum("hj,hji->hi", unit, state)
    state *= w[:, :, None]
    state += k[:, :, None] * v[:, None, :] - (unit * a)[:, :, None] * asked[:, None, :]
    out: Array = np.einsum("hj,hji->hi", r, state)
    return out


class _Rwkv:
    """A model with its state."""

    def __init__(self, tensors: Tensors, head_dim: int, group_eps: float = 64e-5) -> None:
        """Takes the tensors as they are; `head_dim` is the width of a head."""
        self._t, self._dim, self._eps = tensors, head_dim, group_eps
        table = tensors["emb.weight"]
        self._width, dtype = tensors["blocks.0.att.key.weight"].shape[0], table.dtype
        self._layers = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
        heads = self._width // head_dim
        self._states = np.zeros((self._layers, heads, head_dim, head_dim), dtype)
        self._before = np.zeros((self._layers, 2, table.shape[1]), dtype)

    def __call__(self, tokens: npt.NDArray[np.integer]) -> Array:
        """Logits after each of the next tokens."""
        return np.stack([self.step(int(token)) for token in tokens])

    def step(self, token: int) -> Array:
        """Logits after one token."""
        t = self._t
        x = self._norm("blocks.0.ln0", t["emb.weight"][token])
        for layer in range(self._layers):
            block = f"blocks.{layer}"
            x = x + self._time(layer, self._norm(f"{block}.ln1", x))
            x = x + self._channel(layer, self._norm(f"{block}.ln2", x))
        logits: Array = t["head.weight"] @ self._norm("ln_out", x)
        return logits

    def _norm(self, name: str, x: Array) -> Array:
        return layer_norm(x, self._t[f"{name}.weight"], self._t[f"{name}.bias"])

    def _change(self, layer: int, which: int, x: Array) -> Array:
        change: Array = self._before[layer, which] - x
        self._before[layer, which] = x
        return change

    def _heads(self, x: Array) -> Array:
        return x.reshape(-1, self._dim)

    def _time(self, layer: int, x: Array) -> Array:
        raise NotImplementedError

    def _channel(self, layer: int, x: Array) -> Array:
        raise NotImplementedError


class Rwkv7(_Rwkv):
    """RWKV-7 "Goose" (x070)."""

    _first: Array

    def _time(self, layer: int, x: Array) -> Array:
        t = {name.split(".", 3)[3]: value for name, value in self._layer(layer).items()}
        change = self._change(layer, 0, x)
        mixed = {name: x + change * t[f"x_{name}"] for name in "rwkvag"}
        r, k, v = (t[f"{name}.weight"] @ mixed[name[0]] for name in ("receptance", "key", "value"))
        w = np.exp(-np.exp(-0.5) * sigmoid(t["w0"] + t["w2"] @ np.tanh(t["w1"] @ mixed["w"])))
        a = sigmoid(t["a0"] + t["a2"] @ (t["a1"] @ mixed["a"]))
        gate = t["g2"] @ sigmoid(t["g1"] @ mixed["g"])
        if layer == 0:
            self._first = v
        else:
            v = v + (self._first - v) * sigmoid(t["v0"] + t["v2"] @ (t["v1"] @ mixed["v"]))
        unit = self._heads(k * t["k_k"])
        unit = unit / np.maximum(np.linalg.norm(unit, axis=-1, keepdims=True), 1e-12)
        k = k * (1 + (a - 1) * t["k_a"])
        parts = (self._heads(part) for part in (r, k, v, w))
        out = wkv7(self._states[layer], *parts, unit, self._heads(a))
        out = group_norm(out, t["ln_x.weight"], t["ln_x.bias"], self._eps)
        bonus = self._heads(r * k * t["r_k"].reshape(-1)).sum(-1, keepdims=True) * self._heads(v)
        mixed_out: Array = t["output.weight"] @ ((out + bonus.reshape(-1)) * gate)
        return mixed_out

    def _layer(self, layer: int) -> Tensors:
        prefix = f"blocks.{layer}.att."
        return {name: value for name, value in self._t.items() if name.startswith(prefix)}

    def _channel(self, layer: int, x: Array) -> Array:
        name = f"blocks.{layer}.ffn"
        mixed = x + self._change(layer, 1, x) * self._t[f"{name}.x_k"]
        inner = np.maximum(self._t[f"{name}.key.weight"] @ mixed, 0) ** 2
        out: Array = self._t[f"{name}.value.weight"] @ inner
        return out


class Rwkv6(_Rwkv):
    """RWKV-6 "Finch" (x060)."""

    def _time(self, layer: int, x: Array) -> Array:
        prefix = f"blocks.{layer}.att."
        t = {n.removeprefix(prefix): v for n, v in self._t.items() if n.startswith(prefix)}
        change = self._change(layer, 0, x)
        inner = np.tanh(t["time_maa_w1"] @ (x + change * t["time_maa_x"])).reshape(5, -1)
        by_data = np.einsum("nor,nr->no", t["time_maa_w2"], inner)
        mixed = {
            name: x + change * (t[f"time_maa_{name}"] + more)
            for name, more in zip("wkvrg", by_data, strict=True)
        }
        r, k, v, gate = (
            t[f"{name}.weight"] @ mixed[name[0]] for name in ("receptance", "key", "value", "gate")
        )
        w = t["time_decay"] + t["time_decay_w2"] @ np.tanh(t["time_decay_w1"] @ mixed["w"])
        parts = (self._heads(part) for part in (r, k, v, np.exp(-np.exp(w)), t["time_faaaa"]))
        out = wkv6(self._states[layer], *parts)
        out = group_norm(out, t["ln_x.weight"], t["ln_x.bias"], self._eps)
        mixed_out: Array = t["output.weight"] @ (out * gate * sigmoid(gate))
        return mixed_out

    def _channel(self, layer: int, x: Array) -> Array:
        name, t = f"blocks.{layer}.ffn", self._t
        change = self._change(layer, 1, x)
        inner = t[f"{name}.key.weight"] @ (x + change * t[f"{name}.time_maa_k"])
        gate = sigmoid(t[f"{name}.receptance.weight"] @ (x + change * t[f"{name}.time_maa_r"]))
        out: Array = gate * (t[f"{name}.value.weight"] @ np.maximum(inner, 0) ** 2)
        return out
