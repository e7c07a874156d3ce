from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.errors import ToolError
from ryzanstein.tools import ToolResult, regexes
from ryzanstein.tools.families.text import converting, matching

Call = Callable[..., Awaitable[ToolResult]]


async def test_two_texts_are_compared(call: Call) -> None:
    differ = await call("diff_texts", {"old": "a\nb\nc\n", "new": "a\nB\nc\nd\n"})
    assert differ.text.splitlines() == [
        "--- old",
        "+++ new",
        "@@ -1,3 +1,4 @@",
        " a",
        "-b",
        "+B",
        " c",
        "+d",
        "[2 lines added, 1 removed]",
    ]
    assert (await call("diff_texts", {"old": "a", "new": "a"})).data == {"equal": True}
    assert "only in the ends" in (await call("diff_texts", {"old": "a\n", "new": "a"})).text
    dashes = await call("diff_texts", {"old": "-- x\n", "new": "++ y\n"})
    assert (dashes.data["added"], dashes.data["removed"]) == (1, 1)


async def test_matches_are_found_with_their_groups(call: Call, root: Path) -> None:
    text = "ann@home\nbob@work\n"
    found = await call("match_regex", {"pattern": r"^(?P<who>\w+)@(\w+)", "text": text})
    assert (
        found.text == "line 1: ann@home  (ann | home)\nline 2: bob@work  (bob | work)\n[2 matches]"
    )
    assert found.data["matches"][1]["named"] == {"who": "bob"}
    (root / "a.txt").write_text(text)
    few = await call(
        "match_regex", {"pattern": r"O", "path": "a.txt", "ignore_case": True, "limit": 1}
    )
    assert few.text.endswith("[3 matches, the first 1 are shown]")
    whole = await call("match_regex", {"pattern": "^b", "text": text, "multiline": False})
    assert whole.data["count"] == 0
    (root / "long.txt").write_text("x" * 12_000)
    groups = {"pattern": "(?=((.{1000})))x", "path": "long.txt", "limit": 1000}
    long = await call("match_regex", groups)
    assert long.data["count"] > 10_000 and len(str(long.data)) < 500_000
    assert f"the first {len(long.data['matches'])} are shown" in long.text
    optional = await call("match_regex", {"pattern": "(x)?o", "text": "o"})
    assert "(-)" in optional.text


async def test_matches_are_replaced(call: Call, root: Path) -> None:
    arguments = {"pattern": r"(\d+)-(?P<b>\d+)", "replacement": r"\g<b>:\1", "text": "1-2, 3-4"}
    assert (await call("replace_regex", arguments)).data == {"text": "2:1, 4:3", "count": 2}
    once = await call("replace_regex", {**arguments, "limit": 1})
    assert once.text == "2:1, 3-4\n[1 replaced]"
    (root / "a.txt").write_text("x")
    await call("replace_regex", {"pattern": "x", "replacement": "y", "path": "a.txt"})
    assert (root / "a.txt").read_text() == "x"
    for wrong in (r"\9", r"\g<nobody>"):
        with pytest.raises(ToolError, match="replacement cannot be used"):
            await call("replace_regex", {**arguments, "replacement": wrong})
    with pytest.raises(ToolError, match="no regular expression"):
        await call("match_regex", {"pattern": "(", "text": "x"})


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"(a|aa)+$", "a" * 60 + "!"),
        (r"^(a+)+$", "a" * 60 + "!"),
        (r"(x+x+)+y", "x" * 5000),
        (r"(.*)*\1z", "ab" * 3000),
        (r"((a{0,200}){0,200}){0,200}$", "a" * 3000 + "b"),
        (r"(?:(?=(a+))){1000}b\1", "a" * 50_000),
        (r".*.*.*.*.*=", "x" * 50_000),
        ("(" * 100 + "a" + "*)" * 100, "a" * 500 + "b"),
    ],
)
async def test_no_expression_explodes(
    call: Call, monkeypatch: pytest.MonkeyPatch, pattern: str, text: str
) -> None:
    monkeypatch.setattr(matching, "_SECONDS", 0.1)
    for name, more in (("match_regex", {}), ("replace_regex", {"replacement": "y"})):
        arguments: dict[str, Any] = {"pattern": pattern, "text": text, **more}
        try:
            await call(name, arguments)
        except ToolError as error:
            assert re.search(r"took longer|too much memory|no regular", str(error)), error


