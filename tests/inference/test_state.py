"""States: copied, cut, cancelled, saved and refused; with pages, and with a fixed block."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.errors import InferenceError, ValidationError
from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.kernels._checksum import checksum
from ryzanstein.inference.kernels._program import PAGE
from ryzanstein.inference.model import ForwardCancelled, Model, State, build_model
from ryzanstein.inference.state_file import read_header
from tests.inference import tiny, tiny_mamba
from tests.inference.models import random_rwkv
from tests.inference.recurrence import program_of, recurrent_model

SHAPE = tiny.Shape(model_type="qwen2", hidden=96, heads=6, kv_heads=2, context=1200)
TOKENS = np.random.default_rng(0).integers(0, 90, 300)


@pytest.fixture(scope="module")
def attentive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = tiny.write_safetensors(tmp_path_factory.mktemp("model") / "m", SHAPE)
    with build_model(open_checkpoint(path), threads=2) as built:
        yield built


@pytest.fixture(params=["attention", "recurrent"])
def model(request: pytest.FixtureRequest, attentive: Model) -> Model:
    return attentive if request.param == "attention" else recurrent_model(SHAPE.vocab)


@pytest.fixture(scope="module", params=["mamba", "mamba2", "rwkv6", "rwkv7"])
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Model]:
    """A real recurrent model."""
    path = tmp_path_factory.mktemp("model") / f"{request.param}.pth"
    if request.param.startswith("rwkv"):
        random_rwkv.write_pth(path, random_rwkv.Shape(version=int(request.param[-1])))
    else:
        path = tiny_mamba.write_hf(path.with_suffix(""), tiny_mamba.Shape(request.param))
    with build_model(open_checkpoint(path), threads=2) as built:
        yield built


def test_a_real_recurrent_state_is_copied_saved_and_never_cut(
    family: Model, tmp_path: Path
) -> None:
    first = family.new_state()
    family.forward(TOKENS[:100], first)
    second = first.copy()
    first.save(tmp_path / "s")
    third = family.load_state(tmp_path / "s")
    for state, more in ((first, [7, 8, 9]), (second, [10, 11, 12]), (third, [7, 8, 9])):
        fresh = family.new_state()
        family.forward(TOKENS[:100], fresh)
        np.testing.assert_array_equal(family.forward(more, state), family.forward(more, fresh))
        assert (state.length, state.nbytes) == (103, family.state_shape.fixed_bytes)
    with pytest.raises(ValidationError, match="recurrent state of 103 tokens cannot be cut"):
        first.truncate(100)
    first.truncate(0)
    want = family.forward(TOKENS[:9], family.new_state())
    np.testing.assert_array_equal(family.forward(TOKENS[:9], first), want)


@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_a_real_recurrent_state_survives_being_cancelled(family: Model, times: int) -> None:
    state = family.new_state()
    family.forward(TOKENS[:20], state)
    with pytest.raises(ForwardCancelled):
        family.forward(TOKENS[20:], state, cancel=After(times))
    assert state.length == 20
    fresh = family.new_state()
    family.forward(TOKENS[:20], fresh)
    np.testing.assert_array_equal(family.forward([3], state), family.forward([3], fresh))


@pytest.fixture
def saved(model: Model, tmp_path: Path) -> Path:
    state = model.new_state()
    model.forward(TOKENS[:70], state)
    state.save(tmp_path / "s", TOKENS[:70].tolist())
    return tmp_path / "s"


def test_copies_continue_as_two_states_from_scratch(model: Model) -> None:
    first = model.new_state()
    model.forward(TOKENS[:100], first)
    second = first.copy()
    for state, more in ((first, [7, 8, 9]), (second, [10, 11, 12])):
        fresh = model.new_state()
        model.forward(TOKENS[:100], fresh)
        np.testing.assert_array_equal(model.forward(more, state), model.forward(more, fresh))
        assert (state.length, state.nbytes) == (fresh.length, fresh.nbytes)


def test_a_copy_takes_no_memory_until_one_of_both_is_written() -> None:
    model = recurrent_model()
    state = model.new_state()
    model.forward(TOKENS[:10], state)
    before = state._fixed
    copy = state.copy()
    assert copy._fixed is before
    model.forward([1], copy)
    assert state._fixed is before and copy._fixed is not before
    third = state.copy()
    model.forward([1], state)
    assert third._fixed is before and state._fixed is not before


def test_a_fixed_block_is_as_large_before_the_first_token_as_after_many() -> None:
    model = recurrent_model()
    state = model.new_state()
    sizes = {state.nbytes, program_of(model).state_bytes}
    for tokens in ([1], TOKENS):
        model.forward(tokens, state)
        sizes.add(state.nbytes)
    assert len(sizes) == 1


def test_a_recurrent_state_is_kept_whole_or_forgotten_but_not_cut() -> None:
    model = recurrent_model()
    state = model.new_state()
    model.forward(TOKENS[:20], state)
    with pytest.raises(ValidationError, match="recurrent state of 20 tokens cannot be cut to 19"):
        state.truncate(19)
    state.truncate(20)
    state.truncate(0)
    assert (state.length, state._fixed) == (0, None)
    want = model.forward(TOKENS[:9], model.new_state())
    np.testing.assert_array_equal(model.forward(TOKENS[:9], state), want)


def test_feeding_moves_a_state_on_as_forward_does(model: Model) -> None:
    fed, forwarded = model.new_state(), model.new_state()
    model.feed(TOKENS[:150], fed)
    model.forward(TOKENS[:150], forwarded)
    assert fed.length == 150
    np.testing.assert_array_equal(model.forward([5], fed), model.forward([5], forwarded))


class After:
    """Set once it was asked so many times."""

    def __init__(self, times: int) -> None:
        self._left = times

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0


@pytest.mark.parametrize("times", [0, 1, 2, 5])
def test_a_cancelled_forward_leaves_whole_chunks_only(times: int) -> None:
    model = recurrent_model()
    state = model.new_state()
    model.forward(TOKENS[:20], state)
    shared = state.copy()
    with pytest.raises(ForwardCancelled):
        model.forward(TOKENS[20:], state, cancel=After(times))
    held = state.length
    assert held < 300 and (held == 20 or times > 1)
    for one, length in ((state, held), (shared, 20)):
        fresh = model.new_state()
        model.forward(TOKENS[:20], fresh)
        if length > 20:
            model.forward(TOKENS[20:length], fresh)
        assert one.length == length
        np.testing.assert_array_equal(model.forward([3], one), model.forward([3], fresh))


def test_an_error_half_way_leaves_the_state_as_it_was() -> None:
    model = recurrent_model()
    state = model.new_state()

    def fail() -> None:
        raise KeyboardInterrupt

    for length in (0, 10):
        if length:
            model.forward(TOKENS[:10], state)
        program_of(model).halfway = fail
        with pytest.raises(KeyboardInterrupt):
            model.forward(TOKENS[10:20], state)
        program_of(model).halfway = lambda: None
        assert state.length == length
    fresh = model.new_state()
    model.forward(TOKENS[:10], fresh)
    np.testing.assert_array_equal(model.forward([3], state), model.forward([3], fresh))


def test_a_saved_state_continues_exactly(model: Model, tmp_path: Path) -> None:
    state = model.new_state()
    model.forward(TOKENS[:130], state)
    state.save(tmp_path / "s")
    loaded = model.load_state(tmp_path / "s")
    assert (loaded.length, loaded.nbytes) == (130, state.nbytes)
    np.testing.assert_array_equal(model.forward([3], loaded), model.forward([3], state))
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["s"]


def test_an_empty_state_can_be_saved(model: Model, tmp_path: Path) -> None:
    model.new_state().save(tmp_path / "s")
    loaded = model.load_state(tmp_path / "s")
    assert (loaded.length, loaded.nbytes) == (0, model.new_state().nbytes)
    np.testing.assert_array_equal(model.forward([3], loaded), model.forward([3], model.new_state()))


def test_only_filled_pages_are_saved(attentive: Model, tmp_path: Path) -> None:
    state = attentive.new_state()
    attentive.forward(TOKENS, state)
    state.truncate(PAGE)
    state.reserve(200)
    state.save(tmp_path / "s")
    assert (tmp_path / "s").stat().st_size < state.shape.page_bytes + 1000


def test_a_saved_state_says_what_it_is(model: Model, saved: Path) -> None:
    header, shape = read_header(saved), model.new_state().shape
    assert (header.tokens, header.has_ids) == (70, True)
    assert (header.fingerprint, header.form) == (model.fingerprint, shape.form)
    assert header.name == shape.name != ""
    state, ids = State.load_with_ids(saved, shape, 100)
    assert (state.length, ids.tolist()) == (70, TOKENS[:70].tolist())


def test_ids_that_do_not_fit_are_refused(model: Model, tmp_path: Path) -> None:
    state = model.new_state()
    model.forward([1, 2], state)
    with pytest.raises(ValidationError, match="3 ids cannot name a state of 2 tokens"):
        state.save(tmp_path / "s", [1, 2, 3])


def test_another_model_or_form_is_refused_and_named(attentive: Model, tmp_path: Path) -> None:
    state = attentive.new_state()
    attentive.forward([1], state)
    state.save(tmp_path / "s")
    shape = tiny.Shape(model_type="qwen2", hidden=96, heads=6, seed=9)
    other = tiny.write_safetensors(tmp_path / "other", shape)
    same = tiny.write_safetensors(tmp_path / "same", SHAPE)
    for source, precision, said in (
        (other, "auto", "another model: m, not other"),
        (same, "int4", "another weight form: auto, not int4"),
    ):
        with build_model(open_checkpoint(source), threads=1, precision=precision) as stranger:
            with pytest.raises(InferenceError, match=said):
                stranger.load_state(tmp_path / "s")
            with pytest.raises(ValidationError, match="another model"):
                stranger.forward([1], state)


def test_a_recurrent_state_of_another_model_form_or_engine_is_refused(tmp_path: Path) -> None:
    model = recurrent_model()
    state = model.new_state()
    model.forward([1], state)
    state.save(tmp_path / "s")
    for stranger, said in (
        (recurrent_model(seed=1), "another model: leaky-0, not leaky-1"),
        (recurrent_model(form="int8"), "another weight form: float, not int8"),
    ):
        with pytest.raises(InferenceError, match=said):
            stranger.load_state(tmp_path / "s")
        with pytest.raises(ValidationError, match="another model"):
            stranger.forward([1], state)
    rewrite(tmp_path / "s", engine="0.0-other")
    with pytest.raises(InferenceError, match="another version of the engine"):
        model.load_state(tmp_path / "s")


def test_a_state_longer_than_the_context_is_refused(saved: Path, model: Model) -> None:
    shape = model.new_state().shape
    with pytest.raises(InferenceError, match="70 tokens does not fit a context of 69"):
        State.load(saved, shape, 69)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-10], "cut short"),
        (lambda data: data + b"x", "goes on for 1 bytes after its end"),
        (lambda data: data[:-10] + bytes(10 * [1]), "checksum"),
        (lambda data: data[:-300] + bytes([data[-300] ^ 1]) + data[-299:], "checksum"),
        (lambda data: b"GGUF" + data[4:], "no saved state"),
        (lambda data: data[:12], "no saved state"),
        (lambda data: b"", "no saved state"),
        (lambda data: data[:7] + b"1" + data[8:], "format 1; this version reads 2"),
        (lambda data: data[:24] + b"!" + data[25:], "header"),
        (lambda data: data[:8] + b"\xff" * 8 + data[16:], "header"),
        (lambda data: data[:30], "header"),
    ],
)
def test_a_damaged_file_is_refused_with_the_reason(
    model: Model, saved: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    saved.write_bytes(damage(saved.read_bytes()))
    with pytest.raises(InferenceError, match=message):
        model.load_state(saved)


def rewrite(path: Path, **changes: Any) -> None:
    """Changes a header and its checksum with it, as only a malicious writer would."""
    data = path.read_bytes()
    size = int.from_bytes(data[8:16], "little")
    header = json.loads(data[24 : 24 + size])
    text = json.dumps(header | changes).encode()
    start = np.array([len(text), checksum(np.frombuffer(text, np.uint8))], "<u8").tobytes()
    path.write_bytes(data[:8] + start + text + data[24 + size :])


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": -1},
        {"tokens": 9e9},
        {"tokens": True},
        {"tokens": 1 << 60},
        {"page_bytes": -64},
        {"fixed_bytes": 1 << 60},
        {"fingerprint": None},
        {"surprise": 1},
    ],
    ids=str,
)
def test_a_forged_header_is_refused(model: Model, saved: Path, changes: dict[str, Any]) -> None:
    rewrite(saved, **changes)
    with pytest.raises(InferenceError, match=r"makes no sense|cut short|another version"):
        model.load_state(saved)


def test_every_changed_bit_is_noticed(tmp_path: Path) -> None:
    model = recurrent_model()
    state = model.new_state()
    model.forward(TOKENS[:5], state)
    state.save(tmp_path / "s", TOKENS[:5].tolist())
    data = (tmp_path / "s").read_bytes()
    for place in range(len(data)):
        (tmp_path / "s").write_bytes(
            data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]
        )
        with pytest.raises(InferenceError):
            model.load_state(tmp_path / "s")


def test_a_missing_file_and_a_missing_folder_are_named(model: Model, tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="cannot be read"):
        model.load_state(tmp_path / "none")
    with pytest.raises(InferenceError, match="cannot be written"):
        model.new_state().save(tmp_path / "no" / "folder")


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from ryzanstein.inference import state_file
from ryzanstein.inference.state import State, StateShape
state = State(StateShape("f", 0, 1 << 16), 100)
state.fixed[:] = 7
state.length = 3
real = os.replace
state_file.os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
state.save(sys.argv[1])
"""


def test_a_killed_writer_leaves_the_old_file(saved: Path, model: Model) -> None:
    before = saved.read_bytes()
    done = subprocess.run([sys.executable, "-c", KILLED, str(saved)], check=False)
    assert done.returncode == -9
    assert saved.read_bytes() == before
    assert model.load_state(saved).length == 70


def test_the_content_is_on_the_disk_before_it_has_its_name(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real_sync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("sync"), real_sync(file))[1])
    monkeypatch.setattr(os, "replace", lambda *to: (calls.append("name"), real_replace(*to))[1])
    model.new_state().save(tmp_path / "s")
    assert calls == ["sync", "name", "sync"]


def test_states_can_be_read_while_they_are_replaced(tmp_path: Path) -> None:
    model = recurrent_model()
    states = []
    for count in (5, 50):
        states.append(model.new_state())
        model.forward(TOKENS[:count], states[-1])
    states[0].save(tmp_path / "s")
    done = threading.Event()

    def write() -> None:
        for turn in range(30):
            states[turn % 2].save(tmp_path / "s")
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    lengths = set()
    while not done.is_set():
        lengths.add(model.load_state(tmp_path / "s").length)
    writer.join()
    assert lengths <= {5, 50}
