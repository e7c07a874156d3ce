"""`ryzanstein doctor --kernels`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ryzanstein.inference import tuning
from ryzanstein.inference.kernels import choices, timing, tune
from ryzanstein.inference.kernels.choices import Machine, Tuning
from ryzanstein.machine import available_cpus

SHAPES = {(256, 320): 3, (96, 64): 2}


def quick(shapes: Any, threads: int, **options: Any) -> Tuning:
    """The tuner with little time and memory."""
    return tune.tune(shapes, threads, **{**options, "seconds": 0.1, "stream_bytes": 2 << 20})


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "RUN_SECONDS", 1e-4)
    monkeypatch.setattr(tuning, "tune", quick)
    monkeypatch.setattr(tuning, "_example", lambda: SHAPES)


def test_before_anything_is_measured_it_says_how(run: Callable[..., Any]) -> None:
    done = run("doctor", "--kernels")
    assert done.code == 0 and "ryzanstein doctor --kernels --retune" in done.out
    assert run("doctor", "--kernels", "--json").json["tunings"] == []


def test_the_choices_as_text_and_as_json(run: Callable[..., Any]) -> None:
    done = run("doctor", "--kernels", "--retune")
    assert done.code == 0 and "measuring" in done.err
    assert "256 x 320" in done.out and "96 x 64" in done.out and "ternaryN" in done.out
    document = run("doctor", "--kernels", "--json").json
    assert document["isa"] == Machine.here(1).isa and document["cpus"] == available_cpus()
    (one,) = document["tunings"]
    assert one["threads"] == available_cpus()
    assert [(shape["rows"], shape["cols"]) for shape in one["shapes"]] == list(SHAPES)
    assert document["file"] == str(tuning.tunings_file())


def test_retuning_measures_the_shapes_that_are_known(run: Callable[..., Any]) -> None:
    known = quick({(64, 96): 1}, 1)
    foreign = replace(known, machine=replace(known.machine, cpu="Another"))
    choices.write(tuning.tunings_file(), [known, foreign])
    document = run("doctor", "--kernels", "--retune", "--json").json
    (one,) = document["tunings"]
    assert [(shape["rows"], shape["cols"]) for shape in one["shapes"]] == [(64, 96)]
    assert one["threads"] == available_cpus()
    assert foreign.machine in choices.read(tuning.tunings_file())


def test_a_disk_that_cannot_be_written_is_an_error_by_name(run: Callable[..., Any]) -> None:
    tuning.tunings_file().mkdir(parents=True)
    done = run("doctor", "--kernels", "--retune", "--json")
    assert done.code != 0 and "cannot be written" in done.json["error"]["message"]
