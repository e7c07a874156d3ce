"""Families of checkpoints, one file each: how they are named, configured and shaped.

To add one, write `layouts/NAME.py` with `LAYOUT`, an instance of a `layout.Layout`, and enter its
names here.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, cast

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.layouts.layout import Layout
from ryzanstein.nearest import did_you_mean

__all__ = ["GGUF", "HF", "gguf_layout", "hf_layout", "layout_of", "output_name"]

HF: Final[Mapping[str, str]] = {
    "llama": "llama",
    "qwen2": "llama",
    "bitnet": "llama",
    "mamba": "mamba",
    "falcon_mamba": "mamba",
    "mamba2": "mamba2",
    "rwkv": "rwkv4",
    "rwkv4": "rwkv4",
    "rwkv5": "rwkv5",
    "rwkv6": "rwkv6",
    "rwkv7": "rwkv7",
    "rwkv7_fla": "rwkv7",
}
"""model_type of config.json -> module of this package."""

# bitnet.cpp's two names stand for one computation, with a squared ReLU.
GGUF: Final[Mapping[str, str]] = {
    "llama": "llama",
    "qwen2": "llama",
    "bitnet": "llama",
    "bitnet-b1.58": "llama",
    "bitnet-25": "llama",
    "mamba": "mamba",
    "mamba2": "mamba2",
    "rwkv6": "rwkv6",
    "rwkv7": "rwkv7",
}
"""general.architecture of a GGUF file -> module of this package."""


def hf_layout(model_type: Any, file: str) -> Layout:
    """The layout of a Hugging Face directory.

    Raises:
        ModelLoadError: no file here knows that model_type.
    """
    return _layout(model_type, HF, file)


def gguf_layout(architecture: Any, file: str) -> Layout:
    """The layout of a GGUF file.

    Raises:
        ModelLoadError: no file here knows that architecture.
    """
    return _layout(architecture, GGUF, file)


def layout_of(config: Mapping[str, Any]) -> Layout:
    """The layout of an opened checkpoint's configuration.

    Raises:
        ModelLoadError: no file here knows its model_type.
    """
    return _layout(config.get("model_type"), HF, "The model")


def output_name(config: Mapping[str, Any]) -> str:
    """The tensor that logits are computed with: the embedding where they are tied."""
    layout = layout_of(config)
    return layout.embedding if config.get("tie_word_embeddings") else layout.head


def _layout(given: Any, known: Mapping[str, str], file: str) -> Layout:
    name = given if isinstance(given, str) else ""
    if name not in known:
        told = f"the architecture {name!r:.60}" if name else "no architecture"
        hint = f"Supported are {', '.join(known)}."
        near = did_you_mean(name, tuple(known))
        raise ModelLoadError(
            f"{file} has {told}, which the engine does not run.", hint=f"{near} {hint}".strip()
        )
    return cast(Layout, import_module(f"{__name__}.{known[name]}").LAYOUT)
