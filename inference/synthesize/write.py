"""Writes one synthesised checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ryzanstein.errors import ValidationError
from ryzanstein.inference.synthesize.formats import Format, find_format, head_of, size_of
from ryzanstein.inference.synthesize.gguf import write_gguf
from ryzanstein.inference.synthesize.hub import write_hub
from ryzanstein.inference.synthesize.output import require_free, require_room, written
from ryzanstein.inference.synthesize.pth import write_pth
from ryzanstein.inference.synthesize.shape import Shape
from ryzanstein.inference.synthesize.shapes import find_shape
from ryzanstein.inference.synthesize.vocabulary import make_vocabulary

__all__ = ["Synthesized", "synthesize"]


@dataclass(frozen=True, slots=True)
class Synthesized:
    """What was written.

    Attributes:
        path: File or folder.
        body: Type of the matrices.
        head: Type of the output matrix.
        parameters: Number of weights.
        bytes: Of all tensors.
    """

    shape: str
    format: str
    path: Path
    body: str
    head: str
    seed: int
    parameters: int
    bytes: int
    seconds: float


def synthesize(
    shape: Shape | str,
    out: Path,
    *,
    format: str = "hf",
    head: str | None = None,
    seed: int = 0,
    force: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> Synthesized:
    """Writes a checkpoint of random weights; an interrupt leaves nothing behind.

    Args:
        shape: A shape, or the name of one.
        out: The .gguf or .pth file, or the folder for `hf`.
        format: A name of FORMATS.
        head: A name of HEADS: how the output matrix is stored; None means as is usual.
        seed: One seed gives one model, whatever the format.
        force: Replace what is there, if it is such a checkpoint.
        report: Told the bytes that are written and all there will be.

    Returns:
        What was written.

    Raises:
        ValidationError: unknown names, what does not go together, or `out` is taken.
        StorageError: the disk has no room, or cannot be written.
    """
    started = time.perf_counter()
    shape = find_shape(shape) if isinstance(shape, str) else shape
    chosen = find_format(format, shape)
    stored = head_of(chosen, shape, head)
    if seed < 0:
        raise ValidationError("The seed must not be negative.")
    _require_fitting_name(out, chosen)
    total = size_of(chosen, shape, stored)
    require_free(out, folder=chosen.folder, force=force)
    require_room(out, total)
    _write(out, shape, chosen, stored, seed, _Counter(total, report).advance)
    return Synthesized(
        shape=shape.name,
        format=chosen.name,
        path=out,
        body=(chosen.body or shape.hub_body).lower(),
        head=stored.lower(),
        seed=seed,
        parameters=sum(tensor.size for tensor in shape.tensors()),
        bytes=total,
        seconds=round(time.perf_counter() - started, 2),
    )


def _write(
    out: Path, shape: Shape, chosen: Format, head: str, seed: int, advance: Callable[[int], None]
) -> None:
    vocabulary = make_vocabulary(shape.tokenizer, shape.vocab)
    with written(out, folder=chosen.folder) as path:
        if chosen.folder:
            write_hub(path, shape, vocabulary, seed=seed, advance=advance)
        elif chosen.body is None:
            write_pth(path, shape, seed=seed, advance=advance)
        else:
            write_gguf(
                path, shape, vocabulary, body=chosen.body, head=head, seed=seed, advance=advance
            )


def _require_fitting_name(out: Path, chosen: Format) -> None:
    if not chosen.folder and out.suffix != chosen.suffix:
        raise ValidationError(
            f"{chosen.name} is a file whose name ends in {chosen.suffix}, not {out.name!r}.",
            hint=f"Name it {out.name or 'model'}{chosen.suffix}.",
        )
    if chosen.folder and out.suffix in {".gguf", ".pth"}:
        raise ValidationError(
            f"hf is a folder, and {out.name!r} looks like a file.",
            hint="Name a folder, or add --format gguf-tq2_0 or another format of files.",
        )


class _Counter:
    """Adds up the bytes that are written."""

    def __init__(self, total: int, report: Callable[[int, int], None] | None) -> None:
        self._done = 0
        self._total = total
        self._report = report

    def advance(self, size: int) -> None:
        self._done += size
        if self._report is not None:
            self._report(min(self._done, self._total), self._total)
