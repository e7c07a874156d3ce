"""Facts about this machine are plausible."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

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


def test_memory_is_what_psutil_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert machine.total_memory() == psutil.virtual_memory().total
    assert abs(machine.available_memory() / psutil.virtual_memory().available - 1) < 0.2
    monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "none")
    assert machine.total_memory() == psutil.virtual_memory().total
    assert machine.available_memory() > 0


def test_a_container_s_file_pages_are_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("100000000\n")
    (tmp_path / "memory.current").write_text("90000000\n")
    assert machine.available_memory() == 10_000_000
    (tmp_path / "memory.stat").write_text("anon 1\nactive_file 5000000\ninactive_file 3000000\n")
    assert machine.available_memory() == 18_000_000
    assert machine.total_memory() == 100_000_000
    (tmp_path / "memory.current").write_text("999999999\n")
    assert machine.available_memory() == 0


def test_near_names_come_first() -> None:
    names = ["qwen2.5-coder-0.5b", "smollm2-135m", "APEX"]
    assert nearest("qwen-coder", names)[0] == "qwen2.5-coder-0.5b"
    assert nearest("apx", names) == ["APEX"]
    assert nearest("zzzzzz", names) == []


def test_a_question_reads_well() -> None:
    assert did_you_mean("apx", ["APEX"]) == "Did you mean APEX?"
    assert did_you_mean("aaab", ["aaaa", "aaac"]) == "Did you mean aaaa or aaac?"
    assert did_you_mean("zzz", ["aaaa"]) == ""
