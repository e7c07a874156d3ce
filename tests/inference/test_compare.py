"""Variants and a peer side by side: what the rows say, on a model that takes no time."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.errors import ValidationError
from ryzanstein.inference.bench.compare import Variant, Work, compare
from ryzanstein.inference.bench.rounds import Entrant, Sample, run_rounds
from ryzanstein.inference.bench.subject import find_subject
from ryzanstein.inference.synthesize import SHAPES, synthesize

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_bitnet.py"
RECURRENT = SCRIPT.with_name("bench_recurrent.py")
# llama-cpp-python has no wheel and takes minutes to compile: an extra of its own, `peer`.
PEER = find_spec("llama_cpp") is not None
QUICK = Work(prompt_tokens=24, new_tokens=4, repeats=2, patience=None)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes: dict[str, Any] = {"hidden": 256, "layers": 1, "heads": 4, "kv_heads": 2, "inner": 512}
    shape = replace(SHAPES["bitnet-2b-4t"], name="tiny", vocab=1200, context=256, **sizes)
    path = tmp_path_factory.mktemp("bench") / "tiny.gguf"
    return synthesize(shape, path, format="gguf-tq2_0", head="q8_0").path


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = replace(SHAPES["mamba-130m"], name="tiny", vocab=1200, hidden=256, layers=2)
    path = tmp_path_factory.mktemp("bench") / "tiny-q8_0.gguf"
    return synthesize(shape, path, format="gguf-q8_0").path


def test_every_row_has_the_promised_fields_and_the_peer_comes_last(model: Path) -> None:
    variants = [Variant(), Variant("portable", "ternary5")]
    rows = compare(model, 1, variants, QUICK, peer=PEER)
    usual, portable, *peers = rows
    common = """model engine threads isa form body_bits head_bits prompt_tokens new_tokens rounds
        prefill_tok_s decode_tok_s load_s peak_rss_mb bytes_per_token bandwidth_gb_s
        peak_bandwidth_gb_s share_of_peak"""
    for row in rows:
        assert set(common.split()) <= set(row)
        assert row["prefill_tok_s"] > 0 and row["decode_tok_s"] > 0 and row["share_of_peak"] > 0
    own = "first_load_s weights_mb state_mb memory_ratio"
    own += " prefill_ratio decode_ratio" if PEER else ""
    for row in rows[:2]:
        assert row["engine"] == "ryzanstein" and set(own.split()) <= set(row)
    assert usual["form"].startswith("ternary2") and usual["body_bits"] == pytest.approx(2, abs=0.1)
    assert usual["head_bits"] == pytest.approx(8.5, abs=0.6)
    assert portable["isa"] == "portable" and portable["form"].startswith("ternary5")
    assert portable["body_bits"] < usual["body_bits"]
    assert len(peers) == PEER
    for peer in peers:
        assert peer["engine"].startswith("llama-cpp-python ") and peer["form"] == "TQ2_0"
        assert (peer["body_bits"], peer["head_bits"]) == (2.06, 8.5)
    json.dumps(rows)


def test_a_token_reads_the_keys_before_it_and_moves_a_recurrent_state_twice(
    model: Path, recurrent: Path
) -> None:
    (row, *_) = compare(model, 1, [Variant()], QUICK, peer=False)
    keys_and_values = 2 * 2 * 64 * 2  # one layer, two heads of 64, float16
    assert row["state_bytes_per_token"] == int(keys_and_values * (24 + 2.5))
    (row, *_) = compare(recurrent, 1, [Variant(precision="int4")], QUICK, peer=False)
    states = 2 * 512 * (16 + 3) * 4  # two layers of 512 channels: scan and convolution
    assert row["state_bytes_per_token"] == 2 * states
    assert row["precision"] == "int4" and row["head_bits"] < 8


def test_embeddings_that_are_not_the_output_matrix_are_not_read_by_a_token(tmp_path: Path) -> None:
    shape = replace(SHAPES["rwkv7-0.19b"], name="r", vocab=65_536, hidden=64, layers=1, inner=128)
    path = synthesize(shape, tmp_path / "r-q8_0.gguf", format="gguf-q8_0").path
    rows = compare(path, 1, [Variant(head="int8")], QUICK, peer=PEER)
    assert len(rows) == 1 + PEER
    for row in rows:
        assert 65_536 * 64 < row["bytes_per_token"] < 1.4 * 65_536 * 64


def test_what_does_not_fit_is_refused(model: Path) -> None:
    with pytest.raises(ValidationError, match="more than the model's 256"):
        compare(model, 1, [Variant()], Work(prompt_tokens=256), peer=False)
    with pytest.raises(ValidationError, match="at least 1"):
        compare(model, 1, [Variant()], Work(repeats=0), peer=False)


def test_a_process_without_its_model_can_probe_the_memory(model: Path) -> None:
    subject = find_subject(model, None, None, 1)
    with subject.worker("ryzanstein", 64) as worker:
        assert worker.ask("probe") > 1e8
        assert worker.ask("memory") > 256 << 20  # the buffer that was read


class _Clock:
    """Stands in for a worker: an engine of known speed."""

    def __init__(self, prefill: float, decode: float) -> None:
        self._prefill, self._decode = prefill, decode

    def ask(self, op: str, **arguments: Any) -> Any:
        if op == "memory":
            return 5_000_000
        prefill = len(arguments["ids"]) / self._prefill
        return {"prefill": prefill, "decode": arguments["new_tokens"] / self._decode}


def entrant(prefill: float, decode: float) -> Entrant:
    worker: Any = _Clock(prefill, decode)
    return Entrant(worker, {"load_s": 0.25}, list(range(512)), 64)


def test_shares_use_the_bandwidth_around_a_figure_and_ratios_that_of_the_same_round() -> None:
    ours, theirs = entrant(1000, 50), entrant(100, 25)
    probes = iter([4e9, 6e9, 8e9, 1e9, 3e9, 5e9])
    run_rounds([ours, theirs], lambda: next(probes), repeats=2)
    assert [one.probe for one in ours.samples] == [5e9, 2e9]
    assert [one.probe for one in theirs.samples] == [7e9, 4e9]
    figures = ours.figures(20_000_000)
    assert (figures["prefill_tok_s"], figures["decode_tok_s"]) == (1000.0, 50.0)
    assert figures["bandwidth_gb_s"] == 1.0
    assert figures["share_of_peak"] == pytest.approx((1 / 5 + 1 / 2) / 2)
    assert figures["peak_rss_mb"] == 5.0 and figures["load_s"] == 0.25
    assert figures["state_bytes_per_token"] == 0
    with_state = ours.figures(20_000_000, 5_000_000)
    assert with_state["bytes_per_token"] == 25_000_000 and with_state["bandwidth_gb_s"] == 1.25
    assert with_state["share_of_peak"] == pytest.approx(1.25 * (1 / 5 + 1 / 2) / 2, abs=1e-3)
    assert ours.ratios(theirs) == {"prefill_ratio": 10.0, "decode_ratio": 2.0}


def test_a_slow_engine_gets_fewer_tokens_and_says_so() -> None:
    slow, fast = entrant(10, 2), entrant(1000, 50)
    run_rounds([slow, fast], lambda: 1e9, repeats=1, patience=5)
    assert (slow.figures(1)["prompt_tokens"], slow.figures(1)["new_tokens"]) == (50, 10)
    assert (fast.figures(1)["prompt_tokens"], fast.figures(1)["new_tokens"]) == (512, 64)
    assert slow.samples == [Sample(5.0, 5.0, 1e9)]


@pytest.fixture
def refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[str]], str]:
    """Runs a script in this process with arguments that are wrong; returns what it says."""

    def run(command: list[str]) -> str:
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(command[0], run_name="__main__")
        assert caught.value.code == 2
        return capsys.readouterr().err

    return run


def test_the_script_ends_in_one_line_of_json_and_keeps_a_copy(
    model: Path, tmp_path: Path, refused: Callable[[list[str]], str]
) -> None:
    copy = tmp_path / "result.json"
    command = [sys.executable, str(SCRIPT), str(model), "--threads", "1", "--quick"]
    command += [] if PEER else ["--no-peer"]
    done = subprocess.run([*command, "--out", str(copy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert json.loads(copy.read_text(encoding="utf-8")) == report
    assert report["machine"] and len(report["results"]) == 1 + PEER
    assert "decode" in done.stderr and "tiny.gguf" in done.stderr
    assert "--dir" in refused([str(SCRIPT), "bitnet-350m"])
    assert "ternary5" in refused([*command[1:], "--forms", "ternary9"])


def test_the_script_of_recurrent_models_runs_int8_and_int4_of_one_file(
    recurrent: Path, tmp_path: Path, refused: Callable[[list[str]], str]
) -> None:
    command = [sys.executable, str(RECURRENT), "--threads", "1", "--quick"]
    command += [] if PEER else ["--no-peer"]
    done = subprocess.run([*command, str(recurrent)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["results"]
    assert [row["precision"] for row in rows] == ["int8", "int4", *["as stored"] * PEER]
    assert rows[1]["bytes_per_token"] < rows[0]["bytes_per_token"]
    assert "--dir" in refused([*command[1:], "mamba-130m"])
