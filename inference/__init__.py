"""The engine: models in files, run on the CPU.

    from ryzanstein.inference import load_model
    model = load_model("qwen2.5-coder-0.5b")
    state = model.new_state()
    logits = model.forward(model.tokenizer.encode("def fib("), state)

Importing this package imports nothing heavy: the kernels, tokenizers and grammars come with their
first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ryzanstein.inference.engine import Engine
    from ryzanstein.inference.load import load_model
    from ryzanstein.inference.model import Model
    from ryzanstein.inference.requests import ChatRequest, GenerateRequest, GenerateResult
    from ryzanstein.inference.state import State

__all__ = [
    "ChatRequest",
    "Engine",
    "GenerateRequest",
    "GenerateResult",
    "Model",
    "State",
    "load_model",
]

_MODULES = {
    "ChatRequest": "requests",
    "Engine": "engine",
    "GenerateRequest": "requests",
    "GenerateResult": "requests",
    "Model": "model",
    "State": "state",
    "load_model": "load",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
