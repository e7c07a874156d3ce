"""config.json of a Hugging Face directory: defaults filled in, foreign options refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.bitnet import Quantization

__all__ = ["read_config"]

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


def read_config(
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
        _whole(config, key, file)
    config.setdefault("num_key_value_heads", config["num_attention_heads"])
    config.setdefault("head_dim", config["hidden_size"] // config["num_attention_heads"])
    for key in ("num_key_value_heads", "head_dim", "max_position_embeddings"):
        _whole(config, key, file)
    config["hidden_act"] = _activation(config["hidden_act"], quantization is not None, file)
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


def _activation(name: Any, bitnet: bool, file: str) -> str:
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


def _whole(config: Mapping[str, Any], key: str, file: str) -> None:
    value = config.get(key)
    if type(value) is not int or not 0 < value < 1 << 31:
        raise ModelLoadError(
            f"{file}: config.json has {key} = {value!r:.60}, no sensible whole number."
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
