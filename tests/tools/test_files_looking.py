from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ryzanstein.errors import ToolError
from ryzanstein.tools import ToolResult
from ryzanstein.tools.families.files import archives, reading

Call = Callable[..., Awaitable[ToolResult]]


async def test_a_file_is_described(call: Call, root: Path) -> None:
    (root / "a.csv").write_text("n,größe\n1,2\n", encoding="utf-8")
    (root / "a.bin").write_bytes(b"\0" * 10)
    about = (await call("file_info", "a.csv")).data
    assert about["bytes"] == 14 and about["lines"] == 2
    assert about["type"] == "text/csv" and about["encoding"] == "utf-8"
    assert about["sha256"] == hashlib.sha256((root / "a.csv").read_bytes()).hexdigest()
    binary = (await call("file_info", "a.bin")).data
    assert binary["encoding"] == "binary" and "lines" not in binary
    folder = await call("file_info", ".")
    assert "kind: directory" in folder.text and folder.data["entries"] == 2


async def test_a_huge_file_is_described_without_reading_all_of_it(
    call: Call, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_LARGEST_READ", 1 << 16)
    monkeypatch.setattr(reading, "_LARGEST_HASHED", 1 << 20)
    with open(root / "huge", "wb") as file:
        file.write(b"text\n")
        file.truncate(1 << 40)
    about = (await call("file_info", "huge")).data
    assert about["bytes"] == 1 << 40 and "too large" in about["sha256"]


async def test_two_files_are_compared(call: Call, root: Path) -> None:
    (root / "old").write_text("".join(f"{n}\n" for n in range(100)))
    (root / "new").write_text("".join(f"{n}\n" for n in range(100) if n != 50) + "end\n")
    (root / "same").write_bytes((root / "old").read_bytes())
    (root / "bin").write_bytes(b"\0\1")
    (root / "crlf").write_bytes((root / "old").read_bytes().replace(b"\n", b"\r\n"))
    differ = await call("compare_files", {"path": "old", "other": "new", "context": 1})
    assert "-50\n" in differ.text and "+end" in differ.text and "\n 30\n" not in differ.text
    assert (differ.data["added"], differ.data["removed"]) == (1, 1)
    equal = await call("compare_files", {"path": "old", "other": "same"})
    assert equal.data == {"equal": True}
    binary = await call("compare_files", {"path": "old", "other": "bin"})
    assert binary.text == "old and bin differ; they are binary."
    ends = await call("compare_files", {"path": "old", "other": "crlf"})
    assert "only in the ends" in ends.text
    with pytest.raises(ToolError, match="is a directory"):
        await call("compare_files", {"path": "old", "other": "."})


async def test_a_comparison_that_takes_too_long_is_stopped(
    call: Call, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_COMPARE_SECONDS", 0.5)
    lines = [f"{n % 150}\n" for n in range(60_000)]
    (root / "old").write_text("".join(lines))
    (root / "new").write_text("".join(reversed(lines)))
    with pytest.raises(ToolError, match=r"longer than 0\.5 s"):
        await call("compare_files", {"path": "old", "other": "new"})


def packed(path: Path, files: dict[str, bytes]) -> None:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, raw in files.items():
                zipped.writestr(name, raw)
        return
    with tarfile.open(path, f"w:{path.suffix[1:].replace('tar', '')}") as tarred:
        for name, raw in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(raw)
            tarred.addfile(about, io.BytesIO(raw))


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
async def test_an_archive_is_listed_and_read(call: Call, root: Path, name: str) -> None:
    packed(root / name, {"docs/a.txt": "größe".encode(), "b.bin": b"\0\1\2"})
    listed = await call("read_archive", name)
    assert "docs/a.txt  7 bytes" in listed.text and listed.data["count"] == 2
    assert (await call("read_archive", {"path": name, "member": "docs/a.txt"})).text == "größe"
    with pytest.raises(ToolError, match="binary file"):
        await call("read_archive", {"path": name, "member": "b.bin"})
    with pytest.raises(ToolError, match=r"has no file docs/b\.txt\. Did you mean .*docs/a\.txt"):
        await call("read_archive", {"path": name, "member": "docs/b.txt"})
    few = await call("read_archive", {"path": name, "limit": 1})
    assert "the first 1 are shown" in few.text
    assert sorted(path.name for path in root.iterdir()) == [name]


async def test_a_bomb_is_read_in_bounds(
    call: Call, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_LARGEST_MEMBER", 1 << 16)
    monkeypatch.setattr(archives, "_LARGEST_TAR", 1 << 20)
    packed(root / "bomb.zip", {"x": b"x" * (8 << 20)})
    packed(root / "bomb.tar.gz", {"x": b"x" * (8 << 20)})
    read = await call("read_archive", {"path": "bomb.zip", "member": "x"})
    assert read.data["bytes"] == (1 << 16) + 1
    with pytest.raises(ToolError, match="holds more than"):
        await call("read_archive", "bomb.tar.gz")
    monkeypatch.setattr(archives, "_LARGEST_DIRECTORY", 100)
    packed(root / "wide.zip", {f"{n}": b"" for n in range(5)})
    with pytest.raises(ToolError, match="too many files"):
        await call("read_archive", "wide.zip")
    monkeypatch.setattr(archives, "_LARGEST_DIRECTORY", 1000)
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 3)
    packed(root / "many.zip", {f"{n}": b"" for n in range(5)})
    with pytest.raises(ToolError, match="more than 3 files"):
        await call("read_archive", "many.zip")


async def test_what_is_no_archive_or_a_broken_one_is_refused(call: Call, root: Path) -> None:
    packed(root / "whole.zip", {"a": b"a" * 1000})
    packed(root / "whole.tar.gz", {"a": b"a" * 100_000})
    (root / "text").write_text("hello")
    (root / "empty").write_text("")
    (root / "only.gz").write_bytes(gzip.compress(b"hello"))
    raw = (root / "whole.zip").read_bytes()
    (root / "broken.zip").write_bytes(raw[:20] + b"\xff" * 10 + raw[30:])
    (root / "cut.tar.gz").write_bytes((root / "whole.tar.gz").read_bytes()[:60])
    for name in ("text", "empty", "only.gz", "cut.tar.gz", "."):
        with pytest.raises(ToolError):
            await call("read_archive", name)
    with pytest.raises(ToolError):
        await call("read_archive", {"path": "broken.zip", "member": "a"})


async def test_names_in_an_archive_that_lead_outside_are_only_names(call: Call, root: Path) -> None:
    (root.parent / "key").write_text("secret")
    with tarfile.open(root / "evil.tar", "w") as tarred:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "../key"
        tarred.addfile(link)
        about = tarfile.TarInfo("../../up")
        about.size = 2
        tarred.addfile(about, io.BytesIO(b"up"))
    with pytest.raises(ToolError):
        await call("read_archive", {"path": "evil.tar", "member": "link"})
    read = await call("read_archive", {"path": "evil.tar", "member": "../../up"})
    assert read.text == "up" and not (root.parent.parent / "up").exists()
