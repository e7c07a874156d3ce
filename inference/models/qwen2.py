"""Qwen2 and Qwen2.5: Llama's computation with biases on q, k and v.

Follows transformers' `modeling_qwen2`. A checkpoint that asks for the window is refused.
"""

from __future__ import annotations

from ryzanstein.inference.models.llama import ModelArgs, build

__all__ = ["ModelArgs", "build"]
