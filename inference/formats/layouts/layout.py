"""What a family of checkpoints has to say about itself: the base of all files beside this one.

    container     reads                         and asks
    directory     config.json, safetensors      from_hf: hf_name, hf_config, adapt
    .gguf         metadata, tensors             from_gguf: gguf_name, gguf_config, adapt

Both give canonical contents, on which `check_shapes` then works before anything is allocated:
a configuration under Hugging Face's keys, and tensors under the family's own names, matrices
[out, in]. A stored tensor that only has another name, shape or orientation is adapted
(`formats/adapt.py`) when it is asked for; its canonical shape is known at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.adapt import Tensor
from ryzanstein.inference.formats.raw import TAILS, RawTensor

__all__ = ["Config", "Contents", "Layout", "Shapes", "Stored", "UnsupportedModel", "check_shapes"]

Config = dict[str, Any]
Stored = dict[str, RawTensor]
Contents = tuple[Config, dict[str, Tensor]]
Shapes = dict[str, tuple[int, ...]]

_INTEGERS: Final = ("U8", "I8")


class UnsupportedModel(ValueError):
    """What a file asks for and the engine does not do, in one line without the file's path."""


class Layout:
    """One family. `embedding` and `head` are the canonical names of these two tensors.

    Methods of a directory are given `file`, the name that their errors begin with, and raise
    ModelLoadError; those of a GGUF file may raise UnsupportedModel instead and leave the name out.
    """

    embedding: str
    head: str

    def hf_name(self, name: str) -> str | None:
        """Canonical name of a tensor of a directory; None for one that nobody needs."""
        return name

    def gguf_name(self, name: str) -> str | None:
        """Canonical name of a tensor of a GGUF file; None for one that nobody needs.

        Raises:
            UnsupportedModel: the family has no such tensor.
        """
        raise UnsupportedModel(f"it holds the tensor {name}, which the engine has no use for")

    def hf_config(self, raw: Mapping[str, Any], stored: Stored, file: str) -> Config:
        """The configuration of config.json and the tensors, which have their canonical names."""
        raise NotImplementedError

    def gguf_config(self, metadata: Mapping[str, Any], stored: Stored) -> Config:
        """The configuration of a GGUF file's metadata and tensors, which have canonical names."""
        raise UnsupportedModel("GGUF files of this family are not supported")

    def adapt(self, config: Config, stored: Stored) -> dict[str, Tensor]:
        """Tensors in their canonical form; may split some, and drop what `config` says already."""
        return dict(stored)

    def check(self, config: Mapping[str, Any], file: str) -> None:
        """Refuses numbers that do not go together, before any shape is made of them."""

    def required(self, config: Mapping[str, Any]) -> Shapes:
        """Shapes of the tensors that a model has, with `head` even where it is tied."""
        raise NotImplementedError

    def optional(self, config: Mapping[str, Any]) -> Shapes:
        """Shapes of those that it may have."""
        return {}

    def from_hf(self, raw: Mapping[str, Any], stored: Stored, file: str) -> Contents:
        """Canonical contents of a directory.

        Raises:
            ModelLoadError: something is missing, absurd, or not supported.
        """
        named = self.renamed(stored, self.hf_name, file)
        for tensor in named.values():
            if tensor.dtype in _INTEGERS:
                raise ModelLoadError(
                    f"{file}: {tensor.name} has type {tensor.dtype!r}, which is no type of weights."
                )
        config = self.hf_config(raw, named, file)
        return config, self.adapt(config, named)

    def from_gguf(self, metadata: Mapping[str, Any], stored: Stored, file: str) -> Contents:
        """Canonical contents of a GGUF file.

        Raises:
            ModelLoadError, UnsupportedModel: something is missing, absurd, or not supported.
        """
        named = self.renamed(stored, self.gguf_name, file)
        for tensor in named.values():
            if tensor.dtype in TAILS:
                raise UnsupportedModel(
                    f"{tensor.name} has type {tensor.dtype} and is no linear layer"
                )
        config = self.gguf_config(metadata, named)
        return config, self.adapt(config, named)

    def renamed(self, stored: Stored, name_of: Callable[[str], str | None], file: str) -> Stored:
        """Tensors under what `name_of` makes of their names; `RawTensor.name` stays the file's.

        Raises:
            ModelLoadError: two would have one name.
        """
        named: Stored = {}
        for stored_name, tensor in stored.items():
            name = name_of(stored_name)
            if name is None:
                continue
            if name in named:
                raise ModelLoadError(f"{file} holds the tensor {name} twice, under two names.")
            named[name] = tensor
        return named


def check_shapes(
    layout: Layout, config: Mapping[str, Any], tensors: Mapping[str, Tensor], file: str
) -> None:
    """Compares every tensor with what the configuration says it must be.

    Raises:
        ModelLoadError: a tensor is missing, has another shape, or does not belong to the model.
    """
    layout.check(config, file)
    if config["num_hidden_layers"] > len(tensors):
        raise ModelLoadError(
            f"{file} claims {config['num_hidden_layers']} layers and holds {len(tensors)} tensors."
        )
    required, optional = layout.required(config), layout.optional(config)
    if config["tie_word_embeddings"]:
        # Some files keep a copy of the tied output matrix; it is the same matrix, so it may be
        # there.
        optional[layout.head] = required.pop(layout.head)
    for name, shape in required.items():
        if name not in tensors:
            raise ModelLoadError(f"{file} is incomplete: it has no tensor {name}.")
        _check_shape(name, tensors[name].shape, shape, file)
    for name in tensors.keys() - required.keys():
        if name not in optional:
            raise ModelLoadError(
                f"{file} holds the tensor {name}, which the engine has no use for."
            )
        _check_shape(name, tensors[name].shape, optional[name], file)


def _check_shape(name: str, found: tuple[int, ...], expected: tuple[int, ...], file: str) -> None:
    if found != expected:
        raise ModelLoadError(f"{file}: {name} has the shape {found}, but {expected} was expected.")
