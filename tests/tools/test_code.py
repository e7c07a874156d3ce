from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ryzanstein.errors import ToolError
from ryzanstein.tools import Limits, ToolContext, ToolResult, call_tool
from ryzanstein.tools.staging import imports_of, needs_packages

Call = Callable[..., Awaitable[ToolResult]]


async def test_what_it_prints_and_its_last_value_are_shown(call: Call) -> None:
    result = await call("run_python", "x = 20\nprint('x is', x)\nx * 2 + 2")
    assert result.ok and result.text == "x is 20\n42"
    assert result.data["exit_code"] == 0 and result.data["stdout"] == "x is 20\n42\n"
    assert (await call("run_python", "x = 1")).text == "(it printed nothing)"
    assert (await call("run_python", "None")).text == "(it printed nothing)"


async def test_code_in_a_fence_is_taken_out_of_it(call: Call) -> None:
    for code in (
        "```python\nprint(7)\n```",
        "```\nprint(7)\n```\nThis prints 7.",
        "```py\nprint(7)",
    ):
        assert (await call("run_python", code)).text == "7"


async def test_an_error_shows_only_the_program_s_own_lines(call: Call) -> None:
    result = await call("run_python", "def f():\n    return 1 / 0\nf()")
    assert not result.ok and result.data["exit_code"] == 1
    assert result.text.startswith('Traceback (most recent call last):\n  File "main.py", line 3')
    assert "ZeroDivisionError" in result.text and "run.py" not in result.text
    syntax = await call("run_python", "def f(:")
    assert syntax.text.startswith('  File "main.py", line 1') and "SyntaxError" in syntax.text


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("import nowhere", "use the standard library"),
        ("input()", "put the values into the code"),
        ("import urllib.request as u\nu.urlopen('http://1.1.1.1', timeout=2)", "use fetch_url"),
        ("x = bytearray(1 << 40)", "more memory than it may have"),
    ],
)
async def test_common_errors_come_with_advice(call: Call, code: str, advice: str) -> None:
    assert advice in (await call("run_python", code)).text


async def test_it_is_stopped_in_time(call: Call) -> None:
    result = await call("run_python", {"code": "while True: pass", "seconds": 1})
    assert not result.ok and result.data["stopped"] == "time"
    assert result.text == "[Stopped: it ran longer than 1 s.]"


async def test_files_that_the_code_names_are_there(call: Call, root: Path) -> None:
    (root / "data").mkdir()
    (root / "data/sales.csv").write_text("a,b\n1,2\n")
    (root / "calc.py").write_text("from deeper import base\ndef add(a, b): return base + a + b\n")
    (root / "deeper.py").write_text("base = int(open('base.txt').read())\n")
    (root / "base.txt").write_text("100")
    (root / "unrelated.txt").write_text("secret")
    result = await call(
        "run_python",
        "import os\nfrom calc import add\nprint(add(1, 2))\nprint(open('data/sales.csv').read())\n"
        "os.path.exists('unrelated' + '.txt')",
    )
    assert result.text == "103\na,b\n1,2\n\nFalse"
    looking = await call("run_python", "import glob\nsorted(glob.glob('*.txt'))")
    assert looking.text == "['base.txt', 'unrelated.txt']"
    asked = await call(
        "run_python",
        {"code": "open(input()).read()", "stdin": "unrelated.txt", "files": ["unrelated.txt"]},
    )
    assert asked.text == "'secret'"


async def test_files_outside_the_roots_are_not(call: Call, root: Path) -> None:
    (root.parent / "key").write_text("secret")
    (root / "link").symlink_to(root.parent / "key")
    result = await call(
        "run_python", f"open('link').read() + open({str(root.parent / 'key')!r}).read()"
    )
    assert "FileNotFoundError" in result.text
    with pytest.raises(ToolError, match=r"outside|leaves"):
        await call("run_python", {"code": "1", "files": ["../key"]})
    with pytest.raises(ToolError, match="does not exist"):
        await call("run_python", {"code": "1", "files": ["missing"]})


