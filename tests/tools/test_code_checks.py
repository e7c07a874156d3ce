"""Linting, types, format, coverage and search by syntax, on files as agents have them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from ryzanstein.errors import ApprovalRequired, ToolError
from ryzanstein.tools import ToolResult, worker
from ryzanstein.tools.families.code import running

Call = Callable[..., Awaitable[ToolResult]]
APP = '''import os
import json as j


class Base(dict):
    """Keeps things.

    More.
    """

    @property
    def size(self) -> int:
        return j.dumps(  len(self))


async def load(path: str, *, deep=False) -> Base:
    def inner(): return path
    """parse_nothing() is not called."""
    result = Base(); result.name = inner()
    return result
'''
GRANTED = {"grants": frozenset({"format_code:src/app.py"})}


@pytest.fixture(scope="module", autouse=True)
def workers_end() -> Iterator[None]:
    yield
    worker.close_workers()


@pytest.fixture
def project(root: Path) -> Path:
    (root / "src").mkdir()
    (root / "src/app.py").write_text(APP, encoding="utf-8")
    (root / "bad.py").write_text("def f(:\n", encoding="utf-8")
    return root


async def test_mistakes_are_found_with_their_places(call: Call, project: Path) -> None:
    (project / "ruff.toml").write_text('lint.ignore = ["I001"]\n', encoding="utf-8")
    found = await call("lint_code", "src/app.py")
    assert not found.ok and "src/app.py:1:8: F401 `os` imported but unused" in found.text
    assert "I001" not in found.text
    assert found.data["findings"][0]["fixable"] is True
    more = await call("lint_code", {"code": "def f():\n    return x\n", "rules": "D,F"})
    assert {one["code"] for one in more.data["findings"]} >= {"D103", "F821"}
    assert (await call("lint_code", {"code": "print(1)\n"})).ok
    broken = await call("lint_code", {"path": "bad.py"})
    assert "bad.py:1:7: invalid-syntax" in broken.text


async def test_types_are_checked(call: Call, project: Path) -> None:
    found = await call("check_types", "def double(n: int) -> int:\n    return str(n)\n")
    assert not found.ok and found.data["findings"][0]["line"] == 2
    assert "return-value Incompatible return value type" in found.text


async def test_settings_of_a_project_run_in_the_sandbox_only(call: Call, project: Path) -> None:
    """mypy imports the plugins that a project names: code like any other."""
    target = project / "made_by_plugin"
    plugin = f"open({str(target)!r}, 'w').write('x')\ndef plugin(version): return None\n"
    (project / "src/plugin.py").write_text(plugin, encoding="utf-8")
    settings = '[tool.mypy]\nplugins = ["src/plugin.py"]\n'
    (project / "pyproject.toml").write_text(settings, encoding="utf-8")
    with pytest.raises(ToolError, match="mypy"):
        await call("check_types", {"path": "src"})
    assert not target.exists()


async def test_code_is_formatted(call: Call, project: Path) -> None:
    assert (await call("format_code", "```python\nx = {  'a':1 }\n```")).text == 'x = {"a": 1}'
    shown = await call("format_code", {"path": "src/app.py"})
    assert "+        return j.dumps(len(self))" in shown.text and shown.data["changed"]
    assert (project / "src/app.py").read_text(encoding="utf-8") == APP
    done = await call("format_code", {"path": "src/app.py", "write": True}, **GRANTED)
    assert done.text == "formatted src/app.py"
    assert "j.dumps(len(self))" in (project / "src/app.py").read_text(encoding="utf-8")
    again = await call("format_code", {"path": "src/app.py", "write": True}, **GRANTED)
    assert again.text == "src/app.py is formatted already."
    for args, said in (
        ({"path": "bad.py"}, "ruff: Failed to parse bad.py:1:7"),
        ({"path": "src"}, "is no file"),
        ({"path": "../x.py"}, "leaves"),
        ({}, "either path or code"),
    ):
        with pytest.raises(ToolError, match=said):
            await call("format_code", args)


async def test_a_file_is_formatted_only_with_leave(call: Call, project: Path) -> None:
    args = {"path": "src/app.py", "write": True}
    with pytest.raises(ApprovalRequired, match=r"src/app\.py"):
        await call("format_code", args, grants=frozenset({"format_code:other.py"}))
    with pytest.raises(ToolError, match="only reading"):
        await call("format_code", args, read_only=True, **GRANTED)
    assert (project / "src/app.py").read_text(encoding="utf-8") == APP


async def test_lines_that_no_test_reaches_are_named(
    call: Call, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "def sign(x):\n    if x > 0:\n        return 1\n    x += 0\n    return -1\n"
    (project / "calc.py").write_text(code, encoding="utf-8")
    test = "from calc import sign\n\ndef test_sign():\n    assert sign(3) == 1\n"
    found = await call("measure_coverage", {"code": test})
    assert found.ok and found.data["files"] == [
        {"path": "calc.py", "percent": 60.0, "statements": 5, "missing": "4-5"},
        {"path": "test_main.py", "percent": 100.0, "statements": 3, "missing": ""},
    ]
    assert found.text.splitlines()[0].startswith("1 passed")
    assert found.text.endswith("covered: 75 %")
    spoil = f"echo '{{\"files\": []}}' > {running._REPORT}\nexit $status"
    monkeypatch.setattr(running, "_COVER", running._COVER.replace("exit $status", spoil))
    spoiled = await call("measure_coverage", {"code": test})
    assert not spoiled.ok and "the report is damaged" in spoiled.text
    nothing = await call("measure_coverage", {"code": "def f():\n    return 1\n"})
    assert not nothing.ok and "name test functions" in nothing.text


@pytest.mark.parametrize(
    ("args", "lines"),
    [
        ({"name": "load"}, ["src/app.py:16: [function]"]),
        ({"name": "inner", "kind": "call"}, ["src/app.py:19: [call]"]),
        ({"name": "j.dumps"}, ["src/app.py:13: [call]"]),
        ({"name": "dumps", "kind": "call", "path": "src"}, ["src/app.py:13: [call]"]),
        ({"name": "*", "kind": "import"}, ["src/app.py:1: [import]", "src/app.py:2: [import]"]),
        ({"name": "property", "kind": "decorator"}, ["src/app.py:11: [decorator]"]),
        ({"name": "deep", "kind": "argument"}, ["src/app.py:16: [argument]"]),
        ({"name": "result.*", "kind": "assignment"}, ["src/app.py:19: [assignment]"]),
        ({"name": "Ba*", "kind": "class", "path": "src/app.py"}, ["src/app.py:5: [class]"]),
    ],
)
async def test_names_are_found_by_what_they_are(
    call: Call, project: Path, args: dict[str, str], lines: list[str]
) -> None:
    found = (await call("search_syntax", args)).text.splitlines()
    shown = [line.partition("] ")[0] + "]" for line in found if not line.startswith("[not Python")]
    assert shown == lines


async def test_texts_and_limits_of_a_search(call: Call, project: Path) -> None:
    assert "occurs nowhere" in (await call("search_syntax", "parse_nothing")).text
    few = await call("search_syntax", {"name": "*", "limit": 2})
    assert few.text.splitlines()[-1].startswith("[") and not few.data["complete"]
    assert (await call("search_syntax", "f*")).data["unread"] == ["bad.py"]
    for path in ("../other.py", "missing.py"):
        with pytest.raises(ToolError):
            await call("search_syntax", {"name": "x", "path": path})


async def test_code_is_outlined(call: Call, project: Path) -> None:
    text = (await call("outline_code", "src/app.py")).text
    assert text.splitlines() == [
        "src/app.py:",
        "  5-13: class Base(dict)  # Keeps things.",
        "    12-13: def size(self) -> int",
        "  16-20: async def load(path: str, *, deep=False) -> Base",
    ]
    assert "[not Python: bad.py]" in (await call("outline_code", ".")).text
    assert "1-1: def f()" in (await call("outline_code", {"code": "def f(): pass"})).text
    with pytest.raises(ToolError, match="cannot be parsed"):
        await call("outline_code", "bad.py")
    with pytest.raises(ToolError, match="either path or code"):
        await call("outline_code", {})


@pytest.mark.parametrize("code", ["(" * 90_000, "-" * 90_000 + "1", "\0", "[" * 199 + "1"])
async def test_code_that_breaks_parsers_breaks_nothing(call: Call, code: str) -> None:
    with pytest.raises(ToolError):
        await call("outline_code", {"code": code})
    assert "1-1: def f()" in (await call("outline_code", {"code": "def f(): pass"})).text
