"""Rotary position frequencies and their scalings, after transformers' `modeling_rope_utils`.

default   theta^(-2i/d)
linear    divided by `factor`
llama3    long waves divided by `factor`, short ones kept, a smooth step between (Llama 3.1)
yarn      interpolated below a ramp, kept above it, and a gain on cosines and sines (YaRN)
factors   each divided by its own factor (GGUF's `rope_freqs`: llama3 worked out beforehand)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ryzanstein.errors import ModelLoadError

__all__ = ["frequencies"]

Array = npt.NDArray[np.float32]


def frequencies(
    dim: int, theta: float, scaling: Mapping[str, Any] | None, context: int
) -> tuple[Array, float]:
    """Returns radians a position for each of the dim / 2 pairs, and the gain of cosines and sines.

    Args:
        dim: elements of a head that are rotated.
        theta: the base.
        scaling: None, or {"rope_type": …} with that type's parameters.
        context: max_position_embeddings, where the scaling does not name the original length.

    Raises:
        ModelLoadError: the scaling is of an unknown type or lacks a parameter.
    """
    plain = theta ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)
    kind = (scaling or {}).get("rope_type", "default")
    if scaling is None or kind == "default":
        return plain.astype(np.float32), 1.0
    try:
        if kind == "linear":
            return (plain / _positive(scaling, "factor")).astype(np.float32), 1.0
        if kind == "llama3":
            return _llama3(plain, scaling), 1.0
        if kind == "factors":
            return (plain / _factors(scaling, dim)).astype(np.float32), 1.0
        if kind == "yarn":
            return _yarn(plain, dim, theta, scaling, context)
    except KeyError as error:
        raise ModelLoadError(f"Rotary scaling {kind!r} lacks the parameter {error}.") from error
    raise ModelLoadError(f"Rotary scaling {kind!r:.60} is not supported.")


def _positive(scaling: Mapping[str, Any], key: str) -> float:
    value = scaling[key]
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ModelLoadError(f"Rotary scaling has {key} = {value!r:.60}, not a positive number.")
    return float(value)


def _factors(scaling: Mapping[str, Any], dim: int) -> npt.NDArray[np.float64]:
    factors = np.asarray(scaling["factors"], np.float64)
    if factors.shape != (dim // 2,) or not np.all(np.isfinite(factors) & (factors > 0)):
        raise ModelLoadError(f"Rotary scaling does not have {dim // 2} positive factors.")
    return factors


def _llama3(plain: npt.NDArray[np.float64], scaling: Mapping[str, Any]) -> Array:
    factor, original = (
        _positive(scaling, "factor"),
        _positive(scaling, "original_max_position_embeddings"),
    )
    low, high = _positive(scaling, "low_freq_factor"), _positive(scaling, "high_freq_factor")
    if high <= low:
        raise ModelLoadError("Rotary scaling llama3 needs high_freq_factor above low_freq_factor.")
    turns = original * plain / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return ((1 - kept) * plain / factor + kept * plain).astype(np.float32)


def _yarn(
    plain: npt.NDArray[np.float64],
    dim: int,
    theta: float,
    scaling: Mapping[str, Any],
    context: int,
) -> tuple[Array, float]:
    if scaling.get("mscale") or scaling.get("mscale_all_dim"):
        raise ModelLoadError("Rotary scaling yarn with mscale is not supported.")
    factor = _positive(scaling, "factor")
    original = float(scaling.get("original_max_position_embeddings") or context)

    def pair_of(turns: float) -> float:
        """Index of the pair that turns so often over the original context."""
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low = pair_of(float(scaling.get("beta_fast") or 32))
    high = pair_of(float(scaling.get("beta_slow") or 1))
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / max(high - low, 1e-3), 0, 1)
    gain = scaling.get("attention_factor")
    if gain is None:
        gain = 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0
    return (plain / factor * ramp + plain * (1 - ramp)).astype(np.float32), float(gain)
