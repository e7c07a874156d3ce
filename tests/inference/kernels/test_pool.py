"""The thread pool: any width gives the same bits, idle threads sleep, neighbours do no harm."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from ryzanstein.inference.kernels._program import PAGE, Program, aligned
from ryzanstein.inference.kernels.pack import PackedMatrix, pack
from ryzanstein.machine import is_linux

Array = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]

LAYERS, HEADS, KV_HEADS, DIM, WIDTH, VOCABULARY = 3, 6, 3, 16, 96, 200


def matrix(rows: int, cols: int, seed: int) -> PackedMatrix:
    values = np.random.default_rng(seed).normal(0, cols**-0.5, (rows, cols)).astype(np.float32)
    return pack("F32", values.reshape(-1).view(np.uint8), rows, cols, "int8")


class Decoder:
    """A small decoder with everything that a step may consist of: sums, gates and a cache."""

    def __init__(self, threads: int, *, pin: bool = False) -> None:
        program = Program(
            chunk=512,
            threads=threads,
            heads=HEADS,
            kv_heads=KV_HEADS,
            head_dim=DIM,
            layers=LAYERS,
            half_cache=True,
            block=64,
            pin=pin,
        )
        x = program.buffer(WIDTH, whole=True)
        heads = program.buffer((HEADS + 2 * KV_HEADS) * DIM, whole=True)
        attended, gated = program.buffer(HEADS * DIM), program.buffer(3 * WIDTH)
        rope = program.rope(np.ones(DIM // 2, np.float32))
        norm = np.ones(WIDTH, np.float32)
        program.embed(matrix(VOCABULARY, WIDTH, 1), x)
        for layer in range(LAYERS):
            sides = [matrix(n * DIM, WIDTH, layer) for n in (HEADS, KV_HEADS, KV_HEADS)]
            program.linear(x, sides, heads, norm=norm, eps=1e-5)
            program.attention(heads, attended, layer=layer, rope=rope, scale=0.25)
            program.linear(attended, [matrix(WIDTH, HEADS * DIM, 7)], x, accumulate=True)
            pair = [matrix(3 * WIDTH, WIDTH, 8), matrix(3 * WIDTH, WIDTH, 9)]
            program.linear(x, pair, gated, norm=norm, eps=1e-5, gated=True)
            program.linear(gated, [matrix(WIDTH, 3 * WIDTH, 10)], x, accumulate=True)
        program.finish(x, matrix(VOCABULARY, WIDTH, 11), norm=norm, eps=1e-5)
        self.program = program
        self._pages = [aligned(program.page_bytes) for _ in range(8)]
        self._addresses = np.array([page.ctypes.data for page in self._pages], np.uintp)

    def run(self, ids: Ids, cuts: list[int]) -> Array:
        """Logits after every token, the tokens given to the program in pieces."""
        logits = np.empty((len(ids), VOCABULARY), np.float32)
        at = 0
        for cut in cuts:
            piece, out = ids[at : at + cut], logits[at : at + cut]
            self.program.run(piece, at, self._addresses, out, all_logits=True)
            at += cut
        return logits


def some_ids(count: int) -> Ids:
    assert count <= 8 * PAGE
    return np.random.default_rng(2).integers(0, VOCABULARY, count).astype(np.int32)


@pytest.fixture
def neighbour() -> Iterator[None]:
    """A process that spins on the last CPU of this one."""
    code = "import os\nif hasattr(os, 'sched_setaffinity'):\n"
    code += "    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})\n"
    code += f"print(flush=True)\nwhile os.getppid() == {os.getpid()}: pass"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    yield
    child.kill()
    child.communicate()


@pytest.mark.parametrize("threads", [2, 3, 5, 8])
@pytest.mark.parametrize("cuts", [[1] * 40, [5] * 8, [150, 40, 1, 1]], ids=["one", "few", "many"])
def test_a_width_that_changes_at_every_step_gives_the_same_bits(
    threads: int, cuts: list[int]
) -> None:
    ids = some_ids(sum(cuts))
    want = Decoder(1).run(ids, cuts)
    decoder = Decoder(threads)
    for how in ("full", "varies", "adapts", "varies"):
        decoder.program.set_width(how)
        np.testing.assert_array_equal(decoder.run(ids, cuts), want)


def test_many_short_runs_of_varying_width_neither_hang_nor_differ() -> None:
    decoder, ids = Decoder(4), some_ids(30)
    want = Decoder(1).run(ids, [30])
    decoder.program.set_width("varies")
    for _ in range(60):
        np.testing.assert_array_equal(decoder.run(ids, [1] * 30), want)


def test_a_run_that_is_given_up_leaves_the_pool_usable() -> None:
    class Later:
        asked = 0

        def is_set(self) -> bool:
            self.asked += 1
            return self.asked > 2

    decoder, ids = Decoder(3), some_ids(150)
    want = decoder.run(ids, [150])
    for how in ("full", "varies"):
        decoder.program.set_width(how)
        for _ in range(20):
            assert decoder.program.run(ids, 0, decoder._addresses, cancel=Later()) is False
        np.testing.assert_array_equal(decoder.run(ids, [150]), want)


def test_threads_without_work_use_no_cpu() -> None:
    decoder = Decoder(4)
    decoder.run(some_ids(20), [1] * 20)
    used, started = time.process_time(), time.monotonic()
    while time.monotonic() - started < 0.2:
        threading.Event().wait(0.2)
    assert time.process_time() - used < 0.05


def test_a_busy_neighbour_changes_no_bit_and_blocks_nobody(neighbour: None) -> None:
    ids, cuts = some_ids(200), [150, *[1] * 50]
    want = Decoder(1).run(ids, cuts)
    decoder = Decoder(4)
    for _ in range(10):
        np.testing.assert_array_equal(decoder.run(ids, cuts), want)
    assert 1 <= decoder.program.width <= 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_varies_its_width_too() -> None:
    decoder, ids = Decoder(3), some_ids(40)
    decoder.program.set_width("varies")
    want = decoder.run(ids, [1] * 40)
    child = os.fork()
    if child == 0:
        same = np.array_equal(decoder.run(ids, [1] * 40), want)
        os._exit(0 if same else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    np.testing.assert_array_equal(decoder.run(ids, [1] * 40), want)


def own_cpus() -> set[int]:
    return set(os.sched_getaffinity(0)) if is_linux() else set()


def test_pinning_keeps_each_thread_on_a_cpu_and_the_caller_free() -> None:
    before, threads = own_cpus(), min(2, os.cpu_count() or 1)
    ids = some_ids(60)
    decoder = Decoder(threads, pin=True)
    assert decoder.program.pinned == (is_linux() and len(before) >= threads)
    for how in ("full", "varies", "full"):
        decoder.program.set_width(how)
        np.testing.assert_array_equal(decoder.run(ids, [1] * 60), Decoder(1).run(ids, [60]))
        assert own_cpus() == before


def test_pinned_workers_may_use_one_cpu_only() -> None:
    if not is_linux() or len(own_cpus()) < 2:
        assert not Decoder(300, pin=True).program.pinned
        return
    known = set(os.listdir("/proc/self/task"))
    decoder = Decoder(2, pin=True)
    decoder.program.set_width("full")
    decoder.run(some_ids(10), [1] * 10)
    (worker,) = set(os.listdir("/proc/self/task")) - known
    assert os.sched_getaffinity(int(worker)) == {sorted(own_cpus())[1]}


def test_more_threads_than_cpus_are_not_pinned_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    decoder = Decoder(len(own_cpus()) + 1, pin=True)
    assert decoder.program.pinned is False
    assert "not pinned" in caplog.text
    decoder.run(some_ids(10), [10])