async def test_files_it_writes_are_reported_and_stay_in_the_sandbox(call: Call, root: Path) -> None:
    (root / "in.txt").write_text("in")
    result = await call(
        "run_python", "open('in.txt', 'w').write('changed'); open('new', 'w').write('n')"
    )
    assert "[files it wrote, now gone: in.txt, new]" in result.text
    assert result.data["files"] == {"in.txt": "changed", "new": "n"}
    assert (root / "in.txt").read_text() == "in" and not (root / "new").exists()


async def test_too_many_files_are_refused(call: Call, root: Path) -> None:
    for number in range(1001):
        (root / f"{number}.txt").write_text("")
    with pytest.raises(ToolError, match="too many or too large files"):
        await call("run_python", "import os\nos.listdir('.')")


async def test_installed_packages_can_be_used(call: Call) -> None:
    assert (await call("run_python", "import numpy\nint(numpy.arange(4).sum())")).text == "6"


async def test_code_runs_without_any_root() -> None:
    result = await call_tool(ToolContext(), "run_python", "print(1)")
    assert result.text == "1"
    assert (await call_tool(ToolContext(), "run_tests", "def test_a(): pass")).ok


async def test_limits_of_the_context_hold(call: Call) -> None:
    tight = Limits(output_bytes=1000)
    result = await call("run_python", "print('x' * 10000)", limits=tight)
    assert result.data["stopped"] == "output" and len(result.data["stdout"]) <= 1000


async def test_tests_pass_and_fail(call: Call) -> None:
    code = "def double(n):\n    return n + n\n\ndef test_a():\n    assert double(2) == 4\n"
    passed = await call("run_tests", code)
    assert passed.ok and passed.data["passed"] and passed.data["counts"] == {"passed": 1}
    failed = await call("run_tests", code + "\ndef test_b():\n    assert double(2) == 5\n")
    assert not failed.ok and failed.data["counts"] == {"failed": 1, "passed": 1}
    assert "assert 4 == 5" in failed.text
    one = await call("run_tests", {"code": code + "\ndef test_b(): assert 0\n", "select": "test_a"})
    assert one.ok


async def test_what_is_no_test_is_said(call: Call) -> None:
    none = await call("run_tests", "x = 1")
    assert not none.ok and "There were no tests: name test functions test_" in none.text
    with pytest.raises(ToolError, match="no Python"):
        await call("run_tests", "def test_(:")
    with pytest.raises(ToolError, match="nothing to test"):
        await call_tool(ToolContext(), "run_tests", {})
    with pytest.raises(ToolError, match="select"):
        await call("run_tests", {"code": "x", "select": "--collect-only; rm"})
    stuck = await call("run_tests", {"code": "def test_a():\n    while True: pass", "seconds": 2})
    assert stuck.data["stopped"] == "time" and "longer than 2 s" in stuck.text


async def test_the_project_s_own_tests_are_run(call: Call, root: Path) -> None:
    (root / "calc.py").write_text("def add(a, b): return a + b\n")
    (root / "tests").mkdir()
    (root / "tests/test_calc.py").write_text(
        "import pathlib, sys\nsys.path.insert(0, '.')\nfrom calc import add\n"
        "def test_add(tmp_path):\n    (tmp_path / 'x').write_text('x')\n    assert add(1, 2) == 3\n"
    )
    whole = await call("run_tests", {})
    assert whole.ok and whole.data["counts"] == {"passed": 1}
    assert sorted(path.name for path in root.rglob("*")) == ["calc.py", "test_calc.py", "tests"]
    beside = await call("run_tests", "from calc import add\ndef test_x(): assert add(2, 2) == 4")
    assert beside.ok


def test_imports_are_found() -> None:
    assert imports_of("import a.b\nfrom c import d\nfrom . import e") == {"a.b", "c", "c.d"}
    assert imports_of("not python(") == set()
    assert needs_packages(["import json, os", "import numpy"])
    assert not needs_packages(["import json, os", "import no_such_thing", "("])
    assert "json" in sys.stdlib_module_names
