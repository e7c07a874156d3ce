"""Walking over a table of strings never reads beyond the data."""

from __future__ import annotations

import struct

import pytest

from ryzanstein.inference.kernels._strings import end_of_strings

TABLE = b"".join(struct.pack("<Q", len(one)) + one for one in (b"", b"abc", b"x" * 300))


def test_it_finds_the_end_of_each() -> None:
    assert [end_of_strings(TABLE, 0, count) for count in range(4)] == [0, 8, 19, len(TABLE)]
    assert end_of_strings(TABLE, 8, 1) == 19
    assert end_of_strings(TABLE, len(TABLE), 0) == len(TABLE)
    assert end_of_strings(b"", 0, 0) == 0


@pytest.mark.parametrize("cut", range(1, len(TABLE) - 19))
def test_a_table_that_is_cut_has_no_end(cut: int) -> None:
    assert end_of_strings(TABLE[:-cut], 0, 3) == -1


@pytest.mark.parametrize(
    ("data", "start", "count"),
    [
        (TABLE, 0, 4),
        (TABLE, 0, 2**63),
        (TABLE, len(TABLE) + 1, 0),
        (struct.pack("<Q", 2**64 - 1), 0, 1),
        (struct.pack("<Q", 2**64 - 8) + b"12345678", 0, 2),
        (struct.pack("<Q", 2**63) + b"12345678", 0, 1),
    ],
)
def test_lengths_that_make_no_sense_have_no_end(data: bytes, start: int, count: int) -> None:
    assert end_of_strings(data, start, count) == -1
