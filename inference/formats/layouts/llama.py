"""Llama, Qwen2 and BitNet: decoders of attention and gated MLPs, in transformers' names.

    model.embed_tokens.weight            [vocabulary, hidden]
    model.layers.N.input_layernorm.weight, .post_attention_layernorm.weight
                  .self_attn.{q,k,v,o}_proj.{weight,bias}
                  .mlp.{gate,up,down}_proj.{weight,bias}
    model.norm.weight, lm_head.weight, model.rope_freqs.weight

A BitNet has norms before two projections, or inside its linear layers, and ternary weights
(`formats/bitnet.py`). A translated tensor name that the tables do not have means that the file
holds something the architecture does not compute (experts, norms of query and key, ...), so it is
an error and not skipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.bitnet import (
    Quantization,
    from_tensor_types,
    is_master,
    read_quantization,
)
from ryzanstein.inference.formats.dequantize import dequantize
from ryzanstein.inference.formats.gguf_bitnet import take_scales
from ryzanstein.inference.formats.hf_bitnet import own_name, with_scales
from ryzanstein.inference.formats.layouts.keys import Metadata, shown, whole
from ryzanstein.inference.formats.layouts.layout import (
    Config,
    Contents,
    Layout,
    Shapes,
    Stored,
    UnsupportedModel,
)

__all__ = ["LAYOUT"]


# Defaults of transformers' LlamaConfig and Qwen2Config for keys that a config.json may leave out.
_DEFAULTS: Final[dict[str, Any]] = {
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "rope_theta": 10000.0,
}
# What its BitNetConfig has otherwise.
_BITNET_DEFAULTS: Final[dict[str, Any]] = {
    "rms_norm_eps": 1e-5,
    "hidden_act": "relu2",
    "num_key_value_heads": 5,
    "rope_theta": 500000.0,
}
_REQUIRED: Final = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
)
_ROPE_TYPES: Final = ("default", "linear", "yarn", "llama3")

# Architectures with sub-norms, and the activation each has. llama.cpp's converter says later in
# `hidden_activation` what it is.
_BITNETS: Final = {"bitnet": "silu", "bitnet-b1.58": "relu2", "bitnet-25": "relu2"}
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


class LlamaLayout(Layout):
    """Of Llama, Qwen2, and BitNets of either."""

    embedding = "model.embed_tokens.weight"
    head = "lm_head.weight"

    def hf_name(self, name: str) -> str | None:
        """Transformers' names as they are, with those that 1bitLLM gave its norms translated."""
        return None if name.endswith(".inv_freq") else own_name(name)

    def gguf_name(self, name: str) -> str:
        """Transformers' name of a GGUF tensor."""
        return _tensor_name(name)

    def hf_config(self, raw: Mapping[str, Any], stored: Stored, file: str) -> Config:
        """Of a directory that is no BitNet of 1bitLLM's code."""
        return _read_config(raw, set(stored), file, read_quantization(raw, False, file), False)

    def gguf_config(self, metadata: Mapping[str, Any], stored: Stored) -> Config:
        """All but what says how ternary weights are meant."""
        return _config_from_metadata(metadata, set(stored))

    def from_hf(self, raw: Mapping[str, Any], stored: Stored, file: str) -> Contents:
        """Contents of a directory, ternary layers with their scales."""
        master = is_master(raw, stored)
        named = self.renamed(stored, self.hf_name, file)
        quantization = read_quantization(raw, master, file)
        config = _read_config(raw, set(named), file, quantization, master)
        shape_of = partial(_linear_shape, config)
        return config, dict(with_scales(named, config, quantization, shape_of, file))

    def from_gguf(self, metadata: Mapping[str, Any], stored: Stored, file: str) -> Contents:
        """Contents of a GGUF file, ternary layers with their scales."""
        bitnet = str(metadata.get("general.architecture", "")) in _BITNETS
        named = self.renamed(stored, self.gguf_name, file)
        config = self.gguf_config(metadata, named)
        tensors = take_scales(named, bitnet)
        types = {name: tensor.dtype for name, tensor in tensors.items()}
        config["bitnet"] = from_tensor_types(bitnet, types, config["rms_norm_eps"])
        if "model.rope_freqs.weight" in tensors:
            factors = dequantize(tensors["model.rope_freqs.weight"])
            config["rope_scaling"]["factors"] = factors.tolist()
        return config, dict(tensors)

    def check(self, config: Mapping[str, Any], file: str) -> None:
        """Refuses heads that do not divide among groups, or cannot be rotated."""
        heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
        if heads % groups:
            raise ModelLoadError(
                f"{file}: {heads} attention heads cannot share {groups} key-value heads."
            )
        if config["head_dim"] % 2:
            raise ModelLoadError(
                f"{file}: a head of {config['head_dim']} cannot be rotated in pairs."
            )

    def required(self, config: Mapping[str, Any]) -> Shapes:
        """All matrices and norms."""
        hidden, vocabulary = config["hidden_size"], config["vocab_size"]
        shapes: Shapes = {
            self.embedding: (vocabulary, hidden),
            "model.norm.weight": (hidden,),
            self.head: (vocabulary, hidden),
        }
        for layer in range(config["num_hidden_layers"]):
            prefix = f"model.layers.{layer}"
            shapes[f"{prefix}.input_layernorm.weight"] = (hidden,)
            shapes[f"{prefix}.post_attention_layernorm.weight"] = (hidden,)
            for name, (rows, cols) in _matrices(config).items():
                shapes[f"{prefix}.{name}.weight"] = (rows, cols)
        return shapes | _norms(config)

    def optional(self, config: Mapping[str, Any]) -> Shapes:
        """Biases, of which a BitNet with sub-norms has attention's only; Llama 3's factors."""
        bitnet = config.get("bitnet")
        prefix = "self_attn." if bitnet and bitnet["sub_norms"] else ""
        shapes: Shapes = {
            f"model.layers.{layer}.{name}.bias": (rows,)
            for layer in range(config["num_hidden_layers"])
            for name, (rows, _) in _matrices(config).items()
            if name.startswith(prefix)
        }
        return shapes | {"model.rope_freqs.weight": (config["head_dim"] // 2,)}


LAYOUT = LlamaLayout()


def _norms(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Norms that only a BitNet has: before two projections, and inside linear layers."""
    bitnet = config.get("bitnet")
    if not bitnet:
        return {}
    shapes: dict[str, tuple[int, ...]] = {}
    skip, linear = set(bitnet["skip"]), _matrices(config)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        if bitnet["sub_norms"]:
            shapes[f"{prefix}.self_attn.attn_sub_norm.weight"] = linear["self_attn.o_proj"][1:]
            shapes[f"{prefix}.mlp.ffn_sub_norm.weight"] = linear["mlp.down_proj"][1:]
        for name, (_, cols) in linear.items():
            if bitnet["inner_norm"] and f"{prefix}.{name}" not in skip:
                shapes[f"{prefix}.{name}.rms_norm.weight"] = (cols,)
    if bitnet["inner_norm"] and "lm_head" not in skip:
        shapes["lm_head.rms_norm.weight"] = (config["hidden_size"],)
    return shapes


def _linear_shape(config: Mapping[str, Any], layer: str) -> tuple[int, int]:
    """Rows and columns of a linear layer, `model.layers.3.mlp.up_proj` or `lm_head`."""
    if layer == "lm_head":
        return config["vocab_size"], config["hidden_size"]
    return _matrices(config)[layer.split(".", 3)[3]]


def _matrices(config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    query = config["num_attention_heads"] * config["head_dim"]
    key = config["num_key_value_heads"] * config["head_dim"]
    return {
        "self_attn.q_proj": (query, hidden),
        "self_attn.k_proj": (key, hidden),
        "self_attn.v_proj": (key, hidden),
        "self_attn.o_proj": (hidden, query),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }


def _read_config(
    raw: Mapping[str, Any],
    names: set[str],
    file: str,
    quantization: Quantization | None = None,
    master: bool = False,
) -> dict[str, Any]:
    """Returns the configuration under the keys programs use.

    Args:
        raw: config.json.
        names: The tensors.
        file: What errors call the model.
        quantization: What `bitnet.read_quantization` found.
        master: It is of 1bitLLM's code, whose configuration is Llama's with another name.

    Raises:
        ModelLoadError: a key is missing, absurd, or asks for something that is not supported.
    """
    given = {key: value for key, value in raw.items() if value is not None}
    bitnet = given.get("model_type") == "bitnet"
    config = {**_DEFAULTS, **(_BITNET_DEFAULTS if bitnet and not master else {}), **given}
    for key in _REQUIRED:
        whole(config, key, file)
    config.setdefault("num_key_value_heads", config["num_attention_heads"])
    config.setdefault("head_dim", config["hidden_size"] // config["num_attention_heads"])
    for key in ("num_key_value_heads", "head_dim", "max_position_embeddings"):
        whole(config, key, file)
    config["hidden_act"] = _hf_activation(config["hidden_act"], quantization is not None, file)
    if config.get("use_sliding_window"):
        raise ModelLoadError(f"{file}: sliding-window attention is not supported.")
    config["rope_theta"], config["rope_scaling"] = _rope(config, file)
    config["rope_interleaved"] = False
    # Without an output matrix there is only the embedding to use, whatever the key says.
    config["tie_word_embeddings"] = (
        bool(config["tie_word_embeddings"]) or "lm_head.weight" not in names
    )
    config["attention_bias"] = "model.layers.0.self_attn.q_proj.bias" in names
    config["attention_out_bias"] = "model.layers.0.self_attn.o_proj.bias" in names
    config["mlp_bias"] = "model.layers.0.mlp.gate_proj.bias" in names
    if master:
        config["model_type"] = "bitnet"
    config["bitnet"] = quantization and quantization.config(names, sub_norms=bitnet or master)
    _check_head(config, file)
    return config


def _hf_activation(name: Any, bitnet: bool, file: str) -> str:
    if name in ("silu", "swish"):
        return "silu"
    if name == "relu2" and bitnet:
        return "relu2"
    raise ModelLoadError(f"{file}: the activation {name!r:.60} is not supported (silu).")


def _check_head(config: Mapping[str, Any], file: str) -> None:
    """A ternary output matrix has no memory to share with an embedding."""
    bitnet = config["bitnet"]
    if bitnet and "lm_head" not in bitnet["skip"] and config["tie_word_embeddings"]:
        raise ModelLoadError(
            f"{file}: the output matrix is tied to the embedding, yet modules_to_not_convert "
            "does not name lm_head."
        )


def _rope(config: Mapping[str, Any], file: str) -> tuple[float, dict[str, Any] | None]:
    """Base and scaling; transformers 5 writes both into `rope_parameters`, older ones apart."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, dict):
        raise ModelLoadError(f"{file}: rope_scaling is no JSON object.")
    parameters = dict(given)
    theta = parameters.pop("rope_theta", config.get("rope_theta", 10000.0))
    if not isinstance(theta, int | float) or not 0 < theta < 1e30:
        raise ModelLoadError(f"{file}: rope_theta is {theta!r:.60}, not a sensible number.")
    kind = parameters.pop("rope_type", parameters.pop("type", "default"))
    parameters.pop("type", None)
    if kind not in _ROPE_TYPES:
        raise ModelLoadError(
            f"{file}: rope scaling {kind!r:.60} is not supported ({', '.join(_ROPE_TYPES)})."
        )
    if (
        parameters.pop("partial_rotary_factor", 1.0) != 1.0
        or config.get("partial_rotary_factor", 1.0) != 1.0
    ):
        raise ModelLoadError(f"{file}: rotating only a part of each head is not supported.")
    return float(theta), None if kind == "default" else {"rope_type": kind, **parameters}


def _tensor_name(name: str) -> str:
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


def _config_from_metadata(metadata: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    """Translates GGUF metadata into the keys of config.json; `names` are the translated tensors.

    `rope_interleaved` says that the rows of q and k are in the order for rotating neighbouring
    pairs: llama.cpp's converter permutes them so for the architecture `llama` (LlamaModel.permute),
    and for `qwen2` and the BitNets neither it nor bitnet.cpp's do.

    Raises:
        UnsupportedModel: a key is missing, makes no sense, or asks for something unknown.
    """
    reader = Metadata(metadata)
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
    return {
        "model_type": "bitnet" if reader.prefix in _BITNETS else reader.prefix,
        "hidden_size": width,
        "num_hidden_layers": reader.whole("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": reader.whole("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "intermediate_size": reader.whole("feed_forward_length"),
        "rms_norm_eps": reader.real("attention.layer_norm_rms_epsilon"),
        "rope_theta": reader.real("rope.freq_base", 10000.0),
        "rope_scaling": _rope_scaling(reader, names),
        "rope_interleaved": reader.prefix == "llama",
        "tie_word_embeddings": "lm_head.weight" not in names,
        "vocab_size": reader.vocabulary(),
        "max_position_embeddings": reader.whole("context_length"),
        "attention_bias": "model.layers.0.self_attn.q_proj.bias" in names,
        "attention_out_bias": "model.layers.0.self_attn.o_proj.bias" in names,
        "mlp_bias": "model.layers.0.mlp.gate_proj.bias" in names,
        "hidden_act": _activation(reader),
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": metadata.get("tokenizer.ggml.eos_token_id"),
    }


def _activation(reader: Metadata) -> str:
    if reader.prefix not in _BITNETS:
        return "silu"
    name = reader.get("hidden_activation")
    if name is not None and name not in _ACTIVATIONS:
        raise UnsupportedModel(
            f"its activation is {shown(name)}, which is not supported (silu, relu2)"
        )
    return _BITNETS[reader.prefix] if name is None else _ACTIVATIONS[name]


def _rope_scaling(reader: Metadata, names: set[str]) -> dict[str, Any] | None:
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
            f"its rope scaling is {shown(kind)}, which is not supported (linear, yarn)"
        )
    scaling: dict[str, Any] = {"rope_type": kind, "factor": reader.real("rope.scaling.factor", 1.0)}
    original = reader.get("rope.scaling.original_context_length")
    if original is not None:
        scaling["original_max_position_embeddings"] = int(original)
    attention = reader.get("rope.scaling.attn_factor")
    if attention is not None:
        scaling["attention_factor"] = float(attention)
    return scaling
