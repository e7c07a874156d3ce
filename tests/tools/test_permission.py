from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from ryzanstein.errors import ApprovalRequired, ToolError
from ryzanstein.tools import CallRecord, Output, Tool, ToolContext, call_tool, tool
from ryzanstein.tools.permission import granted, require_reach

Text = Annotated[str, Field(max_length=4000, description="which")]


def _existing(ctx: ToolContext, arguments: Mapping[str, Any]) -> str:
    path = ctx.roots[0] / arguments["path"]
    return str(arguments["path"]) if path.exists() else ""


@tool(
    title="Put", example={"path": "a"}, main=("path", "line"), destructive=True, destroys=_existing
)
async def put_file(ctx: ToolContext, path: Text) -> Output:
    """Put a file."""
    there = (ctx.roots[0] / path).exists()
    (ctx.roots[0] / path).write_text("new", encoding="utf-8")
    return Output("put", made=() if there else (path,))


@tool(title="Wipe", example={"path": "a"}, main=("path", "line"), destructive=True)
async def wipe_all(ctx: ToolContext, path: Text) -> Output:
    """Wipe everything."""
    return Output("wiped")


@tool(
    title="Change",
    example={"path": "a"},
    main=("path", "line"),
    destructive=True,
    reads_unless="write",
)
async def change_it(
    ctx: ToolContext, path: Text, write: Annotated[bool, Field(description="change")] = False
) -> Output:
    """Look at it or change it."""
    return Output("changed" if write else "looked")


@tool(
    title="Get",
    example={"url": "http://a.org"},
    main=("url", "line"),
    read_only=True,
    open_world=True,
    reaches=lambda arguments: (arguments["url"],),
)
async def get_page(ctx: ToolContext, url: Text) -> Output:
    """Get a page."""
    return Output("page")


@tool(
    title="Find",
    example={"words": "a"},
    main=("words", "line"),
    read_only=True,
    open_world=True,
    reaches=lambda arguments: (),
)
async def find_pages(ctx: ToolContext, words: Text) -> Output:
    """Find pages."""
    return Output("found", offered=tuple(f"http://found.net/{at}" for at in range(50)))


@tool(title="Send", example={"words": "a"}, main=("words", "line"), open_world=True)
async def send_words(ctx: ToolContext, words: Text) -> Output:
    """Send words to a place that it does not tell."""
    return Output("sent")


@pytest.fixture
def strict(root: Path) -> ToolContext:
    (root / "old.txt").write_text("old", encoding="utf-8")
    return ToolContext(roots=(root,))


async def test_a_new_file_needs_no_grant_and_an_old_one_does(strict: ToolContext) -> None:
    await call_tool(strict, put_file, {"path": "new.txt"})
    with pytest.raises(ApprovalRequired, match=r"overwrite or delete old\.txt.*Ask the user") as no:
        await call_tool(strict, put_file, {"path": "old.txt"})
    assert no.value.grant == "put_file:old.txt"
    assert no.value.to_wire()["reason"] == "approval_required"
    assert (strict.roots[0] / "old.txt").read_text(encoding="utf-8") == "old"


async def test_a_run_may_overwrite_what_it_made(strict: ToolContext) -> None:
    await call_tool(strict, put_file, {"path": "new.txt"})
    assert strict.made == {"new.txt"}
    await call_tool(strict, put_file, {"path": "new.txt"})
    with pytest.raises(ApprovalRequired):
        await call_tool(dataclasses.replace(strict, made=set()), put_file, {"path": "new.txt"})


@pytest.mark.parametrize("name", ["a[1].txt", "*.txt", "what?.txt", "one, two.txt"])
async def test_the_grant_that_a_refusal_names_covers_that_target_alone(
    strict: ToolContext, name: str
) -> None:
    (strict.roots[0] / name).write_text("old", encoding="utf-8")
    with pytest.raises(ApprovalRequired) as no:
        await call_tool(strict, put_file, {"path": name})
    assert no.value.grant is not None
    ctx = dataclasses.replace(strict, grants=frozenset({no.value.grant}))
    await call_tool(ctx, put_file, {"path": name})
    with pytest.raises(ApprovalRequired):
        await call_tool(ctx, put_file, {"path": "old.txt"})


def test_a_pattern_has_to_match_each_of_several_targets() -> None:
    assert granted({"git_restore:*.py"}, "git_restore", "git", "a.py, b.py")
    assert not granted({"git_restore:*.py"}, "git_restore", "git", "notes.txt, b.py")


@pytest.mark.parametrize(
    ("grant", "enough"),
    [
        ("put_file", True),
        ("test_permission", True),
        ("put_file:old.txt", True),
        ("put_file:*.txt", True),
        ("*", True),
        ("put_file:other.txt", False),
        ("put", False),
        ("wipe_all", False),
    ],
)
async def test_a_grant_covers_a_tool_a_family_or_one_target(
    strict: ToolContext, grant: str, enough: bool
) -> None:
    ctx = dataclasses.replace(strict, grants=frozenset({grant}))
    if enough:
        await call_tool(ctx, put_file, {"path": "old.txt"})
    else:
        with pytest.raises(ApprovalRequired):
            await call_tool(ctx, put_file, {"path": "old.txt"})


