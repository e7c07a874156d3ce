"""Llama and its like: pre-norm decoder, rotary grouped-query attention, SiLU-gated MLP.

    x = embedding[token]
    for each layer:
        x += o(attention(rope(q), rope(k), v))     q, k, v = projections of norm(x)
        x += down(silu(gate) * up)                 gate, up = projections of norm(x)
    logits = head * norm(x)

Biases on any projection are used where the checkpoint has them. Follows transformers'
`modeling_llama`. With config["bitnet"] the projections are ternary (HF1BitLLM's Llama 3, Falcon3
1.58bit, Falcon-E): see `decoder.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ryzanstein.inference.kernels._program import Program
from ryzanstein.inference.models.decoder import Decoder, ModelArgs
from ryzanstein.inference.models.options import Options
from ryzanstein.inference.models.weights import Weights

__all__ = ["ModelArgs", "build"]


def build(config: Mapping[str, Any], weights: Weights, options: Options) -> Program:
    """Packs the weights and returns the program, ready to run.

    Raises:
        ModelLoadError: an option is not supported, or a tensor is missing or misshapen.
    """
    decoder = Decoder(ModelArgs.from_dict(config), weights, options)
    decoder.embed()
    for layer in decoder.layers:
        decoder.attention(layer)
        decoder.mlp(layer)
    return decoder.finish()
