"""Mamba-2: state-space duality, one decay a head and groups of B and C, in transformers' names.

    backbone.layers.N.norm.weight        [D]
             .mixer.in_proj.weight       [2·I + 2·G·S + H, D]   rows z | x | B | C | dt
             .mixer.conv1d.weight        [I + 2·G·S, K]         rows x | B | C
             .mixer.dt_bias .A .D        [H]                    A is -exp(A_log)
             .mixer.norm.weight          [I]                    gated, over I/G at a time
             .mixer.out_proj.weight      [D, I]

D hidden_size, I = H · head_dim, H num_heads, G n_groups, S state_size, K conv_kernel; the rest is
`mamba.py`'s. Follows transformers' Mamba2Config, whose defaults are filled in, and llama.cpp's
`conversion/mamba.py` and `src/models/mamba2.cpp`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.adapt import reshaped, squeezed
from ryzanstein.inference.formats.layouts.keys import Metadata, whole
from ryzanstein.inference.formats.layouts.layout import Config, Shapes, Stored, UnsupportedModel
from ryzanstein.inference.formats.layouts.mamba import (
    MambaLayout,
    biases,
    expanded,
    gguf_common,
    hf_common,
)
from ryzanstein.inference.formats.raw import RawTensor

__all__ = ["LAYOUT"]

_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 32768,
    "hidden_size": 4096,
    "state_size": 128,
    "num_hidden_layers": 64,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
_HEADS: Final = {"num_heads": 128, "head_dim": 64, "n_groups": 8}
_UNLIMITED: Final = (0.0, math.inf)

_LAYER: Final = {
    "attn_norm.weight": "norm.weight",
    "ssm_in.weight": "mixer.in_proj.weight",
    "ssm_in.bias": "mixer.in_proj.bias",
    "ssm_conv1d.weight": "mixer.conv1d.weight",
    "ssm_conv1d.bias": "mixer.conv1d.bias",
    "ssm_dt.bias": "mixer.dt_bias",
    "ssm_a": "mixer.A",
    "ssm_d": "mixer.D",
    "ssm_norm.weight": "mixer.norm.weight",
    "ssm_out.weight": "mixer.out_proj.weight",
    "ssm_out.bias": "mixer.out_proj.bias",
}


class Mamba2Layout(MambaLayout):
    """Of Mamba-2."""

    gguf_layer = _LAYER

    def hf_config(self, raw: Mapping[str, Any], stored: Stored, file: str) -> Config:
        """Mamba2Config's keys that the computation depends on."""
        config = hf_common(raw, stored, file, _DEFAULTS) | {"model_type": "mamba2"}
        given = _HEADS | {key: raw[key] for key in _HEADS if raw.get(key) is not None}
        config |= {key: whole(given, key, file) for key in _HEADS}
        config["intermediate_size"] = expanded(raw, config["hidden_size"], file)
        config["time_step_limit"] = _time_step_limit(raw.get("time_step_limit"), file)
        return config

    def gguf_config(self, metadata: Mapping[str, Any], stored: Stored) -> Config:
        """The same of llama.cpp's keys, where the heads are called the rank of the time step."""
        reader = Metadata(metadata)
        config = gguf_common(reader, stored)
        heads, inner = reader.whole("ssm.time_step_rank"), config["intermediate_size"]
        if inner % heads:
            raise UnsupportedModel(f"its {inner} inner columns do not divide among {heads} heads")
        return config | {
            "model_type": "mamba2",
            "num_heads": heads,
            "head_dim": inner // heads,
            "n_groups": reader.whole("ssm.group_count"),
            "time_step_limit": _UNLIMITED,
        }

    def check(self, config: Mapping[str, Any], file: str) -> None:
        """Refuses heads that do not make up the inner width or do not divide among groups."""
        heads, width, groups = config["num_heads"], config["head_dim"], config["n_groups"]
        if heads * width != config["intermediate_size"]:
            raise ModelLoadError(
                f"{file}: {heads} heads of {width} do not make up {config['intermediate_size']} "
                "inner columns."
            )
        if heads % groups:
            raise ModelLoadError(f"{file}: {heads} heads do not divide among {groups} groups.")

    def squeezed(self, config: Config, name: str, raw: RawTensor) -> RawTensor:
        """GGUF has A and D as columns, and the norm as a matrix of a row a group."""
        _, _, kind = name.partition(".mixer.")
        inner, groups = config["intermediate_size"], config["n_groups"]
        if kind in ("A", "D"):
            return squeezed(raw, (config["num_heads"],))
        if kind == "conv1d.weight":
            return squeezed(raw, (_convolved(config), config["conv_kernel"]))
        if kind == "norm.weight" and raw.shape == (groups, inner // groups):
            return reshaped(raw, (inner,))
        return raw

    def mixer(self, config: Mapping[str, Any]) -> Shapes:
        """Shapes of one layer's mixer."""
        hidden, inner, heads = (
            config[key] for key in ("hidden_size", "intermediate_size", "num_heads")
        )
        convolved = _convolved(config)
        shapes: Shapes = {
            "in_proj.weight": (inner + convolved + heads, hidden),
            "conv1d.weight": (convolved, config["conv_kernel"]),
            "dt_bias": (heads,),
            "A": (heads,),
            "D": (heads,),
            "norm.weight": (inner,),
            "out_proj.weight": (hidden, inner),
        }
        return shapes | biases(config, shapes)


LAYOUT = Mamba2Layout()


def _convolved(config: Mapping[str, Any]) -> int:
    """Columns of x, B and C, which the convolution runs over."""
    inner, groups, state = (config[key] for key in ("intermediate_size", "n_groups", "state_size"))
    return int(inner + 2 * groups * state)


def _time_step_limit(given: Any, file: str) -> tuple[float, float]:
    """Least and greatest step; JSON has no infinity, so transformers writes an object for it."""
    if given is None:
        return _UNLIMITED
    pair = list(given) if isinstance(given, list | tuple) else []
    pair = [math.inf if value == {"__float__": "Infinity"} else value for value in pair]
    numbers = all(type(value) in (int, float) for value in pair)
    if len(pair) != 2 or not numbers or not 0 <= pair[0] < pair[1]:
        raise ModelLoadError(f"{file}: time_step_limit is {given!r:.60}, no sensible range.")
    return float(pair[0]), float(pair[1])
