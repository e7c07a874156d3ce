"""What a checkpoint may not ask for: each refused by name, before or while weights are packed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.errors import MemoryLimitError, ModelLoadError, ValidationError
from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.formats.raw import RawTensor
from ryzanstein.inference.model import build_model
from ryzanstein.inference.models import ARCHITECTURES, builder
from ryzanstein.inference.models.rope import frequencies
from tests.inference import tiny


class Loose:
    """A checkpoint in memory that no reader has checked; `change` edits it first."""

    def __init__(self, **config: Any) -> None:
        shape = tiny.Shape(layers=1)
        self.path = Path("loose")
        self.metadata: dict[str, Any] = {}
        self.tensors = dict(tiny.weights(shape))
        self.config = tiny.config(shape) | {"head_dim": shape.dim, "tie_word_embeddings": False}
        self.config |= config

    def names(self) -> list[str]:
        return list(self.tensors)

    def tensor(self, name: str) -> RawTensor:
        array = self.tensors[name]
        return RawTensor(name, "F32", array.shape, array.reshape(-1).view(np.uint8))

    def type_and_shape(self, name: str) -> tuple[str, tuple[int, ...]]:
        tensor = self.tensor(name)
        return tensor.dtype, tensor.shape

    def release(self, name: str) -> None:
        assert name in self.tensors

    def close(self) -> None:
        self.tensors.clear()


def build(checkpoint: Loose, **options: Any) -> None:
    build_model(checkpoint, threads=1, precision="float", **options).close()


def test_the_loose_checkpoint_is_fine_as_it_is() -> None:
    build(Loose())


def test_every_architecture_has_its_file() -> None:
    for name in ARCHITECTURES:
        assert callable(builder(name))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "qwen3_moe"}, "'qwen3_moe' is not supported"),
        ({"model_type": ""}, "'' is not supported"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        ({"use_sliding_window": True}, "Sliding-window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "Sliding-window"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ({"num_local_experts": 8}, "mixture of experts"),
        ({"embedding_multiplier": 12.0}, "embedding_multiplier"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic' is not supported"),
        ({"rope_scaling": {"rope_type": "linear"}}, "lacks the parameter 'factor'"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor = 0"),
        ({"rope_scaling": {"rope_type": "factors", "factors": [1.0]}}, "8 positive factors"),
        ({"num_key_value_heads": 3}, "do not divide among 3"),
        ({"num_hidden_layers": 0}, "num_hidden_layers = 0"),
        ({"hidden_size": 1 << 40}, "hidden_size = 1099511627776"),
        ({"intermediate_size": "many"}, "intermediate_size = 'many'"),
        ({"head_dim": 15}, "15 elements cannot be rotated"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps"),
        ({"num_hidden_layers": 2}, r"no tensor model\.layers\.1"),
        ({"vocab_size": 321}, r"model\.embed_tokens\.weight has shape \(320, 64\)"),
    ],
)
def test_unsupported_configurations_are_refused_by_name(
    config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelLoadError, match=message):
        build(Loose(**config))


def test_a_missing_key_is_named() -> None:
    checkpoint = Loose()
    del checkpoint.config["rope_theta"]
    with pytest.raises(ModelLoadError, match="rope_theta"):
        build(checkpoint)


def _drop(checkpoint: Loose) -> None:
    del checkpoint.tensors["model.norm.weight"]


def _misshape(checkpoint: Loose) -> None:
    name = "model.layers.0.mlp.down_proj.weight"
    checkpoint.tensors[name] = np.ascontiguousarray(checkpoint.tensors[name].T)


def _poison(checkpoint: Loose) -> None:
    checkpoint.tensors["model.norm.weight"][3] = np.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop, r"no tensor model\.norm\.weight"),
        (_misshape, r"model\.layers\.0\.mlp\.down_proj\.weight has shape \(160, 64\)"),
        (_poison, r"model\.norm\.weight holds values that are not finite"),
    ],
)
def test_bad_tensors_are_named(change: Callable[[Loose], None], message: str) -> None:
    checkpoint = Loose()
    change(checkpoint)
    with pytest.raises(ModelLoadError, match=message):
        build(checkpoint)


def test_weights_larger_than_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ryzanstein.inference.model.available_memory", lambda: 1000)
    with pytest.raises(MemoryLimitError, match="GiB are free"):
        build(Loose())


@pytest.mark.parametrize(
    "options",
    [{"precision": "int3"}, {"threads": 0}, {"threads": 1000}, {"context_tokens": -4}],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    path = tiny.write_safetensors(tmp_path / "m", tiny.Shape(layers=1))
    with pytest.raises(ValidationError):
        build_model(open_checkpoint(path), **options)


def test_yarn_with_mscale_is_refused() -> None:
    with pytest.raises(ModelLoadError, match="mscale"):
        frequencies(64, 1e4, {"rope_type": "yarn", "factor": 2.0, "mscale": 1.0}, 512)
