"""How a checkpoint says that its linear layers are BitNet b1.58's, as `config["bitnet"]`.

    weights     "absmean": float tensors are master weights, quantised when they are packed;
                "ternary": every tensor holds -s, 0 and s already, whatever its type
    inner_norm  an RMSNorm inside each linear layer, NAME.rms_norm.weight, with inner_eps
    sub_norms   RMSNorms before the output and down projections
    skip        names of linear layers that stay dense ("lm_head")

Hugging Face directories say it in three ways:

    quantization_config                           weights    stored
    linear_class bitlinear                        ternary    uint8, value / weight_scale
    linear_class autobitlinear, mode offline      ternary    uint8, int8 or float, · weight_scale
    linear_class autobitlinear, mode online       absmean    float
    none, architecture BitnetForCausalLM          absmean    float (1bitLLM's own modeling code)

Uint8 is transformers' packing, four rows to a byte (B158 of `raw.py`). Follows transformers'
`integrations/bitnet.py`, `BitNetQuantConfig` and `should_convert_module`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.raw import TERNARY

__all__ = [
    "LINEAR",
    "Quantization",
    "from_tensor_types",
    "is_master",
    "is_ternary",
    "read_quantization",
]

# Names of linear layers, as transformers has them.
LINEAR: Final = re.compile(
    r"model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)|lm_head"
)
_CLASSES: Final = ("bitlinear", "autobitlinear")
_MODES: Final = ("online", "offline")
_FLOATS: Final = ("F32", "F16", "BF16")
# transformers takes any regular expression; only names and a few wildcards are seen, and only they
# cannot be made to take forever.
_PATTERN: Final = re.compile(r"[\w.]*([\w.]\*[\w.]*){0,2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Quantization:
    """What config.json says of ternary weights."""

    ternary: bool
    divides: bool = False  # a weight is its trit over weight_scale, not times it
    unpacked: bool = True  # tensors need not be packed
    inner_norm: bool = False
    inner_eps: float = 1e-6
    patterns: tuple[str, ...] | None = None

    def config(self, names: Iterable[str], sub_norms: bool) -> dict[str, Any]:
        """`config["bitnet"]` of a model with tensors of these names."""
        linear = {name.removesuffix(".weight") for name in names if name.endswith(".weight")}
        layers = sorted({name for name in linear if LINEAR.fullmatch(name)} | {"lm_head"})
        return {
            "weights": "ternary" if self.ternary else "absmean",
            "inner_norm": self.inner_norm,
            "inner_eps": self.inner_eps,
            "sub_norms": sub_norms,
            "skip": [name for name in layers if self._stays_dense(name)],
        }

    def _stays_dense(self, name: str) -> bool:
        if self.patterns is None:
            return name == "lm_head"
        return any(
            re.match(rf"(?:{pattern})(?:(?<=\.)|(?=\.|$))", name) or name.endswith(pattern)
            for pattern in self.patterns
        )


def is_ternary(config: Mapping[str, Any], name: str) -> bool:
    """Says whether a tensor of a checkpoint is the weight of a ternary linear layer."""
    bitnet, layer = config.get("bitnet"), name.removesuffix(".weight")
    if bitnet is None or layer == name or layer in bitnet["skip"]:
        return False
    return LINEAR.fullmatch(layer) is not None


def is_master(raw: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Says whether a configuration is of 1bitLLM's own code: master weights and sub-norms."""
    architectures = raw.get("architectures")
    named = isinstance(architectures, list) and "BitnetForCausalLM" in architectures
    return named or any(name.endswith("self_attn.inner_attn_ln.weight") for name in names)


def read_quantization(raw: Mapping[str, Any], master: bool, file: str) -> Quantization | None:
    """Reads config.json; None for a dense model.

    Raises:
        ModelLoadError: it is quantised in a way that is not supported, or makes no sense.
    """
    given = raw.get("quantization_config")
    if not given and master:
        for key, only in (("weight_bits", 1), ("input_bits", 8)):
            if raw.get(key, only) != only:
                raise ModelLoadError(
                    f"{file}: {key} = {raw[key]!r:.60} is not supported ({only} is)."
                )
        return Quantization(ternary=False)
    if not given:
        if raw.get("model_type") == "bitnet":
            raise ModelLoadError(
                f"{file}: config.json has no quantization_config, so it does not say what its "
                "weights mean (linear_class, quantization_mode)."
            )
        return None
    if not isinstance(given, dict):
        raise ModelLoadError(f"{file}: quantization_config is no JSON object.")
    if given.get("quant_method") != "bitnet":
        raise ModelLoadError(
            f"{file}: safetensors quantised by {given.get('quant_method')!r:.60} are not supported "
            "(bitnet is); take the GGUF file instead."
        )
    return _bitnet(given, file)


def _bitnet(given: Mapping[str, Any], file: str) -> Quantization:
    linear, mode = given.get("linear_class", "bitlinear"), given.get("quantization_mode", "offline")
    for key, value, known in (
        ("linear_class", linear, _CLASSES),
        ("quantization_mode", mode, _MODES),
    ):
        if value not in known:
            raise ModelLoadError(f"{file}: {key} is {value!r:.60}, none of {', '.join(known)}.")
    norm, eps = given.get("use_rms_norm", False), given.get("rms_norm_eps", 1e-6)
    if not isinstance(norm, bool):
        raise ModelLoadError(f"{file}: use_rms_norm is {norm!r:.60}, not true or false.")
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not 0 <= eps < 1:
        raise ModelLoadError(
            f"{file}: rms_norm_eps of quantization_config is {eps!r:.60}, no sensible number."
        )
    return Quantization(
        ternary=linear == "bitlinear" or mode == "offline",
        divides=linear == "bitlinear",
        unpacked=linear != "bitlinear",
        inner_norm=norm,
        inner_eps=float(eps),
        patterns=_patterns(given.get("modules_to_not_convert"), file),
    )


def _patterns(given: Any, file: str) -> tuple[str, ...] | None:
    if given is None:
        return None
    if not isinstance(given, list):
        raise ModelLoadError(f"{file}: modules_to_not_convert is no list.")
    for pattern in given:
        if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern) or len(pattern) > 200:
            raise ModelLoadError(
                f"{file}: modules_to_not_convert has {pattern!r:.60}, which is no name of a module."
            )
    return tuple(given)


def from_tensor_types(
    sub_norms: bool, types: Mapping[str, str], eps: float
) -> dict[str, Any] | None:
    """`config["bitnet"]` of a GGUF file whose tensors have these types; None for a dense one.

    A model with sub-norms is a BitNet, and its float tensors were quantised by the converter; any
    other is one where some linear layer has a ternary type. Layers of other types stay dense.
    """
    layers = {name.removesuffix(".weight"): kind for name, kind in types.items()}
    linear = {name: kind for name, kind in layers.items() if LINEAR.fullmatch(name)}
    linear.pop("lm_head", None)
    if not sub_norms and not any(kind in TERNARY for kind in linear.values()):
        return None
    ternary = (*TERNARY, *_FLOATS) if sub_norms else TERNARY
    dense = sorted(name for name, kind in linear.items() if kind not in ternary)
    return {
        "weights": "ternary",
        "inner_norm": False,
        "inner_eps": eps,
        "sub_norms": sub_norms,
        "skip": ["lm_head", *dense],
    }
