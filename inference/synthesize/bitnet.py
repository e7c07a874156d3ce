"""BitNet b1.58, as Microsoft's 2B-4T and as 1bitLLM's earlier Llama-style checkpoints.

                microsoft/bitnet-b1.58-2B-4T         1bitLLM/bitnet_b1_58-large
    linear      uint8, four rows to a byte, and a    float16 master weights, quantised by
                weight_scale each (autobitlinear)    their mean absolute value on load
    the rest    bfloat16                             float16
    sub-norms   attn_sub_norm, ffn_sub_norm          inner_attn_ln, ffn_layernorm
    gate        squared ReLU                         SiLU
    tokens      128,256, byte-level                  32,002, SentencePiece

Nothing of 350 million parameters was published; `bitnet-350m` is -large with the sizes that
measurements of BitNet engines use for it.

A ternary matrix of scale 1/sqrt(2/3 columns) keeps the variance of what it is applied to, and the
norms do the rest, so activations stay near 1 at any depth. The residual stream ends far from its
embedding, whose own logit is then no larger than others: the greedy text does not repeat a token.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from ryzanstein.inference.synthesize.blocks import round_bf16
from ryzanstein.inference.synthesize.shape import Shape, Tensor

__all__ = ["BITNET_SHAPES", "BitNetShape"]

_LOGIT_SPREAD: Final = 2.0
_FILE_TYPES: Final = {"TQ1_0": 36, "TQ2_0": 37, "I2_S": 40}
_MICROSOFT: Final = ("self_attn.attn_sub_norm", "mlp.ffn_sub_norm")
_1BITLLM: Final = ("self_attn.inner_attn_ln", "mlp.ffn_layernorm")


@dataclass(frozen=True, kw_only=True)
class BitNetShape(Shape):
    """A BitNet b1.58.

    Attributes:
        packed: Published as packed codes (Microsoft), else as master weights (1bitLLM).
    """

    family: ClassVar[str] = "bitnet"

    heads: int
    kv_heads: int
    inner: int
    rope_theta: float
    packed: bool

    @property
    def hub_body(self) -> str:
        """B158 or F16."""
        return "B158" if self.packed else "F16"

    @property
    def hub_dtype(self) -> str:
        """BF16 or F16."""
        return "BF16" if self.packed else "F16"

    def tensors(self) -> list[Tensor]:
        """Returns the tied embeddings, the layers, and the last norm."""
        spread = _LOGIT_SPREAD / math.sqrt(self.hidden)
        table = Tensor(
            "model.embed_tokens.weight",
            "token_embd.weight",
            (self.vocab, self.hidden),
            "table",
            spread,
        )
        layers = (tensor for layer in range(self.layers) for tensor in self._layer(layer))
        return [table, *layers, _norm("model.norm.weight", "output_norm.weight", self.hidden)]

    def _layer(self, layer: int) -> Iterator[Tensor]:
        keys = self.hidden // self.heads * self.kv_heads
        attention_norm, inner_norm = _MICROSOFT if self.packed else _1BITLLM
        hub, gguf = f"model.layers.{layer}.", f"blk.{layer}."

        def norm(name: str, short: str, size: int) -> Tensor:
            return _norm(f"{hub}{name}.weight", f"{gguf}{short}.weight", size)

        def linear(name: str, short: str, rows: int, cols: int) -> Tensor:
            return Tensor(
                f"{hub}{name}.weight", f"{gguf}{short}.weight", (rows, cols), "ternary", _unit(cols)
            )

        yield norm("input_layernorm", "attn_norm", self.hidden)
        yield linear("self_attn.q_proj", "attn_q", self.hidden, self.hidden)
        yield linear("self_attn.k_proj", "attn_k", keys, self.hidden)
        yield linear("self_attn.v_proj", "attn_v", keys, self.hidden)
        yield norm(attention_norm, "attn_sub_norm", self.hidden)
        yield linear("self_attn.o_proj", "attn_output", self.hidden, self.hidden)
        yield norm("post_attention_layernorm", "ffn_norm", self.hidden)
        yield linear("mlp.gate_proj", "ffn_gate", self.inner, self.hidden)
        yield linear("mlp.up_proj", "ffn_up", self.inner, self.hidden)
        yield norm(inner_norm, "ffn_sub_norm", self.inner)
        yield linear("mlp.down_proj", "ffn_down", self.hidden, self.inner)

    def config(self) -> dict[str, Any]:
        """Returns what Microsoft or 1bitLLM publish, without the names of their Python files."""
        common = {
            "attention_bias": False,
            "hidden_size": self.hidden,
            "initializer_range": 0.02,
            "intermediate_size": self.inner,
            "max_position_embeddings": self.context,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": 1e-05,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": True,
            "use_cache": True,
            "vocab_size": self.vocab,
        }
        if self.packed:
            return common | {
                "architectures": ["BitNetForCausalLM"],
                "model_type": "bitnet",
                "hidden_act": "relu2",
                "torch_dtype": "bfloat16",
                "quantization_config": {
                    "quant_method": "bitnet",
                    "linear_class": "autobitlinear",
                    "quantization_mode": "offline",
                },
            }
        return common | {
            "architectures": ["BitnetForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "input_bits": 8,
            "weight_bits": 1,
            "rope_scaling": None,
            "torch_dtype": "float16",
        }

    def metadata(self, body: str) -> Mapping[str, Any]:
        """Returns the keys of llama.cpp's `bitnet`, or of bitnet.cpp's for its own type I2_S.

        llama.cpp reads `hidden_activation` in its newer versions; older ones compute 2B-4T with
        SiLU, which costs the same.
        """
        architecture = "bitnet-b1.58" if self.packed and body == "I2_S" else "bitnet"
        own = {
            "context_length": self.context,
            "embedding_length": self.hidden,
            "block_count": self.layers,
            "feed_forward_length": self.inner,
            "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads,
            "attention.layer_norm_rms_epsilon": 1e-5,
            "rope.freq_base": self.rope_theta,
            "rope.dimension_count": self.hidden // self.heads,
            "vocab_size": self.vocab,
            "hidden_activation": "relu2" if self.packed else "silu",
        }
        return {
            "general.architecture": architecture,
            "general.file_type": _FILE_TYPES[body],
            **{f"{architecture}.{key}": value for key, value in own.items()},
        }


def _norm(name: str, gguf: str, size: int) -> Tensor:
    return Tensor(name, gguf, (size,), "norm", 0.05)


def _unit(cols: int) -> float:
    """Keeps a variance: a third of the weights are 0. Exact in bf16, and so in f16."""
    return round_bf16(1 / math.sqrt(2 / 3 * cols))


BITNET_SHAPES: Final = (
    BitNetShape(
        name="bitnet-2b-4t",
        source="microsoft/bitnet-b1.58-2B-4T",
        tokenizer="llama-3",
        vocab=128_256,
        hidden=2560,
        layers=30,
        context=4096,
        heads=20,
        kv_heads=5,
        inner=6912,
        rope_theta=500_000.0,
        packed=True,
    ),
    BitNetShape(
        name="bitnet-large",
        source="1bitLLM/bitnet_b1_58-large",
        tokenizer="llama-2",
        vocab=32_002,
        hidden=1536,
        layers=24,
        context=2048,
        heads=16,
        kv_heads=16,
        inner=4096,
        rope_theta=10_000.0,
        packed=False,
    ),
    BitNetShape(
        name="bitnet-350m",
        source="1bitLLM/bitnet_b1_58-large, smaller",
        tokenizer="llama-2",
        vocab=32_000,
        hidden=1024,
        layers=24,
        context=2048,
        heads=16,
        kv_heads=16,
        inner=2816,
        rope_theta=10_000.0,
        packed=False,
    ),
)
