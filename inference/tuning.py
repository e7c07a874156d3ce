"""The form of a model's ternary weights and how they are multiplied, as measured on this CPU.

The first load of a large ternary model measures its shapes (`kernels.tune`, some seconds), keeps
what it found in data_dir/kernels.json, and every later load takes it from there. RYZANSTEIN_TUNE=0
takes the usual choices instead. `ryzanstein doctor --kernels` shows the file.

The form decides the bytes of the packed weights, which are kept too: it is chosen once, with all
CPUs of this process, and other numbers of threads take the same one. How far ahead memory is asked
for and from where on tables are used is chosen for each number of threads.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from ryzanstein.config import load_settings
from ryzanstein.errors import ConfigError
from ryzanstein.inference.formats.bitnet import is_ternary
from ryzanstein.inference.formats.checkpoint import Checkpoint
from ryzanstein.inference.kernels._linear import TERNARY
from ryzanstein.inference.kernels.choices import (
    Machine,
    Plan,
    Shape,
    ShapeChoice,
    Tuning,
    read,
    write,
)
from ryzanstein.inference.kernels.tune import STREAM_BYTES, tune
from ryzanstein.machine import available_cpus

__all__ = ["here", "plan_for", "retune", "ternary_shapes", "tunings_file"]

log = logging.getLogger("ryzanstein.inference")

WORTH_BYTES: Final = 8 << 20  # of a shape's matrices in two bits: less is soon read in any form
EXAMPLE: Final = "bitnet-2b-4t"  # whose shapes are measured where nobody has loaded a model


def tunings_file() -> Path:
    """Where the choices are kept.

    Raises:
        ConfigError: The settings cannot be read.
    """
    return load_settings().data_dir / "kernels.json"


def here(path: Path) -> list[Tuning]:
    """Returns what is known about this CPU, by the number of threads."""
    known = read(path).values()
    ours = Machine.here(1)
    same = [one for one in known if replace(one.machine, threads=1) == ours]
    return sorted(same, key=lambda one: one.machine.threads)


def ternary_shapes(checkpoint: Checkpoint) -> Counter[Shape]:
    """Counts a checkpoint's ternary matrices by their shapes."""
    found: Counter[Shape] = Counter()
    for name in checkpoint.names():
        if is_ternary(checkpoint.config, name):
            _, (rows, cols) = checkpoint.type_and_shape(name)
            found[rows, cols] += 1
    return found


def plan_for(checkpoint: Checkpoint, threads: int | None = None, form: str | None = None) -> Plan:
    """Chooses how a checkpoint's ternary matrices are packed and multiplied.

    Args:
        checkpoint: An open one; nothing is measured for a small one, or one that is not ternary.
        threads: Of the model; None: as many as are best, of all CPUs of this process.
        form: The form of all matrices, where the caller knows; then nothing is measured.

    Returns:
        What was chosen; the usual choices for shapes that nothing is known about.
    """
    shapes = {
        shape: count
        for shape, count in ternary_shapes(checkpoint).items()
        if _bytes(shape, count) >= WORTH_BYTES
    }
    path = _file() if shapes else None
    if path is None:
        return Plan(form or TERNARY[0], fixed=form is not None)
    cpus = available_cpus()
    if form is not None:
        known = read(path).get(Machine.here(threads or cpus))
        return Plan(form, choices=known.shapes if known else {}, fixed=True)
    whole = _measured(path, shapes, cpus)
    forms = {shape: whole[shape].form for shape in shapes}
    own = whole if threads in (None, cpus) else _measured(path, shapes, threads or cpus, forms)
    most = Counter(dict.fromkeys(TERNARY, 0))
    for shape, count in shapes.items():
        most[forms[shape]] += _bytes(shape, count)
    return Plan(
        usual=most.most_common(1)[0][0],
        threads=max(whole[shape].threads for shape in shapes) if threads is None else threads,
        choices={shape: replace(own[shape], form=forms[shape]) for shape in shapes},
    )


def retune() -> Tuning:
    """Forgets what is known about this CPU and measures those shapes again, or an example's.

    Raises:
        ConfigError: The settings cannot be read.
        OSError: The choices cannot be written.
    """
    path, cpus = tunings_file(), available_cpus()
    old = here(path)
    shapes = dict.fromkeys((shape for one in old for shape in one.shapes), 1)
    made = _tune(shapes or _example(), cpus)
    others = [one for one in read(path).values() if one not in old]
    write(path, [*others, made])
    return made


def _example() -> Counter[Shape]:
    from ryzanstein.inference.synthesize import SHAPES

    tensors = SHAPES[EXAMPLE].tensors()
    return Counter((one.shape[0], one.shape[1]) for one in tensors if one.kind == "ternary")


def _bytes(shape: Shape, count: int) -> int:
    return math.prod(shape) * count // 4


def _file() -> Path | None:
    try:
        return tunings_file() if load_settings().tune else None
    except ConfigError:  # whoever needs the settings will say what is wrong with them
        return None


def _measured(
    path: Path, shapes: Mapping[Shape, int], threads: int, forms: Mapping[Shape, str] | None = None
) -> Mapping[Shape, ShapeChoice]:
    """Choices from the file; what it lacks is measured first."""
    machine = Machine.here(threads)
    known = read(path).get(machine)
    have = dict(known.shapes) if known else {}
    missing = {
        shape: count
        for shape, count in shapes.items()
        if shape not in have or (forms and have[shape].of(forms[shape]) is None)
    }
    if missing:
        made = _tune(missing, threads, forms)
        have.update(made.shapes)
        try:
            write(path, {**read(path), machine: replace(made, shapes=have)}.values())
        except OSError as error:
            log.debug("%s is not written: %s", path, error)
    return have


def _tune(
    shapes: Mapping[Shape, int], threads: int, forms: Mapping[Shape, str] | None = None
) -> Tuning:
    log.info("measuring how %d shapes of matrices are best multiplied", len(shapes))
    size = sum(_bytes(shape, count) for shape, count in shapes.items())
    made = tune(
        shapes, threads, forms=forms, stream_bytes=min(STREAM_BYTES, max(size, WORTH_BYTES))
    )
    log.info("measured in %.1f s", made.seconds)
    return made
