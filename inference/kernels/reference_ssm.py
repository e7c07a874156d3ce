"""What Mamba's operators compute, in NumPy and in whatever precision they are given.

Written from the papers (Gu and Dao 2023; Dao and Gu 2024) and not from the C code: token after
token, a line for each formula. Arrays are [tokens, channels]; states are changed in place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["convolve", "dual_scan", "rms_norm", "selective_scan", "silu", "softplus"]

Floats = NDArray[np.floating[Any]]


def silu(x: Floats) -> Floats:
    """Returns x / (1 + exp(-x))."""
    result: Floats = x / (1 + np.exp(-x))
    return result


def softplus(x: Floats) -> Floats:
    """Returns log(1 + exp(x))."""
    return np.logaddexp(x, x.dtype.type(0))


def rms_norm(x: Floats, weight: Floats | float, eps: float) -> Floats:
    """Returns x over the root of its mean square along the last axis, times the weight."""
    result: Floats = x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight
    return result


def convolve(x: Floats, weight: Floats, bias: Floats | float = 0.0) -> Floats:
    """Each channel's last values by its weights [channels, width], zeros before the first token."""
    width = weight.shape[1]
    before = np.concatenate([np.zeros((width - 1, x.shape[1]), x.dtype), x])
    taps = [before[k : k + len(x)] * weight[:, k] for k in range(width)]
    return silu(np.sum(taps, axis=0) + bias)


def selective_scan(
    x: Floats, dt: Floats, a: Floats, b: Floats, c: Floats, d: Floats, state: Floats
) -> Floats:
    """Mamba's h = exp(dt a) h + dt x b', y = h c + d x, for a state [channels, states].

    Args:
        x: [tokens, channels].
        dt: [tokens, channels], step sizes.
        a: [channels, states].
        b: [tokens, states], and c.
        c: what is read of the state.
        d: [channels].
        state: changed in place.
    """
    out = np.empty_like(x)
    change = dt * x
    for t in range(len(x)):
        state *= np.exp(dt[t, :, None] * a)
        state += change[t, :, None] * b[t]
        out[t] = state @ c[t]
    return out + d * x


def dual_scan(
    x: Floats, dt: Floats, a: Floats, b: Floats, c: Floats, d: Floats, state: Floats
) -> Floats:
    """Mamba-2's h = exp(dt a) h + dt x b', y = h c + d x, for states [heads, dim, states].

    Args:
        x: [tokens, heads, dim].
        dt: [tokens, heads], step sizes.
        a: [heads].
        b: [tokens, groups, states], and c.
        c: what is read of the state.
        d: [heads].
        state: changed in place.
    """
    out = np.empty_like(x)
    shared = x.shape[1] // b.shape[1]
    for t in range(len(x)):
        read, write = np.repeat(c[t], shared, axis=0), np.repeat(b[t], shared, axis=0)
        state *= np.exp(dt[t] * a)[:, None, None]
        state += (dt[t, :, None] * x[t])[:, :, None] * write[:, None, :]
        out[t] = (state @ read[:, :, None])[:, :, 0]
    return out + d[:, None] * x
