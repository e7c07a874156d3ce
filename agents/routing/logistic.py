"""Multinomial logistic regression drawn to a prior, by L-BFGS in NumPy.

    minimise  Σ w_i·(-log softmax(X W')[i, y_i]) + l2/2·|W - prior|²

The prior is where few examples leave the weights, so that more of them never start from nothing.
Deterministic: no random start, no shuffling. L-BFGS is Nocedal and Wright, Numerical Optimization,
algorithm 7.4, with a backtracking line search.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["fit"]

_KEPT = 8
_ARMIJO = 1e-4
_SMALLEST_STEP = 1e-8


def fit(
    features: Floats,
    classes: NDArray[np.int64],
    weights: Floats,
    prior: Floats,
    *,
    l2: float = 0.3,
    iterations: int = 40,
    tolerance: float = 1e-4,
) -> Floats:
    """Fits one row of weights a class.

    Args:
        features: Float32 [examples, features].
        classes: Class of each example, an index into the rows of the prior.
        weights: What each example counts for, not negative.
        prior: Float32 [classes, features]; the result where there is no example.
        l2: Pull towards the prior.
        iterations: At most so many steps.
        tolerance: Share of the loss that a step must win for another one.

    Returns:
        Float32 [classes, features].
    """
    shape = prior.shape
    rows = np.arange(len(features))

    def loss(point: Floats) -> tuple[float, Floats]:
        change = point.reshape(shape)
        logits = features @ (prior + change).T
        logits -= logits.max(axis=1, keepdims=True)
        chances = np.exp(logits)
        total = chances.sum(axis=1, keepdims=True)
        value = float(weights @ (np.log(total[:, 0]) - logits[rows, classes]))
        chances /= total
        chances[rows, classes] -= 1.0
        chances *= weights[:, None]
        gradient = chances.T @ features + l2 * change
        return value + 0.5 * l2 * float(point @ point), gradient.ravel()

    start = np.zeros(prior.size, dtype=np.float32)
    found = _minimise(loss, start, iterations, tolerance)
    return (prior + found.reshape(shape)).astype(np.float32)


def _minimise(
    loss: Callable[[Floats], tuple[float, Floats]], point: Floats, iterations: int, tolerance: float
) -> Floats:
    value, gradient = loss(point)
    kept: deque[tuple[Floats, Floats, float]] = deque(maxlen=_KEPT)
    for _ in range(iterations):
        direction = -_curved(gradient, kept)
        slope = float(gradient @ direction)
        step = 1.0 if kept else min(1.0, 1.0 / max(float(np.linalg.norm(gradient)), 1e-9))
        while True:
            new_point = point + np.float32(step) * direction
            new_value, new_gradient = loss(new_point)
            if new_value <= value + _ARMIJO * step * slope:
                break
            step /= 2
            if step < _SMALLEST_STEP:
                return point
        moved, bent = new_point - point, new_gradient - gradient
        curvature = float(moved @ bent)
        if curvature > 0:
            kept.append((moved, bent, 1.0 / curvature))
        won = value - new_value
        point, value, gradient = new_point, new_value, new_gradient
        if len(kept) > 1 and won < tolerance * abs(value):
            break
    return point


def _curved(gradient: Floats, kept: deque[tuple[Floats, Floats, float]]) -> Floats:
    """The gradient times the inverse Hessian as the last steps let it be estimated."""
    result = gradient.copy()
    shares = []
    for moved, bent, scale in reversed(kept):
        share = scale * float(moved @ result)
        shares.append(share)
        result -= np.float32(share) * bent
    if kept:
        moved, bent, scale = kept[-1]
        result *= np.float32(1.0 / (scale * float(bent @ bent)))
    for (moved, bent, scale), share in zip(kept, reversed(shares), strict=True):
        result += np.float32(share - scale * float(bent @ result)) * moved
    return result
