"""Damaged BitNet tensors: each refused by its name while it is packed, never computed with."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.checkpoint import Checkpoint, open_checkpoint
from ryzanstein.inference.formats.raw import RawTensor
from ryzanstein.inference.model import build_model
from tests.inference import tiny, tiny_bitnet

SHAPE = tiny.Shape("bitnet", layers=1)
NAME = "model.layers.0.mlp.up_proj.weight"


class Changed:
    """A checkpoint with one tensor changed behind its reader's back; `None` takes it away."""

    def __init__(self, source: Checkpoint, name: str, tensor: RawTensor | None) -> None:
        self._source, self._name, self._tensor = source, name, tensor
        self.path, self.config, self.metadata = source.path, source.config, source.metadata

    def names(self) -> list[str]:
        names = self._source.names()
        return [name for name in names if name != self._name or self._tensor is not None]

    def tensor(self, name: str) -> RawTensor:
        if name == self._name and self._tensor is not None:
            return self._tensor
        return self._source.tensor(name)

    def type_and_shape(self, name: str) -> tuple[str, tuple[int, ...]]:
        tensor = self.tensor(name)
        return tensor.dtype, tensor.shape

    def release(self, name: str) -> None:
        self._source.release(name)

    def close(self) -> None:
        self._source.close()


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    def write(stored: str, **quantization: Any) -> Checkpoint:
        return open_checkpoint(tiny_bitnet.write_hub(tmp_path, SHAPE, stored, **quantization))

    return write


def refused(checkpoint: Checkpoint, name: str, tensor: RawTensor | None, message: str) -> None:
    with pytest.raises(ModelLoadError, match=message) as caught:
        build_model(Changed(checkpoint, name, tensor), threads=1, precision="float")
    assert name in str(caught.value)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf, 1e-320])
@pytest.mark.parametrize("stored", ["packed", "int8", "floats"])
def test_a_scale_that_is_none(scale: float, stored: str, opened: Any) -> None:
    checkpoint = opened(stored)
    tensor = replace(checkpoint.tensor(NAME), scale=scale)
    refused(checkpoint, NAME, tensor, "cannot be packed")


def test_a_code_of_3(opened: Any) -> None:
    checkpoint = opened("packed")
    tensor = checkpoint.tensor(NAME)
    data = tensor.data.copy()
    data[77] |= 0b1100
    refused(checkpoint, NAME, replace(tensor, data=data), "cannot be packed")


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("stored", ["master", "floats"])
def test_a_weight_that_is_no_number(value: float, stored: str, opened: Any) -> None:
    checkpoint = opened(stored)
    tensor = checkpoint.tensor(NAME)
    values = tensor.data.view(np.float32).copy()
    values[5] = value
    changed = replace(tensor, data=values.view(np.uint8))
    refused(checkpoint, NAME, changed, "cannot be packed")


def test_bytes_that_do_not_fit_the_shape(opened: Any) -> None:
    checkpoint = opened("packed")
    tensor = checkpoint.tensor(NAME)
    refused(checkpoint, NAME, replace(tensor, data=tensor.data[:-1]), "cannot be packed")
    refused(checkpoint, NAME, replace(tensor, shape=(64, 160)), "has shape")


@pytest.mark.parametrize("part", ["self_attn.attn_sub_norm", "mlp.ffn_sub_norm"])
def test_a_missing_sub_norm(part: str, opened: Any) -> None:
    name = f"model.layers.0.{part}.weight"
    refused(opened("packed"), name, None, "has no tensor")


def test_a_missing_norm_inside(opened: Any) -> None:
    name = NAME.removesuffix("weight") + "rms_norm.weight"
    refused(opened("packed", use_rms_norm=True), name, None, "has no tensor")
