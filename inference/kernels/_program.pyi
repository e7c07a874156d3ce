"""Types of the compiled module."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ryzanstein.inference.kernels.pack import PackedMatrix

PAGE: int
MOST_CHUNK: int
ISAS: tuple[str, ...]

def chosen_isa() -> str: ...
def aligned(nbytes: int) -> npt.NDArray[np.uint8]: ...

class Program:
    page_bytes: int
    state_bytes: int
    def __init__(
        self,
        *,
        threads: int,
        heads: int = 0,
        kv_heads: int = 0,
        head_dim: int = 0,
        layers: int = 0,
        half_cache: bool = True,
        chunk: int = 0,
        block: int = 128,
        isa: str | None = None,
        pin: bool = False,
    ) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def pinned(self) -> bool: ...
    @property
    def width(self) -> int: ...
    @property
    def chunk(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def buffer(self, cols: int, *, whole: bool = False, past: int = 0) -> int: ...
    def rope(
        self,
        frequencies: npt.NDArray[np.float32],
        *,
        factor: float = 1.0,
        interleaved: bool = False,
    ) -> int: ...
    def embed(self, matrix: PackedMatrix, output: int) -> None: ...
    def linear(
        self,
        input: int,
        matrices: Sequence[PackedMatrix],
        output: int,
        *,
        norm: npt.NDArray[np.float32] | None = None,
        eps: float = 0.0,
        biases: Sequence[npt.NDArray[np.float32] | None] | None = None,
        accumulate: bool = False,
        gated: bool = False,
        activation: str = "silu",
        per_token: bool = False,
        inner_norms: Sequence[npt.NDArray[np.float32] | None] | None = None,
        inner_eps: float = 0.0,
        activated: str | None = None,
        joined: bool = False,
    ) -> None: ...
    def operator(
        self,
        name: str,
        *,
        buffers: Sequence[int] = (),
        vectors: Sequence[npt.NDArray[np.float32] | None] = (),
        sizes: Sequence[int] = (),
        numbers: Sequence[float] = (),
        state: int = 0,
        scratch: int = 0,
        joined: bool = False,
        shares: int = -1,
    ) -> int: ...
    def attention(
        self, input: int, output: int, *, layer: int, rope: int, scale: float
    ) -> None: ...
    def finish(
        self,
        input: int,
        matrix: PackedMatrix,
        *,
        norm: npt.NDArray[np.float32] | None = None,
        eps: float = 0.0,
        per_token: bool = False,
        inner_norm: npt.NDArray[np.float32] | None = None,
        inner_eps: float = 0.0,
    ) -> None: ...
    def run(
        self,
        tokens: npt.NDArray[np.int32],
        start: int,
        pages: npt.NDArray[np.uintp],
        logits: npt.NDArray[np.float32] | None = None,
        *,
        state: npt.NDArray[np.uint8] | None = None,
        all_logits: bool = False,
        cancel: Any = None,
    ) -> bool: ...
    @property
    def scans(self) -> bool: ...
    def best(
        self,
        tokens: npt.NDArray[np.int32],
        start: int,
        pages: npt.NDArray[np.uintp],
        *,
        below: int,
        state: npt.NDArray[np.uint8] | None = None,
        cancel: Any = None,
    ) -> tuple[int, float, int] | None: ...
    def set_width(self, how: str) -> None: ...
    def time_operators(self, on: bool) -> None: ...
    def timings(self) -> list[tuple[str, int, float]]: ...
    def close(self) -> None: ...
