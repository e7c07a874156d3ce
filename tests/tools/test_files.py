from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ryzanstein.errors import ToolError
from ryzanstein.tools import ToolContext, ToolResult, call_tool, file_io
from ryzanstein.tools.families.files import finding, reading
from ryzanstein.tools.walk import glob_matcher

Call = Callable[..., Awaitable[ToolResult]]


async def test_a_file_is_read_whole_or_in_parts(call: Call, root: Path) -> None:
    (root / "a.txt").write_text("".join(f"line {n}\n" for n in range(1, 11)))
    whole = await call("read_file", "a.txt")
    assert whole.text.splitlines() == [f"line {n}" for n in range(1, 11)]
    assert whole.untrusted
    part = await call("read_file", {"path": "a.txt", "start": 3, "lines": 2})
    assert part.text == "line 3\nline 4\n\n[lines 3-4 of 10; the next part: start=5]"
    last = await call("read_file", {"path": "a.txt", "start": 9})
    assert last.text.endswith("[lines 9-10 of 10]")
    with pytest.raises(ToolError, match="has only 10 lines"):
        await call("read_file", {"path": "a.txt", "start": 11})


async def test_files_that_are_no_plain_text(call: Call, root: Path) -> None:
    (root / "empty").write_text("")
    (root / "binary").write_bytes(b"\x7fELF\0\0\0")
    (root / "damaged").write_bytes(b"caf\xe9 here")
    (root / "wide").write_bytes("größe".encode("utf-16"))
    (root / "marked").write_bytes(b"\xef\xbb\xbfmarked")
    assert (await call("read_file", "empty")).text == "(the file is empty)"
    with pytest.raises(ToolError, match=r"binary file of 7 bytes.*query_sqlite"):
        await call("read_file", "binary")
    damaged = await call("read_file", "damaged")
    assert damaged.text.startswith("caf\ufffd here") and "not UTF-8" in damaged.text
    assert (await call("read_file", "wide")).text == "größe"
    assert (await call("read_file", "marked")).text == "marked"


async def test_a_huge_file_is_read_in_bounded_memory(
    call: Call, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_LARGEST_READ", 1 << 20)
    with open(root / "huge", "wb") as file:
        file.write(b"x" * 200 + b"\n")
        file.write((b"y" * 99 + b"\n") * 20_000)
        file.truncate(1 << 40)
    result = await call("read_file", {"path": "huge", "lines": 1})
    assert "only the first 1 MiB of 1,099,511,627,776 bytes" in result.text


async def test_writing_makes_the_directories_and_the_whole_file(call: Call, root: Path) -> None:
    wrote = await call("write_file", {"path": "a/b/c.txt", "content": "größe\n"})
    assert wrote.text == "wrote a/b/c.txt (8 bytes)"
    assert (root / "a/b/c.txt").read_text(encoding="utf-8") == "größe\n"
    (root / "a/b/c.txt").chmod(0o640)
    replaced = await call("write_file", {"path": "a/b/c.txt", "content": "new"})
    assert replaced.text.startswith("replaced")
    assert stat.S_IMODE((root / "a/b/c.txt").stat().st_mode) == 0o640
    await call("write_file", {"path": "a/b/c.txt", "content": "+more", "append": True})
    assert (root / "a/b/c.txt").read_text() == "new+more"
    await call("write_file", {"path": "fresh", "content": "x", "append": True})
    assert os.listdir(root / "a/b") == ["c.txt"]


async def test_a_link_inside_keeps_pointing_at_what_is_written(call: Call, root: Path) -> None:
    (root / "real").write_text("old")
    (root / "link").symlink_to("real")
    await call("write_file", {"path": "link", "content": "new"})
    assert (root / "link").is_symlink() and (root / "real").read_text() == "new"


async def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    call: Call, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a").write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file_io.os, "fsync", full)
    with pytest.raises(ToolError, match="no space left on device"):
        await call("write_file", {"path": "a", "content": "new"})
    assert (root / "a").read_text() == "old" and os.listdir(root) == ["a"]


@pytest.mark.parametrize("path", [".", "pipe", "dir", "../x", "/etc/x", "file/x"])
async def test_what_cannot_be_written_is_refused(call: Call, root: Path, path: str) -> None:
    (root / "dir").mkdir()
    (root / "file").write_text("")
    os.mkfifo(root / "pipe")
    with pytest.raises(ToolError):
        await call("write_file", {"path": path, "content": "x"})
    assert sorted(os.listdir(root)) == ["dir", "file", "pipe"]
    with pytest.raises(ToolError, match="damaged character"):
        await call("write_file", {"path": "x", "content": "\ud800"})


def tree(root: Path) -> None:
    for name in ("a.py", "b.txt", "src/c.py", "src/deep/d.py", ".hidden/e.py", "src/.f.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\nimport os\n")
    (root / "src/__pycache__").mkdir()
    (root / "src/__pycache__/g.py").write_text("import os")
    (root / "out").symlink_to("/etc")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", {"a.py", "b.txt", "out", "src/c.py", "src/deep/d.py"}),
        ("*.py", {"a.py", "src/c.py", "src/deep/d.py"}),
        ("./*.txt", {"b.txt"}),
        ("src/*.py", {"src/c.py"}),
        ("src/**/*.py", {"src/c.py", "src/deep/d.py"}),
        ("**/*.py", {"a.py", "src/c.py", "src/deep/d.py"}),
        ("src/**", {"src/c.py", "src/deep/d.py"}),
        ("[ab].*", {"a.py", "b.txt"}),
        ("?.txt", {"b.txt"}),
        ("none*", set()),
    ],
)
async def test_files_are_listed_by_pattern(
    call: Call, root: Path, pattern: str, expected: set[str]
) -> None:
    tree(root)
    result = await call("list_files", pattern)
    assert {row["path"] for row in result.data["files"]} - {"out"} == expected - {"out"}
    assert result.data["count"] == len(result.data["files"])


