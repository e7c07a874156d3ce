"""What every checkpoint offers, and the one way to open one.

path                     becomes
name.gguf                GgufCheckpoint
name.pth, name.pt        PthCheckpoint
directory                SafetensorsCheckpoint (config.json, model*.safetensors),
                             or the one .gguf or .pth file in it
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.raw import RawTensor

__all__ = ["Checkpoint", "open_checkpoint"]

_TORCH: Final = (".pth", ".pt")


class Checkpoint(Protocol):
    """A model file, opened and checked, whatever its container.

    Attributes:
        path: The file or directory.
        config: Keys of the family's layout, mostly Hugging Face's. Every one has model_type
            hidden_size num_hidden_layers vocab_size max_position_embeddings tie_word_embeddings and
            bitnet: None or the dict that `bitnet.py` describes; Llama and its like have
            num_attention_heads num_key_value_heads head_dim intermediate_size rms_norm_eps
            rope_theta rope_scaling attention_bias attention_out_bias mlp_bias, hidden_act: "silu"
            or "relu2", and rope_interleaved: the rows of q and k are ordered for rotating
            neighbouring pairs. rope_scaling is None or {"rope_type": "linear" | "yarn" | "llama3" |
            "factors", …}; `factors` divides each inverse frequency by its entry of `factors`.
        metadata: The GGUF file's own keys; empty for a directory.
    """

    path: Path
    config: dict[str, Any]
    metadata: Mapping[str, Any]

    def names(self) -> list[str]:
        """Canonical names of all tensors, which are mostly Hugging Face's."""
        ...

    def tensor(self, name: str) -> RawTensor:
        """A view of the mapped file, or values computed of it; ModelLoadError without one."""
        ...

    def type_and_shape(self, name: str) -> tuple[str, tuple[int, ...]]:
        """What `tensor` would give, without a look at its values."""
        ...

    def release(self, name: str) -> None:
        """Gives back the memory of a tensor's pages after packing, so that the peak is low."""
        ...

    def close(self) -> None:
        """Lets go of the file; views that are still held stay valid."""
        ...


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Opens a .gguf or .pth file or a Hugging Face directory and checks it against its own claims.

    Raises:
        ModelLoadError: it is missing, damaged, of an unknown format or architecture.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _open_directory(path)
    if not path.exists():
        raise ModelLoadError(
            f"There is no model file {path}.", hint="`ryzanstein models list` shows known models."
        )
    if not path.is_file():  # opening a pipe would wait for its other end
        raise ModelLoadError(f"{path} is no regular file.")
    if path.suffix == ".safetensors":
        hint = f"Give the directory {path.parent}."
        raise ModelLoadError(f"{path.name} alone has no configuration and no tokenizer.", hint=hint)
    return _open_file(path)


def _open_file(path: Path) -> Checkpoint:
    if path.suffix in _TORCH:
        from ryzanstein.inference.formats.pth import PthCheckpoint

        return PthCheckpoint(path)
    from ryzanstein.inference.formats.gguf import GgufCheckpoint

    return GgufCheckpoint(path)


def _open_directory(path: Path) -> Checkpoint:
    files = sorted(file for suffix in (".gguf", *_TORCH) for file in path.glob(f"*{suffix}"))
    if (path / "config.json").exists() or not files:
        from ryzanstein.inference.formats.safetensors import SafetensorsCheckpoint

        return SafetensorsCheckpoint(path)
    if len(files) > 1:
        listed = ", ".join(file.name for file in files)
        raise ModelLoadError(
            f"{path} holds several models: {listed}.", hint="Give the path of one of them."
        )
    return _open_file(files[0])
