"""Mamba and Falcon-Mamba: selective scans between two projections, in transformers' names.

    backbone.embeddings.weight           [vocabulary, D]    backbone.norm_f.weight  [D]
    lm_head.weight                       [vocabulary, D]    absent where it is tied
    backbone.layers.N.norm.weight        [D]
             .mixer.in_proj.weight       [2·I, D]           rows x | z, .bias where use_bias
             .mixer.conv1d.weight        [I, K]             .bias where use_conv_bias
             .mixer.x_proj.weight        [R + 2·S, I]       rows dt | B | C
             .mixer.dt_proj.weight       [I, R]             .bias [I]
             .mixer.A                    [I, S]             -exp(A_log), as GGUF stores it
             .mixer.D                    [I]
             .mixer.out_proj.weight      [D, I]             .bias where use_bias

D hidden_size, I intermediate_size, S state_size, R time_step_rank, K conv_kernel. Falcon-Mamba
(`norm_bcdt_eps` is set) has the same tensors: its norms of dt, B and C have no weights. A GGUF file
of one is of the architecture mamba too, and has one epsilon for all its norms.

Follows transformers' MambaConfig and FalconMambaConfig, whose defaults are filled in, and
llama.cpp's `conversion/mamba.py` and `src/models/mamba.cpp`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.adapt import Tensor, computed, squeezed
from ryzanstein.inference.formats.layouts.keys import Metadata, flag, real, whole
from ryzanstein.inference.formats.layouts.layout import (
    Config,
    Layout,
    Shapes,
    Stored,
    UnsupportedModel,
)
from ryzanstein.inference.formats.raw import RawTensor

__all__ = ["LAYOUT", "MambaLayout", "gguf_common", "hf_common"]

# No length of its own: what llama.cpp's converter writes.
UNLIMITED: Final = 1 << 20

_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 50280,
    "hidden_size": 768,
    "state_size": 16,
    "num_hidden_layers": 32,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "tie_word_embeddings": True,
}
# mamba_ssm's names, which a few converted configurations have kept.
_OLD: Final = {"hidden_size": "d_model", "num_hidden_layers": "n_layer"}

_GLOBAL: Final = {
    "token_embd.weight": "backbone.embeddings.weight",
    "output_norm.weight": "backbone.norm_f.weight",
    "output.weight": "lm_head.weight",
}
_LAYER: Final = {
    "attn_norm.weight": "norm.weight",
    "ssm_in.weight": "mixer.in_proj.weight",
    "ssm_in.bias": "mixer.in_proj.bias",
    "ssm_conv1d.weight": "mixer.conv1d.weight",
    "ssm_conv1d.bias": "mixer.conv1d.bias",
    "ssm_x.weight": "mixer.x_proj.weight",
    "ssm_dt.weight": "mixer.dt_proj.weight",
    "ssm_dt.bias": "mixer.dt_proj.bias",
    "ssm_a": "mixer.A",
    "ssm_d": "mixer.D",
    "ssm_out.weight": "mixer.out_proj.weight",
    "ssm_out.bias": "mixer.out_proj.bias",
}
_BLOCK: Final = re.compile(r"blk\.(\d+)\.(.+)")
_FIRST: Final = "backbone.layers.0.mixer"


class MambaLayout(Layout):
    """Of Mamba and Falcon-Mamba; Mamba-2 has other tensors in the same frame."""

    embedding = "backbone.embeddings.weight"
    head = "lm_head.weight"
    gguf_layer: Mapping[str, str] = _LAYER

    def hf_name(self, name: str) -> str | None:
        """Names with the prefixes that a bare model lacks, or that Mamba-Codestral adds."""
        name = name.removeprefix("model.")
        if name.startswith(("layers.", "embedding.", "embeddings.", "norm_f.")):
            name = f"backbone.{name}"
        return name.replace("backbone.embedding.", "backbone.embeddings.")

    def gguf_name(self, name: str) -> str | None:
        """Transformers' name; that of A says that it is no logarithm."""
        if name in _GLOBAL:
            return _GLOBAL[name]
        match = _BLOCK.fullmatch(name)
        if match is None or match[2] not in self.gguf_layer:
            raise UnsupportedModel(f"it holds the tensor {name}, which the engine has no use for")
        return f"backbone.layers.{int(match[1])}.{self.gguf_layer[match[2]]}"

    def hf_config(self, raw: Mapping[str, Any], stored: Stored, file: str) -> Config:
        """MambaConfig's or FalconMambaConfig's keys that the computation depends on."""
        given = hf_common(raw, stored, file, _DEFAULTS)
        hidden, falcon = given["hidden_size"], raw.get("model_type") == "falcon_mamba"
        inner = raw.get("intermediate_size")
        rank = raw.get("time_step_rank")
        sizes = {
            "intermediate_size": expanded(raw, hidden, file) if inner is None else inner,
            "time_step_rank": -(-hidden // 16) if rank in (None, "auto") else rank,
        }
        return given | {
            "model_type": "falcon_mamba" if falcon else "mamba",
            "intermediate_size": whole(sizes, "intermediate_size", file),
            "time_step_rank": whole(sizes, "time_step_rank", file),
            "norm_bcdt_eps": real(raw, "mixer_rms_eps", file, 1e-6) if falcon else None,
        }

    def gguf_config(self, metadata: Mapping[str, Any], stored: Stored) -> Config:
        """The same of llama.cpp's keys."""
        reader = Metadata(metadata)
        config = gguf_common(reader, stored)
        normed = reader.get("ssm.dt_b_c_rms")
        if normed not in (None, False, True):
            raise UnsupportedModel(f"{reader.prefix}.ssm.dt_b_c_rms is neither true nor false")
        return config | {
            "model_type": "falcon_mamba" if normed else "mamba",
            "time_step_rank": reader.whole("ssm.time_step_rank"),
            "norm_bcdt_eps": config["layer_norm_epsilon"] if normed else None,
        }

    def adapt(self, config: Config, stored: Stored) -> dict[str, Tensor]:
        """Gives tensors without their axes of one, and A as no logarithm any more."""
        tensors: dict[str, Tensor] = {}
        for name, raw in stored.items():
            tensor = self.squeezed(config, name, raw)
            if name.endswith(".mixer.A_log"):
                canonical = name.removesuffix("_log")
                tensors[canonical] = computed(tensor, tensor.shape, _negative_exp)
            else:
                tensors[name] = tensor
        return tensors

    def squeezed(self, config: Config, name: str, raw: RawTensor) -> RawTensor:
        """A convolution's weights as a matrix: transformers has an axis more, GGUF perhaps less."""
        if not name.endswith(".mixer.conv1d.weight"):
            return raw
        return squeezed(raw, (config["intermediate_size"], config["conv_kernel"]))

    def required(self, config: Mapping[str, Any]) -> Shapes:
        """All tensors: none is optional."""
        hidden, vocabulary = config["hidden_size"], config["vocab_size"]
        shapes: Shapes = {
            self.embedding: (vocabulary, hidden),
            "backbone.norm_f.weight": (hidden,),
            self.head: (vocabulary, hidden),
        }
        mixer = self.mixer(config)
        for layer in range(config["num_hidden_layers"]):
            prefix = f"backbone.layers.{layer}"
            shapes[f"{prefix}.norm.weight"] = (hidden,)
            shapes |= {f"{prefix}.mixer.{name}": shape for name, shape in mixer.items()}
        return shapes

    def mixer(self, config: Mapping[str, Any]) -> Shapes:
        """Shapes of one layer's mixer."""
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        state, rank = config["state_size"], config["time_step_rank"]
        shapes: Shapes = {
            "in_proj.weight": (2 * inner, hidden),
            "conv1d.weight": (inner, config["conv_kernel"]),
            "x_proj.weight": (rank + 2 * state, inner),
            "dt_proj.weight": (inner, rank),
            "dt_proj.bias": (inner,),
            "A": (inner, state),
            "D": (inner,),
            "out_proj.weight": (hidden, inner),
        }
        return shapes | biases(config, shapes)


LAYOUT = MambaLayout()


def hf_common(
    raw: Mapping[str, Any], stored: Stored, file: str, defaults: Mapping[str, Any]
) -> Config:
    """What config.json says of every Mamba.

    Raises:
        ModelLoadError: a key makes no sense or asks for something that is not supported.
    """
    given = dict(defaults)
    for key in given:
        value = raw.get(key, raw.get(_OLD.get(key, key)))
        given[key] = given[key] if value is None else value
    if raw.get("quantization_config"):
        raise ModelLoadError(
            f"{file}: safetensors of a quantised Mamba are not supported; take the GGUF file."
        )
    activation = raw.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise ModelLoadError(f"{file}: the activation {activation!r:.60} is not supported (silu).")
    tied = flag(given, "tie_word_embeddings", file, True)
    return {
        "hidden_size": whole(given, "hidden_size", file),
        "num_hidden_layers": whole(given, "num_hidden_layers", file),
        "vocab_size": _vocabulary(raw, whole(given, "vocab_size", file), stored),
        "state_size": whole(given, "state_size", file),
        "conv_kernel": whole({"conv_kernel": 4, **raw}, "conv_kernel", file),
        "layer_norm_epsilon": real(raw, "layer_norm_epsilon", file, 1e-5),
        "use_bias": flag(raw, "use_bias", file, False),
        "use_conv_bias": flag(raw, "use_conv_bias", file, True),
        # Without an output matrix there is only the embedding to use, whatever the key says.
        "tie_word_embeddings": tied or "lm_head.weight" not in stored,
        "max_position_embeddings": UNLIMITED,
        "bos_token_id": given["bos_token_id"],
        "eos_token_id": given["eos_token_id"],
        "bitnet": None,
    }


def gguf_common(reader: Metadata, stored: Stored) -> Config:
    """What a GGUF file says of every Mamba; which biases there are its tensors say.

    Raises:
        UnsupportedModel: a key is missing or makes no sense.
    """
    return {
        "hidden_size": reader.whole("embedding_length"),
        "num_hidden_layers": reader.whole("block_count"),
        "vocab_size": reader.vocabulary(),
        "state_size": reader.whole("ssm.state_size"),
        "intermediate_size": reader.whole("ssm.inner_size"),
        "conv_kernel": reader.whole("ssm.conv_kernel"),
        "layer_norm_epsilon": reader.real("attention.layer_norm_rms_epsilon"),
        "use_bias": f"{_FIRST}.in_proj.bias" in stored,
        "use_conv_bias": f"{_FIRST}.conv1d.bias" in stored,
        "tie_word_embeddings": "lm_head.weight" not in stored,
        "max_position_embeddings": UNLIMITED,
        "bos_token_id": reader.metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": reader.metadata.get("tokenizer.ggml.eos_token_id"),
        "bitnet": None,
    }


def biases(config: Mapping[str, Any], shapes: Shapes) -> Shapes:
    """Biases of a mixer's layers that may have one, as the configuration says."""
    said = {"in_proj": "use_bias", "out_proj": "use_bias", "conv1d": "use_conv_bias"}
    return {
        f"{name}.bias": shapes[f"{name}.weight"][:1] for name, key in said.items() if config[key]
    }


def expanded(raw: Mapping[str, Any], hidden: int, file: str) -> int:
    """`expand` times the model's width."""
    return int(real(raw, "expand", file, 2.0, below=1e6) * hidden)


def _vocabulary(raw: Mapping[str, Any], size: int, stored: Stored) -> int:
    """Rows of the embedding; mamba_ssm counts tokens and rounds their number up."""
    multiple, embedding = raw.get("pad_vocab_size_multiple"), stored.get(MambaLayout.embedding)
    if type(multiple) is int and multiple > 0 and embedding is not None:
        padded = -(-size // multiple) * multiple
        return padded if embedding.shape[:1] == (padded,) else size
    return size


def _negative_exp(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what is not finite is refused by its tensor's name
        return -np.exp(values)
