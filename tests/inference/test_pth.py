from __future__ import annotations

import collections
import io
import mmap
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ryzanstein.inference.formats import torch_pickle, torch_zip
from ryzanstein.inference.formats.dequantize import dequantize
from ryzanstein.inference.formats.pth import PthError, read_tensors
from ryzanstein.inference.formats.raw import RawTensor

STATE = {
    "emb.weight": torch.arange(12, dtype=torch.float32).view(3, 4),
    "blocks.0.att.x_r": torch.tensor([0.5, -2.0, 7.0]).view(1, 1, 3).bfloat16(),
    "blocks.0.att.w1": torch.tensor([[1.5, 2.5], [3.5, -4.5]]).half(),
}


def read(data: bytes) -> dict[str, RawTensor]:
    """Tensors of a file, read from an anonymous mapping."""
    buffer = mmap.mmap(-1, max(len(data), 1))
    buffer[: len(data)] = data
    return read_tensors(buffer)


def saved(state: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(state, file, **options)
    return file.getvalue()


def rezipped(data: bytes, change: Callable[[str, bytes], bytes | None], **options: Any) -> bytes:
    """The same members, each as `change` gives it; None leaves it out."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", **options) as new:
        for name in old.namelist():
            changed = change(name, old.read(name))
            if changed is not None:
                new.writestr(name, changed)
    return file.getvalue()


def with_pickle(payload: bytes) -> bytes:
    return rezipped(saved(STATE), lambda name, old: payload if name.endswith("data.pkl") else old)


def refused(data: bytes) -> str:
    with pytest.raises(PthError) as error:
        read(data)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", [dict, collections.OrderedDict])
def test_what_torch_saves_is_read_as_torch_reads_it(kind: type, protocol: int) -> None:
    tensors = read(saved(kind(STATE), pickle_protocol=protocol))
    assert list(tensors) == list(STATE)
    assert [t.dtype for t in tensors.values()] == ["F32", "BF16", "F16"]
    for name, tensor in STATE.items():
        assert tensors[name].shape == tuple(tensor.shape)
        assert np.array_equal(dequantize(tensors[name]), tensor.float().numpy())


def test_a_modules_state_dict_is_read_although_it_has_metadata() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    tensors = read(saved(module.state_dict()))
    for name, value in module.state_dict().items():
        assert np.array_equal(dequantize(tensors[name]), value.numpy())


def test_a_model_of_many_tensors_is_read_whole() -> None:
    state = {f"blocks.{i}.att.w{i % 7}": torch.full((2, i % 5 + 1), float(i)) for i in range(900)}
    tensors = read(saved(state))
    for name, value in state.items():
        assert np.array_equal(dequantize(tensors[name]), value.numpy())


def test_tensors_are_views_and_not_copies(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    torch.save(STATE, path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
        tensors = read_tensors(buffer)
        whole = np.frombuffer(buffer, np.uint8)
        assert all(np.shares_memory(tensor.data, whole) for tensor in tensors.values())
        assert not tensors["emb.weight"].data.flags.writeable
        del tensors, whole


def test_slices_of_one_storage_are_tensors_of_their_own() -> None:
    base = torch.arange(20, dtype=torch.float32).view(5, 4)
    tensors = read(saved({"a": base[1:3], "b": base[3:], "empty": base[:0]}))
    assert np.array_equal(dequantize(tensors["a"]), base[1:3].numpy())
    assert np.array_equal(dequantize(tensors["b"]), base[3:].numpy())
    assert tensors["empty"].shape == (0, 4)


# What a pickle may try. Each gets a command that would make a file, and is a whole pickle.


class Reduces:
    def __init__(self, callee: Any, *arguments: Any) -> None:
        self.what = (callee, arguments)

    def __reduce__(self) -> Any:
        return self.what


def touch(path: Path) -> str:
    return f"touch {path}"


def line(*words: str) -> bytes:
    return b"".join(word.encode() + b"\n" for word in words)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


PROTO = b"\x80\x02"
REBUILD = b"c" + line("torch._utils", "_rebuild_tensor_v2")
FLOATS = b"c" + line("torch", "FloatStorage")
ORDERED = b"c" + line("collections", "OrderedDict")


def storage(key: bytes = text("0"), kind: bytes = FLOATS, count: bytes = b"K\x0c") -> bytes:
    return b"(" + text("storage") + kind + key + text("cpu") + count + b"tQ"


def tensor(
    of: bytes | None = None,
    offset: bytes = b"K\x00",
    shape: bytes = b"K\x03K\x04\x86",
    strides: bytes = b"K\x04K\x01\x86",
    rest: bytes = b"\x89}",
) -> bytes:
    return (
        REBUILD + b"(" + (storage() if of is None else of) + offset + shape + strides + rest + b"tR"
    )


def entry(value: bytes, name: str = "emb.weight") -> bytes:
    """A pickle of a dict with one value."""
    return PROTO + b"}" + text(name) + value + b"s."


def entries(first: bytes, second: bytes) -> bytes:
    """A pickle of a dict with two values."""
    return PROTO + b"}" + text("a") + first + b"s" + text("b") + second + b"s."


PAYLOADS: dict[str, tuple[Callable[[str], bytes], str]] = {
    "reduce": (lambda c: pickle.dumps(Reduces(os.system, c), 2), "posix.system"),
    "exec": (
        lambda c: pickle.dumps(Reduces(exec, f"import os; os.system({c!r})"), 2),
        "__builtin__.exec",
    ),
    "eval in a dict": (
        lambda c: pickle.dumps({"a": Reduces(eval, f"__import__('os').system({c!r})")}, 4),
        "builtins.eval",
    ),
    "nested in a tensor": (
        lambda c: entry(tensor(b"c" + line("os", "system") + text(c) + b"\x85R")),
        "os.system",
    ),
    "global alone": (lambda c: b"c" + line("os", "system") + b"0}.", "os.system"),
    "stacked name": (
        lambda c: PROTO + text("os") + text("system") + b"\x93" + text(c) + b"\x85R.",
        "os.system",
    ),
    "dotted name": (
        lambda c: b"\x80\x04" + text("torch._utils") + text("sys.modules") + b"\x93.",
        "torch._utils.sys.modules",
    ),
    "inst": (lambda c: b"(" + text(c) + b"i" + line("os", "system") + b".", "os.system"),
    "inst of the oldest protocol": (
        lambda c: b"(S" + line(repr(c)) + b"i" + line("os", "system") + b".",
        "STRING",
    ),
    "obj": (lambda c: b"(c" + line("os", "system") + text(c) + b"o.", "os.system"),
    "obj of a known class": (lambda c: b"(" + ORDERED + text(c) + b"o.", "OBJ"),
    "newobj": (lambda c: PROTO + ORDERED + b")\x81.", "NEWOBJ"),
    "newobj of another class": (
        lambda c: PROTO + b"c" + line("subprocess", "Popen") + text(c) + b"\x85\x81.",
        "subprocess.Popen",
    ),
    "newobj with keywords": (lambda c: b"\x80\x04" + ORDERED + b")}\x92.", "NEWOBJ_EX"),
    "extension": (lambda c: PROTO + b"\x82\x05" + text(c) + b"\x85R.", "EXT1"),
    "wide extension": (lambda c: PROTO + b"\x84\x05\x00\x00\x00.", "EXT4"),
    "persistent text": (lambda c: b"P" + line(c) + b".", "PERSID"),
    "persistent call": (lambda c: PROTO + text(c) + b"Q.", "no storage"),
    "persistent name of a function": (
        lambda c: entry(tensor(storage(kind=b"c" + line("os", "system")))),
        "os.system",
    ),
    "storage of a rebuilding function": (
        lambda c: entry(tensor(storage(kind=REBUILD))),
        "no storage",
    ),
    "state of a class": (
        lambda c: PROTO + ORDERED + b")R}" + text("__class__") + text(c) + b"sb.",
        "set the state",
    ),
    "state of a name": (
        lambda c: PROTO + REBUILD + b"}" + text("__code__") + text(c) + b"sb.",
        "set the state",
    ),
    "state beside metadata": (
        lambda c: PROTO + b"}}" + text("_metadata") + b"}s" + text("items") + text(c) + b"sb.",
        "set the state",
    ),
    "call of a storage type": (
        lambda c: PROTO + FLOATS + text(c) + b"\x85R.",
        "torch.FloatStorage",
    ),
    "call of a text": (lambda c: PROTO + text(c) + b")R.", "wants to call"),
    "call of a tensor": (lambda c: PROTO + tensor() + b")R.", "wants to call"),
    "dict from arguments": (lambda c: PROTO + ORDERED + text(c) + b"\x85R.", "with arguments"),
    "load from elsewhere": (
        lambda c: b"c" + line("torch", "load") + text("x.pth") + b"\x85R.",
        "torch.load",
    ),
    "getattr": (lambda c: pickle.dumps(Reduces(getattr, c, "x"), 2), "__builtin__.getattr"),
    "legacy storage": (
        lambda c: b"c" + line("torch.storage", "_load_from_bytes") + b"C\x01x\x85R.",
        "torch.storage._load_from_bytes",
    ),
    "tensor of Python data": (
        lambda c: b"c" + line("torch._utils", "_rebuild_parameter") + b").",
        "torch._utils._rebuild_parameter",
    ),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_pickle_that_would_run_something_is_refused_by_name(name: str, tmp_path: Path) -> None:
    victim = tmp_path / "ran"
    payload, said = PAYLOADS[name]
    assert said in refused(with_pickle(payload(touch(victim))))
    assert not victim.exists()


def test_the_live_payload_does_run_in_an_unguarded_unpickler(tmp_path: Path) -> None:
    victim = tmp_path / "ran"
    data = pickle.dumps({"emb.weight": Reduces(os.system, touch(victim))}, 2)
    assert "nothing was run" in refused(with_pickle(data))
    assert not victim.exists()
    pickle.loads(data)
    assert victim.exists()


class Stateful:
    """Its state is set by a call, which is what BUILD does."""

    def __getstate__(self) -> Any:
        return {"a": 1}

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("ran")


def test_an_object_with_setstate_is_never_made() -> None:
    for protocol in (0, 2, 4):
        message = refused(with_pickle(pickle.dumps({"a": Stateful()}, protocol)))
        assert "Stateful" in message or "instruction" in message or "copy_reg" in message


NONSENSE: dict[str, tuple[bytes, str]] = {
    "no stop": (PROTO + b"}", "cut off"),
    "empty": (b"", "cut off"),
    "unknown instruction": (PROTO + b"\xff.", "damaged"),
    "operand cut off": (PROTO + b"X\xff\xff\xff\x7fab", "cut off"),
    "rest after stop": (PROTO + b"}.}", "does not end"),
    "two values": (PROTO + b"}}.", "does not end"),
    "open mark": (PROTO + b"}(.", "does not end"),
    "empty stack": (PROTO + b"s.", "stack"),
    "no mark": (PROTO + b"}u.", "mark"),
    "through a mark": (PROTO + b"K\x01(\x85.", "stack"),
    "unknown memo": (PROTO + b"h\x07.", "not kept"),
    "odd items": (PROTO + b"}(" + text("a") + b"u.", "without a value"),
    "items of a text": (PROTO + text("a") + text("b") + text("c") + b"s.", "no dict"),
    "key that is a tuple": (PROTO + b"}))s.", "no text"),
    "entry twice": (PROTO + b"}" + (text("a") + b"Ns") * 2 + b".", "twice"),
    "no dict": (PROTO + tensor() + b".", "no dict"),
    "value no tensor": (entry(b"K\x01"), "no tensor"),
    "name with a newline": (entry(tensor(), "a\nb"), "no name"),
    "number as a name": (PROTO + b"}K\x01" + tensor() + b"s.", "no name"),
    "long text": (entry(tensor(), "x" * 5000), "5000"),
    "dict in itself": (PROTO + b"}q\x00" + text("a") + b"h\x00s.", "no tensor"),
    "named by no text": (PROTO + b"K\x01K\x02\x93.", "no text"),
    "missing member": (entry(tensor(storage(text("9")))), "not there"),
    "member outside": (entry(tensor(storage(text("../data.pkl")))), "not there"),
    "number as a key": (entry(tensor(storage(b"K\x00"))), "no storage"),
    "too long a storage": (entry(tensor(storage(count=b"K\x0d"))), "does not fit"),
    "negative storage": (entry(tensor(storage(count=b"J\xff\xff\xff\xff"))), "no storage"),
    "bytes": (
        entry(tensor(storage(kind=b"c" + line("torch.storage", "UntypedStorage"), count=b"K\x30"))),
        "U8",
    ),
    "outside": (entry(tensor(offset=b"K\x01")), "outside"),
    "negative offset": (entry(tensor(offset=b"J\xff\xff\xff\xff")), "no sense"),
    "absurd offset": (entry(tensor(offset=b"\x8a\x09" + b"\xff" * 8 + b"\x00")), "no sense"),
    "absurd shape": (entry(tensor(shape=b"\x8a\x07" + b"\xff" * 6 + b"\x00K\x04\x86")), "outside"),
    "transposed": (entry(tensor(shape=b"K\x04K\x03\x86", strides=b"K\x01K\x04\x86")), "contiguous"),
    "repeated": (entry(tensor(strides=b"K\x00K\x01\x86")), "contiguous"),
    "strides of another rank": (entry(tensor(strides=b"K\x01\x85")), "no sense"),
    "shape with a truth": (entry(tensor(shape=b"\x88K\x04\x86")), "no sense"),
    "hooks": (entry(tensor(rest=b"\x89}" + text("a") + b"Ns")), "no sense"),
    "metadata": (entry(tensor(rest=b"\x89}}" + text("conj") + b"\x88s")), "no sense"),
    "too few arguments": (PROTO + REBUILD + b")R.", "no sense"),
    "overlap": (entries(tensor(), tensor(offset=b"K\x04", shape=b"K\x02K\x04\x86")), "overlaps"),
    "same bytes twice": (entries(tensor(), tensor()), "overlaps"),
}  # fmt: skip


@pytest.mark.parametrize("name", NONSENSE)
def test_a_pickle_that_makes_no_sense_is_refused(name: str) -> None:
    payload, said = NONSENSE[name]
    assert said in refused(with_pickle(payload))


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.int8, torch.bool])
def test_other_types_are_refused_by_name(dtype: torch.dtype) -> None:
    assert "torch." in refused(saved({"a": torch.zeros(2, dtype=dtype)}))


def test_a_transposed_tensor_is_refused_with_what_to_do() -> None:
    assert ".contiguous()" in refused(saved({"a": torch.zeros(2, 3).t()}))


@pytest.mark.parametrize(
    "state", [{"model": STATE}, [torch.zeros(2)], {"a": 1.5}, {"_strategy": "x"}]
)
def test_anything_but_a_dict_of_tensors_is_refused(state: Any) -> None:
    refused(saved(state))


def test_a_whole_module_is_refused() -> None:
    assert "torch.nn.modules.linear.Linear" in refused(saved(torch.nn.Linear(2, 2)))


def test_files_before_the_zip_format_and_bare_pickles_are_refused() -> None:
    assert "before 1.6" in refused(saved(STATE, _use_new_zipfile_serialization=False))
    assert "bare pickles" in refused(pickle.dumps({"a": 1}))
    assert "no zip file" in refused(b"")


def test_endless_pickles_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_pickle, "MAX_OPCODES", 100)
    assert "100 instructions" in refused(with_pickle(PROTO + b"}q\x00" * 99 + b"."))


def test_compressed_members_are_refused_before_they_grow() -> None:
    bomb = rezipped(
        saved(STATE),
        lambda name, old: bytes(64 << 20) if name.endswith("data/0") else old,
        compression=zipfile.ZIP_DEFLATED,
    )
    assert len(bomb) < 1 << 20
    assert "compressed" in refused(bomb)


def test_too_many_members_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_zip, "MAX_MEMBERS", 5)
    assert "members" in refused(saved(STATE))


def test_big_endian_files_are_refused() -> None:
    data = rezipped(saved(STATE), lambda name, old: b"big" if name.endswith("byteorder") else old)
    assert "little-endian" in refused(data)


def test_a_missing_or_shortened_member_is_refused() -> None:
    without = rezipped(saved(STATE), lambda name, old: None if name.endswith("data/1") else old)
    assert "not there" in refused(without)
    shorter = rezipped(saved(STATE), lambda name, old: old[:-1] if name.endswith("data/1") else old)
    assert "does not fit" in refused(shorter)


def test_another_zip_file_is_refused() -> None:
    assert "none of torch.save" in refused(
        rezipped(saved(STATE), lambda name, old: None if name.endswith("data.pkl") else old)
    )


def _directory_entry(data: bytes, name: bytes) -> int:
    """Where the directory's entry of a member begins."""
    return data.rindex(b"PK\x01\x02", 0, data.rindex(name))


def test_members_that_overlap_are_refused() -> None:
    data = bytearray(saved(STATE))
    first, second = (_directory_entry(data, name) for name in (b"data/0", b"data/1"))
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    assert "overlaps" in refused(bytes(data)) or "not where" in refused(bytes(data))
    data = bytearray(saved(STATE))
    struct.pack_into("<II", data, first + 20, 4096, 4096)
    assert "overlaps" in refused(bytes(data)) or "outside" in refused(bytes(data))


def test_a_member_outside_the_file_is_refused() -> None:
    data = bytearray(saved(STATE))
    at = _directory_entry(data, b"data/1")
    struct.pack_into("<I", data, at + 42, len(data) - 4)
    assert refused(bytes(data))


def test_a_truncated_file_is_refused() -> None:
    data = saved(STATE)
    for length in range(0, len(data), 37):
        refused(data[:length])


WHOLE = saved(STATE)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_damaged_file_is_an_error_or_what_torch_reads(data: st.DataObject) -> None:
    changed = bytearray(WHOLE)
    # Most of the file is padding and weights: half of the changes go where the structure is.
    dense = st.integers(0, 400) | st.integers(len(WHOLE) - 700, len(WHOLE) - 1)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(dense | st.integers(0, len(WHOLE) - 1))
        changed[at] = data.draw(st.integers(0, 255))
    try:
        tensors = read(bytes(changed))
    except PthError as error:
        assert "\n" not in str(error)
        return
    try:
        expected = torch.load(io.BytesIO(changed), weights_only=True)
    except Exception:  # it also refuses what does not touch a tensor, such as a checksum
        assert sum(tensor.data.size for tensor in tensors.values()) <= len(WHOLE)
        return
    assert list(tensors) == list(expected)
    for name, tensor in tensors.items():
        assert tensor.shape == tuple(expected[name].shape)
        same = dequantize(tensor) == expected[name].float().numpy()
        assert np.all(same | np.isnan(expected[name].float().numpy()))


OPCODES = st.sampled_from(sorted(torch_pickle._OPCODES))
LONG = st.sampled_from([tensor(), storage(), REBUILD, FLOATS, ORDERED, text("a"), text("b")])
SHORT = st.sampled_from(b"( } s u t R b Q q\x00 h\x00 K\x01 0 \x93 .".split(b" "))


@settings(max_examples=200, deadline=None)
@given(st.lists(LONG | SHORT | OPCODES | st.binary(max_size=3), max_size=30))
def test_any_program_is_an_error_or_a_dict_of_tensors(pieces: list[bytes]) -> None:
    try:
        result = torch_pickle.read_state_dict(PROTO + b"".join(pieces) + b".")
    except torch_pickle.PickleError:
        return
    assert all(isinstance(value, torch_pickle.Tensor) for value in result.values())
