from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ryzanstein.errors import ToolError
from ryzanstein.tools import ToolContext, ToolResult, call_tool
from ryzanstein.tools.families.files import moving

Call = Callable[..., Awaitable[ToolResult]]


async def test_an_edit_changes_one_place_and_nothing_else(call: Call, root: Path) -> None:
    (root / "a.py").write_text("x = 1\ny = 2\nx = 3\n")
    (root / "a.py").chmod(0o755)
    done = await call("edit_file", {"path": "a.py", "old": "y = 2", "new": "y = 20\nz = 0"})
    assert done.text == "changed a.py at line 2"
    assert (root / "a.py").read_text() == "x = 1\ny = 20\nz = 0\nx = 3\n"
    assert stat.S_IMODE((root / "a.py").stat().st_mode) == 0o755
    done = await call("edit_file", {"path": "a.py", "old": "x =", "new": "w =", "everywhere": True})
    assert done.data["replaced"] == 2 and (root / "a.py").read_text().count("w =") == 2
    await call("edit_file", {"path": "a.py", "old": "z = 0\n", "new": ""})
    assert (root / "a.py").read_text() == "w = 1\ny = 20\nw = 3\n"
    assert os.listdir(root) == ["a.py"]


async def test_an_edit_that_is_not_clear_changes_nothing(call: Call, root: Path) -> None:
    (root / "a.py").write_text("if a:\n    go(1)\nif b:\n    go(1)\n")
    (root / "damaged").write_bytes(b"caf\xe9")
    before = (root / "a.py").read_bytes()
    with pytest.raises(ToolError, match=r"2 times in a\.py, in lines 2, 4\. Take lines around"):
        await call("edit_file", {"path": "a.py", "old": "go(1)", "new": "x"})
    with pytest.raises(ToolError, match=r"not in a\.py\. Line 2 is nearest: go\(1\)"):
        await call("edit_file", {"path": "a.py", "old": "  go( 1 )", "new": "x"})
    with pytest.raises(ToolError, match="Read the file first"):
        await call("edit_file", {"path": "a.py", "old": "something else entirely", "new": "x"})
    with pytest.raises(ToolError, match="not UTF-8"):
        await call("edit_file", {"path": "damaged", "old": "caf", "new": "x"})
    with pytest.raises(ToolError, match="does not exist"):
        await call("edit_file", {"path": "missing.py", "old": "a", "new": "b"})
    assert (root / "a.py").read_bytes() == before