async def test_lists_are_limited_and_hidden_files_shown_on_request(call: Call, root: Path) -> None:
    tree(root)
    few = await call("list_files", {"limit": 1})
    assert "the first 1 are shown" in few.text and not few.data["complete"]
    hidden = await call("list_files", {"pattern": "*.py", "hidden": True, "path": "src"})
    assert {row["path"] for row in hidden.data["files"]} >= {"src/.f.py", "src/__pycache__/g.py"}
    with pytest.raises(ToolError):
        await call("list_files", {"path": "missing"})
    with pytest.raises(ToolError):
        await call("list_files", {"path": "out"})


async def test_lines_are_found_by_text_and_expression(call: Call, root: Path) -> None:
    tree(root)
    found = await call("search_files", {"pattern": r"^# src/.*\.py$", "files": "*.py"})
    assert found.text.splitlines()[:2] == [
        "src/c.py:1: # src/c.py",
        "src/deep/d.py:1: # src/deep/d.py",
    ]
    literal = await call("search_files", {"pattern": "a.py", "literal": True, "path": "a.py"})
    assert literal.data["hits"] == [{"path": "a.py", "line": 1, "text": "# a.py"}]
    assert (await call("search_files", {"pattern": "IMPORT", "ignore_case": True})).data["hits"]
    few = await call("search_files", {"pattern": "import", "limit": 2})
    assert len(few.data["hits"]) == 2 and "stopped at 2" in few.text
    (root / "bin").write_bytes(b"import\0")
    assert "binary or very large" in (await call("search_files", "import")).text
    with pytest.raises(ToolError, match="literal=true"):
        await call("search_files", "(")


async def test_no_pattern_runs_for_ever(
    call: Call, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "bait").write_text("a" * 40 + "!\n" + "x" * 5000 + "\n")
    monkeypatch.setattr(finding, "_SEARCH_SECONDS", 0.5)
    for pattern in (r"(a|aa)+$", r"^(a+)+$", r"(x+x+)+y", r"(.*)*\1z"):
        try:
            await call("search_files", pattern)
        except ToolError as error:
            assert "took longer than 0.5 s" in str(error)


def test_a_glob_with_many_stars_is_stopped() -> None:
    matches = glob_matcher("a*" * 90 + "b")
    try:
        assert not matches("a" * 250)
    except ToolError as error:
        assert "fewer stars" in str(error)


async def test_without_a_root_no_file_is_touched() -> None:
    with pytest.raises(ToolError, match="No directory is allowed"):
        await call_tool(ToolContext(), "read_file", "x")
