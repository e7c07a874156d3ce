from __future__ import annotations

import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ryzanstein.errors import ServerUnavailable, ToolError
from ryzanstein.tools import ToolResult, git_program

Call = Callable[..., Awaitable[ToolResult]]


def git(path: Path, *arguments: str) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(path),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "Ann",
        "GIT_AUTHOR_EMAIL": "ann@example.org",
        "GIT_COMMITTER_NAME": "Ann",
        "GIT_COMMITTER_EMAIL": "ann@example.org",
    }
    subprocess.run(["git", *arguments], cwd=path, env=environment, check=True, capture_output=True)


@pytest.fixture
def repository(root: Path) -> Path:
    git(root, "init", "-q", "-b", "main")
    for number, text in enumerate(("one\n", "one\ntwo\n"), 1):
        (root / "a.txt").write_text(text)
        git(root, "add", "a.txt")
        git(root, "commit", "-q", "-m", f"commit {number}")
    git(root, "tag", "v1")
    (root / "a.txt").write_text("one\ntwo\nthree\n")
    (root / "new.txt").write_text("")
    return root


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("status", "## main\n M a.txt\n?? new.txt"),
        ("git status --short", " M a.txt"),
        ("diff", "+three"),
        ("diff --stat", "a.txt | 1 +"),
        ("diff HEAD~1 HEAD -- a.txt", "+two"),
        ("diff HEAD~1..HEAD a.txt", "+two"),
        ("log", "commit 2"),
        ("log -n 1 --oneline", "commit 2"),
        ("log -1", "Ann <ann@example.org>"),
        ("log --author Ann --since='2000-01-01' a.txt", "commit 1"),
        ("show HEAD", "+two"),
        ("show v1 --stat", "commit 2"),
        ("blame a.txt", "Not Committed Yet"),
        ("blame -L 1,1 HEAD a.txt", "one"),
        ("branch", "* main"),
        ("tag", "v1"),
        ("files", "a.txt"),
        ("ls-files", "a.txt"),
        ("count", "2"),
        ("rev-list --count HEAD~1", "1"),
        ("authors", "2\tAnn <ann@example.org>"),
        ("shortlog HEAD", "Ann"),
    ],
)
async def test_questions_are_answered(
    call: Call, repository: Path, command: str, said: str
) -> None:
    result = await call("git_inspect", command)
    assert said.strip() in result.text


async def test_log_is_limited_unless_asked(call: Call, repository: Path) -> None:
    assert "commit 1" not in (await call("git_inspect", "log -n1")).text
    assert (await call("git_inspect", "diff --cached")).text == "(git diff has nothing to show)"


@pytest.mark.parametrize(
    "command",
    [
        "push",
        "commit -m x",
        "checkout HEAD~1",
        "config --list",
        "-c core.pager=id log",
        "--exec-path=/tmp status",
        "log --output=../out",
        "log -n 1 --output ../out",
        "diff --no-index /etc/passwd /etc/hosts",
        "diff -- /etc/passwd /etc/hosts",
        "diff /etc/passwd /etc/hosts",
        "diff ../key a.txt",
        "diff -- ../key ../key2",
        "log -- -x",
        "show --format=%(trailers)",
        "show --textconv HEAD",
        "blame --contents=/etc/passwd a.txt",
        "blame --contents /etc/passwd a.txt",
        "log --upload-pack=id",
        "diff --ext-diff",
        "branch new",
        "tag v2",
        "branch -D main",
        "files /etc",
        "show HEAD; id",
        "show nowhere",
        "log 'unclosed",
        "diff -O/etc/passwd",
        "",
        "status\0",
    ],
)
async def test_nothing_else_gets_through(call: Call, repository: Path, command: str) -> None:
    (repository.parent / "key").write_text("secret")
    before = sorted(path.name for path in repository.parent.iterdir())
    with pytest.raises(ToolError) as caught:
        await call("git_inspect", {"command": command})
    assert "secret" not in str(caught.value) and "root:x:" not in str(caught.value)
    assert sorted(path.name for path in repository.parent.iterdir()) == before


