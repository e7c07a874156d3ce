"""BlinkDL's `rwkv` package as a reference: which versions it computes is decided when it loads.

reference(path)([tokens])               float32 [tokens, vocabulary], whatever the version
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np

Array = np.ndarray


@cache
def module(seven: bool) -> ModuleType:
    """The package's model.py: with RWKV-7 alone, or with the versions before it."""
    package = importlib.util.find_spec("rwkv")
    assert package is not None and package.submodule_search_locations
    file = Path(package.submodule_search_locations[0]) / "model.py"
    spec = importlib.util.spec_from_file_location(f"rwkv_model_{'7' if seven else '4'}", file)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    switches = {"RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0", "RWKV_V7_ON": "1" if seven else "0"}
    with mock.patch.dict(os.environ, switches), _no_jit():
        spec.loader.exec_module(loaded)
    return loaded


def _no_jit() -> Any:
    """For RWKV-7 the package uses torch.jit whatever the switch says, and PyTorch warns of it."""
    import torch

    return mock.patch.multiple(
        torch.jit, ScriptModule=torch.nn.Module, script_method=lambda f: f, script=lambda f: f
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Small models lose more by PyTorch's threads waiting for each other than they gain."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Reference:
    """A model of the package that keeps its state between calls."""

    def __init__(self, path: Path, seven: bool) -> None:
        switches = {"RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0"}
        with mock.patch.dict(os.environ, switches):
            options: dict[str, Any] = {} if seven else {"verbose": False}
            name = str(path.with_suffix("") if seven else path)
            self._model = module(seven).RWKV(model=name, strategy="cpu fp32", **options)
        self._state: Any = None

    def __call__(self, tokens: Sequence[int]) -> Array:
        """Logits after each of the next tokens."""
        with mock.patch.dict(os.environ, {"RWKV_CUDA_ON": "0"}), one_thread():
            logits, self._state = self._model.forward(list(tokens), self._state, full_output=True)
        return logits.numpy().reshape(len(tokens), -1)

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """The likeliest token, again and again."""
        found = [int(self(prompt)[-1].argmax())]
        while len(found) < count:
            found.append(int(self(found[-1:])[-1].argmax()))
        return found


def reference(path: Path, *, seven: bool = False) -> Reference:
    """Opens a .pth file; `seven` for RWKV-7."""
    return Reference(path, seven)
