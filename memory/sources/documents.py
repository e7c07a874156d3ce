"""Documents into passages with citations: Markdown, plain text and PDF.

A passage becomes one record:

kind "passage", tier semantic   one record a passage
source         the file's path, or the URL it came from
place          "lines 10-24 · Guide > Start", "page 3"
context        the headings above it, or the title: found by, not part of the text
conversation   the document's key; turn is the passage's place in its order
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.checks import cleaned
from ryzanstein.memory.records import PASSAGE, Draft
from ryzanstein.memory.sources.chunks import Block, Passage, passages
from ryzanstein.memory.sources.markdown import markdown_passages
from ryzanstein.memory.sources.pdf import read_pdf
from ryzanstein.memory.sources.reading import read_text

__all__ = ["FORMATS", "Document", "document_key", "read_document"]

FORMATS = ("markdown", "text", "pdf")
_MOST_TEXT, _MOST_PDF = 32_000_000, 128_000_000
_MARKDOWN = frozenset((".md", ".markdown", ".mdown", ".mkd", ".mdx"))
_ABOVE = " > "


@dataclass(frozen=True, slots=True)
class Document:
    """What is remembered of a document.

    Attributes:
        source: Its path or URL.
        title: Its first heading or what its metadata say; None where it has none.
        passages: In order.
        places: Where each of them stands.
        blank: Pages of a PDF that have no text.
    """

    source: str
    title: str | None
    passages: Sequence[Passage]
    places: Sequence[str]
    blank: int = 0

    def drafts(self, *, agent: str | None = None, tags: Sequence[str] = ()) -> list[Draft]:
        """Returns the records to remember, in order."""
        key = document_key(self.source)
        named = self.title or Path(self.source).stem
        found = zip(self.passages, self.places, strict=True)
        texts = [(cleaned(one.text), one.headings, place) for one, place in found]
        return [
            Draft(
                text=text,
                kind=PASSAGE,
                tier="semantic",
                agent=agent,
                tags=tuple(tags),
                source=self.source,
                place=cleaned(place),
                context=cleaned(_ABOVE.join(headings) or named),
                conversation=key,
                turn=number,
            )
            for number, (text, headings, place) in enumerate(one for one in texts if one[0])
        ]


def read_document(
    document: Path | str,
    *,
    source: str | None = None,
    format: str | None = None,
    encoding: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Document:
    """Reads a document and cuts it into passages.

    Args:
        document: A file, or the text itself.
        source: How it is cited; None means the file's path.
        format: One of FORMATS; None means what the file's name says, Markdown for a text.
        encoding: Of a text; None means UTF-8 or what a byte order mark says.
        progress: Called with pages read and pages in all, for a PDF.

    Raises:
        InvalidRequest: It is empty, too large, binary, encrypted, damaged or without text.
        StorageError: It cannot be read.
    """
    if format not in (None, *FORMATS):
        raise InvalidRequest(
            f"{format!r} is no format of documents.", hint=f"Use {', '.join(FORMATS)}."
        )
    if isinstance(document, str):
        if source is None:
            raise InvalidRequest(
                "A text needs a source.", hint="Say where it is from, as a path or URL."
            )
        return _of_text(document, source, format or "markdown")
    cited = source or str(document.absolute())
    form = format or _guess(document)
    if form == "pdf":
        return _of_pdf(document, cited, progress)
    return _of_text(read_text(document, _MOST_TEXT, encoding), cited, form)


def document_key(source: str) -> str:
    """Returns what the passages of a document share, made from its source; at most 80 letters."""
    digest = hashlib.sha256(source.encode(errors="replace")).hexdigest()[:10]
    name = re.sub(r"[^\w.-]+", "-", source.rstrip("/").rsplit("/", 1)[-1])[:60]
    return f"{name or 'document'}-{digest}"


def _guess(path: Path) -> str:
    ending = path.suffix.lower()
    if ending in _MARKDOWN:
        return "markdown"
    return "pdf" if ending == ".pdf" or _begins_as_pdf(path) else "text"


def _begins_as_pdf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return path.is_file() and file.read(5) == b"%PDF-"
    except OSError:
        return False  # whoever reads it says why it cannot be read


def _of_text(text: str, source: str, form: str) -> Document:
    found = markdown_passages(text) if form == "markdown" else _plain_passages(text)
    if not found:
        raise InvalidRequest(f"{source} holds no text.", hint="Give a document with some words.")
    title = next((one.headings[0] for one in found if one.headings), None)
    return Document(source, title, found, [_lines(one) for one in found])


def _of_pdf(path: Path, source: str, progress: Callable[[int, int], None] | None) -> Document:
    pdf = read_pdf(path, _MOST_PDF, progress=progress)
    found: list[Passage] = []
    places: list[str] = []
    for number, page in enumerate(pdf.pages, start=1):
        on_page = _plain_passages(page, each_line=True)
        found += on_page
        places += [f"page {number}"] * len(on_page)
    blank = sum(not page for page in pdf.pages)
    return Document(source, pdf.title, found, places, blank)


def _plain_passages(text: str, *, each_line: bool = False) -> list[Passage]:
    """Paragraphs are parted by empty lines, or are lines of their own."""
    lines = text.split("\n")
    blocks: list[Block] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if not each_line and blocks and blocks[-1].last == number - 1:
            blocks[-1] = Block(blocks[-1].first, number)
        else:
            blocks.append(Block(number, number))
    return list(passages(lines, blocks))


def _lines(passage: Passage) -> str:
    one = passage.first == passage.last
    lines = f"line {passage.first}" if one else f"lines {passage.first}-{passage.last}"
    return f"{lines} · {_ABOVE.join(passage.headings)}" if passage.headings else lines
