from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ryzanstein.errors import InvalidRequest, ModelLoadError, ModelNotFound, ValidationError
from ryzanstein.inference import load_model
from ryzanstein.inference.bench import bench_inference, bench_perplexity
from ryzanstein.inference.bench.worker import Worker
from tests.inference import tiny


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_gguf(tmp_path_factory.mktemp("m") / "m.gguf", tiny.Shape(), "Q8_0")


@pytest.fixture(scope="module")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "prose.txt"
    path.write_text("the rain in Spain stays mainly in the plain. " * 40, encoding="utf-8")
    return path


def test_speed_is_reported_with_every_promised_field(small: Path) -> None:
    result = bench_inference(small, threads=1, prompt_tokens=48, new_tokens=8, repeats=2)
    assert set(result) >= {
        "model",
        "threads",
        "isa",
        "prefill_tok_s",
        "decode_tok_s",
        "ttft_ms",
        "load_s",
        "peak_rss_mb",
        "bytes_per_token",
        "bandwidth_gb_s",
        "share_of_peak",
        "machine",
        "bits",
    }
    assert (result["threads"], result["prompt_tokens"], result["new_tokens"]) == (1, 48, 8)
    assert 8 < result["bits"] < 10
    assert result["prefill_tok_s"] > 0
    assert result["ttft_ms"] == pytest.approx(48_000 / result["prefill_tok_s"], rel=0.05, abs=0.01)
    assert 0 < result["share_of_peak"] < 1
    assert result["peak_rss_mb"] > 20
    json.dumps(result)


def test_perplexity_scores_the_second_half_of_each_window(small: Path, prose: Path) -> None:
    result = bench_perplexity(small, data=prose, threads=1, windows=3, window_tokens=64)
    with load_model(small, threads=1) as model:
        ids = model.tokenizer.encode(prose.read_text(encoding="utf-8"))
        total = 0.0
        for at in range(0, 3 * 64, 64):
            window = ids[at : at + 64]
            logits = model.forward(window[:-1], model.new_state(), all_logits=True).astype(float)
            logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            total += float(logs[np.arange(32, 63), window[33:]].sum())
    assert result["scored_tokens"] == 3 * 31
    # Fed in other pieces there, and int8 activations round what sums in float differ in.
    assert result["perplexity"] == pytest.approx(math.exp(-total / (3 * 31)), rel=0.02)


def test_what_ternary_rounding_costs_stands_beside_its_figure(small: Path, prose: Path) -> None:
    options = {"data": prose, "threads": 1, "windows": 1, "window_tokens": 64}
    usual = bench_perplexity(small, **options)
    rounded = bench_perplexity(small, precision="ternary", **options)
    assert rounded["bits"] < usual["bits"]
    assert rounded["perplexity"] != usual["perplexity"]
    assert rounded["auto_perplexity"] == usual["perplexity"]


def test_the_command_prints_one_line_of_json(small: Path, prose: Path) -> None:
    command = [sys.executable, "-m", "ryzanstein.inference.bench", "perplexity", str(small)]
    options = ["--data", str(prose), "--windows", "1", "--window-tokens", "32", "--threads", "1"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["windows"] == 1
    failed = subprocess.run(
        [*command, "--data", str(prose), "--windows", "9999"], capture_output=True, text=True
    )
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["error"]["code"] == "INVALID_REQUEST"


def test_what_cannot_be_measured_is_refused(small: Path, prose: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        bench_inference("qwen-of-the-future")
    with pytest.raises(ValidationError, match="more than the model's 512"):
        bench_inference(small, prompt_tokens=600)
    with pytest.raises(ValidationError, match="at least 1"):
        bench_inference(small, repeats=0)
    with pytest.raises(ValidationError, match="no peer 'gpt'"):
        bench_inference(small, peer="gpt")
    with pytest.raises(ValidationError, match="threads"):
        bench_inference(small, threads=1000)
    with pytest.raises(ValidationError, match="enough for"):
        bench_perplexity(small, data=prose, windows=1000)
    with pytest.raises(ValidationError, match="at least four tokens"):
        bench_perplexity(small, data=prose, window_tokens=2)
    with pytest.raises(InvalidRequest, match="cannot be read as text"):
        bench_perplexity(small, data=tmp_path / "none.txt", windows=1, window_tokens=64)


def test_a_peer_that_cannot_read_the_model_says_so(prose: Path, tmp_path: Path) -> None:
    hub = tiny.write_safetensors(tmp_path, tiny.Shape())
    # "not installed" where llama-cpp-python is missing, "reads .gguf files only" where it is there.
    with pytest.raises(InvalidRequest, match=r"not installed|\.gguf files only"):
        bench_perplexity(hub, data=prose, windows=1, window_tokens=32, peer="llama-cpp", threads=1)


def test_the_error_of_a_child_process_is_the_parents(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    with (
        Worker("ryzanstein", broken, 1, 64, "auto") as worker,
        pytest.raises(ModelLoadError, match="truncated"),
    ):
        worker.ask("load")
