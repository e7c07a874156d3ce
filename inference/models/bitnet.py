"""BitNet b1.58: a Llama with ternary projections and two more norms in each layer.

    x = embedding[token]
    for each layer:
        x += o(attn_sub_norm(attention(rope(q), rope(k), v)))   q, k, v = projections of norm(x)
        x += down(ffn_sub_norm(relu(gate)^2 * up))              gate, up = projections of norm(x)
    logits = head * norm(x)

A projection rounds its input to int8 with one scale a token, s = 127 / max(absmax, 1e-5), and its
weights are -1, 0 and 1 times one scale a matrix; master weights become so by absmean. What lies
between is float32, and the output matrix is dense. The gate is SiLU in 1bitLLM's checkpoints and in
llama.cpp's.

Follows transformers' `modeling_bitnet` with `integrations/bitnet.py`, and 1bitLLM's
`modeling_bitnet.py`; microsoft/bitnet-b1.58-2B-4T and 1bitLLM/bitnet_b1_58-large are the published
models. "The Era of 1-bit LLMs", arXiv 2402.17764.
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
        ModelLoadError: an option is not supported, or a tensor is missing, misshapen or not
            ternary.
    """
    decoder = Decoder(ModelArgs.from_dict(config), weights, options)
    decoder.embed()
    for layer in decoder.layers:
        decoder.attention(layer, sub_norm="attn_sub_norm")
        decoder.mlp(layer, sub_norm="ffn_sub_norm")
    return decoder.finish()
