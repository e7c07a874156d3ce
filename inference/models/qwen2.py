"""Qwen2 and Qwen2.5: Llama's computation with biases on q, k and v, and an optional sliding window.

Follows transformers' `modeling_qwen2`. The window is used by no published checkpoint of these sizes; one that asks
for it is refused by `ModelArgs`.
"""

from __future__ import annotations

from ryzanstein.inference.models.llama import ModelArgs, build

__all__ = ["ModelArgs", "build"]
