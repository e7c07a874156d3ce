"""The model that is measured: its file, its tokenizer, and how to start an engine on it."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ryzanstein.errors import ValidationError
from ryzanstein.inference.bench.worker import Worker
from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.tokenizer import Tokenizer, load_tokenizer
from ryzanstein.machine import available_cpus

if TYPE_CHECKING:
    from ryzanstein.config import Settings
    from ryzanstein.registry import Registry

__all__ = ["Subject", "find_subject"]

# Ordinary prose, so that the ids are what a user's prompt would give.
_TEXT: Final = (
    "When the harbour froze in the second week of January, the fishermen carried their nets up "
    "to the old customs house and mended them there, forty people around three stoves, telling "
    "the children which knots would hold and which would not. Nobody counted the days. The "
    "baker came at noon with bread, the schoolmaster with a map of the currents, and in the "
    "evening somebody always had a story about the winter of the great ice, each year a little "
    "colder than it had been the year before. "
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to be measured.

    Attributes:
        name: As it was asked for.
        parameters: Number of weights.
        longest: Tokens of the longest sequence the model was made for.
    """

    name: str
    path: Path
    threads: int
    tokenizer: Tokenizer
    parameters: int
    longest: int

    def worker(
        self,
        engine: str,
        context: int,
        precision: str = "auto",
        *,
        isa: str | None = None,
        form: str | None = None,
        head: str | None = None,
    ) -> Worker:
        """Starts an engine on the model in a process of its own."""
        return Worker(
            engine, self.path, self.threads, context, precision, isa=isa, form=form, head=head
        )

    def sample_ids(self, count: int) -> list[int]:
        """Returns ids of ordinary prose."""
        ids = self.tokenizer.encode(_TEXT)
        return (ids * (count // len(ids) + 1))[:count]

    def require_room(self, tokens: int) -> None:
        """Refuses more tokens than the model was made for.

        Raises:
            ValidationError: there are more.
        """
        if tokens > self.longest:
            raise ValidationError(f"{tokens:,} tokens are more than the model's {self.longest:,}.")


def find_subject(
    name_or_path: str | Path,
    settings: Settings | None,
    registry: Registry | None,
    threads: int | None,
) -> Subject:
    """Looks a model up by catalogue name or path.

    Raises:
        ModelNotFound: there is none on this machine.
        ModelLoadError: its file is damaged or not supported.
        ValidationError: the number of threads makes no sense.
    """
    from ryzanstein.config import load_settings
    from ryzanstein.inference.catalogue import Catalogue
    from ryzanstein.registry import load_registry

    settings = settings or load_settings()
    models = (registry or load_registry()).models
    count = threads or settings.threads or available_cpus()
    if not 1 <= count <= 256:
        raise ValidationError(f"{count} threads are outside 1 to 256.")
    path = Catalogue(settings, models).resolve(str(name_or_path))
    with closing(open_checkpoint(path)) as checkpoint:
        return Subject(
            name=str(name_or_path),
            path=checkpoint.path,
            threads=count,
            tokenizer=load_tokenizer(checkpoint),
            parameters=sum(math.prod(checkpoint.type_and_shape(n)[1]) for n in checkpoint.names()),
            longest=int(checkpoint.config["max_position_embeddings"]),
        )
