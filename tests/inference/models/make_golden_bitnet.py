"""Writes data/bitnet_llama_cpp.npz: llama.cpp's logits of the small BitNets of test_bitnet_gguf.py.

    python -m tests.inference.models.make_golden_bitnet

Needs the `peer` extra. Run again only when those models change.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from tests.inference import tiny, tiny_bitnet
from tests.inference.models.test_bitnet_gguf import BLOCKS, GOLDEN, LENGTH, ONE_BLOCK, digest, ids

CASES: tuple[tuple[str, tiny.Shape, str], ...] = (
    ("one_block_TQ1_0", ONE_BLOCK, "TQ1_0"),
    ("one_block_TQ2_0", ONE_BLOCK, "TQ2_0"),
    ("blocks_TQ2_0", BLOCKS, "TQ2_0"),
)


def logits(path: Path, shape: tiny.Shape) -> np.ndarray:
    """After every token, with a float32 cache."""
    from llama_cpp import GGML_TYPE_F32, Llama

    options = {"logits_all": True, "type_k": GGML_TYPE_F32, "type_v": GGML_TYPE_F32}
    model = Llama(str(path), n_ctx=64, n_batch=64, n_threads=1, verbose=False, **options)
    model.eval(ids(shape).tolist())
    found = np.array(model.scores[:LENGTH], np.float32)
    model.close()
    return found


def main() -> None:
    """Asks llama.cpp and writes the file."""
    kept: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, shape, kind in CASES:
            path = tiny_bitnet.write_gguf(Path(folder) / f"{name}.gguf", shape, kind)
            kept[name] = logits(path, shape)
            kept[f"{name}_file"] = np.array(digest(path))
    np.savez_compressed(GOLDEN, **kept)


if __name__ == "__main__":
    main()
