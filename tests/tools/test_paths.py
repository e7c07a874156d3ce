from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzanstein.errors import ToolError
from ryzanstein.tools import paths
from ryzanstein.tools.paths import Roots


@pytest.fixture(params=["walk", "resolve"])
def door(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in: by descriptors, and by resolving where a system has none."""
    monkeypatch.setattr(paths, "_WALKS", request.param == "walk")
    return str(request.param)


@pytest.fixture
def secret(root: Path) -> Path:
    path = root.parent / "root-secret" / "key"
    path.parent.mkdir()
    path.write_text("secret")
    return path


def read(root: Path, path: str) -> str:
    with Roots([root]).place(path) as place, os.fdopen(place.open_file()) as file:
        return file.read()


def test_files_inside_are_opened(door: str, root: Path) -> None:
    (root / "a").mkdir()
    (root / "a" / "b.txt").write_text("b")
    for path in ("a/b.txt", "./a//b.txt", "a/../a/b.txt", f"{root}/a/b.txt", " 'a/b.txt' "):
        assert read(root, path) == "b"


@pytest.mark.parametrize(
    "path",
    [
        "../root-secret/key",
        "a/../../root-secret/key",
        "a/b/../../../root-secret/key",
        "{root}-secret/key",
        "{root}/../root-secret/key",
        "/etc/passwd",
        "~/.ssh/id_rsa",
        "link",
        "relative",
        "chain1",
        "directory/key",
        "directory/new/file",
        "dangling",
        "dangling/x",
        "inside/../../root-secret/key",
        "..",
        "a/../..",
    ],
)
def test_nothing_outside_is_reached(door: str, root: Path, secret: Path, path: str) -> None:
    (root / "a" / "b").mkdir(parents=True)
    (root / "link").symlink_to(secret)
    (root / "relative").symlink_to("../root-secret/key")
    (root / "chain1").symlink_to("chain2")
    (root / "chain2").symlink_to("chain3")
    (root / "chain3").symlink_to(secret)
    (root / "directory").symlink_to(secret.parent)
    (root / "dangling").symlink_to(root.parent / "not-there-yet")
    (root / "inside").symlink_to("a")
    before = sorted(root.parent.rglob("*"))
    for make in (False, True):
        with (
            pytest.raises(ToolError),
            Roots([root]).place(path.format(root=root), make_parents=make) as place,
        ):
            place.open_file()
            raise AssertionError("reached")
    assert sorted(root.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "path",
    [
        "a\0b",
        "a\nb",
        "\\\\server\\share\\x",
        "//server/share/x",
        "C:\\Windows\\x",
        "c:/x",
        "D:",
        "file:///etc/passwd",
        "\ud800",
        "x" * 5000,
        "a/" * 3000,
    ],
)
def test_what_cannot_be_a_path_here_is_refused(door: str, root: Path, path: str) -> None:
    with pytest.raises(ToolError):
        read(root, path)


def test_links_that_stay_inside_are_followed(door: str, root: Path) -> None:
    (root / "real" / "deep").mkdir(parents=True)
    (root / "real" / "deep" / "f").write_text("f")
    (root / "to").symlink_to("real/deep")
    (root / "absolute").symlink_to(root / "real")
    (root / "real" / "up").symlink_to("../to/f")
    for path in ("to/f", "absolute/deep/f", "real/up", "to/../deep/f"):
        assert read(root, path) == "f"


def test_links_in_a_circle_end(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(ToolError, match="round in symbolic links"):
        read(root, "a")


def test_a_root_that_is_itself_a_link_may_be_named_either_way(root: Path) -> None:
    (root / "f").write_text("f")
    alias = root.parent / "alias"
    alias.symlink_to(root)
    assert read(alias, f"{alias}/f") == read(alias, f"{root}/f") == "f"


def test_special_files_are_not_opened(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(ToolError, match="no regular file"):
        read(root, "pipe")
    with pytest.raises(ToolError, match="is a directory"):
        read(root, ".")


def test_a_missing_file_is_answered_with_near_names(door: str, root: Path) -> None:
    (root / "report.txt").write_text("")
    with pytest.raises(ToolError, match=r"Did you mean report\.txt"):
        read(root, "repport.txt")
    with pytest.raises(ToolError, match="does not exist"):
        read(root, "none/at/all")
    with pytest.raises(ToolError, match="not a directory"):
        read(root, "report.txt/x")


def test_a_relative_path_is_found_in_a_further_root(root: Path) -> None:
    other = root.parent / "other"
    other.mkdir()
    (other / "f").write_text("other")
    with Roots([root, other]).place("f") as place:
        assert place.path == other / "f"
    with Roots([root, other]).place(str(other / "f")) as place:
        assert place.path == other / "f"


def test_no_root_at_all_is_said(root: Path) -> None:
    with pytest.raises(ToolError, match="No directory is allowed"):
        Roots([])


@pytest.fixture
def swapping(root: Path, secret: Path) -> Iterator[None]:
    """Swaps a directory for a link that leads out, again and again."""
    (root / "good").mkdir()
    (root / "good" / "key").write_text("good")
    (root / "evil").symlink_to(secret.parent)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(root / "good", root / "door")
            os.rename(root / "door", root / "good")
            os.rename(root / "evil", root / "door")
            os.rename(root / "door", root / "evil")

    thread = threading.Thread(target=swap)
    thread.start()
    yield
    stop.set()
    thread.join()


def test_a_race_cannot_open_what_is_outside(root: Path, swapping: None) -> None:
    outcomes = set()
    for _ in range(3000):
        try:
            outcomes.add(read(root, "door/key"))
        except ToolError:
            outcomes.add("refused")
    assert outcomes <= {"good", "refused"}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "", "a", "in", "out", "b", "~", "*"]), max_size=8))
def test_no_mixture_of_parts_leaves_the_root(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    base = tmp_path_factory.getbasetemp() / "mixture"
    root = base / "root"
    if not base.exists():
        (root / "a" / "b").mkdir(parents=True)
        (root / "in").symlink_to("a/b")
        (root / "out").symlink_to("..")
        (root / "a" / "out").symlink_to("../..")
    try:
        with Roots([root]).place("/".join(parts)) as place:
            found = (place.path if place.name == "." else place.path.parent).resolve()
            assert place.directory is not None
            real = Path(os.readlink(f"/proc/self/fd/{place.directory}"))
            assert found == root or root in found.parents
            assert real == root or root in real.parents
    except ToolError:
        return
