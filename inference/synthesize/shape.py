"""What a synthesised checkpoint is made of: its tensors, its configuration, its tokenizer.

A family of models is one subclass of `Shape` in a file of its own (`bitnet.py`); `shapes.py` lists
the shapes. Writers ask a shape for nothing but what is declared here, so a new family needs no
change in them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ryzanstein.inference.synthesize.values import Make

__all__ = ["Kind", "Shape", "Tensor"]

Kind = Literal["ternary", "matrix", "table", "norm", "float", "half"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a checkpoint.

    Attributes:
        name: In a Hugging Face checkpoint, or a .pth file.
        gguf: In a GGUF file.
        shape: (rows, columns), or (n,), as it is stored.
        kind: What a GGUF file stores it as: ternary (codes -1, 0, 1 times one scale) and matrix
        (normal values) as its body, table (normal values: the output matrix) as its head, norm
        (near 1) and float as float32, half as float16.
        scale: Of a ternary tensor the absolute value of its weights, else the standard deviation.
        key: What its values depend on, besides the seed; its name in GGUF without one.
        make: Gives its values where they are not normal, or not drawn in their stored form.
    """

    name: str
    gguf: str
    shape: tuple[int, ...]
    kind: Kind
    scale: float
    key: str = ""
    make: Make | None = None

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Shape(ABC):
    """The shape of one published model.

    Attributes:
        name: As it is asked for.
        source: Whose shape it is.
        tokenizer: Kind of its vocabulary, a name of `vocabulary.KINDS`.
        vocab: Tokens; rows of the embeddings.
        context: Tokens of the longest sequence.
    """

    family: ClassVar[str]

    name: str
    source: str
    tokenizer: str
    vocab: int
    hidden: int
    layers: int
    context: int

    @property
    @abstractmethod
    def hub_body(self) -> str:
        """How its publishers store its matrices: B158 (packed), or a dtype of safetensors."""

    @property
    @abstractmethod
    def hub_dtype(self) -> str:
        """Dtype of everything else in its Hugging Face checkpoint: F16, BF16 or F32."""

    @abstractmethod
    def tensors(self) -> list[Tensor]:
        """Returns the tensors of its Hugging Face checkpoint in the order they are written."""

    def gguf_tensors(self) -> list[Tensor]:
        """Returns those of its GGUF file."""
        return self.tensors()

    def pth_tensors(self) -> list[Tensor]:
        """Returns those of its .pth file, if its family has one."""
        return []

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Returns its config.json."""

    @abstractmethod
    def metadata(self, body: str) -> Mapping[str, Any]:
        """Returns the keys of its GGUF file for a body, `general.architecture` among them."""
