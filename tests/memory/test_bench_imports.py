from __future__ import annotations

from pathlib import Path

import pytest

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.bench.imports import run


def test_the_benchmark_counts_what_it_imports_and_exports(tmp_path: Path) -> None:
    data = tmp_path / "words.txt"
    data.write_text(
        "\n\n".join(f"Paragraph {n} has these {n * 7} words in it." for n in range(300))
    )
    measured = run(data, records=50)
    assert measured["turns"] == 50 and measured["passages"] > 10
    assert measured["exported"] == 50 + measured["passages"] == measured["imported"]
    assert measured["skipped"] == measured["exported"] and measured["turns_per_s"] > 0


def test_a_short_text_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "words.txt"
    data.write_text("too few")
    with pytest.raises(InvalidRequest, match="has 2 words"):
        run(data)
