"""Llama and its like: pre-norm decoder, rotary grouped-query attention, SiLU-gated MLP.

    x = embedding[token]
    for each layer:
        x += o(attention(rope(q), rope(k), v))     q, k, v = projections of norm(x)
        x += down(silu(gate) * up)                 gate, up = projections of norm(x)
    logits = head * norm(x)

Biases on any projection are used where the checkpoint has them. Follows transformers'
`modeling_llama`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.kernels._program import Program
from ryzanstein.inference.kernels.pack import PackedMatrix
from ryzanstein.inference.models.options import Options
from ryzanstein.inference.models.rope import frequencies
from ryzanstein.inference.models.weights import Weights

__all__ = ["ModelArgs", "build"]

_LIMIT = 1 << 24  # no dimension of a real model comes near it


@dataclass(frozen=True, slots=True)
class ModelArgs:
    """The keys of config.json that a Llama's computation depends on."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    rope_scaling: Mapping[str, Any] | None = None
    rope_interleaved: bool = False

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Self:
        """Keeps the keys it knows and refuses what the program would compute wrongly.

        Raises:
            ModelLoadError: a key is missing, out of range, or asks for something unsupported.
        """
        _refuse_unsupported(config)
        known = {field.name for field in fields(cls)}
        try:
            args = cls(**{key: value for key, value in config.items() if key in known})
        except TypeError as error:
            raise ModelLoadError(f"The configuration is incomplete: {error}.") from error
        args._check()
        return args

    def _check(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and not (isinstance(value, int) and 0 < value < _LIMIT):
                raise ModelLoadError(f"The configuration has {field.name} = {value!r:.60}.")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ModelLoadError(
                f"{self.num_attention_heads} heads do not divide among "
                f"{self.num_key_value_heads} key/value heads."
            )
        if self.head_dim % 2:
            raise ModelLoadError(f"A head of {self.head_dim} elements cannot be rotated in pairs.")
        if not 0 <= self.rms_norm_eps < 1:
            raise ModelLoadError(f"The configuration has rms_norm_eps = {self.rms_norm_eps!r:.60}.")


def _refuse_unsupported(config: Mapping[str, Any]) -> None:
    activation = config.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise ModelLoadError(f"The activation {activation!r:.60} is not supported (silu is).")
    if config.get("use_sliding_window") or "sliding_attention" in (config.get("layer_types") or ()):
        raise ModelLoadError("Sliding-window attention is not supported.")
    for key in ("attn_logit_softcapping", "final_logit_softcapping", "logit_scale"):
        if config.get(key):
            raise ModelLoadError(f"The option {key} is not supported.")
    for key in ("num_experts", "num_local_experts", "n_routed_experts"):
        if config.get(key):
            raise ModelLoadError(f"A mixture of experts ({key}) is not supported.")
    for key in ("embedding_multiplier", "residual_multiplier", "attention_multiplier"):
        if config.get(key, 1.0) != 1.0:
            raise ModelLoadError(f"The option {key} is not supported.")


def build(config: Mapping[str, Any], weights: Weights, options: Options) -> Program:
    """Packs the weights and returns the program, ready to run.

    Raises:
        ModelLoadError: an option is not supported, or a tensor is missing or misshapen.
    """
    args = ModelArgs.from_dict(config)
    program = Program(
        threads=options.threads,
        heads=args.num_attention_heads,
        kv_heads=args.num_key_value_heads,
        head_dim=args.head_dim,
        layers=args.num_hidden_layers,
        half_cache=options.half_cache,
        isa=options.isa,
    )
    return _Decoder(args, weights, program).build()


class _Decoder:
    """Appends the operators of one model to a program."""

    def __init__(self, args: ModelArgs, weights: Weights, program: Program) -> None:
        self.args, self.weights, self.program = args, weights, program
        self.query = args.num_attention_heads * args.head_dim
        self.key = args.num_key_value_heads * args.head_dim
        self.x = program.buffer(args.hidden_size, whole=True)
        self.heads = program.buffer(self.query + 2 * self.key, whole=True)
        self.attended = program.buffer(self.query)
        self.gated = program.buffer(args.intermediate_size)
        angles, gain = frequencies(
            args.head_dim, args.rope_theta, args.rope_scaling, args.max_position_embeddings
        )
        self.rope = program.rope(angles, factor=gain, interleaved=args.rope_interleaved)

    def build(self) -> Program:
        args, program = self.args, self.program
        size = (args.vocab_size, args.hidden_size)
        tied = args.tie_word_embeddings
        embedding = self.weights.matrix("model.embed_tokens.weight", *size, streamed=tied)
        # The largest matrices first: while one is packed its source is in memory too.
        head = embedding if tied else self.weights.matrix("lm_head.weight", *size)
        program.embed(embedding, self.x)
        for layer in range(args.num_hidden_layers):
            self._attention(layer, f"model.layers.{layer}")
            self._mlp(f"model.layers.{layer}")
        norm = self.weights.vector("model.norm.weight", args.hidden_size)
        program.finish(self.x, head, norm=norm, eps=args.rms_norm_eps)
        return program

    def _attention(self, layer: int, prefix: str) -> None:
        args, program = self.args, self.program
        norm = self.weights.vector(f"{prefix}.input_layernorm.weight", args.hidden_size)
        rows = (("q", self.query), ("k", self.key), ("v", self.key))
        parts = [
            self._projection(f"{prefix}.self_attn.{name}_proj", size, args.hidden_size)
            for name, size in rows
        ]
        program.linear(
            self.x,
            [matrix for matrix, _ in parts],
            self.heads,
            biases=[bias for _, bias in parts],
            norm=norm,
            eps=args.rms_norm_eps,
        )
        scale = 1 / math.sqrt(args.head_dim)
        program.attention(self.heads, self.attended, layer=layer, rope=self.rope, scale=scale)
        matrix, bias = self._projection(f"{prefix}.self_attn.o_proj", args.hidden_size, self.query)
        program.linear(self.attended, [matrix], self.x, biases=[bias], accumulate=True)

    def _mlp(self, prefix: str) -> None:
        args, program = self.args, self.program
        hidden, inner = args.hidden_size, args.intermediate_size
        norm = self.weights.vector(f"{prefix}.post_attention_layernorm.weight", hidden)
        gate, gate_bias = self._projection(f"{prefix}.mlp.gate_proj", inner, hidden)
        up, up_bias = self._projection(f"{prefix}.mlp.up_proj", inner, hidden)
        program.linear(
            self.x,
            [gate, up],
            self.gated,
            biases=[gate_bias, up_bias],
            gated=True,
            norm=norm,
            eps=args.rms_norm_eps,
        )
        down, down_bias = self._projection(f"{prefix}.mlp.down_proj", hidden, inner)
        program.linear(self.gated, [down], self.x, biases=[down_bias], accumulate=True)

    def _projection(self, name: str, rows: int, cols: int) -> tuple[PackedMatrix, Any]:
        matrix = self.weights.matrix(f"{name}.weight", rows, cols)
        return matrix, self.weights.optional_vector(f"{name}.bias", rows)
