"""Facts about this machine are plausible."""

from __future__ import annotations

from ryzanstein import machine
from ryzanstein.nearest import did_you_mean, nearest


def test_numbers_are_plausible() -> None:
    assert machine.available_cpus() >= 1
    assert 0 < machine.available_memory() <= machine.total_memory()
    assert 1 << 20 < machine.peak_memory() < machine.total_memory()
    assert machine.cpu_name()


def test_peak_memory_sees_an_allocation() -> None:
    before = machine.peak_memory()
    block = bytearray(b"x") * (64 << 20)
    assert machine.peak_memory() >= before
    assert len(block) == 64 << 20


def test_near_names_come_first() -> None:
    names = ["qwen2.5-coder-0.5b", "smollm2-135m", "APEX"]
    assert nearest("qwen-coder", names)[0] == "qwen2.5-coder-0.5b"
    assert nearest("apx", names) == ["APEX"]
    assert nearest("zzzzzz", names) == []


def test_a_question_reads_well() -> None:
    assert did_you_mean("apx", ["APEX"]) == "Did you mean APEX?"
    assert did_you_mean("aaab", ["aaaa", "aaac"]) == "Did you mean aaaa or aaac?"
    assert did_you_mean("zzz", ["aaaa"]) == ""
