"""Git by typed arguments, and what changes a repository; the command line is in test_git.py."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ryzanstein.errors import ToolError
from ryzanstein.tools import ToolContext, ToolResult, call_tool

Call = Callable[..., Awaitable[ToolResult]]


def git(path: Path, *arguments: str) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(path),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "Ann",
        "GIT_AUTHOR_EMAIL": "ann@example.org",
        "GIT_COMMITTER_NAME": "Ann",
        "GIT_COMMITTER_EMAIL": "ann@example.org",
    }
    done = subprocess.run(
        ["git", *arguments], cwd=path, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture
def repository(root: Path) -> Path:
    git(root, "init", "-q", "-b", "main")
    (root / "sub").mkdir()
    for number, text in enumerate(("one\n", "one\ntwo\n"), 1):
        (root / "a.txt").write_text(text)
        (root / "sub/b.txt").write_text(text)
        git(root, "add", ".")
        git(root, "commit", "-q", "-m", f"commit {number}")
    return root


async def test_the_status_is_sorted(call: Call, repository: Path) -> None:
    clean = await call("git_status")
    assert clean.text == "branch: main\nnothing to commit, everything is clean"
    (repository / "a.txt").write_text("changed\n")
    git(repository, "mv", "sub/b.txt", "sub/größe c.txt")
    (repository / "new").write_text("")
    status = await call("git_status", "sub")
    assert status.data == {
        "branch": "main",
        "staged": ["sub/b.txt -> sub/größe c.txt"],
        "changed": ["a.txt"],
        "new": ["new"],
        "conflicts": [],
    }
    assert "changed: a.txt\nnew: new" in status.text


async def test_a_conflict_is_told_apart(call: Call, repository: Path) -> None:
    git(repository, "switch", "-q", "-c", "other", "HEAD~1")
    (repository / "a.txt").write_text("theirs\n")
    git(repository, "commit", "-q", "-am", "theirs")
    with pytest.raises(subprocess.CalledProcessError):
        git(repository, "merge", "main")
    assert (await call("git_status")).data["conflicts"] == ["a.txt"]


async def test_commits_are_listed_and_shown(call: Call, repository: Path) -> None:
    assert (await call("git_log")).text.count("commit ") == 2
    assert "commit 1" not in (await call("git_log", {"count": 1})).text
    assert "commit 2" in (await call("git_log", {"file": "b.txt", "path": "sub"})).text
    assert "nothing" in (await call("git_log", {"author": "Bob"})).text
    assert "commit 1" in (await call("git_log", {"revision": "HEAD~1", "grep": "commit"})).text
    assert "+two" in (await call("git_show")).text
    assert "2 files changed" in (await call("git_show", {"summary": True})).text
    old = await call("git_show", {"revision": "HEAD~1", "file": "a.txt"})
    assert old.text == "one\n"
    below = await call("git_show", {"revision": "HEAD", "file": "./b.txt", "path": "sub"})
    assert below.text == "one\ntwo\n"


async def test_differences_and_authors_of_lines(call: Call, repository: Path) -> None:
    (repository / "a.txt").write_text("one\ntwo\nthree\n")
    assert "+three" in (await call("git_diff")).text
    assert "nothing to show" in (await call("git_diff", {"staged": True})).text
    between = await call("git_diff", {"base": "HEAD~1", "target": "HEAD", "file": "a.txt"})
    assert "+two" in between.text and "b.txt" not in between.text
    assert "2 files changed" in (await call("git_diff", {"base": "HEAD~1", "summary": True})).text
    blame = await call("git_blame", {"file": "a.txt", "start": 2, "lines": 1})
    assert "two" in blame.text and "one" not in blame.text
    with pytest.raises(ToolError, match="has only 3 lines"):
        await call("git_blame", {"file": "a.txt", "start": 99})


async def test_named_files_are_committed_and_nothing_else(call: Call, repository: Path) -> None:
    for name in ("a.txt", "sub/b.txt", "new.txt"):
        (repository / name).write_text("changed\n")
    git(repository, "add", "sub/b.txt")
    done = await call("git_commit", {"message": "Only a\n\nbecause", "files": ["a.txt"]})
    assert done.text.startswith(f"committed {done.data['commit']}: Only a")
    assert done.data["author"] == "Ryzanstein"
    assert git(repository, "show", "--name-only", "--format=%b").split() == ["because", "a.txt"]
    await call("git_commit", "What was staged")
    assert git(repository, "show", "--name-only", "--format=").split() == ["sub/b.txt"]
    (repository / "a.txt").unlink()
    git(repository, "config", "user.name", "Bob")
    done = await call("git_commit", {"message": "All", "everything": True})
    assert done.data["author"] == "Bob" and git(repository, "status", "--short") == ""
    with pytest.raises(ToolError, match="nothing to commit"):
        await call("git_commit", "Again")
    with pytest.raises(ToolError, match="message is empty"):
        await call("git_commit", {"message": "  ", "everything": True})


async def test_the_first_commit_of_a_new_repository(call: Call, root: Path) -> None:
    git(root, "init", "-q")
    (root / "a").write_text("a")
    assert (await call("git_status")).data["new"] == ["a"]
    assert (await call("git_branch", "begin")).data["branch"] == "begin"
    await call("git_commit", {"message": "Begin", "everything": True})
    assert git(root, "log", "--format=%s", "begin") == "Begin\n"


async def test_branches_are_made_and_switched_to(call: Call, repository: Path) -> None:
    made = await call("git_branch", {"name": "fix/a", "start": "HEAD~1"})
    assert made.text == "made and switched to fix/a"
    assert (repository / "a.txt").read_text() == "one\n"
    assert (await call("git_branch", "main")).text == "switched to main"
    with pytest.raises(ToolError, match="exists"):
        await call("git_branch", {"name": "main", "start": "HEAD"})
    (repository / "a.txt").write_text("not committed\n")
    with pytest.raises(ToolError):
        await call("git_branch", "fix/a")
    assert (repository / "a.txt").read_text() == "not committed\n"
    assert git(repository, "branch", "--show-current") == "main\n"


async def test_a_switch_overwrites_no_ignored_file(call: Call, repository: Path) -> None:
    await call("git_branch", "other")
    (repository / "notes").write_text("theirs")
    await call("git_commit", {"message": "Notes", "files": ["notes"]})
    await call("git_branch", "main")
    (repository / ".git/info/exclude").write_text("notes\n")
    (repository / "notes").write_text("mine")
    with pytest.raises(ToolError):
        await call("git_branch", "other")
    assert (repository / "notes").read_text() == "mine"


async def test_files_are_set_back(call: Call, repository: Path) -> None:
    (repository / "a.txt").write_text("changed\n")
    (repository / "sub/b.txt").write_text("changed\n")
    git(repository, "add", ".")
    await call("git_restore", {"files": ["a.txt"], "staged": True})
    assert (repository / "a.txt").read_text() == "changed\n"
    await call("git_restore", {"files": ["a.txt"]})
    assert (repository / "a.txt").read_text() == "one\ntwo\n"
    assert (repository / "sub/b.txt").read_text() == "changed\n"
    await call("git_restore", {"files": ["."], "revision": "HEAD~1"})
    assert (repository / "sub/b.txt").read_text() == "one\n"
    with pytest.raises(ToolError, match="missing"):
        await call("git_restore", {"files": ["missing"]})


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *(("git_log", {key: "--output=../out"}) for key in ("revision",)),
        ("git_log", {"author": "--output=../out", "revision": "-p"}),
        ("git_log", {"file": "--output=../out"}),
        ("git_diff", {"base": "--no-index", "target": "/etc/passwd"}),
        ("git_diff", {"base": "-O../key"}),
        ("git_diff", {"file": "../key"}),
        ("git_show", {"revision": "--output=../out"}),
        ("git_show", {"revision": "HEAD", "file": "../../key"}),
        ("git_show", {"revision": "HEAD:a.txt"}),
        ("git_show", {"revision": "HEAD", "file": "--output=../out"}),
        ("git_blame", {"file": "--contents=../key"}),
        ("git_blame", {"file": "../key"}),
        ("git_blame", {"file": "a.txt", "revision": "--contents=../key"}),
        ("git_branch", {"name": "-D"}),
        ("git_branch", {"name": "--orphan=x"}),
        ("git_branch", {"name": "x", "start": "--orphan"}),
        ("git_branch", {"name": "a..b"}),
        ("git_branch", {"name": "x; id"}),
        ("git_commit", {"message": "x", "files": ["../key"]}),
        ("git_commit", {"message": "x", "files": ["--pathspec-from-file=../key"]}),
        ("git_commit", {"message": "x", "files": [":(exclude)a.txt"]}),
        ("git_restore", {"files": ["--pathspec-from-file=../key"]}),
        ("git_restore", {"files": ["../key"]}),
        ("git_restore", {"files": ["a.txt"], "revision": "--orphan"}),
    ],
)
async def test_no_argument_becomes_an_option_or_a_path_outside(
    call: Call, repository: Path, name: str, arguments: dict[str, object]
) -> None:
    (repository.parent / "key").write_text("secret")
    (repository / "a.txt").write_text("precious\n")
    before = git(repository, "log", "--all", "--format=%H%d")
    with pytest.raises(ToolError) as caught:
        await call(name, arguments)
    assert "secret" not in str(caught.value) and caught.value.hint
    assert (repository / "a.txt").read_text() == "precious\n"
    assert git(repository, "log", "--all", "--format=%H%d") == before
    assert sorted(path.name for path in repository.parent.iterdir()) == ["key", "root"]


async def test_a_message_is_only_a_message(call: Call, repository: Path) -> None:
    (repository / "a.txt").write_text("changed\n")
    await call("git_commit", {"message": "--amend --author=Eve", "files": ["a.txt"]})
    assert git(repository, "log", "-1", "--format=%s") == "--amend --author=Eve\n"
    assert git(repository, "rev-list", "--count", "HEAD") == "3\n"


async def test_no_hook_and_no_program_is_started_by_a_change(call: Call, repository: Path) -> None:
    trap = repository.parent / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {repository.parent}/sprung\ncat\n")
    trap.chmod(0o755)
    for setting in (
        "core.fsmonitor",
        "core.editor",
        "gpg.program",
        "diff.external",
        "sequence.editor",
        "trailer.x.command",
        "core.pager",
    ):
        git(repository, "config", setting, str(trap))
    git(repository, "config", "commit.gpgSign", "true")
    git(repository, "config", "gc.auto", "1")
    (repository.parent / "template").write_text("secret")
    git(repository, "config", "commit.template", "../template")
    for name in ("pre-commit", "commit-msg", "post-commit", "post-checkout", "prepare-commit-msg"):
        (repository / ".git/hooks" / name).write_text(trap.read_text())
        (repository / ".git/hooks" / name).chmod(0o755)
    (repository / "a.txt").write_text("changed\n")
    await call("git_commit", {"message": "Change", "everything": True})
    await call("git_branch", "other")
    await call("git_restore", {"files": ["a.txt"], "revision": "HEAD~1"})
    assert not (repository.parent / "sprung").exists()
    assert git(repository, "log", "-1", "--format=%B", "other").strip() == "Change"


async def test_where_a_filter_is_named_nothing_is_changed(call: Call, repository: Path) -> None:
    (repository / "sub/.gitattributes").write_text("# filter=no\n*.bin -text filter=lfs\n")
    git(repository, "add", "sub/.gitattributes")
    git(repository, "commit", "-q", "-m", "attributes")
    (repository / "sub/x.bin").write_bytes(b"\0")
    for name, arguments in (
        ("git_commit", {"message": "x", "everything": True}),
        ("git_branch", {"name": "other"}),
        ("git_restore", {"files": ["a.txt"]}),
    ):
        with pytest.raises(ToolError, match="filter program, which is not run here"):
            await call(name, arguments)
    assert "+two" in (await call("git_show", {"revision": "HEAD~1"})).text


@pytest.mark.parametrize("name", ["index", "HEAD", "logs", "objects/pack", "refs/heads"])
async def test_a_link_in_the_repository_leads_no_write_outside(
    call: Call, repository: Path, name: str
) -> None:
    outside = repository.parent / "outside"
    (repository / ".git" / name).rename(outside)
    (repository / ".git" / name).symlink_to(outside)
    (repository / "a.txt").write_text("changed\n")
    before = sorted(outside.rglob("*")), outside.read_bytes() if outside.is_file() else b""
    for tool, arguments in (
        ("git_commit", {"message": "x", "everything": True}),
        ("git_branch", {"name": "other"}),
        ("git_restore", {"files": ["a.txt"]}),
    ):
        with pytest.raises(ToolError, match=r"leads out of the allowed|not a git|no git"):
            await call(tool, arguments)
    after = sorted(outside.rglob("*")), outside.read_bytes() if outside.is_file() else b""
    assert after == before


async def test_a_repository_that_another_git_works_in_is_said(call: Call, repository: Path) -> None:
    (repository / ".git/index.lock").write_text("")
    (repository / "a.txt").write_text("changed\n")
    with pytest.raises(ToolError, match="Another git is at work"):
        await call("git_commit", {"message": "x", "everything": True})
    assert (await call("git_status")).data["changed"] == ["a.txt"]


async def test_reading_alone_changes_no_repository(root: Path, repository: Path) -> None:
    ctx = ToolContext(roots=(root,), read_only=True, grants=frozenset({"*"}))
    for name, arguments in (
        ("git_commit", {"message": "x", "everything": True}),
        ("git_branch", {"name": "other"}),
        ("git_restore", {"files": ["a.txt"]}),
    ):
        with pytest.raises(ToolError, match="only reading is allowed"):
            await call_tool(ctx, name, arguments)


async def test_only_what_throws_work_away_needs_a_grant(root: Path, repository: Path) -> None:
    ctx = ToolContext(roots=(root,))
    (repository / "a.txt").write_text("changed\n")
    with pytest.raises(ToolError, match=r"git_restore would overwrite or delete a\.txt"):
        await call_tool(ctx, "git_restore", {"files": ["a.txt"]})
    await call_tool(ctx, "git_restore", {"files": ["a.txt"], "staged": True})
    await call_tool(ctx, "git_branch", "other")
    await call_tool(ctx, "git_commit", {"message": "x", "files": ["a.txt"]})
    assert (repository / "a.txt").read_text() == "changed\n"
