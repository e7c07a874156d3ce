from __future__ import annotations

import random
from pathlib import Path

import pytest

from ryzanstein.errors import InvalidRequest, StorageError
from ryzanstein.memory.sources import documents
from ryzanstein.memory.sources.documents import document_key, read_document
from tests.memory.sources.pdfs import encrypted, pdf

GUIDE = """# Guide

How to make tea.

## Start

Boil the water first.
"""
LINES = "The kettle stands on the stove and the water begins to sing; it will\nboil soon."


def file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_markdown_is_cited_by_lines_and_headings(tmp_path: Path) -> None:
    path = file(tmp_path, "guide.md", GUIDE)
    first, second = read_document(path).drafts(agent="APEX", tags=["tea"])
    assert (first.text, first.place) == ("How to make tea.", "line 3 · Guide")
    assert (second.text, second.place) == ("Boil the water first.", "line 7 · Guide > Start")
    assert (second.context, second.source) == ("Guide > Start", str(path))
    assert (second.tier, second.kind, second.turn) == ("semantic", "passage", 1)
    assert second.conversation == document_key(str(path)) and second.agent == "APEX"


def test_plain_text_is_cited_by_lines_and_found_by_its_name(tmp_path: Path) -> None:
    paragraphs = "\n\n".join(["  First words", "of one.\n"] + ["word " * 199] * 2)
    found = read_document(file(tmp_path, "notes.log", paragraphs)).drafts()
    assert [one.place for one in found] == ["lines 1-3", "line 6", "line 8"]
    assert found[0].text == "First words\n\nof one." and found[0].context == "notes"


def test_a_text_can_be_given_with_where_it_is_from() -> None:
    found = read_document(GUIDE, source="https://example.org/guide")
    assert (found.source, found.title) == ("https://example.org/guide", "Guide")
    with pytest.raises(InvalidRequest, match="A text needs a source"):
        read_document(GUIDE)


def test_a_pdf_is_cited_by_page_and_its_lines_are_joined(tmp_path: Path) -> None:
    content = pdf(
        [LINES, "Water (hot) is poured over the leaves and left for some min-\nutes."], "Tea"
    )
    found = read_document(file(tmp_path, "tea.pdf", content))
    one, two = found.drafts()
    assert (one.place, two.place, found.title, found.blank) == ("page 1", "page 2", "Tea", 0)
    assert one.text == LINES.replace("\n", " ") and one.context == "Tea"
    assert two.text.endswith("left for some minutes.")


def test_what_heads_and_foots_most_pages_is_left_out_and_blank_pages_are_counted(
    tmp_path: Path,
) -> None:
    pages = [f"All about tea\nPage {n} tells of leaf number {n}.\n- {n} -" for n in range(5)]
    found = read_document(file(tmp_path, "tea", pdf([*pages, ""])))
    assert [one.text for one in found.drafts()] == [
        f"Page {n} tells of leaf number {n}." for n in range(5)
    ]
    assert found.blank == 1


def test_a_pdf_that_only_forbids_printing_is_read(tmp_path: Path) -> None:
    path = file(tmp_path, "tea.pdf", encrypted(pdf([LINES]), "", "RC4-128"))
    assert len(read_document(path).passages) == 1


DAMAGED = "no PDF or a damaged one"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.md", b"", "is empty"),
        ("a.txt", b" \n\t\n", "is empty"),
        ("a.md", b"[a]: http://b\n", "holds no text"),
        ("a.txt", b"\x00\x01\x02 binary", "is binary, not text"),
        ("a.docx", b"PK\x03\x04\x14\x00\x06\x00", "is binary, not text"),
        ("a.md", "one\ntwo\nGrüße".encode("latin-1"), r"a\.md:3: the bytes are not UTF-8 text"),
        ("a.pdf", b"", "is empty"),
        ("a.pdf", b"just text", DAMAGED),
        ("a.pdf", b"%PDF-1.4\n" + bytes(range(256)) * 20, DAMAGED),
        ("a.pdf", pdf([LINES])[:400], DAMAGED),
        ("a.pdf", pdf(["", ""]), "2 pages and no text; it may be scanned"),
        ("a.pdf", encrypted(pdf([LINES]), "secret", "RC4-128"), "is encrypted"),
    ],
)
def test_what_cannot_be_read_has_one_clear_error(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=reason) as raised:
        read_document(file(tmp_path, name, content))
    assert raised.value.hint and "\n" not in str(raised.value)


def test_files_that_are_too_large_or_not_there_are_named(tmp_path: Path) -> None:
    large = tmp_path / "large.txt"
    with large.open("wb") as sparse:
        sparse.truncate(100_000_000)
    with pytest.raises(InvalidRequest, match="has 100 MB; at most 32 MB are read"):
        read_document(large)
    with pytest.raises(StorageError, match=r"missing\.txt cannot be read"):
        read_document(tmp_path / "missing.txt")
    with pytest.raises(InvalidRequest, match="is not a file"):
        read_document(tmp_path)
    with pytest.raises(InvalidRequest, match="'docx' is no format of documents"):
        read_document(large, format="docx")


def test_another_encoding_can_be_said(tmp_path: Path) -> None:
    path = file(tmp_path, "a.txt", "Grüße".encode("latin-1"))
    assert read_document(path, encoding="latin-1").passages[0].text == "Grüße"
    path = file(tmp_path, "b.txt", "Grüße".encode("utf-16"))
    assert read_document(path).passages[0].text == "Grüße"


def test_a_damaged_pdf_is_read_or_refused_but_never_breaks(tmp_path: Path) -> None:
    chooser = random.Random(7)
    sound = pdf([LINES, LINES], "Tea")
    for _ in range(150):
        broken = bytearray(sound)
        for _ in range(chooser.choice((1, 10, 100))):
            broken[chooser.randrange(len(broken))] = chooser.randrange(256)
        try:
            read_document(file(tmp_path, "a.pdf", bytes(broken)), format="pdf")
        except InvalidRequest as error:
            assert "a.pdf" in error.message


def test_ten_megabytes_of_text_are_read(tmp_path: Path) -> None:
    text = "\n\n".join(
        f"Paragraph {n} says something about tea and kettles." for n in range(20_000)
    )
    found = read_document(file(tmp_path, "long.md", text))
    assert sum(one.text.count("Paragraph") for one in found.passages) == 20_000
    assert documents.FORMATS == ("markdown", "text", "pdf")
