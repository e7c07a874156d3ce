"""Which architectures a checkpoint may have, and the shapes their tensors must have.

The check runs before anything is allocated, so a file with absurd or inconsistent dimensions is
refused while it is still only a header.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ryzanstein.errors import ModelLoadError
from ryzanstein.nearest import did_you_mean

__all__ = ["GGUF", "SUPPORTED", "check_architecture", "check_shapes", "linear_shape"]

SUPPORTED: Final = ("llama", "qwen2", "bitnet")
# bitnet.cpp's two names stand for one computation, with a squared ReLU.
GGUF: Final = (*SUPPORTED, "bitnet-b1.58", "bitnet-25")


def check_architecture(name: str, file: str, supported: Sequence[str] = SUPPORTED) -> None:
    """Refuses, by name, an architecture that no program in `models/` computes.

    Raises:
        ModelLoadError: it is not one of those that are supported.
    """
    if name not in supported:
        told = f"the architecture {name!r:.60}" if name else "no architecture"
        hint = f"Supported are {', '.join(supported)}."
        near = did_you_mean(name, supported)
        raise ModelLoadError(
            f"{file} has {told}, which the engine does not run.", hint=f"{near} {hint}".strip()
        )


def check_shapes(
    config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], file: str
) -> None:
    """Compares every tensor with what the configuration says it must be.

    Raises:
        ModelLoadError: a tensor is missing, has another shape, or does not belong to the model.
    """
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    if heads % groups:
        raise ModelLoadError(
            f"{file}: {heads} attention heads cannot share {groups} key-value heads."
        )
    if config["head_dim"] % 2:
        raise ModelLoadError(f"{file}: a head of {config['head_dim']} cannot be rotated in pairs.")
    if config["num_hidden_layers"] > len(shapes):
        raise ModelLoadError(
            f"{file} claims {config['num_hidden_layers']} layers and holds {len(shapes)} tensors."
        )
    required = _expected(config)
    optional = _optional(config) | {"model.rope_freqs.weight": (config["head_dim"] // 2,)}
    if config["tie_word_embeddings"]:
        # Some files keep a copy of the tied output matrix; it is the same matrix, so it may be
        # there.
        optional["lm_head.weight"] = required.pop("lm_head.weight")
    for name, shape in required.items():
        if name not in shapes:
            raise ModelLoadError(f"{file} is incomplete: it has no tensor {name}.")
        if shapes[name] != shape:
            raise ModelLoadError(
                f"{file}: {name} has the shape {shapes[name]}, but {shape} was expected."
            )
    for name in shapes.keys() - required.keys():
        if name not in optional:
            raise ModelLoadError(
                f"{file} holds the tensor {name}, which the engine has no use for."
            )
        if shapes[name] != optional[name]:
            raise ModelLoadError(
                f"{file}: {name} has the shape {shapes[name]}, but {optional[name]} was expected."
            )


def _expected(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (vocabulary, hidden),
    }
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        shapes[f"{prefix}.input_layernorm.weight"] = (hidden,)
        shapes[f"{prefix}.post_attention_layernorm.weight"] = (hidden,)
        for name, (rows, cols) in _matrices(config).items():
            shapes[f"{prefix}.{name}.weight"] = (rows, cols)
    return shapes | _norms(config)


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


def linear_shape(config: Mapping[str, Any], layer: str) -> tuple[int, int]:
    """Rows and columns of a linear layer, `model.layers.3.mlp.up_proj` or `lm_head`."""
    if layer == "lm_head":
        return config["vocab_size"], config["hidden_size"]
    return _matrices(config)[layer.split(".", 3)[3]]


def _optional(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Biases: a BitNet with sub-norms has them on attention's projections only."""
    bitnet = config.get("bitnet")
    prefix = "self_attn." if bitnet and bitnet["sub_norms"] else ""
    return {
        f"model.layers.{layer}.{name}.bias": (rows,)
        for layer in range(config["num_hidden_layers"])
        for name, (rows, _) in _matrices(config).items()
        if name.startswith(prefix)
    }


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
