"""States on disk: found again, bounded, shared by processes, and computed anew where damaged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ryzanstein.errors import InferenceError
from ryzanstein.inference.model import Model
from ryzanstein.inference.personas import StateStore, state_id
from ryzanstein.inference.state import State
from tests.inference.recurrence import recurrent_model

IDS = list(range(10, 40))


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    return StateStore(tmp_path / "states", 1 << 20)


@pytest.fixture(scope="module")
def model() -> Model:
    return recurrent_model()


def filled(model: Model, ids: list[int]) -> State:
    state = model.new_state()
    model.feed(ids, state)
    return state


def test_a_state_is_found_by_model_and_tokens(store: StateStore, model: Model) -> None:
    shape = model.state_shape
    assert not store.has(shape, IDS) and store.load(shape, IDS, 100) is None
    saved = store.save(filled(model, IDS), IDS, "APEX")
    assert saved is not None
    assert (saved.id, saved.label, saved.model, saved.tokens) == (
        state_id(IDS), "APEX", "leaky-0", 30,
    )  # fmt: skip
    assert store.has(shape, IDS) and not store.has(shape, IDS[:-1])
    assert not store.has(recurrent_model(seed=1).state_shape, IDS)
    assert not store.has(recurrent_model(form="int8").state_shape, IDS)
    loaded = store.load(shape, IDS, 100)
    assert loaded is not None
    want = model.forward([*IDS, 1], model.new_state())
    np.testing.assert_array_equal(model.forward([1], loaded), want)
    (entry,) = store.entries()
    assert (entry.id, entry.label, entry.bytes) == (saved.id, "APEX", saved.path.stat().st_size)


def test_a_damaged_file_is_removed_and_can_be_saved_again(
    store: StateStore, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    saved = store.save(filled(model, IDS), IDS)
    assert saved is not None
    for damage in (b"", b"RZSTATE2", saved.path.read_bytes()[:-1], saved.path.read_bytes() + b"x"):
        saved.path.write_bytes(damage)
        assert store.load(model.state_shape, IDS, 100) is None
        assert not saved.path.exists()
        assert "computed again" in caplog.text
        store.save(filled(model, IDS), IDS)
    assert store.load(model.state_shape, IDS, 100) is not None


def test_a_state_too_long_for_this_context_is_left_alone(store: StateStore, model: Model) -> None:
    store.save(filled(model, IDS), IDS)
    assert store.load(model.state_shape, IDS, 29) is None
    assert store.load(model.state_shape, IDS, 30) is not None


def test_the_least_recently_used_go_beyond_the_bound(tmp_path: Path, model: Model) -> None:
    size = StateStore(tmp_path / "one", 1 << 20).save(filled(model, IDS), IDS, "x")
    assert size is not None
    store = StateStore(tmp_path / "states", 3 * size.bytes)
    prompts = [[first, *IDS[1:]] for first in range(5)]
    for age, ids in enumerate(prompts):
        if age == 3:
            assert store.load(model.state_shape, prompts[0], 100) is not None
        saved = store.save(filled(model, ids), ids, "x")
        assert saved is not None
        os.utime(saved.path, (1e9 + age, 1e9 + age))
    kept = {entry.id for entry in store.entries()}
    assert kept == {state_id(prompts[index]) for index in (0, 3, 4)}


def test_a_state_larger_than_the_bound_is_not_kept(tmp_path: Path, model: Model) -> None:
    store = StateStore(tmp_path / "states", 100)
    assert store.save(filled(model, IDS), IDS) is None
    assert store.entries() == []


def test_a_folder_that_cannot_be_written_costs_only_the_saving(
    tmp_path: Path, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert StateStore(tmp_path / "file", 1 << 20).save(filled(model, IDS), IDS) is None
    assert "not kept" in caplog.text


def test_what_killed_writers_left_is_removed_in_time(store: StateStore, model: Model) -> None:
    saved = store.save(filled(model, IDS), IDS)
    assert saved is not None
    old, young = (saved.path.parent / f".a.rzstate.{name}.partial" for name in ("old", "young"))
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 3600,) * 2)
    store.save(filled(model, IDS), IDS)
    assert young.exists() and not old.exists()


WRITER = """
import sys
from pathlib import Path
from ryzanstein.inference.personas import StateStore
from tests.inference.recurrence import recurrent_model
model = recurrent_model()
store = StateStore(Path(sys.argv[1]), 8000)
for turn in range(int(sys.argv[2])):
    ids = [turn % 20, *range(10, 40)]
    state = store.load(model.state_shape, ids, 100)
    if state is None:
        state = model.new_state()
        model.feed(ids, state)
        assert store.save(state, ids) is not None
    assert state.length == 31
    if turn == 2:
        print("writing", flush=True)
"""


def writer(store: StateStore, turns: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, str(store.folder), str(turns)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE)


def test_several_processes_share_a_folder(store: StateStore) -> None:
    writers = [writer(store, 60) for _ in range(3)]
    for one in writers:
        assert one.communicate(timeout=60) and one.returncode == 0
    entries = store.entries()
    assert 0 < sum(entry.bytes for entry in entries) <= 8000
    assert all(entry.tokens == 31 for entry in entries)


def test_a_writer_that_is_killed_leaves_whole_files(store: StateStore, model: Model) -> None:
    one = writer(store, 1_000_000)
    assert one.stdout is not None and one.stdout.readline() == b"writing\n"
    one.send_signal(signal.SIGKILL)
    one.communicate()
    assert len(store.entries()) >= 3
    for first in range(20):
        ids = [first, *range(10, 40)]
        if store.has(model.state_shape, ids):
            assert store.load(model.state_shape, ids, 100) is not None


def test_a_state_may_go_away_while_others_look(store: StateStore, model: Model) -> None:
    done = threading.Event()

    def churn() -> None:
        for turn in range(60):
            ids = [turn % 3, *IDS]
            saved = store.save(filled(model, ids), ids)
            if saved is not None and turn % 2:
                store.remove(saved)
        done.set()

    thread = threading.Thread(target=churn)
    thread.start()
    while not done.is_set():
        store.entries()
        store.load(model.state_shape, [1, *IDS], 100)
    thread.join()


def test_a_saved_state_names_the_reason_it_is_refused(store: StateStore, model: Model) -> None:
    saved = store.save(filled(model, IDS), IDS)
    assert saved is not None
    with pytest.raises(InferenceError, match="another model: leaky-0, not leaky-1"):
        recurrent_model(seed=1).load_state(saved.path)
