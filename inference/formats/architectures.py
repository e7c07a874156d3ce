"""Which architectures a checkpoint may have, and the shapes their tensors must have.

The check runs before anything is allocated, so a file with absurd or inconsistent dimensions is
refused while it is still only a header.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ryzanstein.errors import ModelLoadError
from ryzanstein.nearest import did_you_mean

__all__ = ["SUPPORTED", "check_architecture", "check_shapes"]

SUPPORTED: Final = ("llama", "qwen2")


def check_architecture(name: str, file: str) -> None:
    """Refuses, by name, an architecture that no program in `models/` computes.

    Raises:
        ModelLoadError: it is not one of SUPPORTED.
    """
    if name not in SUPPORTED:
        told = f"the architecture {name!r:.60}" if name else "no architecture"
        hint = f"Supported are {', '.join(SUPPORTED)}."
        near = did_you_mean(name, SUPPORTED)
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
    return shapes


def _optional(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {
        f"model.layers.{layer}.{name}.bias": (rows,)
        for layer in range(config["num_hidden_layers"])
        for name, (rows, _) in _matrices(config).items()
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
