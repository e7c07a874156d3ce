from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.cli.conftest import Done

Run = Callable[..., Done]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--suite", "gsm8k"), 1, "gsm8k-test.jsonl is not here"),
        (("--data", "none.jsonl"), 1, "none.jsonl does not exist"),
        (("--suite", "mmlu"), 2, "'mmlu' is not one of"),
        (("--limit", "0"), 2, "0 is not in the range"),
    ],
)
def test_what_cannot_be_measured_is_said_before_a_model_is_brought(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("bench", "reasoning", *arguments)
    assert done.code == code
    assert says in done.err