def test_a_result_that_grows_without_end_is_stopped() -> None:
    with pytest.raises(ToolError, match="longer than 2,000,000"):
        regexes.replace_matches("", "x" * 2000, "a" * 200_000, False, True, 0, 3.0)


TEXT = """Write to Ann.Lee+x@mail.example.org or bob@example.org (not @bob), see
https://example.org/a_(b)?q=1, (www.example.org/x). On 2026-11-21, 1.2.2027, 3/14/2025, 25/12/2024,
5th of March 2026 and Dec 24, 2025, not 2026-13-45. Costs -1,234.50, 12%, 1e-3, v1.2.3 and 7.
{"a": [1, {"b": "}"}]} and [1, 2 and {"c": null}

| name | n |
|------|--:|
| a\\|b | 1 |
| c |

end"""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("emails", ["Ann.Lee+x@mail.example.org", "bob@example.org"]),
        ("urls", ["https://example.org/a_(b)?q=1", "www.example.org/x"]),
        ("json", [{"a": [1, {"b": "}"}]}, {"c": None}]),
        ("tables", [[{"name": "a|b", "n": "1"}, {"name": "c", "n": ""}]]),
    ],
)
async def test_things_of_a_kind_are_found(call: Call, kind: str, expected: list[Any]) -> None:
    found = await call("extract_data", {"kind": kind, "text": TEXT})
    assert found.data["found"] == expected


async def test_dates_and_numbers_are_found_as_such(call: Call, root: Path) -> None:
    (root / "a.txt").write_text(TEXT)
    dates = await call("extract_data", {"kind": "dates", "path": "a.txt"})
    assert [one["date"] for one in dates.data["found"]] == [
        "2026-11-21",
        "2027-02-01",
        "2025-03-14",
        "2024-12-25",
        "2026-03-05",
        "2025-12-24",
    ]
    assert "2025-12-24  (Dec 24, 2025)" in dates.text
    numbers = await call(
        "extract_data", {"kind": "numbers", "text": "-1,234.50, 12%, 1e-3, v1.2.3 7"}
    )
    assert numbers.data["found"] == [-1234.5, 12, 0.001, 7]
    twice = await call("extract_data", {"kind": "numbers", "text": "1 2 1", "unique": True})
    assert twice.text == "1\n2\n[2 numbers]"
    none = await call("extract_data", {"kind": "emails", "text": "nobody"})
    assert none.text == "[0 emails]"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 30_000, "|a" * 50_000, "a@" * 90_000])
async def test_a_hostile_text_is_searched_in_bounded_time(
    call: Call, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(matching, "_SECONDS", 0.2)
    for kind in ("json", "tables", "emails", "dates", "numbers", "urls"):
        try:
            await call("extract_data", {"kind": kind, "text": text})
        except ToolError as error:
            assert "took longer" in str(error) or "too much memory" in str(error)


async def test_what_a_text_consists_of_is_counted(call: Call, root: Path) -> None:
    counted = await call(
        "count_text", {"text": "The cat saw the other dog. It's big!\n\nEnd.\n", "of": "the"}
    )
    assert counted.data == {
        "characters": 43,
        "letters": 29,
        "words": 9,
        "different words": 8,
        "lines": 3,
        "sentences": 3,
        "paragraphs": 2,
        "bytes": 43,
        "times 'the'": 3,
        "times 'the' as a whole word": 2,
    }
    dots = await call("count_text", {"text": "." * 150_000 + "a"})
    assert dots.data["sentences"] == 0
    letter = await call("count_text", {"text": "strawberry", "of": "r"})
    assert letter.data["times 'r'"] == 3
    (root / "a.txt").write_text("größe", encoding="utf-8")
    assert (await call("count_text", {"path": "a.txt"})).data["bytes"] == 7
    for wrong in ({}, {"text": "a", "path": "a.txt"}):
        with pytest.raises(ToolError, match="either text or path"):
            await call("count_text", wrong)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, ["10 a", "9 b", "B", "b", "b"]),
        ({"unique": True, "ignore_case": True}, ["10 a", "9 b", "b"]),
        ({"by": "number", "descending": True}, ["10 a", "9 b", "b", "B", "b"]),
        ({"by": "length"}, ["b", "B", "b", "9 b", "10 a"]),
        ({"by": "frequency"}, ["2 b", "1 10 a", "1 9 b", "1 B"]),
        ({"by": "none", "descending": True}, ["b", "9 b", "B", "10 a", "b"]),
    ],
)
async def test_lines_are_sorted(call: Call, arguments: dict[str, Any], expected: list[str]) -> None:
    done = await call("sort_lines", {"text": "b\n10 a\nB\n\n9 b\nb", **arguments})
    assert done.data["lines"] == expected


