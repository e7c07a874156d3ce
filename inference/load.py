"""Opens a model with its tokenizer, by path or by catalogue name."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.model import Model, build_model
from ryzanstein.inference.tokenizer import load_tokenizer
from ryzanstein.inference.vocabulary import has_vocabulary
from ryzanstein.machine import release_memory

__all__ = ["load_model"]


def load_model(
    path: str | Path,
    threads: int | None = None,
    precision: str = "auto",
    *,
    context_tokens: int | None = None,
) -> Model:
    """Loads a model.

    Args:
        path: A Hugging Face directory, a .gguf file, or a name of the catalogue that has been
        pulled.
        threads: Of a forward pass; None takes all CPUs of this process.
        precision: auto, float (dense weights unquantised, for parity), int8 or int4.
        context_tokens: The longest sequence; None means as long as the model was trained for.

    Returns:
        The model; its `tokenizer` is set where the checkpoint has one.

    Raises:
        ModelNotFound: neither a path nor a model that is on this machine.
        ModelLoadError: the file is damaged or not supported.
        MemoryLimitError: there is not enough memory.
        ValidationError: an argument is out of range.
    """
    with closing(open_checkpoint(_resolve(path))) as checkpoint:
        tokenizer = load_tokenizer(checkpoint) if has_vocabulary(checkpoint) else None
        # The tables it was made from leave holes of tens of megabytes that the weights cannot use.
        release_memory()
        model = build_model(
            checkpoint, threads=threads, precision=precision, context_tokens=context_tokens
        )
    if tokenizer is not None:
        model.tokenizer = tokenizer
    return model


def _resolve(path: str | Path) -> Path:
    if isinstance(path, Path) or Path(path).expanduser().exists():
        return Path(path).expanduser()
    from ryzanstein.config import load_settings
    from ryzanstein.inference.catalogue import Catalogue
    from ryzanstein.registry import load_registry

    return Catalogue(load_settings(), load_registry().models).resolve(path)
