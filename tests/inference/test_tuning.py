"""Plans of models: what is measured, when, and what is taken from the file."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.inference import tuning
from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.kernels import choices, timing, tune
from ryzanstein.inference.kernels.choices import Machine, Tuning
from ryzanstein.inference.model import Model, build_model
from ryzanstein.machine import available_cpus
from tests.inference import tiny, tiny_bitnet

SHAPE = tiny.Shape("bitnet", hidden=256, inner=512, tied=True)


def load(path: Path, **options: Any) -> Model:
    return build_model(open_checkpoint(path), **options)


def logits(path: Path, *, tune: bool) -> np.ndarray[Any, Any]:
    with load(path, tune=tune) as model:
        return model.forward(list(range(1, 40)), model.new_state(64), all_logits=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tiny_bitnet.write_gguf(tmp_path / "model.gguf", SHAPE, "TQ2_0")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = []

    def counting(shapes: Any, threads: int, **options: Any) -> Tuning:
        calls.append((dict(shapes), threads, options.get("forms")))
        options |= {"seconds": 0.1, "stream_bytes": 2 << 20}
        return tune.tune(shapes, threads, **options)

    monkeypatch.setattr(timing, "RUN_SECONDS", 1e-4)
    monkeypatch.setattr(tuning, "tune", counting)
    monkeypatch.setattr(tuning, "WORTH_BYTES", 1)  # tiny models are worth it now
    return calls


def test_a_small_model_is_never_measured(path: Path) -> None:
    with load(path, tune=True):
        assert not tuning.tunings_file().exists()


def test_the_first_load_measures_and_says_so_and_later_ones_read(
    path: Path, counted: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ryzanstein.inference")
    for _ in range(2):
        with load(path, tune=True) as model:
            assert model.threads <= available_cpus()
    assert [call[1] for call in counted] == [available_cpus()]
    assert caplog.text.count("measuring how") == 1
    assert list(choices.read(tuning.tunings_file())) == [Machine.here(available_cpus())]


def test_another_number_of_threads_keeps_the_form(path: Path, counted: list[Any]) -> None:
    threads = available_cpus() + 1
    with load(path, threads=threads, tune=True) as model:
        assert model.threads == threads
    whole = choices.read(tuning.tunings_file())[Machine.here(available_cpus())].shapes
    forms = {shape: one.form for shape, one in whole.items()}
    assert counted[1:] == [(counted[0][0], threads, forms)]


def test_a_form_that_is_asked_for_is_taken_without_measuring(
    path: Path, counted: list[Any]
) -> None:
    with load(path, ternary="ternary5", tune=True) as model:
        assert "ternary5/tensor" in model.layouts and "ternary2/tensor" not in model.layouts
    assert not counted


@pytest.mark.parametrize("how", ["switched off", "settings that cannot be read"])
def test_without_settings_that_allow_it_the_usual_choices_hold(
    path: Path, counted: list[Any], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("RYZANSTEIN_TUNE", "0" if how == "switched off" else "perhaps")
    with load(path, tune=True) as model:
        assert "ternary2/tensor" in model.layouts
    assert not counted


def test_a_foreign_or_damaged_file_is_made_anew(path: Path, counted: list[Any]) -> None:
    load(path, tune=True).close()
    file = tuning.tunings_file()
    (mine,) = choices.read(file).values()
    foreign = replace(mine, machine=replace(mine.machine, cpu="Another"))
    choices.write(file, [foreign])
    load(path, tune=True).close()
    assert set(choices.read(file)) == {mine.machine, foreign.machine}
    file.write_text("{")
    load(path, tune=True).close()
    assert set(choices.read(file)) == {mine.machine}
    assert len(counted) == 3


def test_choices_that_cannot_be_written_are_used_all_the_same(
    path: Path, counted: list[Any]
) -> None:
    tuning.tunings_file().mkdir(parents=True)
    load(path, tune=True).close()
    assert len(counted) == 1


@pytest.mark.parametrize("forms", [("ternary5",), ("ternary2", "ternary5", "ternary3")])
def test_logits_are_the_same_whatever_was_chosen(
    path: Path, counted: list[Any], forms: tuple[str, ...]
) -> None:
    want = logits(path, tune=False)
    load(path, tune=True).close()
    (mine,) = choices.read(tuning.tunings_file()).values()
    shapes = {
        shape: replace(one, form=forms[index % len(forms)])
        for index, (shape, one) in enumerate(mine.shapes.items())
    }
    choices.write(tuning.tunings_file(), [replace(mine, shapes=shapes)])
    with load(path, tune=True) as model:
        assert {f"{form}/tensor" for form in forms} <= set(model.layouts)
    assert np.array_equal(logits(path, tune=True), want)
