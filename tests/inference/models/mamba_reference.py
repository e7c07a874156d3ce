"""Whole Mambas of every family in NumPy and float64, for sequences too long for transformers.

Weights have transformers' names; the formulas are those of kernels/reference_ssm.py.
"""

from __future__ import annotations

import numpy as np

from ryzanstein.inference.kernels.reference_ssm import (
    convolve,
    dual_scan,
    rms_norm,
    selective_scan,
    silu,
    softplus,
)
from tests.inference.tiny_mamba import Shape, Weights

__all__ = ["logits"]

Array = np.ndarray
EPS = 1e-5
INNER_EPS = 1e-6  # of Falcon-Mamba's norms of dt, B and C


def logits(weights: Weights, shape: Shape, tokens: Array) -> Array:
    """Logits after each token, [tokens, vocabulary]."""
    wide = {name: values.astype(np.float64) for name, values in weights.items()}
    embedding = wide["backbone.embeddings.weight"]
    mixer = _mamba2 if shape.family == "mamba2" else _mamba
    x = embedding[tokens]
    for layer in range(shape.layers):
        prefix = f"backbone.layers.{layer}."
        own = {name.removeprefix(prefix): w for name, w in wide.items() if name.startswith(prefix)}
        x = x + mixer(own, shape, rms_norm(x, own["norm.weight"], EPS))
    x = rms_norm(x, wide["backbone.norm_f.weight"], EPS)
    result: Array = x @ wide.get("lm_head.weight", embedding).T
    return result


def _linear(w: Weights, name: str, x: Array) -> Array:
    result: Array = x @ w[f"mixer.{name}.weight"].T + w.get(f"mixer.{name}.bias", 0.0)
    return result


def _convolved(w: Weights, x: Array) -> Array:
    return convolve(x, w["mixer.conv1d.weight"][:, 0], w.get("mixer.conv1d.bias", 0.0))


def _mamba(w: Weights, shape: Shape, x: Array) -> Array:
    inner, states = shape.inner, shape.state
    x, gate = np.split(_linear(w, "in_proj", x), 2, axis=1)
    x = _convolved(w, x)
    rank = w["mixer.dt_proj.weight"].shape[1]
    chosen = np.split(_linear(w, "x_proj", x), [rank, rank + states], axis=1)
    if shape.family == "falcon_mamba":
        chosen = [rms_norm(part, 1.0, INNER_EPS) for part in chosen]
    dt, b, c = chosen
    a, d, state = -np.exp(w["mixer.A_log"]), w["mixer.D"], np.zeros((inner, states))
    y = selective_scan(x, softplus(_linear(w, "dt_proj", dt)), a, b, c, d, state)
    return _linear(w, "out_proj", y * silu(gate))


def _mamba2(w: Weights, shape: Shape, x: Array) -> Array:
    count, inner, both = len(x), shape.inner, shape.groups * shape.state
    gate, x, dt = np.split(_linear(w, "in_proj", x), [inner, 2 * inner + 2 * both], axis=1)
    x, b, c = np.split(_convolved(w, x), [inner, inner + both], axis=1)
    y = dual_scan(
        x.reshape(count, shape.heads, -1),
        softplus(dt + w["mixer.dt_bias"]),
        -np.exp(w["mixer.A_log"]),
        b.reshape(count, shape.groups, -1),
        c.reshape(count, shape.groups, -1),
        w["mixer.D"],
        np.zeros((shape.heads, inner // shape.heads, shape.state)),
    )
    gated = (y.reshape(count, inner) * silu(gate)).reshape(count, shape.groups, -1)
    normed = rms_norm(gated, 1.0, EPS).reshape(count, inner) * w["mixer.norm.weight"]
    return _linear(w, "out_proj", normed)
