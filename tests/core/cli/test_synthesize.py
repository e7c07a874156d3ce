"""`ryzanstein models synthesize` from outside."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete

from ryzanstein.cli._group import Root
from ryzanstein.inference.synthesize import SHAPES

Run = Callable[..., Any]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """One more shape, small enough for a test."""
    sizes: dict[str, Any] = {"hidden": 256, "layers": 1, "heads": 4, "kv_heads": 2, "inner": 256}
    shape = replace(SHAPES["bitnet-2b-4t"], name="bitnet-tiny", vocab=1200, **sizes)
    monkeypatch.setitem(SHAPES, shape.name, shape)
    return shape.name


def test_it_writes_a_model_that_can_be_shown(run: Run, tiny: str, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    arguments = ("models", "synthesize", tiny, str(file), "--format", "gguf-tq2_0")
    done = run(*arguments, "--head", "q8_0", "--json")
    assert (done.json["path"], done.json["body"], done.json["head"]) == (str(file), "tq2_0", "q8_0")
    assert {"shape", "format", "seed", "parameters", "bytes", "seconds"} <= set(done.json)
    assert "Writing bitnet-tiny" in done.err and " MB\n" in done.err
    assert run(*arguments, "--force").out == f"{file}\n"


def test_mistakes_are_one_line_with_the_nearest_names(run: Run, tiny: str, tmp_path: Path) -> None:
    out = str(tmp_path / "x")
    shape = run("models", "synthesize", "bitnet-2b", out)
    assert shape.code == 2 and "Did you mean bitnet-2b-4t" in shape.err
    format = run("models", "synthesize", tiny, out, "--format", "gguf-tq3_0")
    assert format.code == 2 and "gguf-tq2_0" in format.err
    name = run("models", "synthesize", tiny, out, "--format", "gguf-tq2_0", "--json")
    assert (name.code, name.json["error"]["code"]) == (1, "INVALID_REQUEST")
    assert name.err.count("\n") == 1
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine").touch()
    assert "exists already" in run("models", "synthesize", tiny, out).err
    assert "'mine'" in run("models", "synthesize", tiny, out, "--force").err


def test_names_are_completed() -> None:
    complete = ShellComplete(Root, {}, "ryzanstein", "_RYZANSTEIN_COMPLETE")

    def completed(*words: str, start: str = "") -> list[str]:
        return [one.value for one in complete.get_completions(list(words), start)]

    command = ("models", "synthesize")
    assert completed(*command, start="bitnet-l") == ["bitnet-large"]
    assert completed(*command, "x", "y", "--format", start="gguf-tq") == [
        "gguf-tq2_0",
        "gguf-tq1_0",
    ]
    assert "q8_0" in completed(*command, "x", "y", "--head")


def test_an_interrupt_leaves_no_partial_file(
    start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    arguments = ("bitnet-2b-4t", "m.gguf", "--format", "gguf-tq2_0")
    with start("models", "synthesize", *arguments) as process:
        partial = tmp_path / "m.gguf.partial"
        deadline = time.monotonic() + 60
        while not partial.exists() and time.monotonic() < deadline and process.poll() is None:
            assert process.stderr is not None
            process.stderr.readline()  # the progress, a line at a time
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Interrupted" in err and b"Traceback" not in err
    assert not list(tmp_path.iterdir())
