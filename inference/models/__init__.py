"""Architectures, one file each, named after config.json's `model_type`.

To add one, write `models/NAME.py` with `build(config, weights, options) -> Program` and enter it
in ARCHITECTURES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

from ryzanstein.errors import ModelLoadError
from ryzanstein.nearest import did_you_mean

if TYPE_CHECKING:
    from ryzanstein.inference.kernels._program import Program
    from ryzanstein.inference.models.options import Options
    from ryzanstein.inference.models.weights import Weights

__all__ = ["ARCHITECTURES", "Builder", "builder"]

Builder = Callable[[Mapping[str, Any], "Weights", "Options"], "Program"]

ARCHITECTURES: Final[Mapping[str, str]] = {
    "llama": "llama",
    "qwen2": "qwen2",
    "bitnet": "bitnet",
    "mamba": "mamba",
    "falcon_mamba": "falcon_mamba",
    "mamba2": "mamba2",
    "rwkv4": "rwkv4",
    "rwkv5": "rwkv5",
    "rwkv6": "rwkv6",
    "rwkv7": "rwkv7",
}
"""model_type of config.json -> module of this package."""


def builder(model_type: str) -> Builder:
    """Returns the function that builds a model's program.

    Raises:
        ModelLoadError: no file here computes that architecture.
    """
    if model_type not in ARCHITECTURES:
        near = did_you_mean(model_type, tuple(ARCHITECTURES))
        raise ModelLoadError(
            f"The architecture {model_type!r:.60} is not supported.",
            hint=f"{near} Supported are {', '.join(ARCHITECTURES)}.".strip(),
        )
    module = import_module(f"{__name__}.{ARCHITECTURES[model_type]}")
    return cast(Builder, module.build)
