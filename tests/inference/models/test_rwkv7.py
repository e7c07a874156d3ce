"""RWKV-7 against rwkv7-hf and float64, and the trained one that ships.

test_rwkv.py has it against BlinkDL's package.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.kernels.reference_wkv import Rwkv7
from ryzanstein.inference.model import Model
from ryzanstein.inference.models.rwkv7 import Args
from tests.inference.models.random_rwkv import Shape, stored, tensors, write_pth
from tests.inference.models.running import ids, in_pieces, likeliest, load, worst
from tests.inference.models.rwkv_package import one_thread
from tests.inference.rwkv_containers import write_hub

Array = np.ndarray
TINY = Path(__file__).parents[3] / "inference/tiny"


def test_matrices_of_low_rank_keep_eight_bits_where_others_have_four(tmp_path: Path) -> None:
    shape = Shape()
    path = write_pth(tmp_path / "m.pth", shape)
    ranks = shape.decay_rank + shape.a_rank + shape.gate_rank
    with load(path, precision="int4") as own:
        weights, _ = own.layouts["int8/group"]
    small = shape.layers * ranks + (shape.layers - 1) * shape.v_rank
    assert weights == 2 * small * shape.hidden


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_dim": 512}, "Heads of 512"),
        ({"decay_rank": -1}, "decay_rank = -1"),
        ({"num_heads": True}, "num_heads = True"),
        ({"group_norm_eps": 2.0}, "group_norm_eps = 2.0"),
        ({"hidden_size": None}, "hidden_size = None"),
    ],
)
def test_configurations_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    config = {
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "intermediate_size": 64,
        "vocab_size": 8,
        "num_heads": 1,
        "head_dim": 64,
        "max_position_embeddings": 4,
    }
    assert Args.from_dict(config).width == 64
    with pytest.raises(ModelLoadError, match=message):
        Args.from_dict(config | changes)


def test_fifty_thousand_tokens_do_not_drift_from_float64(tmp_path: Path) -> None:
    shape = Shape(layers=2, heads=2, head_dim=32, inner=96, seed=5)
    tokens = ids(shape.vocab, 50_000)
    want = Rwkv7(tensors(shape), shape.head_dim)(tokens)
    with load(write_pth(tmp_path / "m.pth", shape)) as own:
        got = own.forward(tokens, own.new_state(), all_logits=True)
    errors = np.abs(got - want).max(1) / want.std()
    assert errors[-5000:].max() < 3e-5
    assert errors[-5000:].mean() < 1.2 * errors[:5000].mean()


@pytest.mark.parametrize("heads", [2, 8])
def test_logits_and_text_equal_rwkv7_hf(heads: int, tmp_path: Path) -> None:
    import torch
    from rwkv7_hf import RWKV7ForCausalLM

    shape = Shape(heads=heads, head_dim=128 // heads, seed=heads)
    path = write_hub(
        tmp_path / "hub",
        stored(shape),
        decay_low_rank_dim=shape.decay_rank,
        a_low_rank_dim=shape.a_rank,
        v_low_rank_dim=shape.v_rank,
        gate_low_rank_dim=shape.gate_rank,
    )
    theirs = RWKV7ForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokens = ids(shape.vocab, 150)
    theirs.generation_config.eos_token_id = None  # 64 tokens, whatever they are
    with torch.no_grad(), one_thread():
        want = theirs(torch.from_numpy(tokens)[None]).logits[0].numpy()
        written = theirs.generate(
            torch.from_numpy(tokens[None, :20]), max_new_tokens=64, do_sample=False
        )
    with load(path) as own:
        assert worst(in_pieces(own, tokens, 64), want) < 5e-5
        assert likeliest(own, tokens[:20].tolist(), 64) == written[0, 20:].tolist()


def test_the_shipped_model_has_the_bits_per_byte_of_its_card() -> None:
    text = (TINY / "held_out.txt").read_bytes()
    card = (TINY / "rwkv7/README.md").read_text(encoding="utf-8")
    stated = float(re.findall(r"^bits_per_byte_excerpt: (\S+)$", card, re.MULTILINE)[0])
    windows = [text[at : at + 256] for at in range(0, len(text), 256)]
    with load(TINY / "rwkv7") as own:
        bits = sum(_bits(own, window) for window in windows)
    assert round(bits / len(text), 3) == round(stated, 3)


def _bits(model: Model, window: bytes) -> float:
    """What a window costs, after the token that begins a text."""
    tokens = np.array([256, *window[:-1]])
    logits = model.forward(tokens, model.new_state(), all_logits=True).astype(np.float64)
    logits -= logits.max(1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(1, keepdims=True))
    return float(-logits[np.arange(len(window)), list(window)].sum() / np.log(2))
