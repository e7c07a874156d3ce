"""The formats a shape can be written in, and what each may be combined with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ryzanstein.errors import ValidationError
from ryzanstein.inference.synthesize.gguf import gguf_bytes
from ryzanstein.inference.synthesize.hub import hub_bytes
from ryzanstein.inference.synthesize.pth import pth_bytes
from ryzanstein.inference.synthesize.shape import Shape
from ryzanstein.nearest import did_you_mean

__all__ = ["FORMATS", "HEADS", "Format", "find_format", "head_of", "size_of"]

# As they are typed, and GGUF's names. Where the embeddings are tied, they are the head too.
HEADS: Final = {
    "q8_0": "Q8_0",
    "q6_k": "Q6_K",
    "q4_0": "Q4_0",
    "f16": "F16",
    "bf16": "BF16",
    "f32": "F32",
}
_RECURRENT: Final = ("mamba", "rwkv")


@dataclass(frozen=True, slots=True)
class Format:
    """A format.

    Attributes:
        name: As it is typed.
        body: Type of the matrices in GGUF; None for what holds a model as it is published.
        families: Of shapes that have it.
        reads: Who reads it.
        head: Type that llama.cpp's quantiser gives the output matrix of such a file.
        suffix: Of a file's name; none for a directory.
    """

    name: str
    body: str | None
    families: tuple[str, ...]
    reads: str
    head: str = "q6_k"
    suffix: str = ".gguf"

    @property
    def folder(self) -> bool:
        """A directory, not a file."""
        return not self.suffix

    @property
    def published(self) -> bool:
        """In the types its publishers use."""
        return self.body is None


FORMATS: Final[Mapping[str, Format]] = {
    one.name: one
    for one in (
        Format("hf", None, ("bitnet", *_RECURRENT), "transformers", suffix=""),
        Format("pth", None, ("rwkv",), "BlinkDL's code", suffix=".pth"),
        Format("gguf-f16", "F16", _RECURRENT, "llama.cpp", head="f16"),
        Format("gguf-q8_0", "Q8_0", _RECURRENT, "llama.cpp", head="q8_0"),
        Format("gguf-q4_0", "Q4_0", _RECURRENT, "llama.cpp"),
        Format("gguf-tq2_0", "TQ2_0", ("bitnet",), "llama.cpp"),
        Format("gguf-tq1_0", "TQ1_0", ("bitnet",), "llama.cpp"),
        Format("gguf-i2_s", "I2_S", ("bitnet",), "bitnet.cpp"),
    )
}


def find_format(name: str, shape: Shape) -> Format:
    """Returns a format by its name.

    Raises:
        ValidationError: there is none, or the shape's family does not have it.
    """
    if name not in FORMATS:
        hint = did_you_mean(name, FORMATS) or f"Known: {', '.join(FORMATS)}."
        raise ValidationError(f"There is no format {name!r}.", hint=hint)
    found = FORMATS[name]
    if shape.family not in found.families:
        having = [one.name for one in FORMATS.values() if shape.family in one.families]
        raise ValidationError(
            f"{shape.name} is not written as {name}.", hint=f"Use {', '.join(having)}."
        )
    return found


def head_of(format: Format, shape: Shape, head: str | None) -> str:
    """Returns the type of the embeddings in a file, by its name in HEADS or the format's own.

    Raises:
        ValidationError: there is no such type, or the format does not have it.
    """
    if head is not None and head not in HEADS:
        hint = did_you_mean(head, HEADS) or f"Known: {', '.join(HEADS)}."
        raise ValidationError(f"There is no head {head!r}.", hint=hint)
    if format.published:
        if head is not None and HEADS[head] != shape.hub_dtype:
            raise ValidationError(
                f"The embeddings of {shape.name} as {format.name} are {shape.hub_dtype.lower()}, "
                f"not {head}.",
                hint="Leave --head out, or choose a gguf format.",
            )
        return shape.hub_dtype
    return HEADS[head or format.head]


def size_of(format: Format, shape: Shape, head: str) -> int:
    """Returns the bytes of all tensors.

    Raises:
        ValidationError: the shape does not fit the format.
    """
    try:
        if format.body is not None:
            return gguf_bytes(shape, format.body, head)
        return hub_bytes(shape) if format.folder else pth_bytes(shape)
    except ValueError as error:
        raise ValidationError(f"{shape.name} does not fit {format.name}: {error}.") from error
