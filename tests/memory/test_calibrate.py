from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.calibrate import LEAST_PAIRS, Pair, calibrate, measure, read_pairs
from ryzanstein.memory.database import Database
from ryzanstein.memory.thresholds import MERGES, PROPOSES, load_thresholds


class Angles:
    """Each first word has a plane of its own, in which every "very" turns by five degrees."""

    model_id = "angles"
    dimension = 1024

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            words = text.split()
            plane = 2 * ((ord(words[0][1]) - 97) * 20 + ord(words[0][2]) - 97)
            angle = np.radians(5 * words.count("very"))
            vectors[row, plane : plane + 2] = np.cos(angle), np.sin(angle)
        return vectors


class Broken(Angles):
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.full((len(texts), 2), np.nan, dtype=np.float32)


def spread(count: int, apart: int, same: bool, first: str = "a", other: str = "tea") -> list[Pair]:
    """Pairs of which each is so many degrees apart; the words agree where `other` is tea."""
    names = [f"Q{chr(97 + (ord(first) - 97) + at // 20)}{chr(97 + at % 20)}" for at in range(count)]
    far = "very " * (apart // 5)
    return [Pair(f"{name} likes tea", f"{name} likes {far}{other}", same) for name in names]


def write(path: Path, lines: Sequence[Any]) -> Path:
    path.write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    )
    return path


def cosine(degrees: int) -> float:
    return float(np.cos(np.radians(degrees)))


def test_the_proposal_threshold_keeps_nine_in_ten_of_the_same() -> None:
    near, far = spread(90, 10, same=True), spread(10, 80, same=True, first="g")
    measured = measure(Angles(), [*near, *far, *spread(50, 90, same=False, first="j")])
    assert measured.proposes == pytest.approx(cosine(10), abs=1e-4)
    assert measured.detail["proposed_recall"] == 0.9
    assert measured.pairs == 150


def test_the_merge_threshold_is_where_one_in_twenty_would_be_wrong() -> None:
    right, wrong = spread(100, 10, same=True), spread(40, 20, same=False, first="g")
    measured = measure(Angles(), [*right, *wrong])
    assert cosine(20) < measured.merges <= cosine(10)
    assert measured.detail["merged_precision"] == measured.detail["merged_recall"] == 1.0


def test_words_that_disagree_keep_wrong_pairs_above_the_threshold_from_merging() -> None:
    right, wrong = spread(100, 10, same=True), spread(40, 5, False, first="g", other="milk")
    measured = measure(Angles(), [*right, *wrong])
    assert measured.merges == pytest.approx(cosine(10), abs=1e-4)
    assert measured.detail["merged_precision"] == 1.0
    assert measured.detail["cosine_alone_precision"] == pytest.approx(100 / 140, abs=1e-4)


def test_a_handful_of_agreeing_pairs_does_not_lower_the_merge_threshold() -> None:
    few = spread(5, 60, same=True)
    same = spread(30, 60, same=True, first="c", other="milk")
    different = spread(30, 90, same=False, first="g", other="milk")
    assert measure(Angles(), [*few, *same, *different]).merges == MERGES


def test_where_agreeing_words_are_never_right_nothing_merges() -> None:
    same = spread(30, 10, same=True, other="milk")
    different = spread(30, 10, same=False, first="g")
    assert measure(Angles(), [*same, *different]).merges == 1.0


def test_thresholds_are_kept_per_model(url: str) -> None:
    pairs = [*spread(50, 10, same=True), *spread(50, 40, same=False, first="g")]
    database = Database(url)
    with database.read() as connection:
        assert load_thresholds(connection, "angles").proposes == PROPOSES
    measured = calibrate(database, Angles(), pairs)
    with database.read() as connection:
        assert load_thresholds(connection, "angles") == measured
        other = load_thresholds(connection, "another")
    assert (other.proposes, other.merges, other.pairs) == (PROPOSES, MERGES, 0)
    database.close()


def test_calibrating_again_replaces_what_was_measured(url: str) -> None:
    database = Database(url)
    for count in (40, 60):
        pairs = [*spread(count, 10, True), *spread(count, 40, False, first="g")]
        calibrate(database, Angles(), pairs)
    with database.read() as connection:
        assert load_thresholds(connection, "angles").pairs == 120
    database.close()


def test_json_lines_take_truth_values_shares_and_scores(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write(path, [{"a": "x", "b": "y", "same": True}, {"a": "x", "b": "y", "same": False}])
    assert [pair.same for pair in read_pairs(path)] == [True, False]
    write(path, [{"a": "x", "b": "y", "same": 0.9}, {"a": "x", "b": "y", "same": 0.5}])
    assert [pair.same for pair in read_pairs(path)] == [True, False]
    write(path, [{"a": "x", "b": "y", "same": 4.2}, {"a": "x", "b": "y", "same": 1}])
    assert [pair.same for pair in read_pairs(path)] == [True, False]


@pytest.mark.parametrize(
    "lines",
    [
        ["main\tMSRvid\t2012\t1\t4.8\tA man rides.\tA man is riding.\t", "g\tf\ty\t2\t1.0\ta\tb"],
        [
            "index\tsentence1\tsentence2\tscore",
            "0\tA man rides.\tA man is riding.\t5",
            "1\ta\tb\t2",
        ],
        ["A man rides.\tA man is riding.\t1", "a\tb\t0"],
    ],
)
def test_tab_separated_values_come_in_three_layouts(tmp_path: Path, lines: list[str]) -> None:
    first, second = read_pairs(write(tmp_path / "pairs.tsv", lines))
    assert first == Pair("A man rides.", "A man is riding.", True)
    assert second == Pair("a", "b", False)


GOOD = {"a": "x", "b": "y", "same": True}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{oops", "Line 2 is no JSON"),
        ({"a": "x", "b": "y"}, "Pair 2 has a, b, not a, b and same"),
        ({**GOOD, "weight": 1}, "Pair 2 has a, b, same, weight"),
        ([1], "Pair 2 has no fields"),
        ({**GOOD, "a": 7}, "a and b must be texts"),
        ({**GOOD, "same": "yes"}, "same is 'yes'"),
        ('{"a": "x", "b": "y", "same": NaN}', "same is nan"),
        ({**GOOD, "same": -1}, "the score is -1"),
        ({**GOOD, "same": 6}, "the score is 6"),
        ({**GOOD, "b": " "}, "text b of pair 2 is empty"),
    ],
)
def test_a_wrong_pair_is_refused_with_its_number(tmp_path: Path, line: Any, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        read_pairs(write(tmp_path / "pairs.jsonl", [GOOD, line]))


def test_a_wrong_line_of_tab_separated_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="Line 2 holds no score"):
        read_pairs(write(tmp_path / "pairs.tsv", ["a\tb\t1", "a\tb\thigh"]))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_pairs(tmp_path / "none.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match="no UTF-8"):
        read_pairs(tmp_path / "binary")


@pytest.mark.parametrize(("same", "different"), [(0, 0), (LEAST_PAIRS, 3), (3, LEAST_PAIRS)])
def test_too_few_or_one_sided_pairs_are_refused(same: int, different: int) -> None:
    pairs = [*spread(same, 1, same=True), *spread(different, 40, same=False, first="g")]
    with pytest.raises(InvalidRequest, match=f"{same} pairs say the same"):
        measure(Angles(), pairs)


def test_vectors_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="NaN"):
        measure(Broken(), [*spread(30, 1, same=True), *spread(30, 40, same=False, first="g")])
