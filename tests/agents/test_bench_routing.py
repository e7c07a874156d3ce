"""`bench routing` on data of a user's own: its figures, and what it says of files it cannot use."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.agents.bench.routing import auroc, run
from ryzanstein.errors import InvalidRequest
from ryzanstein.registry import Registry

VERBS = ("show", "find", "give me", "tell me about", "i want", "look up", "check", "explain")
THINGS = {
    "weather": ("rain today", "snow tomorrow", "wind on sunday", "sun this week", "a storm"),
    "music": ("some jazz", "a rock song", "the new album", "piano pieces", "my playlist"),
    "banking": ("my balance", "a transfer", "the interest", "my account", "a loan"),
    "travel": ("a flight", "the hotel", "a train ticket", "the airport", "a rental car"),
}
OUTSIDE = ("boil an egg", "who was Caesar", "prime numbers", "my knee hurts", "mow the lawn")
LABELS = "label,description\n" + "".join(
    f'{label},"everything about {label}"\n' for label in THINGS
)


def tasks() -> str:
    lines = ["task,label,split"]
    for label, things in THINGS.items():
        for at, (verb, thing) in enumerate(product(VERBS, things)):
            lines.append(f'"{verb} {thing}",{label},{"test" if at % 4 == 3 else "train"}')
    lines += [f"{text},oos,test" for text in OUTSIDE]
    lines += ["peel the potatoes,OOS,train"]
    return "\n".join(lines) + "\n"


@pytest.fixture
def measured(declared: Registry, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs the benchmark on files of these contents, and gives what it said on the way."""

    def measured(data: str | bytes, labels: str | None = None, name: str = "t.csv") -> Any:
        paths: dict[str, Path] = {"data": tmp_path / name}
        paths["data"].write_bytes(data.encode() if isinstance(data, str) else data)
        if labels is not None:
            paths["labels"] = tmp_path / "labels.csv"
            paths["labels"].write_text(labels, encoding="utf-8")
        said: list[str] = []
        return {**run(registry=declared, progress=said.append, **paths), "said": said}

    return measured


def test_labels_of_ones_own_are_learnt(measured: Callable[..., dict[str, Any]]) -> None:
    found = measured(tasks(), LABELS)
    assert (found["labels"], found["tasks"], found["tasks_outside"]) == (4, 40, 5)
    assert found["top1"] == found["curve"]["0"] <= found["top3"] <= found["top5"] == 1.0
    assert list(found["curve"]) == ["0", "2", "5", "10", "25"]
    assert found["curve"]["25"] >= 0.9 and found["auroc_out_of_scope"] > 0.8
    assert min(found[name] for name in ("ms_per_task", "ms_without_embedding", "ms_learnt")) > 0
    assert any("more than 30" in line for line in found["said"])


def test_the_same_data_gives_the_same_figures(measured: Callable[..., dict[str, Any]]) -> None:
    def figures() -> dict[str, Any]:
        found = measured(tasks(), LABELS)
        return {name: value for name, value in found.items() if not name.startswith("ms_")}

    assert figures() == figures()


def test_labels_are_agents_where_none_are_given(measured: Callable[..., dict[str, Any]]) -> None:
    data = "\ufefftask,label,split\nencrypt my disk,@cipher,test\nplot the data,PRISM,test\n"
    found = measured(data)
    assert found["labels"] == 40 and found["curve"] == {"0": found["top1"]}
    assert "auroc_out_of_scope" not in found and "ms_learnt" not in found
    assert found["ms_without_embedding"] > 0


def test_the_format_of_clinc150_names_its_labels(measured: Callable[..., dict[str, Any]]) -> None:
    pairs = [
        [f"{verb} {thing}", label] for label in THINGS for thing in THINGS[label] for verb in VERBS
    ]
    data = {"train": pairs[::2], "test": pairs[1::2], "oos_test": [["boil an egg", "oos"]]}
    found = measured(json.dumps(data), name="clinc.json")
    assert found["labels"] == 4 and found["curve"]["10"] > 0.9
    assert "auroc_out_of_scope" in found


@pytest.mark.parametrize(
    ("data", "labels", "told"),
    [
        ("", None, "no column task and no column label and no column split; it has none"),
        ("text,label\na,b\n", None, "no column task and no column split; it has text, label"),
        ("task,label,split\nfly,APEXX,test\n", None, "line 2: the label 'APEXX' is not an agent"),
        ("task,label,split\nfly,travle,test\n", LABELS, "not among the labels of labels.csv"),
        ("task,label,split\nfly,APEX,dev\n", None, "line 2: the split is 'dev'"),
        ("task,label,split\nfly,,test\n", None, "line 2: the label is empty"),
        ("task,label,split\n  ,APEX,test\n", None, "line 2: the task is empty"),
        ("task,label,split\nfly,APEX\n", None, "line 2: it has fewer fields"),
        ("task,label,split\nfly, and land,APEX,test\n", None, "line 2: it has more fields"),
        ("task,label,split\nfly,APEX,train\n", None, "no task of a label in the split test"),
        ("task,label,split\nfly,oos,test\n", None, "no task of a label in the split test"),
        ("task,label,split\n", None, "no task of a label in the split test"),
        ("task,label,split\nflü,APEX,test\n".encode("latin-1"), None, "not UTF-8 at byte 19"),
        ('task,label,split\n"' + "x" * 140_000 + '",APEX,test\n', None, "field larger than"),
        (tasks(), "label\nweather\n", "labels.csv has no column description"),
        (tasks(), "label,description\nweather,rain\n", "labels.csv has 1 label"),
        (tasks(), "label,description\na,b\na,c\n", "line 3: the label 'a' is there twice"),
        (tasks(), "label,description\n,b\n", "line 2: the label is empty"),
    ],
)
def test_files_that_cannot_be_used_are_refused(
    measured: Callable[..., dict[str, Any]], data: str | bytes, labels: str | None, told: str
) -> None:
    with pytest.raises(InvalidRequest) as error:
        measured(data, labels)
    assert told in str(error.value) and error.value.hint


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("{", "is no JSON"),
        ("[]", "not in CLINC150's format"),
        ('{"test": [["a"]]}', "list of pairs"),
    ],
)
def test_json_of_another_form_is_refused(
    measured: Callable[..., dict[str, Any]], data: str, told: str
) -> None:
    with pytest.raises(InvalidRequest, match=told):
        measured(data, name="other.json")


def test_labels_without_data_are_refused(declared: Registry, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="goes with --data"):
        run(registry=declared, labels=tmp_path / "labels.csv")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        run(registry=declared, data=tmp_path / "none.csv")


def test_auroc_counts_pairs() -> None:
    assert auroc([3, 4], [1, 2]) == 1.0 and auroc([1, 2], [3, 4]) == 0.0
    assert auroc([1, 3], [2]) == 0.5 and auroc([1, 1], [1, 1]) == 0.5