@pytest.mark.parametrize("mark", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
async def test_an_edit_keeps_encoding_and_line_ends(call: Call, root: Path, mark: str) -> None:
    bom = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(mark, b"")
    (root / "a").write_bytes(bom + "größe\r\nzwei\r\n".encode(mark))
    await call("edit_file", {"path": "a", "old": "größe\nzwei", "new": "maß\ndrei"})
    assert (root / "a").read_bytes() == bom + "maß\r\ndrei\r\n".encode(mark)


async def test_a_folder_is_made_with_those_above_it(call: Call, root: Path) -> None:
    assert (await call("make_folder", "a/b/c")).text == "a/b/c: made"
    assert (root / "a/b/c").is_dir()
    assert (await call("make_folder", "a/b/c")).text == "a/b/c: is there already"
    (root / "file").write_text("")
    with pytest.raises(ToolError, match="is a file"):
        await call("make_folder", "file")


async def test_a_copy_never_overwrites(call: Call, root: Path) -> None:
    (root / "a.txt").write_text("a")
    (root / "a.txt").chmod(0o600)
    (root / "dir").mkdir()
    assert (await call("copy_file", {"path": "a.txt", "to": "b.txt"})).data["to"] == "b.txt"
    assert (root / "b.txt").read_text() == "a"
    assert stat.S_IMODE((root / "b.txt").stat().st_mode) == 0o600
    assert (await call("copy_file", {"path": "a.txt", "to": "dir"})).data["to"] == "dir/a.txt"
    assert (await call("copy_file", {"path": "a.txt", "to": "new/"})).data["to"] == "new/a.txt"
    (root / "b.txt").write_text("b")
    for to in ("b.txt", "dir", "a.txt"):
        with pytest.raises(ToolError, match="exists already"):
            await call("copy_file", {"path": "a.txt", "to": to})
    assert (root / "b.txt").read_text() == "b"
    with pytest.raises(ToolError, match="is a directory"):
        await call("copy_file", {"path": "dir", "to": "dir2"})


async def test_a_copy_that_is_too_large_leaves_nothing(
    call: Call, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "_LARGEST_COPY", 1 << 20)
    (root / "big").write_bytes(b"x" * (2 << 20))
    with pytest.raises(ToolError, match="larger than 1 MiB"):
        await call("copy_file", {"path": "big", "to": "copy"})
    assert os.listdir(root) == ["big"]


async def test_files_and_folders_are_moved(call: Call, root: Path) -> None:
    (root / "a.txt").write_text("a")
    (root / "dir/sub").mkdir(parents=True)
    moved = await call("move_file", {"path": "a.txt", "to": "b.txt"})
    assert moved.text == "moved a.txt to b.txt" and not moved.data["replaced"]
    await call("move_file", {"path": "b.txt", "to": "dir"})
    assert (root / "dir/b.txt").read_text() == "a"
    await call("move_file", {"path": "dir", "to": "other"})
    assert (root / "other/sub").is_dir() and (root / "other/b.txt").exists()
    with pytest.raises(ToolError, match="into itself"):
        await call("move_file", {"path": "other", "to": "other/sub/deeper"})
    with pytest.raises(ToolError, match="allowed directory itself"):
        await call("move_file", {"path": ".", "to": "other"})


async def test_a_move_replaces_only_where_that_is_said(call: Call, root: Path) -> None:
    (root / "a").write_text("a")
    (root / "b").write_text("b")
    with pytest.raises(ToolError, match="overwrite=true"):
        await call("move_file", {"path": "a", "to": "b"})
    assert (root / "b").read_text() == "b"
    await call("move_file", {"path": "a", "to": "b", "overwrite": True})
    assert (root / "b").read_text() == "a" and not (root / "a").exists()
    with pytest.raises(ToolError, match="is there already"):
        await call("move_file", {"path": "b", "to": "b", "overwrite": True})
    assert (root / "b").read_text() == "a"


async def test_only_what_is_named_is_deleted(call: Call, root: Path) -> None:
    (root / "keep").write_text("k")
    (root / "gone").write_text("g")
    (root / "link").symlink_to("keep")
    (root / "full/sub").mkdir(parents=True)
    (root / "full/out").symlink_to(root / "keep")
    (root / "empty").mkdir()
    for path in ("gone", "link", "empty"):
        assert (await call("delete_file", path)).text == f"deleted {path}"
    with pytest.raises(ToolError, match="with_contents=true"):
        await call("delete_file", "full")
    done = await call("delete_file", {"path": "full", "with_contents": True})
    assert done.text == "deleted full with 2 entries"
    assert os.listdir(root) == ["keep"]
    with pytest.raises(ToolError, match="does not exist"):
        await call("delete_file", "gone")
    with pytest.raises(ToolError, match="allowed directory itself"):
        await call("delete_file", {"path": ".", "with_contents": True})
    os.mkfifo(root / "pipe")
    with pytest.raises(ToolError, match="no regular file"):
        await call("delete_file", "pipe")


async def test_a_folder_of_very_many_files_is_not_deleted_at_once(
    call: Call, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "_MOST_DELETED", 3)
    (root / "many").mkdir()
    for number in range(5):
        (root / f"many/{number}").write_text("")
    with pytest.raises(ToolError, match="more than 3 entries"):
        await call("delete_file", {"path": "many", "with_contents": True})
    assert len(os.listdir(root / "many")) == 5


async def test_a_link_is_moved_or_deleted_and_not_what_it_leads_to(call: Call, root: Path) -> None:
    outside = root.parent / "key"
    outside.write_text("secret")
    (root / "out").symlink_to(outside)
    (root / "dangling").symlink_to("nowhere")
    await call("move_file", {"path": "out", "to": "moved"})
    assert (root / "moved").is_symlink() and outside.read_text() == "secret"
    await call("delete_file", "moved")
    await call("delete_file", "dangling")
    assert outside.read_text() == "secret" and not os.listdir(root)


async def test_reading_alone_changes_nothing(root: Path) -> None:
    (root / "a").write_text("a")
    ctx = ToolContext(roots=(root,), read_only=True, grants=frozenset({"*"}))
    for name, arguments in {
        "edit_file": {"path": "a", "old": "a", "new": "b"},
        "copy_file": {"path": "a", "to": "b"},
        "move_file": {"path": "a", "to": "b"},
        "delete_file": {"path": "a"},
        "make_folder": {"path": "b"},
    }.items():
        with pytest.raises(ToolError, match="only reading is allowed"):
            await call_tool(ctx, name, arguments)
    assert os.listdir(root) == ["a"] and (root / "a").read_text() == "a"
