from __future__ import annotations

from pathlib import Path

import pytest

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.bench.merging import changed_pairs, run

NAMES = "Anna Bruno Clara Dario Elena Felix Greta Hugo Irene Jonas Katja Luca".split()
TEXT = " ".join(
    f"In the spring of {1900 + at} , the old painter {NAMES[at % 12]} was "
    f"{'not ' if at % 2 else ''}seen by "
    f"{NAMES[(at + 5) % 12]} for {at % 9 + 2} months ."
    for at in range(120)
)


def test_changed_copies_are_labelled_by_what_the_change_does() -> None:
    pairs = changed_pairs(TEXT, 50)
    kept = {name for name, made in pairs.items() if made and made[0].same}
    changed = {name for name, made in pairs.items() if made and not made[0].same}
    assert kept == {"number in words", "contraction", "phrase moved", "empty adverb"}
    assert {"another number", "another name", "negation", "another word"} <= changed
    assert all(pair.a != pair.b for made in pairs.values() for pair in made)
    assert changed_pairs(TEXT, 50) == pairs


def test_what_was_changed_is_not_merged_and_slices_are_timed(tmp_path: Path) -> None:
    data = tmp_path / "text.txt"
    data.write_text(TEXT, encoding="utf-8")
    found = run(data, sizes=(40,), slices=3, sentences=40)
    for name, counted in found["pairs"].items():
        assert counted["same"] or counted["merged"] <= counted["pairs"] // 10, name
    contracted = found["pairs"]["contraction"]
    assert contracted["merged"] == contracted["pairs"] > 0
    assert found["slices"][0]["records"] == 40
    assert found["slices"][0]["looked_at"] > 0


def test_a_text_of_a_few_sentences_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "text.txt"
    data.write_text("The painter was not seen by anybody in the town.", encoding="utf-8")
    with pytest.raises(InvalidRequest, match="has 1 sentences"):
        run(data)
    with pytest.raises(InvalidRequest, match="cannot be read"):
        run(tmp_path / "none.txt")
