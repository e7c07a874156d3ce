from __future__ import annotations

import json
import random
from pathlib import Path

from ryzanstein.memory.bench.scale import run


def test_every_figure_of_index_and_store_is_measured_at_three_sizes(tmp_path: Path) -> None:
    chooser = random.Random(1)
    words = ("".join(chooser.choices("abcdefghij", k=5)) for _ in range(2_000))
    text = tmp_path / "words.txt"
    text.write_text(" ".join(words), encoding="utf-8")
    told: list[str] = []
    result = run(text, records=400, queries=5, progress=told.append)
    assert json.loads(json.dumps(result)) == result
    assert [one["records"] for one in result["index"]] == [20, 40, 400]
    assert [one["records"] for one in result["store"]] == [4, 40, 400]
    assert len(told) == 6 and result["search_ratio"] > 0
    assert all(one["recall_at_10"] == 1 for one in result["index"])  # below the threshold: exact
    assert all(len(one["recall_ms"]) == 3 for one in result["store"])
    assert result["store"][-1]["found_itself"] == 1
