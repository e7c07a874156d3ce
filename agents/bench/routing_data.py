"""Tasks with the labels they should be routed to: the registry's own, CLINC150's, or a user's.

TASKS.csv    columns task, label, split; split is train or test; label oos is out of scope
LABELS.csv   columns label, description; without it the labels are the registry's agents
clinc150.json  {"train": [[task, label], …], "test": […], "oos_train": […], "oos_test": […]}
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ryzanstein.errors import InvalidRequest
from ryzanstein.nearest import did_you_mean
from ryzanstein.registry import AgentProfile, Registry, Routing

__all__ = ["OUTSIDE", "Fold", "RoutingData", "read_data", "registry_tasks"]

# The label of tasks that belong to no label, as CLINC150 names it.
OUTSIDE = "oos"
_SPLITS = ("train", "test")
_FOLDS = 3
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Fold:
    """What is learnt from and what is asked; each task with all labels that are right for it."""

    train: Sequence[tuple[str, str]]
    test: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class RoutingData:
    """Labels and tasks.

    Attributes:
        registry: The labels as agents.
        folds: The tasks; one fold where the data says what is train and what is test.
        outside: Tasks to test with that belong to no label.
        elsewhere: Such tasks to learn from.
    """

    registry: Registry
    folds: Sequence[Fold]
    outside: Sequence[str] = ()
    elsewhere: Sequence[str] = ()


def registry_tasks(registry: Registry) -> RoutingData:
    """The registry's own tasks, each tested by what the other two thirds teach."""
    import yaml

    text = resources.files("ryzanstein.agents.bench").joinpath("routing_tasks.yaml")
    listed: dict[str, Any] = yaml.safe_load(text.read_text(encoding="utf-8"))
    outside = listed.pop("outside")
    tasks = [(one["task"], tuple(one["agents"])) for part in listed.values() for one in part]
    known = {agent.codename for agent in registry.agents}
    tasks = [(task, right) for task, right in tasks if known.issuperset(right)]
    # By agent first, so that every third of them has tasks of all agents.
    tasks.sort(key=lambda one: one[1][0])
    folds = []
    for part in range(_FOLDS):
        train = [(task, right[0]) for at, (task, right) in enumerate(tasks) if at % _FOLDS != part]
        folds.append(Fold(train, tasks[part::_FOLDS]))
    return RoutingData(registry, folds, outside)


def read_data(data: Path, labels: Path | None, registry: Registry) -> RoutingData:
    """Reads a user's tasks, or CLINC150's where the file is JSON.

    Raises:
        InvalidRequest: A file cannot be read, or does not say what it has to.
    """
    rows = _json_rows(data) if data.suffix.casefold() == ".json" else _csv_rows(data)
    if labels is not None:
        registry = _labelled(_descriptions(labels))
    elif data.suffix.casefold() == ".json":
        registry = _labelled({row.label: "" for row in rows if row.label != OUTSIDE})
    names = {agent.codename.casefold(): agent.codename for agent in registry.agents}
    place = f"among the labels of {labels.name}" if labels else "an agent of the registry"
    train: list[tuple[str, str]] = []
    test: list[tuple[str, Sequence[str]]] = []
    outside: dict[str, list[str]] = {split: [] for split in _SPLITS}
    for row in rows:
        if row.label.casefold() == OUTSIDE:
            outside[row.split].append(row.task)
            continue
        label = _known(row, names, data, place)
        if row.split == "train":
            train.append((row.task, label))
        else:
            test.append((row.task, (label,)))
    if not test:
        raise InvalidRequest(
            f"{data.name} has no task of a label in the split test.",
            hint="Mark the tasks to measure with as test in the column split.",
        )
    return RoutingData(registry, [Fold(train, test)], outside["test"], outside["train"])


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    task: str
    label: str
    split: str


def _known(row: _Row, names: Mapping[str, str], data: Path, place: str) -> str:
    found = names.get(row.label.removeprefix("@").casefold())
    if found is None:
        near = did_you_mean(row.label, names.values())
        raise InvalidRequest(
            f"{data.name}, line {row.line}: the label {row.label!r:.60} is not {place}.",
            hint=f"{near} --labels FILE.csv gives labels of your own; tasks of none are "
            f"labelled {OUTSIDE}.".strip(),
        )
    return found


