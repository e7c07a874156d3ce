"""Types of the compiled module."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAPS: tuple[str, ...]

def rmsnorm(x: ArrayLike, weight: ArrayLike, eps: float, isa: str) -> NDArray[np.float32]: ...
def layernorm(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None, eps: float, isa: str
) -> NDArray[np.float32]: ...
def mapped(function: str, x: ArrayLike, isa: str) -> NDArray[np.float32]: ...
def silu_mul(gate: ArrayLike, up: ArrayLike, isa: str) -> NDArray[np.float32]: ...
def relu2_mul(gate: ArrayLike, up: ArrayLike, isa: str) -> NDArray[np.float32]: ...
def rotate(
    x: ArrayLike,
    cos_sin: ArrayLike,
    isa: str,
    *,
    interleaved: bool = False,
    scale: float = 1.0,
) -> NDArray[np.float32]: ...
