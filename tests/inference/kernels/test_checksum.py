"""The checksum: equal to its definition in Python, for any length and alignment."""

from __future__ import annotations

import numpy as np
import pytest

from ryzanstein.inference.kernels._checksum import checksum, checksums

ODD = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1
DATA = np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8)


def step(state: int, word: int) -> int:
    state ^= word
    return ((state << 29 | state >> 35) & MASK) * ODD & MASK


def reference(data: bytes) -> int:
    """The whole blocks of eight words, and one block more: what is left, and zeros."""
    padded = data + bytes(64 - len(data) % 64)
    lanes = [(lane + 1) * ODD & MASK for lane in range(8)]
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        lanes[at // 8 % 8] = step(lanes[at // 8 % 8], word)
    total = len(data)
    for lane in lanes:
        total = step(total, lane)
    return total ^ total >> 32


@pytest.mark.parametrize("size", [0, 1, 7, 8, 63, 64, 65, 127, 128, 1000, 4096])
@pytest.mark.parametrize("start", [0, 1, 8, 13])
def test_it_is_what_its_definition_says(size: int, start: int) -> None:
    part = DATA[start : start + size]
    assert checksum(part) == reference(part.tobytes())


def test_each_chunk_has_its_own() -> None:
    got = checksums(DATA[:1000], 300).tolist()
    assert got == [checksum(DATA[at : min(at + 300, 1000)]) for at in range(0, 1000, 300)]
    assert checksums(DATA[:0], 300).size == 0
    with pytest.raises(ValueError, match="at least one byte"):
        checksums(DATA, 0)


@pytest.mark.parametrize("bit", range(8))
def test_every_single_bit_counts(bit: int) -> None:
    data = DATA[:300].copy()
    whole = checksum(data)
    for at in range(len(data)):
        data[at] ^= 1 << bit
        assert checksum(data) != whole
        data[at] ^= 1 << bit


def test_order_and_length_count() -> None:
    data = DATA[:512]
    swapped = np.concatenate([data[64:128], data[:64], data[128:]])
    top_bits = data.copy()
    top_bits[[7, 71]] ^= 128  # the highest bit of two words of one lane
    sums = {checksum(part) for part in (data, swapped, top_bits, data[:-1], DATA[:513])}
    assert len(sums) == 5
    assert len({checksum(bytes(size)) for size in range(200)}) == 200