async def test_no_program_of_the_repository_is_started(call: Call, repository: Path) -> None:
    trap = repository.parent / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {repository.parent}/sprung\ncat\n")
    trap.chmod(0o755)
    (repository / "b.txt").write_text("b")
    git(repository, "add", "b.txt")
    git(repository, "commit", "-q", "-m", "commit 3")
    (repository / ".gitattributes").write_text("a.txt filter=evil diff=evil\nb.txt filter=e=vil\n")
    for setting in (
        "core.fsmonitor",
        "core.pager",
        "pager.log",
        "diff.external",
        "diff.evil.textconv",
        "diff.evil.command",
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "filter.e=vil.clean",
        "gpg.program",
        "core.sshCommand",
        "core.alternateRefsCommand",
        "alias.status",
    ):
        git(repository, "config", setting, str(trap))
    git(repository, "config", "filter.evil.required", "true")
    git(repository, "config", "log.showSignature", "true")
    hooks = repository / ".git/hooks"
    for name in ("post-index-change", "reference-transaction", "fsmonitor-watchman"):
        (hooks / name).write_text(trap.read_text())
        (hooks / name).chmod(0o755)
    (repository / "b.txt").write_text("changed")
    for command in ("status", "diff", "log -p", "show HEAD", "blame a.txt", "files", "count"):
        assert (await call("git_inspect", command)).text
    assert not (repository.parent / "sprung").exists()


async def test_the_caller_s_environment_has_no_say(
    call: Call, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = repository.parent / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {repository.parent}/sprung\n")
    trap.chmod(0o755)
    for name in ("GIT_EXTERNAL_DIFF", "GIT_PAGER", "PAGER", "GIT_EDITOR", "GIT_SSH_COMMAND"):
        monkeypatch.setenv(name, str(trap))
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "diff.external")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(trap))
    assert "+three" in (await call("git_inspect", "diff")).text
    assert not (repository.parent / "sprung").exists()


async def test_a_repository_that_reaches_outside_is_refused(call: Call, root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    git(outside, "init", "-q")
    (outside / "key").write_text("secret")
    inner = root / "inner"
    inner.mkdir()
    (inner / ".git").write_text(f"gitdir: {outside}/.git\n")
    with pytest.raises(ToolError, match="outside the allowed directories"):
        await call("git_inspect", {"command": "status", "path": "inner"})
    other = root / "other"
    other.mkdir()
    git(other, "init", "-q")
    git(other, "config", "core.worktree", str(outside))
    with pytest.raises(ToolError, match="outside the allowed directories"):
        await call("git_inspect", {"command": "status", "path": "other"})


async def test_objects_elsewhere_are_not_shown(
    call: Call, repository: Path, root: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    git(secret, "init", "-q")
    (secret / "key").write_text("secret line\n")
    git(secret, "add", ".")
    git(secret, "commit", "-qm", "secret")
    between = root / "between"
    between.mkdir()
    git(between, "init", "-q")
    for objects, other in ((between, secret), (repository, between)):
        info = objects / ".git" / "objects" / "info"
        info.mkdir(exist_ok=True)
        (info / "alternates").write_text(f"{other}/.git/objects\n")
        with pytest.raises(ToolError, match="objects from outside the allowed directories"):
            await call("git_inspect", {"command": "tag", "path": str(objects.relative_to(root))})
    (between / ".git" / "objects" / "info" / "alternates").unlink()
    await call("git_inspect", "log -n 5")


async def test_a_file_elsewhere_does_not_show_in_a_message(call: Call, repository: Path) -> None:
    (repository.parent / "key").write_text("secret line\n")
    git(repository, "config", "blame.ignoreRevsFile", "../key")
    with pytest.raises(ToolError, match="ignoreRevsFile lies outside") as caught:
        await call("git_inspect", "blame a.txt")
    assert "secret" not in str(caught.value)


async def test_where_there_is_nothing_to_inspect(
    call: Call, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ToolError, match=r"no git repository|outside the allowed"):
        await call("git_inspect", "status")
    with pytest.raises(ToolError, match="does not exist"):
        await call("git_inspect", {"command": "status", "path": "missing"})
    git(root, "init", "-q")
    with pytest.raises(ToolError, match="no commits yet"):
        await call("git_inspect", "log")
    monkeypatch.setattr(git_program.shutil, "which", lambda name: None)
    with pytest.raises(ServerUnavailable, match="apt-get install git"):
        await call("git_inspect", "status")
