from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.errors import ConfigError, InvalidRequest
from ryzanstein.memory.bench.locomo import evidence, run

FILE = Path(__file__).parent / "locomo.json"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (["D1:3"], [(1, 3)]),
        (["D8:6; D9:17"], [(8, 6), (9, 17)]),
        (["D:11:26", "D30:05"], [(11, 26), (30, 5)]),
        (["D1:3", "D1:03"], [(1, 3)]),
        ("D2:4", [(2, 4)]),
        (["D", "", 7, None], []),
        (None, []),
    ],
)
def test_evidence_is_read_as_people_wrote_it(written: Any, meant: list[tuple[int, int]]) -> None:
    assert evidence(written) == meant


def test_every_question_with_evidence_is_measured_through_the_store() -> None:
    report = run(FILE)
    assert report["questions"] == 5 and report["without_evidence"] == 2
    assert report["turn_recall_at_10"] == report["session_recall_at_10"] == 100.0
    assert 60 <= report["turn_recall_at_5"] <= 100
    assert list(report["by_conversation"]) == ["talk-1"]
    assert {name: part["questions"] for name, part in report["by_category"].items()} == {
        "multi-hop": 1,
        "open-domain": 1,
        "single-hop": 2,
        "temporal": 1,
    }
    assert report["embedding"].startswith("wordllama")
    json.dumps(report)


def test_one_sample_is_a_file_too_and_two_of_one_name_are_two(tmp_path: Path) -> None:
    sample = json.loads(FILE.read_text(encoding="utf-8"))[0]
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text(json.dumps(sample), encoding="utf-8")
    two.write_text(json.dumps([sample, sample]), encoding="utf-8")
    first, both = run(one), run(two)
    assert both["questions"] == 2 * first["questions"]
    assert both["turn_recall_at_5"] == first["turn_recall_at_5"]
    assert len(both["by_conversation"]) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("not json", "cannot be read as JSON"),
        ("[]", "not in LoCoMo's format"),
        ('{"conversation": {}}', "not in LoCoMo's format"),
        ('[{"conversation": {"session_1": []}}]', "not in LoCoMo's format"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "file.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequest, match=told):
        run(file)


def test_a_missing_file_and_a_file_without_evidence_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        run(tmp_path / "none.json")
    sample = json.loads(FILE.read_text(encoding="utf-8"))[0]
    sample["qa"] = sample["qa"][-2:]
    file = tmp_path / "empty.json"
    file.write_text(json.dumps(sample), encoding="utf-8")
    with pytest.raises(InvalidRequest, match="no question whose evidence"):
        run(file)


def test_an_unknown_embedding_is_refused() -> None:
    with pytest.raises(ConfigError, match="no embedding"):
        run(FILE, embedding="word2vec")
