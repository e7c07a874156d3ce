"""PDF into pages of text, by pypdf: pure Python, no program to install.

A PDF holds letters at places, not paragraphs. Lines are joined again where a sentence goes on,
words where a hyphen parted them; lines that head or foot most pages are left out.
"""

from __future__ import annotations

import io
import logging
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.checks import cleaned
from ryzanstein.memory.sources.reading import read_bytes

if TYPE_CHECKING:
    from pypdf import PdfReader

__all__ = ["Pdf", "read_pdf"]

_HYPHEN = re.compile(r"(?<=[^\W\d_])[-\u00ad]\n(?=[a-zà-öø-ÿ])")
_LEADERS = re.compile(r"(?: ?\.){5,}")
_NUMBER = re.compile(r"\d+")
# From this many pages on, a line on more than half of them is no sentence of the text.
_REPEATING = 4


@dataclass(frozen=True, slots=True)
class Pdf:
    """A PDF's title, None where it has none, and the text of each of its pages."""

    title: str | None
    pages: tuple[str, ...]


def read_pdf(path: Path, most: int, *, progress: Callable[[int, int], None] | None = None) -> Pdf:
    """Reads a PDF.

    Args:
        path: The file.
        most: Bytes it may have.
        progress: Called with pages read and pages in all.

    Raises:
        InvalidRequest: It is encrypted, damaged, or has no text, as a scanned one.
        StorageError: It cannot be read.
    """
    data = read_bytes(path, most)
    with _silent():
        reader = _opened(path, data)
        pages = list(_pages(path, reader, progress))
        title = _title(reader)
    if not any(page.strip() for page in pages):
        raise InvalidRequest(
            f"{path} has {len(pages)} pages and no text; it may be scanned.",
            hint="Recognise its text first, for instance with ocrmypdf.",
        )
    return Pdf(title, tuple(_joined(page) for page in _without_margins(pages)))


def _opened(path: Path, data: bytes) -> PdfReader:
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, PyPdfError

    try:
        reader = PdfReader(io.BytesIO(data))
        # Many are encrypted with an empty password, only to forbid printing.
        if reader.is_encrypted and not reader.decrypt(""):
            raise InvalidRequest(
                f"{path} is encrypted.", hint="Save a copy without a password and import that."
            )
        len(reader.pages)
    except (DependencyError, NotImplementedError) as error:
        raise InvalidRequest(
            f"{path} is encrypted in a way that cannot be read here.",
            hint="Save a copy without encryption and import that.",
        ) from error
    except (PyPdfError, *_FAULTS) as error:
        raise _damaged(path, error) from error
    return reader


def _pages(
    path: Path, reader: PdfReader, progress: Callable[[int, int], None] | None
) -> Iterator[str]:
    from pypdf.errors import PyPdfError

    count = len(reader.pages)
    for number in range(count):
        try:
            yield cleaned(reader.pages[number].extract_text())
        except (PyPdfError, *_FAULTS) as error:
            raise _damaged(path, error, f"page {number + 1}: ") from error
        if progress is not None:
            progress(number + 1, count)


# What pypdf lets through from the inside of a broken file.
_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    zlib.error,
)


def _damaged(path: Path, error: Exception, where: str = "") -> InvalidRequest:
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return InvalidRequest(
        f"{path} is no PDF or a damaged one: {where}{reason}.",
        hint="Open it in a viewer and save it again.",
    )


def _title(reader: PdfReader) -> str | None:
    from pypdf.errors import PyPdfError

    try:
        title = reader.metadata.title if reader.metadata else None
    except (PyPdfError, *_FAULTS):
        return None
    return " ".join(cleaned(title).split())[:200] or None if isinstance(title, str) else None


def _without_margins(pages: Sequence[str]) -> list[str]:
    """Takes away the first and last lines that most pages share, numbers aside."""
    split = [page.strip().split("\n") for page in pages]
    if len(pages) < _REPEATING:
        return ["\n".join(lines) for lines in split]
    for end in (0, -1):
        seen = Counter(_NUMBER.sub("#", lines[end].strip()) for lines in split if lines)
        shared = {line for line, count in seen.items() if line and count > len(pages) / 2}
        for lines in split:
            if lines and _NUMBER.sub("#", lines[end].strip()) in shared:
                lines.pop(end)
    return ["\n".join(lines) for lines in split]


def _joined(page: str) -> str:
    """One line a paragraph: a line that is nearly full goes on in the next one."""
    lines = [line.rstrip() for line in _HYPHEN.sub("", page).split("\n")]
    width = sorted(len(line) for line in lines)[len(lines) * 9 // 10] if lines else 0
    text = ""
    for before, line in zip(["", *lines], lines, strict=False):
        goes_on = before and line and (len(before) > 0.7 * width or before[-1] in ",;-–")
        text += f" {line.strip()}" if goes_on else f"\n{line.strip()}"
    return _LEADERS.sub(" …", text).strip()


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps pypdf's remarks on a file's small faults off the terminal."""
    logger = logging.getLogger("pypdf")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