def _csv_rows(path: Path) -> list[_Row]:
    rows = []
    for line, row in _records(path, ("task", "label", "split")):
        split = row["split"].casefold()
        if split not in _SPLITS:
            raise InvalidRequest(
                f"{path.name}, line {line}: the split is {row['split']!r:.40}.",
                hint="Write train or test.",
            )
        for column in ("task", "label"):
            if not row[column]:
                raise InvalidRequest(
                    f"{path.name}, line {line}: the {column} is empty.",
                    hint="Fill it in, or remove the line.",
                )
        rows.append(_Row(line, row["task"], row["label"], split))
    return rows


def _json_rows(path: Path) -> list[_Row]:
    try:
        parts = json.loads(_text(path))
    except ValueError as error:
        raise InvalidRequest(
            f"{path.name} is no JSON: {error}.", hint="Tasks of your own go into a CSV file."
        ) from error
    rows = []
    for split in _SPLITS:
        for name in (split, f"{OUTSIDE}_{split}"):
            listed = parts.get(name, []) if isinstance(parts, Mapping) else None
            if not isinstance(listed, list) or not all(map(_is_pair, listed)):
                raise InvalidRequest(
                    f"{path.name} is not in CLINC150's format: {name} is no list of pairs.",
                    hint="It is an object with lists train and test of [task, label]; "
                    "tasks of your own go into a CSV file with columns task, label and split.",
                )
            rows += [_Row(at + 1, task, label, split) for at, (task, label) in enumerate(listed)]
    return rows


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(part, str) and part.strip() for part in value)
    )


def _descriptions(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for line, row in _records(path, ("label", "description")):
        label = row["label"]
        if label.casefold() == OUTSIDE:
            continue
        if not label or label in found:
            fault = f"the label {label!r:.60} is there twice" if label else "the label is empty"
            raise InvalidRequest(
                f"{path.name}, line {line}: {fault}.", hint="Give each label one line."
            )
        found[label] = row["description"]
    if len(found) < 2:
        raise InvalidRequest(
            f"{path.name} has {len(found)} label{'s' if len(found) != 1 else ''}.",
            hint="Routing needs two or more to choose from.",
        )
    return found


def _records(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Lines of a CSV file that has these columns, with their numbers."""
    reader = csv.DictReader(io.StringIO(_text(path), newline=""))
    try:
        header = [(name or "").strip().casefold() for name in reader.fieldnames or ()]
        missing = [column for column in columns if column not in header]
        if missing:
            raise InvalidRequest(
                f"{path.name} has no column {' and no column '.join(missing)}; "
                f"it has {', '.join(header[:8]) or 'none'}.",
                hint=f"Its first line is: {','.join(columns)}",
            )
        reader.fieldnames = header
        for row in reader:
            line = reader.line_num
            if None in row or any(row[column] is None for column in columns):
                count = "more" if None in row else "fewer"
                raise InvalidRequest(
                    f"{path.name}, line {line}: it has {count} fields than there are columns.",
                    hint='Put a text with commas between quotes: "first, second".',
                )
            yield line, {column: row[column].strip() for column in columns}
    except csv.Error as error:
        raise InvalidRequest(
            f"{path.name}, line {reader.line_num}: {error}.", hint="Save it as CSV in UTF-8."
        ) from error


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"{path.name} is not UTF-8 at byte {error.start}.", hint="Save it as UTF-8."
        ) from error
    except OSError as error:
        raise InvalidRequest(
            f"{path} cannot be read: {error.strerror}.", hint="Give a file that is there."
        ) from error


def _labelled(descriptions: Mapping[str, str]) -> Registry:
    """The labels as agents; not validated, as labels have no prompts and are no codenames."""
    agents = tuple(
        AgentProfile.model_construct(
            id=str(at),
            codename=name,
            tier=1,
            domain=name.replace("_", " ").replace("-", " "),
            summary=description,
            prompt_text="",
            examples=(),
        )
        for at, (name, description) in enumerate(descriptions.items())
    )
    empty = Registry(models=(), backends=(), servers=(), routing=Routing(), agents=())
    return empty.model_copy(update={"agents": agents})
