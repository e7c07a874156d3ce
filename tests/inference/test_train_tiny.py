"""scripts/train_tiny.py: recurrences against plain loops, interruption, what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ryzanstein.inference import load_model
from ryzanstein.inference import tiny as shipped
from scripts.tiny import bitnet
from scripts.tiny.data import BEGIN, Corpus, bits_per_byte
from scripts.tiny.mamba import scan
from scripts.tiny.rwkv7 import delta_rule
from scripts.tiny.training import Interrupted, Plan, train

ROOT = Path(__file__).parent.parent.parent
SHAPE = bitnet.Shape(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=32,
)
PLAN = Plan(steps=5, windows=2, seed=3)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_bytes(shipped.held_out())
    return path


def plain_scan(u: Tensor, step: Tensor, decay: Tensor, b: Tensor, c: Tensor) -> Tensor:
    state = torch.zeros(len(u), *decay.shape)
    out = []
    for t in range(u.shape[1]):
        driven = (step[:, t] * u[:, t])[:, :, None] * b[:, t, None]
        state = torch.exp(step[:, t, :, None] * decay) * state + driven
        out.append((state * c[:, t, None]).sum(-1))
    return torch.stack(out, 1)


def plain_delta_rule(
    r: Tensor, log_w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor
) -> Tensor:
    state = torch.zeros(*r.shape[:2], r.shape[3], r.shape[3])
    out = []
    for t in range(r.shape[2]):
        asked = state @ a[:, :, t, :, None]
        state = state * torch.exp(log_w[:, :, t, None]) + asked @ b[:, :, t, None]
        state = state + v[:, :, t, :, None] @ k[:, :, t, None]
        out.append((state @ r[:, :, t, :, None]).squeeze(-1))
    return torch.stack(out, 2)


def test_the_scan_and_its_gradients_equal_a_plain_loop() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, 9, 6), torch.rand(2, 9, 6), -torch.rand(6, 4)]
    inputs += [torch.randn(2, 9, 4), torch.randn(2, 9, 4)]
    for one in inputs:
        one.requires_grad_()
    weights = torch.randn(2, 9, 6)
    found, expected = scan(*inputs), plain_scan(*inputs)
    torch.testing.assert_close(found, expected)
    gradients = torch.autograd.grad(found, inputs, weights)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, inputs, weights))


@pytest.mark.parametrize("tokens", [1, 16, 50])
def test_the_delta_rule_in_chunks_equals_a_plain_loop(tokens: int) -> None:
    torch.manual_seed(0)
    shape = (2, 3, tokens, 8)
    r, k, v = (torch.randn(shape, requires_grad=True) for _ in range(3))
    log_w = -0.6065 * torch.sigmoid(3 * torch.randn(shape))
    unit = F.normalize(torch.randn(shape), dim=-1)
    rest = (-unit, unit * torch.sigmoid(torch.randn(shape)))
    found = delta_rule(r, log_w, k, v, *rest)
    expected = plain_delta_rule(r, log_w, k, v, *rest)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    weights = torch.randn(shape)
    gradients = torch.autograd.grad(found, (r, k, v), weights)
    plain = torch.autograd.grad(expected, (r, k, v), weights)
    torch.testing.assert_close(gradients, plain, rtol=1e-4, atol=1e-4)


def test_training_and_scoring_of_a_ternary_model_agree_but_for_bfloat16() -> None:
    torch.manual_seed(0)
    model, tokens = bitnet.BitNet(SHAPE), torch.randint(0, 256, (2, 32))
    trained, scored = model.train()(tokens), model.eval()(tokens)
    assert (trained - scored).abs().mean() < 0.02 * scored.std()


def test_a_stored_ternary_model_scores_as_the_master_weights_do(text: Path) -> None:
    torch.manual_seed(0)
    model = bitnet.BitNet(SHAPE).eval()
    before = bits_per_byte(model, text.read_bytes(), 32)
    model.restore(model.exported())
    assert bits_per_byte(model, text.read_bytes(), 32) == pytest.approx(before, abs=0.01)


def test_windows_begin_lines_and_held_out_text_is_never_drawn(text: Path) -> None:
    corpus = Corpus(text, 32)
    assert corpus.training + corpus.held_out == text.read_bytes()
    inputs, targets = corpus.batch(50, torch.Generator().manual_seed(0))
    for given, wanted in zip(inputs.tolist(), targets.tolist(), strict=True):
        assert given == [BEGIN, *wanted[:-1]]
        assert b"\n" + bytes(wanted) in corpus.training


class Interrupting(Corpus):
    """Presses Ctrl-C in the third step."""

    drawn = 0

    def batch(self, windows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        self.drawn += 1
        if self.drawn == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return super().batch(windows, generator)


def fresh() -> bitnet.BitNet:
    torch.manual_seed(0)
    return bitnet.BitNet(SHAPE)


def test_a_run_that_was_interrupted_ends_with_the_same_weights(text: Path, tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    straight.mkdir()
    broken.mkdir()
    whole = fresh()
    train(whole, whole.matrices(), Corpus(text, 32), PLAN, straight)
    first, second = fresh(), fresh()
    with pytest.raises(Interrupted, match="step 3 of 5"):
        train(first, first.matrices(), Interrupting(text, 32), PLAN, broken)
    train(second, second.matrices(), Corpus(text, 32), PLAN, broken)
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, second.state_dict()[name]), name


def test_a_checkpoint_of_another_run_is_refused(text: Path, tmp_path: Path) -> None:
    model = fresh()
    train(model, model.matrices(), Corpus(text, 32), PLAN, tmp_path)
    with pytest.raises(SystemExit, match="another run"):
        train(model, model.matrices(), Corpus(text, 32), Plan(steps=9), tmp_path)


def test_the_script_leaves_a_model_that_the_engine_scores_alike(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    command = [sys.executable, "scripts/train_tiny.py", "--arch", "bitnet", "--data", str(text)]
    command += ["--out", str(out), "--steps", "2", "--data-note", "public domain"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "step 2/2" in done.stderr
    front = json.loads(done.stdout.splitlines()[-1])
    assert str(tmp_path) not in json.dumps(front)
    with load_model(out, 1, "float") as model:
        found = shipped.bits_per_byte(model, (out / "held_out.txt").read_bytes())
    assert found == pytest.approx(front["bits_per_byte_excerpt"], abs=0.0005)
