"""The empty program of a model without attention."""

from __future__ import annotations

from typing import Final

from ryzanstein.inference.kernels._program import MOST_CHUNK, Program
from ryzanstein.inference.models.options import Options

__all__ = ["recurrent_program"]

# Tokens of a block: half of what attention takes, whose blocks read the cache once each. Eight of
# them in a chunk leave two threads something to share when one is slower; products are as fast.
_BLOCK: Final = 64


def recurrent_program(options: Options) -> Program:
    """Returns a program without operators and without keys and values."""
    return Program(
        threads=options.threads,
        isa=options.isa,
        pin=options.pin,
        chunk=MOST_CHUNK,
        block=_BLOCK,
    )
