"""What `ryzanstein doctor --kernels` shows: how matrices are multiplied on this CPU, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ryzanstein.cli._output import Output, table
from ryzanstein.errors import StorageError

if TYPE_CHECKING:
    from ryzanstein.inference.kernels.choices import ShapeChoice, Tuning

__all__ = ["show_kernels"]

_HEADINGS = "rows x columns,form,threads,ahead,tables from,GB/s,GMAC/s,others".split(",")
_MEANING = """
form: ternaryN; 2 has two bits a weight, 5 has 1.6, 3 is indices for tables.
ahead: bytes that a matrix-vector product asks for in advance. tables from: so many tokens.
GB/s: packed weights, one token, all threads. GMAC/s: many tokens, one thread.
others: time that the other forms take, as multiples of form 2's."""


def show_kernels(out: Output, retune: bool) -> int:
    """Shows the choices for ternary matrices; with `retune`, measures them again first.

    Raises:
        StorageError: The choices cannot be written.
    """
    from ryzanstein.inference import tuning
    from ryzanstein.inference.kernels._linear import available_isas, chosen_isa
    from ryzanstein.inference.kernels.choices import to_json
    from ryzanstein.machine import available_cpus, cpu_name

    path = tuning.tunings_file()
    if retune:
        out.note("measuring, for about five seconds")
        try:
            tuning.retune()
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}.") from error
    found = tuning.here(path)
    document: dict[str, Any] = {
        "cpu": cpu_name(),
        "cpus": available_cpus(),
        "isa": chosen_isa(),
        "isas": available_isas(),
        "file": str(path),
        "tunings": [to_json(one) for one in found],
    }
    out.result(document, lambda: _show(document, found, path))
    return 0


def _show(document: dict[str, Any], found: list[Tuning], path: Path) -> None:
    print(f"{document['cpu']}, {document['cpus']} CPUs, {document['isa']}")
    if not found:
        print("Nothing has been measured here yet. The first load of a large ternary model does")
        print("that, and so does: ryzanstein doctor --kernels --retune")
        return
    for tuning in found:
        print(f"\nThreads: {tuning.machine.threads}, measured in {tuning.seconds:.1f} s")
        table(_HEADINGS, [_row(choice) for choice in tuning.shapes.values()])
    print(f"{_MEANING}\nKept in {path}")


def _row(choice: ShapeChoice) -> tuple[object, ...]:
    taken = choice.of(choice.form)
    assert taken is not None  # of every choice
    others = [f"{one.form[-1]}: {one.cost:.2f}" for one in choice.forms if one is not taken]
    return (
        f"{choice.rows} x {choice.cols}",
        choice.form[-1],
        choice.threads,
        taken.prefetch or "usual",
        taken.lookup or "never",
        taken.decode,
        taken.prefill,
        ", ".join(others) or "-",
    )