async def test_markdown_becomes_html_or_text(call: Call, root: Path) -> None:
    (root / "a.md").write_text("# T\n\n- a **b**\n\n<script>x</script>\n\n|h|\n|-|\n|1|\n")
    page = (await call("convert_markdown", {"path": "a.md"})).data["text"]
    assert "<h1>T</h1>" in page and "<strong>b</strong>" in page and "<td>1</td>" in page
    assert "<script>" not in page and "&lt;script&gt;" in page
    plain = (await call("convert_markdown", {"text": "# T\n\n- a **b**", "to": "text"})).text
    assert "T" in plain and "a b" in plain and "*" not in plain
    for wrong in ("[a](javascript:alert(1))", "![a](data:text/html;base64,x)"):
        assert "href" not in (await call("convert_markdown", wrong)).text


async def test_html_becomes_markdown_or_text(call: Call) -> None:
    page = (
        "<html><head><title>x</title><style>p{}</style></head><body><h2>T</h2><p>a <b>b</b> "
        "<a href='/c'>c</a></p><script>evil()</script><ul><li>one<li>two</ul>"
        "<table><tr><th>h</th></tr><tr><td>1</td></tr></table></body></html>"
    )
    done = (await call("convert_html", page)).text
    assert done.startswith("## T\n\na **b** [c](/c)") and "- one\n- two" in done
    assert "| h |" in done and "evil" not in done
    bare = (await call("convert_html", {"text": page, "links": False})).text
    assert "a **b** c" in bare
    assert (
        "a b c" in (await call("convert_html", {"text": page, "to": "text", "links": False})).text
    )
    assert (await call("convert_html", "<script>x</script>")).text == "(nothing is left)"


@pytest.mark.parametrize(
    "text",
    [
        "<div>" * 10_000,
        "<b><i>" * 3_000,
        "<table><tr>" * 3_000,
        "[" * 30_000,
        ">" * 90_000,
        "*a_" * 20_000,
    ],
)
async def test_a_page_that_is_nested_without_end_is_refused_or_converted(
    call: Call, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(converting, "_SECONDS", 0.5)
    for name in ("convert_html", "convert_markdown"):
        try:
            await call(name, text)
        except ToolError as error:
            assert error.hint


@pytest.mark.parametrize(
    ("form", "plain", "encoded"),
    [
        ("base64", "größe", "Z3LDtsOfZQ=="),
        ("url", "a b&c/ö", "a%20b%26c%2F%C3%B6"),
        ("hex", "AB", "4142"),
        ("html", "<a & 'b'>", "&lt;a &amp; &#x27;b&#x27;&gt;"),
        ("json", 'a"\n', '"a\\"\\n"'),
    ],
)
async def test_a_text_is_encoded_and_decoded(
    call: Call, form: str, plain: str, encoded: str
) -> None:
    assert (await call("encode_text", {"text": plain, "form": form})).text == encoded
    back = await call("encode_text", {"text": encoded, "form": form, "decode": True})
    assert back.text == plain


async def test_what_cannot_be_decoded_is_said(call: Call) -> None:
    for form, text in (("base64", "a$b"), ("hex", "xyz"), ("json", "{"), ("base64", "A")):
        with pytest.raises(ToolError, match=f"This is no {form}"):
            await call("encode_text", {"text": text, "form": form, "decode": True})
    with pytest.raises(ToolError, match="4 bytes that are no text: fffefdfc"):
        await call("encode_text", {"text": "//79/A", "form": "base64", "decode": True})


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("md5", "5d41402abc4b2a76b9719d911017c592"),
        ("sha1", "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"),
        ("sha256", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
        ("crc32", "3610a686"),
    ],
)
async def test_a_fingerprint_is_computed(call: Call, method: str, expected: str) -> None:
    assert (await call("hash_text", {"text": "hello", "method": method})).text == expected
