"""RWKV-4 against BlinkDL's package and transformers, on small random checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.inference.models.random_rwkv4 import Shape, tensors
from tests.inference.models.running import ids, in_pieces, likeliest, load, worst
from tests.inference.models.rwkv_package import one_thread, reference

Array = np.ndarray


def test_keys_of_any_size_neither_overflow_nor_vanish(tmp_path: Path) -> None:
    import torch

    made = tensors(Shape(seed=4))
    for name, value in made.items():
        if name.endswith("att.key.weight"):
            value *= 300.0  # keys of some hundreds: exp of them is no float
    path = tmp_path / "m.pth"
    torch.save({name: torch.from_numpy(value) for name, value in made.items()}, path)
    tokens = ids(Shape().vocab, 100)
    with load(path) as own:
        got = in_pieces(own, tokens, 64)
    # Which of two values wins hangs on the last bits of their keys.
    assert worst(got, reference(path)(tokens)) < 2e-3


def write_hub(path: Path, **changes: Any) -> Path:
    """A directory as transformers writes RwkvForCausalLM."""
    import torch
    from transformers import RwkvConfig, RwkvForCausalLM

    config: dict[str, Any] = {
        "vocab_size": 96,
        "hidden_size": 64,
        "num_hidden_layers": 5,
        "intermediate_size": 160,
        "rescale_every": 2,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    torch.manual_seed(3)
    made = RwkvForCausalLM(RwkvConfig(**(config | changes)))
    made.eval()
    with torch.no_grad():
        for name, value in made.named_parameters():
            last = name.rsplit(".", 1)[-1]
            if "embeddings" in name or last == "time_first":
                torch.nn.init.normal_(value, std=0.7)
            elif last == "time_decay":
                torch.nn.init.uniform_(value, -5.0, 1.0)
            elif "time_mix" in last:
                torch.nn.init.uniform_(value)
            elif value.ndim == 2:
                torch.nn.init.normal_(value, std=1.5 * value.shape[1] ** -0.5)
    made.save_pretrained(path)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": True, "hidden_size": 80, "vocab_size": 97, "intermediate_size": 99},
        {"attention_hidden_size": 96, "rescale_every": 0},
    ],
    ids=["rescaled", "tied, odd sizes", "wider attention"],
)
def test_logits_and_text_equal_transformers(tmp_path: Path, changes: dict[str, Any]) -> None:
    import torch
    from transformers import RwkvForCausalLM

    path = write_hub(tmp_path / "hub", **changes)
    tokens = ids(Shape().vocab, 100)
    prompt = torch.from_numpy(tokens[:20])[None]
    theirs = RwkvForCausalLM.from_pretrained(path, dtype=torch.float32)
    theirs.eval()
    with torch.no_grad(), one_thread():
        want = theirs(torch.from_numpy(tokens)[None], use_cache=False).logits[0].numpy()
        # Its own state has a place for hidden_size channels only.
        steps = 0 if "attention_hidden_size" in changes else 64
        text = theirs.generate(prompt, max_new_tokens=64, do_sample=False) if steps else prompt
    with load(path) as own:
        for size in (1000, 1, 7):
            assert worst(in_pieces(own, tokens, size), want) < 1e-4
        assert likeliest(own, tokens[:20].tolist(), steps) == text[0, 20:].tolist()