async def test_a_tool_that_does_not_say_what_it_destroys_always_needs_a_grant(
    strict: ToolContext,
) -> None:
    with pytest.raises(ApprovalRequired, match="overwrite or delete nothing"):
        await call_tool(strict, wipe_all, {"path": "nothing"})
    assert (await call_tool(strict, change_it, {"path": "a"})).text == "looked"
    with pytest.raises(ApprovalRequired):
        await call_tool(strict, change_it, {"path": "a", "write": True})


@pytest.mark.parametrize("yes", [True, False])
async def test_the_user_is_asked_where_he_can_be(strict: ToolContext, yes: bool) -> None:
    asked: list[str] = []

    async def approve(missing: ApprovalRequired) -> bool:
        asked.append(missing.grant)
        return yes

    ctx = dataclasses.replace(strict, approve=approve)
    if yes:
        await call_tool(ctx, put_file, {"path": "old.txt"})
    else:
        with pytest.raises(ApprovalRequired):
            await call_tool(ctx, put_file, {"path": "old.txt"})
    assert asked == ["put_file:old.txt"]


@pytest.mark.parametrize("item", [put_file, wipe_all, send_words])
async def test_read_only_wins_over_every_grant_and_approval(
    strict: ToolContext, item: Tool
) -> None:
    async def approve(missing: ApprovalRequired) -> bool:
        return True

    ctx = dataclasses.replace(strict, read_only=True, grants=frozenset({"*"}), approve=approve)
    with pytest.raises(ToolError, match="only reading is allowed"):
        await call_tool(ctx, item, {item.main_argument: "old.txt"})


@pytest.mark.parametrize(
    ("url", "free"),
    [
        ("https://docs.example.org/a?b=c", True),
        ("http://DOCS.example.org:8080/", True),
        ("http://evil.net/?q=secret", False),
        ("http://docs.example.org.evil.net/", False),
        ("http://docs.example.org@evil.net/", False),
        ("http://evil.net\\@docs.example.org/", False),
        ("http://evil.net/#@docs.example.org", False),
        ("http://docs.example.org\t.evil.net/", False),
        ("http://[::1", False),
        ("", False),
    ],
)
async def test_after_outside_text_only_what_the_user_named_is_reached(
    strict: ToolContext, url: str, free: bool
) -> None:
    ctx = dataclasses.replace(strict, tainted=True, reachable=frozenset({"docs.example.org"}))
    await call_tool(strict, get_page, {"url": url})
    if free:
        await call_tool(ctx, get_page, {"url": url})
        require_reach(ctx, url)
        return
    with pytest.raises(ApprovalRequired, match="which the user did not name"):
        await call_tool(ctx, get_page, {"url": url})
    with pytest.raises(ApprovalRequired) as no:
        require_reach(ctx, url)
    require_reach(dataclasses.replace(ctx, grants=frozenset({no.value.grant})), url)


async def test_a_search_opens_the_addresses_it_found_as_they_are_and_few(
    strict: ToolContext,
) -> None:
    ctx = dataclasses.replace(strict, tainted=True)
    await call_tool(ctx, find_pages, {"words": "birds"})
    await call_tool(ctx, get_page, {"url": "http://found.net/3"})
    for url in ("http://found.net/3?secret=1", "http://found.net/40"):
        with pytest.raises(ApprovalRequired):
            await call_tool(ctx, get_page, {"url": url})


async def test_a_tool_that_does_not_say_where_it_goes_needs_a_grant_then(
    strict: ToolContext,
) -> None:
    await call_tool(strict, send_words, {"words": "a"})
    tainted = dataclasses.replace(strict, tainted=True)
    with pytest.raises(ApprovalRequired, match="an unknown place"):
        await call_tool(tainted, send_words, {"words": "a"})
    allowed = dataclasses.replace(tainted, grants=frozenset({"send_words"}))
    assert (await call_tool(allowed, send_words, {"words": "a"})).untrusted


async def test_a_refused_call_is_in_the_audit(strict: ToolContext) -> None:
    records: list[CallRecord] = []

    async def keep(record: CallRecord) -> None:
        records.append(record)

    ctx = dataclasses.replace(strict, on_call=keep, agent="APEX", run_id="run-1")
    with pytest.raises(ApprovalRequired):
        await call_tool(ctx, put_file, {"path": "old.txt"})
    assert [(one.ok, one.agent, one.run_id, one.code) for one in records] == [
        (False, "APEX", "run-1", "INVALID_REQUEST")
    ]


def test_a_grant_of_a_target_is_a_whole_name() -> None:
    assert not granted(["write_file:a"], "write_file", "files", "ab")
    assert not granted([], "write_file", "files", "ab")
