"""`ryzanstein models convert` from outside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.inference import tiny

Run = Callable[..., Any]


@pytest.fixture
def source(tmp_path: Path) -> str:
    return str(tiny.write_gguf(tmp_path / "tiny.gguf", tiny.Shape(layers=1), "F32"))


def test_it_writes_a_file_that_can_be_shown(run: Run, source: str, tmp_path: Path) -> None:
    out = str(tmp_path / "small.gguf")
    done = run("models", "convert", source, out, "--type", "q8_0", "--json")
    assert done.json["path"] == out and done.json["changed"] > 0
    assert done.json["bytes"] == Path(out).stat().st_size
    assert run("models", "show", out, "--json").json["family"] == "llama"
    assert run("models", "convert", source, out, "--type", "f16", "--force").out == f"{out}\n"


def test_what_cannot_be_done_is_said(run: Run, source: str, tmp_path: Path) -> None:
    out = str(tmp_path / "small.gguf")
    assert run("models", "convert", source, out, "--type", "q9").code == 2
    assert run("models", "convert", source, out).code == 2
    refused = run("models", "convert", source, source, "--type", "q8_0")
    assert refused.code == 1 and "tiny.gguf is there already" in refused.err
    missing = run("models", "convert", "nonesuch", out, "--type", "q8_0")
    assert missing.code == 1 and "nonesuch" in missing.err
