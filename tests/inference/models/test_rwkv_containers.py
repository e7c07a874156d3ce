"""The same RWKV in every container gives the same logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.inference.models.running import in_pieces, load
from tests.inference.rwkv_containers import Tensors, blinkdl, write_gguf, write_hub, write_pth

TOKENS = np.random.default_rng(3).integers(0, 96, 40)


def model(version: str) -> Tensors:
    # Heads of 64 have the same epsilon in all code; other sizes differ between fla's and BlinkDL's.
    return blinkdl(version, heads=2, head_dim=64, inner=192, vocab=96, layers=3)


def logits(path: Path, precision: str = "float") -> np.ndarray:
    with load(path, precision=precision) as own:
        return in_pieces(own, TOKENS, 13)


@pytest.mark.parametrize("version", ["4", "5.2", "6"])
def test_directories_in_transformers_names_run_as_the_pth_does(
    version: str, tmp_path: Path
) -> None:
    stored = model(version)
    hub = write_hub(tmp_path / "hub", stored, model_type=f"rwkv{version[0]}")
    pth = write_pth(tmp_path / "m.pth", stored)
    np.testing.assert_array_equal(logits(hub), logits(pth))


@pytest.mark.parametrize("fused", [False, True])
def test_fla_directories_run_as_the_pth_does(fused: bool, tmp_path: Path) -> None:
    stored = model("7")
    hub = write_hub(tmp_path / "hub", stored, fused=fused)
    pth = write_pth(tmp_path / "m.pth", stored)
    np.testing.assert_array_equal(logits(hub), logits(pth))


@pytest.mark.parametrize("precision", ["float", "int8"])
@pytest.mark.parametrize(("version", "rescale"), [("6", 0), ("6", 1), ("7", 0)])
def test_gguf_files_run_as_the_pth_does(
    version: str, rescale: int, precision: str, tmp_path: Path
) -> None:
    stored = model(version)
    gguf = write_gguf(tmp_path / "m.gguf", stored, rescale=rescale)
    pth = write_pth(tmp_path / "m.pth", stored)
    # GGUF holds 1e-5 as a float32; the logits' spread is about one.
    np.testing.assert_allclose(logits(gguf, precision), logits(pth, precision), atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_run_as_their_values_do(dtype: str, tmp_path: Path) -> None:
    import torch

    kind = getattr(torch, dtype)
    stored = model("7")
    rounded = {n: torch.from_numpy(v).to(kind).float().numpy() for n, v in stored.items()}
    half = write_pth(tmp_path / "half.pth", stored, dtype)
    np.testing.assert_array_equal(logits(half), logits(write_pth(tmp_path / "m.pth", rounded)))
