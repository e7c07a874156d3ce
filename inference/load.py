"""Opens a model with its tokenizer, by path or by catalogue name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ryzanstein.inference.formats.checkpoint import Checkpoint, open_checkpoint
from ryzanstein.inference.model import Model, build_model
from ryzanstein.inference.tokenizer import load_tokenizer
from ryzanstein.inference.vocabulary import has_vocabulary
from ryzanstein.machine import release_memory

if TYPE_CHECKING:
    from ryzanstein.inference.formats.raw import RawTensor

__all__ = ["Watch", "load_model"]

# Hears how many tensors were read, of how many; what it raises ends the load.
Watch = Callable[[int, int], None]


def load_model(
    path: str | Path,
    threads: int | None = None,
    precision: str = "auto",
    *,
    context_tokens: int | None = None,
    ternary: str | None = None,
    tune: bool = True,
    head: str = "auto",
    keep_packed: bool = True,
    pin: bool = False,
    read_tokenizer: bool = False,
    watch: Watch | None = None,
) -> Model:
    """Loads a model.

    Args:
        path: A Hugging Face directory, a .gguf file, or a name of the catalogue that has been
        pulled.
        threads: Of a forward pass; None takes all CPUs of this process, or fewer where `tune` found
        that faster.
        precision: auto, float (dense weights unquantised, for parity), int8 or int4.
        context_tokens: The longest sequence; None means as long as the model was trained for.
        ternary: Form of a BitNet's weights, by default what `tune` found best.
        tune: Choose how a large ternary model's matrices are packed and multiplied by what is
        fastest on this CPU; that is measured at the first load of such a model, in some seconds.
        RYZANSTEIN_TUNE=0 forbids it everywhere.
        head: Form of the output matrix: auto (see `build_model`), int8, scan, int4 or float.
        keep_packed: Keep the packed weights of a large ternary model in a file beside its
        checkpoint, from which it loads in a fraction of a second ever after.
        pin: Give each thread a CPU of its own: steadier where nothing else runs.
        read_tokenizer: Read the tokenizer now: a third of a second, and an error at once where it
        is damaged. Else `Model.tokenizer` reads it at its first use.
        watch: Told of every tensor that is read; what it raises ends the load.

    Returns:
        The model, with a `tokenizer` where the checkpoint has one.

    Raises:
        ModelNotFound: neither a path nor a model that is on this machine.
        ModelLoadError: the file is damaged or not supported.
        MemoryLimitError: there is not enough memory.
        ValidationError: an argument is out of range.
    """
    with closing(open_checkpoint(_resolve(path))) as checkpoint:
        tokenizer = None
        if read_tokenizer and has_vocabulary(checkpoint):
            tokenizer = load_tokenizer(checkpoint)
            # Its tables leave holes of tens of megabytes that the weights cannot use.
            release_memory()
        model = build_model(
            checkpoint if watch is None else cast(Checkpoint, _Watched(checkpoint, watch)),
            threads=threads,
            precision=precision,
            context_tokens=context_tokens,
            ternary=ternary,
            tune=tune,
            head=head,
            keep_packed=keep_packed,
            pin=pin,
        )
    if tokenizer is not None:
        model.tokenizer = tokenizer
    elif has_vocabulary(checkpoint):
        model.read_tokenizer_with(lambda: load_tokenizer(checkpoint))
    return model


class _Watched:
    """A checkpoint that says before each tensor how many were read."""

    def __init__(self, checkpoint: Checkpoint, watch: Watch) -> None:
        self._checkpoint, self._watch = checkpoint, watch
        self._read, self._all = 0, len(checkpoint.names())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._checkpoint, name)

    def tensor(self, name: str) -> RawTensor:
        self._watch(self._read, self._all)
        self._read += 1
        return self._checkpoint.tensor(name)


def _resolve(path: str | Path) -> Path:
    if isinstance(path, Path) or Path(path).expanduser().exists():
        return Path(path).expanduser()
    from ryzanstein.config import load_settings
    from ryzanstein.inference.catalogue import Catalogue
    from ryzanstein.registry import load_registry

    return Catalogue(load_settings(), load_registry().models).resolve(path)
