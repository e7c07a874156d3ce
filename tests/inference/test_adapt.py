"""Tensors in another form than they are stored in: the same values, made when asked for."""

from __future__ import annotations

import numpy as np
import pytest

from ryzanstein.inference.formats.adapt import (
    Adapted,
    Tensor,
    computed,
    doubled,
    piece,
    read,
    reshaped,
    squeezed,
    transposed,
)
from ryzanstein.inference.formats.dequantize import dequantize
from ryzanstein.inference.formats.raw import BLOCKS, RawTensor
from tests.inference import tiny
from tests.inference.test_formats import random_blocks

VALUES = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def raw(values: np.ndarray = VALUES, dtype: str = "F32") -> RawTensor:
    data = np.frombuffer(tiny.stored(values, dtype), np.uint8)
    return RawTensor("theirs", dtype, values.shape, data)


def quantised(dtype: str, blocks: int = 4) -> RawTensor:
    data = random_blocks(dtype, blocks, np.random.default_rng(3)).reshape(-1)
    return RawTensor("theirs", dtype, (2, blocks // 2 * BLOCKS[dtype][0]), data)


def values(tensor: Tensor) -> np.ndarray:
    made = read(tensor, "ours")
    assert (made.name, made.dtype, made.shape) == ("ours", tensor.dtype, tensor.shape)
    return dequantize(made)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_shapes_change_without_a_copy(dtype: str) -> None:
    source = raw(dtype=dtype)
    for tensor, expected in (
        (reshaped(source, (6, 4)), VALUES.reshape(6, 4)),
        (squeezed(source, (2, 1, 3, 1, 4)), VALUES.reshape(2, 1, 3, 1, 4)),
        (piece(source, 1), VALUES[1]),
    ):
        assert np.array_equal(values(tensor), expected)
        assert np.shares_memory(read(tensor, "ours").data, source.data)


def test_pieces_of_quantised_tensors_are_whole_rows() -> None:
    source = quantised("Q8_0")
    assert np.array_equal(values(piece(source, 1)), dequantize(source)[1])


def test_a_matrix_is_transposed_and_a_stack_of_them_one_by_one() -> None:
    assert np.array_equal(values(transposed(raw(VALUES[0]))), VALUES[0].T)
    assert np.array_equal(values(transposed(raw())), VALUES.swapaxes(1, 2))


def test_a_quantised_matrix_is_transposed_as_floats() -> None:
    source = quantised("Q4_K")
    tensor = transposed(source)
    assert tensor.dtype == "F32"
    assert np.array_equal(values(tensor), dequantize(source).T)


def test_computed_values_are_made_anew_each_time() -> None:
    tensor = computed(raw(), (24,), lambda given: -given.reshape(-1))
    assert isinstance(tensor, Adapted)
    assert np.array_equal(values(tensor), -VALUES.reshape(-1))
    assert not np.shares_memory(read(tensor, "a").data, read(tensor, "a").data)


@pytest.mark.parametrize("dtype", [name for name in BLOCKS if name[0] in "QF" or name == "BF16"])
@pytest.mark.parametrize("times", [0, 3, -2])
def test_doubling_is_exact_and_keeps_the_type_of_quantised_tensors(dtype: str, times: int) -> None:
    source = quantised(dtype) if dtype.startswith("Q") else raw(dtype=dtype)
    tensor = doubled(source, times)
    assert tensor.dtype == (dtype if dtype != "BF16" else "F32")
    assert np.array_equal(values(tensor), dequantize(source) * np.float32(2.0**times))


@pytest.mark.parametrize(
    "tensor",
    [
        reshaped(raw(), (5, 5)),
        reshaped(quantised("Q8_0"), (8, 16)),
        squeezed(raw(), (3, 2, 4)),
        squeezed(raw(), (24,)),
        piece(raw(), 2),
        piece(raw(VALUES[0, 0]), 0),
        computed(raw(), (25,), np.negative),
        transposed(raw(VALUES[0, 0])),
    ],
)
def test_what_has_no_meaning_is_given_back_as_it_is_stored(tensor: Tensor) -> None:
    assert isinstance(tensor, RawTensor)
    assert dequantize(tensor).size in (4, 24, 128)
