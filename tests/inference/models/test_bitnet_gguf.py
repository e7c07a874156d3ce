"""BitNets in GGUF files: the same bits as in a directory, and llama.cpp's logits.

llama.cpp rounds activations to int8 in blocks of 256, not a token at a time as BitNet b1.58 does.
Where a token is one block the two are the same numbers; where it is several, llama.cpp equals
transformers' modules with a scale a block, and is some per cent of the spread from BitNet itself.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.model import build_model
from tests.inference import tiny, tiny_bitnet

Array = np.ndarray
ONE_BLOCK = tiny.Shape("bitnet", hidden=256, heads=4, kv_heads=2, inner=256, seed=3, tied=True)
BLOCKS = replace(ONE_BLOCK, hidden=512, heads=8, inner=768)
LENGTH = 40
GOLDEN = Path(__file__).parent / "data" / "bitnet_llama_cpp.npz"


def digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def ids(shape: tiny.Shape) -> Array:
    return np.random.default_rng(7).integers(0, shape.vocab, LENGTH)


def ours(path: Path, shape: tiny.Shape) -> Array:
    with build_model(open_checkpoint(path), threads=1, precision="float") as model:
        return model.forward(ids(shape), model.new_state(), all_logits=True)


def llama_cpp(path: Path, name: str) -> Array:
    """llama.cpp's logits after every token, as make_golden_bitnet.py kept them.

    It has no wheel and takes minutes to compile. The digest says that the file is still the one.
    """
    with np.load(GOLDEN) as kept:
        assert str(kept[f"{name}_file"]) == digest(path), "run make_golden_bitnet.py again"
        return np.asarray(kept[name], np.float32)


def packed(path: Path, shape: tiny.Shape, activation: str = "silu") -> Path:
    """A packed directory; SiLU is the one gate that every llama.cpp has for a BitNet."""
    tiny_bitnet.write_hub(path, shape, "packed")
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config["hidden_act"] = activation
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["TQ1_0", "TQ2_0", "I2_S", "F16", "F32"])
@pytest.mark.parametrize("activation", ["silu", "relu2"])
def test_a_gguf_gives_the_bits_of_the_packed_directory(
    kind: str, activation: str, tmp_path: Path
) -> None:
    hub = packed(tmp_path / "hub", ONE_BLOCK, activation)
    path = tiny_bitnet.write_gguf(
        tmp_path / "m.gguf", ONE_BLOCK, kind, hidden_activation=activation
    )
    np.testing.assert_array_equal(ours(path, ONE_BLOCK), ours(hub, ONE_BLOCK))


@pytest.mark.parametrize("kind", ["TQ1_0", "TQ2_0"])
def test_logits_equal_llama_cpp_where_a_token_is_one_block(kind: str, tmp_path: Path) -> None:
    from tests.inference.models.rounding import resolve
    from tests.inference.models.transformers_bitnet import load_reference

    reference = load_reference(packed(tmp_path / "hub", ONE_BLOCK))
    path = tiny_bitnet.write_gguf(tmp_path / "m.gguf", ONE_BLOCK, kind)
    got, theirs = ours(path, ONE_BLOCK), llama_cpp(path, f"one_block_{kind}")
    # Each equals the reference with its own codes at the edge of rounding; before the first one of
    # them, all three are the same.
    mine = resolve(reference, ids(ONE_BLOCK), got)
    peer = resolve(reference, ids(ONE_BLOCK), theirs)
    same = min(mine.clean, peer.clean)
    assert np.abs(got - theirs)[:same].max(initial=0) < 1e-4 * theirs.std()


def test_blocks_are_all_that_llama_cpp_does_otherwise(tmp_path: Path) -> None:
    from tests.inference.models.rounding import resolve
    from tests.inference.models.transformers_bitnet import load_reference

    reference = load_reference(packed(tmp_path / "hub", BLOCKS))
    path = tiny_bitnet.write_gguf(tmp_path / "m.gguf", BLOCKS, "TQ2_0")
    got, theirs = ours(path, BLOCKS), llama_cpp(path, "blocks_TQ2_0")
    resolve(reference, ids(BLOCKS), got)
    resolve(reference, ids(BLOCKS), theirs, block=256)
    # Random weights have no slack; root mean square over the spread.
    assert np.sqrt(((got - theirs) ** 2).mean()) < 0.15 * theirs.std()


@pytest.mark.parametrize("kind", ["TQ2_0", "I2_S"])
def test_a_llama_with_ternary_tensors_is_a_bitnet(kind: str, tmp_path: Path) -> None:
    # Rows of q and k are permuted, so that scores add up in another order: not the same bits.
    from tests.inference.models.rounding import resolve
    from tests.inference.models.transformers_bitnet import load_reference

    shape = replace(ONE_BLOCK, model_type="llama")
    reference = load_reference(packed(tmp_path / "hub", shape))
    path = tiny_bitnet.write_gguf(tmp_path / "m.gguf", shape, kind, "llama")
    resolve(reference, ids(shape), ours(path, shape))
