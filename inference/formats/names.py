"""From a GGUF file's names to Hugging Face's: tensors, and the hyperparameters of config.json.

A translated tensor name that the table does not have means that the file holds something the
architecture does not compute (experts, norms of query and key, …), so it is an error and not
skipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["BITNETS", "UnsupportedModel", "config_from_metadata", "tensor_name"]

# Architectures with sub-norms, and the activation each has. llama.cpp's converter says later in
# `hidden_activation` what it is.
BITNETS: Final = {"bitnet": "silu", "bitnet-b1.58": "relu2", "bitnet-25": "relu2"}
_ACTIVATIONS: Final = {"silu": "silu", "swish": "silu", "swiglu": "silu", "relu2": "relu2"}

_GLOBAL: Final = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
    "rope_freqs.weight": "model.rope_freqs.weight",
}
_LAYER: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_sub_norm": "self_attn.attn_sub_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_sub_norm": "mlp.ffn_sub_norm",
}
_BLOCK: Final = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias|scale)")

# Settings that change what a model computes and no program here knows; llama and qwen2 lack them.
_FOREIGN: Final = (
    "expert_count",
    "attention.sliding_window",
    "attention.scale",
    "attention.clamp_kqv",
    "attention.max_alibi_bias",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "embedding_scale",
    "residual_scale",
    "logit_scale",
    "swin_norm",
)


class UnsupportedModel(ValueError):
    """What the file asks for and the engine does not do, in one line without the file's path."""


def tensor_name(name: str) -> str:
    """Returns Hugging Face's name of a GGUF tensor.

    Raises:
        UnsupportedModel: the name is none that a dense Llama-style model has.
    """
    if name in _GLOBAL:
        return _GLOBAL[name]
    match = _BLOCK.fullmatch(name)
    if match is None or match[2] not in _LAYER:
        raise UnsupportedModel(f"it holds the tensor {name}, which the engine has no use for")
    kind = "weight_scale" if match[3] == "scale" else match[3]
    return f"model.layers.{int(match[1])}.{_LAYER[match[2]]}.{kind}"


def config_from_metadata(metadata: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    """Translates GGUF metadata into the keys of config.json; `names` are the translated tensors.

    `rope_interleaved` says that the rows of q and k are in the order for rotating neighbouring
    pairs: llama.cpp's converter permutes them so for the architecture `llama` (LlamaModel.permute),
    and for `qwen2` and the BitNets neither it nor bitnet.cpp's do.

    Raises:
        UnsupportedModel: a key is missing, makes no sense, or asks for something unknown.
    """
    reader = _Metadata(metadata)
    for key in _FOREIGN:
        if reader.get(key):
            raise UnsupportedModel(f"it sets {reader.prefix}.{key}, which is not supported")
    if reader.get("attention.causal") is False:
        raise UnsupportedModel("its attention is not causal, which is not supported")
    heads, width = reader.whole("attention.head_count"), reader.whole("embedding_length")
    head_dim = reader.whole("attention.key_length", width // max(heads, 1))
    if reader.get("attention.value_length") not in (None, head_dim):
        raise UnsupportedModel("its keys and values differ in length, which is not supported")
    if reader.get("rope.dimension_count") not in (None, head_dim):
        raise UnsupportedModel("it rotates only a part of each head, which is not supported")
    tokens = metadata.get("tokenizer.ggml.tokens")
    return {
        "model_type": "bitnet" if reader.prefix in BITNETS else reader.prefix,
        "hidden_size": width,
        "num_hidden_layers": reader.whole("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": reader.whole("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "intermediate_size": reader.whole("feed_forward_length"),
        "rms_norm_eps": reader.real("attention.layer_norm_rms_epsilon", None),
        "rope_theta": reader.real("rope.freq_base", 10000.0),
        "rope_scaling": _rope_scaling(reader, names),
        "rope_interleaved": reader.prefix == "llama",
        "tie_word_embeddings": "lm_head.weight" not in names,
        "vocab_size": reader.whole("vocab_size", len(tokens) if tokens is not None else None),
        "max_position_embeddings": reader.whole("context_length"),
        "attention_bias": "model.layers.0.self_attn.q_proj.bias" in names,
        "attention_out_bias": "model.layers.0.self_attn.o_proj.bias" in names,
        "mlp_bias": "model.layers.0.mlp.gate_proj.bias" in names,
        "hidden_act": _activation(reader),
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": metadata.get("tokenizer.ggml.eos_token_id"),
    }


def _activation(reader: _Metadata) -> str:
    if reader.prefix not in BITNETS:
        return "silu"
    name = reader.get("hidden_activation")
    if name is not None and name not in _ACTIVATIONS:
        raise UnsupportedModel(
            f"its activation is {_shown(name)}, which is not supported (silu, relu2)"
        )
    return BITNETS[reader.prefix] if name is None else _ACTIVATIONS[name]


def _rope_scaling(reader: _Metadata, names: set[str]) -> dict[str, Any] | None:
    """`rope_scaling` of config.json; Llama 3's factors come as a tensor, hence type `factors`."""
    if "model.rope_freqs.weight" in names:
        return {"rope_type": "factors"}
    kind = reader.get("rope.scaling.type")
    old_factor = reader.get("rope.scale_linear")
    if kind is None and old_factor not in (None, 0.0, 1.0):
        return {"rope_type": "linear", "factor": float(old_factor)}
    if kind in (None, "none"):
        return None
    if kind not in ("linear", "yarn"):
        raise UnsupportedModel(
            f"its rope scaling is {_shown(kind)}, which is not supported (linear, yarn)"
        )
    scaling: dict[str, Any] = {"rope_type": kind, "factor": reader.real("rope.scaling.factor", 1.0)}
    original = reader.get("rope.scaling.original_context_length")
    if original is not None:
        scaling["original_max_position_embeddings"] = int(original)
    attention = reader.get("rope.scaling.attn_factor")
    if attention is not None:
        scaling["attention_factor"] = float(attention)
    return scaling


def _shown(value: Any) -> str:
    """A value of the file as it may stand in an error: one short line."""
    return " ".join(repr(value).split())[:60]


class _Metadata:
    """The keys of one architecture, `llama.block_count` as `block_count`."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        self.prefix = str(metadata.get("general.architecture", ""))

    def get(self, key: str) -> Any:
        """A plain value; a list means that layers differ, which no program here does."""
        value = self.metadata.get(f"{self.prefix}.{key}")
        if not isinstance(value, bool | int | float | str | None):
            raise UnsupportedModel(f"{self.prefix}.{key} is a list, which is not supported")
        return value

    def whole(self, key: str, default: int | None = None) -> int:
        value = self.get(key)
        value = default if value is None else value
        if value is None:
            raise UnsupportedModel(f"its metadata has no {self.prefix}.{key}")
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 31:
            raise UnsupportedModel(
                f"{self.prefix}.{key} is {_shown(value)}, no sensible whole number"
            )
        return value

    def real(self, key: str, default: float | None) -> float:
        value = self.get(key)
        value = default if value is None else value
        if value is None:
            raise UnsupportedModel(f"its metadata has no {self.prefix}.{key}")
        if not isinstance(value, float | int) or not 0.0 < value < 1e30:
            raise UnsupportedModel(f"{self.prefix}.{key} is {_shown(value)}, no sensible number")
        return float(value)
