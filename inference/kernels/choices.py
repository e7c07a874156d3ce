"""What the tuner found out about this CPU, kept in one small JSON file.

    {"version": 1, "tunings": [
        {"cpu": ..., "isa": ..., "layout": 1, "threads": 2, "seconds": 3.1, "shapes": [
            {"rows": 2560, "cols": 2560, "form": "ternary2", "threads": 2, "forms": [
                {"form": "ternary2", "prefetch": 4096, "lookup": 28, ...}, ...]}]}]}

A tuning belongs to one CPU, instruction set, layout of the packed bytes and number of threads; a
home directory that several machines share keeps those of all of them. A file that cannot be read,
of whatever reason, counts as empty: everything in it can be measured again.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from ryzanstein.inference.kernels._linear import LAYOUT_VERSION, TERNARY, PackedMatrix, chosen_isa
from ryzanstein.machine import cpu_name

__all__ = ["FormChoice", "Machine", "Plan", "Shape", "ShapeChoice", "Tuning", "read", "write"]

VERSION: Final = 1
MIXED: Final = "mixed"
_MOST: Final = 1 << 24  # of any number in the file
Shape = tuple[int, int]  # rows, columns


@dataclass(frozen=True, slots=True)
class Machine:
    """What a tuning depends on."""

    cpu: str
    isa: str
    layout: int
    threads: int

    @classmethod
    def here(cls, threads: int) -> Self:
        """This process's machine, with so many threads."""
        return cls(cpu_name(), chosen_isa(), LAYOUT_VERSION, threads)


@dataclass(frozen=True, slots=True)
class FormChoice:
    """How a shape is best multiplied in one form, and how fast that is.

    Attributes:
        form: One of TERNARY.
        prefetch: Bytes that a matrix-vector product reads ahead; 0: the kernel's own distance.
        lookup: Tokens from which tables are used; 0: never.
        decode: Matrix-vector products: GB of packed weights a second, all threads.
        prefill: Products of many tokens: GMAC a second and thread.
        cost: Time of tokens made and read (tune.PROMPT of these for one of those), as a multiple of
            the usual form's.
    """

    form: str
    prefetch: int
    lookup: int
    decode: float
    prefill: float
    cost: float


@dataclass(frozen=True, slots=True)
class ShapeChoice:
    """What was chosen for matrices of one shape.

    Attributes:
        rows: Length of the output.
        cols: Length of the dot product.
        form: The one to pack them in.
        threads: With how many a matrix-vector product is fastest.
        forms: Every form that was measured.
    """

    rows: int
    cols: int
    form: str
    threads: int
    forms: tuple[FormChoice, ...]

    def of(self, form: str) -> FormChoice | None:
        """What was measured for a form, or None."""
        return next((one for one in self.forms if one.form == form), None)


@dataclass(frozen=True, slots=True)
class Tuning:
    """All choices for one machine; `seconds` is what the last measurement took."""

    machine: Machine
    seconds: float
    shapes: Mapping[Shape, ShapeChoice]


@dataclass(frozen=True, slots=True)
class Plan:
    """How one model's ternary matrices are packed and multiplied.

    Attributes:
        usual: Form of matrices without a choice of their own.
        threads: That its products are fastest with; None: as many as there are.
        choices: Those of its shapes.
        fixed: Every matrix takes the usual form, whatever was chosen.
    """

    usual: str = TERNARY[0]
    threads: int | None = None
    choices: Mapping[Shape, ShapeChoice] = field(default_factory=dict)
    fixed: bool = False

    @property
    def name(self) -> str:
        """The form of all matrices, or "mixed"."""
        forms = {self.form(*shape) for shape in self.choices}
        return self.usual if forms <= {self.usual} else MIXED

    def form(self, rows: int, cols: int) -> str:
        """Returns the form to pack a matrix in."""
        choice = None if self.fixed else self.choices.get((rows, cols))
        return self.usual if choice is None else choice.form

    def apply(self, matrix: PackedMatrix) -> None:
        """Tells a packed matrix how it is best multiplied; its results stay the same."""
        choice = self.choices.get((matrix.rows, matrix.cols))
        found = choice and choice.of(matrix.form)
        if found:
            matrix.tune(prefetch=found.prefetch, lookup=found.lookup)


def read(path: Path) -> dict[Machine, Tuning]:
    """Returns every tuning of a file; none where it is missing, damaged or of another version."""
    try:
        document = json.loads(path.read_bytes())
        if document["version"] != VERSION:
            return {}
        tunings = [_tuning(one) for one in document["tunings"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
    return {one.machine: one for one in tunings}


def write(path: Path, tunings: Iterable[Tuning]) -> None:
    """Replaces the file at once, so that nobody reads half of it.

    Raises:
        OSError: It cannot be written.
    """
    document = {"version": VERSION, "tunings": [to_json(one) for one in tunings]}
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def to_json(tuning: Tuning) -> dict[str, Any]:
    """A tuning as it lies in the file."""
    return {
        **asdict(tuning.machine),
        "seconds": tuning.seconds,
        "shapes": [asdict(one) for one in tuning.shapes.values()],
    }


def _tuning(document: dict[str, Any]) -> Tuning:
    machine = Machine(
        str(document["cpu"]),
        str(document["isa"]),
        _whole(document["layout"]),
        _whole(document["threads"]),
    )
    shapes = [_shape(one) for one in document["shapes"]]
    by_shape = {(one.rows, one.cols): one for one in shapes}
    return Tuning(machine, _number(document["seconds"]), by_shape)


def _shape(document: dict[str, Any]) -> ShapeChoice:
    forms = tuple(_form(one) for one in document["forms"])
    rows, cols, threads = (_whole(document[key]) for key in ("rows", "cols", "threads"))
    choice = ShapeChoice(rows, cols, document["form"], threads, forms)
    if not rows or not cols or not threads or choice.of(choice.form) is None:
        raise ValueError("a choice of what was not measured")
    return choice


def _form(document: dict[str, Any]) -> FormChoice:
    if document["form"] not in TERNARY:
        raise ValueError(document["form"])
    return FormChoice(
        document["form"],
        _whole(document["prefetch"]),
        _whole(document["lookup"]),
        *(_number(document[key]) for key in ("decode", "prefill", "cost")),
    )


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MOST:
        raise ValueError(value)
    return value


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError(value)
    return number
