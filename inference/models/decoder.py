"""The pre-norm decoder that Llama and its like share, as operators of a program.

An architecture says which parts it is made of:

    decoder = Decoder(ModelArgs.from_dict(config), weights, options)
    decoder.embed()
    for layer in decoder.layers:
        decoder.attention(layer)
        decoder.mlp(layer)
    return decoder.finish()

Where config["bitnet"] is set, linear layers are transformers' BitLinear: ternary weights, inputs
rounded to int8 with one scale a token, and in some checkpoints an RMSNorm of the layer's own first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.kernels._program import Program
from ryzanstein.inference.kernels.pack import PackedMatrix
from ryzanstein.inference.models.args import known_keys
from ryzanstein.inference.models.options import Options
from ryzanstein.inference.models.rope import frequencies
from ryzanstein.inference.models.weights import Weights

__all__ = ["Decoder", "ModelArgs"]

_LIMIT = 1 << 24  # no dimension of a real model comes near it
_ACTIVATIONS: Final = {"silu": "silu", "swish": "silu", "relu2": "relu2"}


@dataclass(frozen=True, slots=True)
class ModelArgs:
    """The keys of config.json that the computation depends on."""

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
    hidden_act: str = "silu"
    bitnet: Mapping[str, Any] | None = None

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Self:
        """Keeps the keys it knows and refuses what the program would compute wrongly.

        Raises:
            ModelLoadError: a key is missing, out of range, or asks for something unsupported.
        """
        _refuse_unsupported(config)
        args = known_keys(cls, config)
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
    if activation not in _ACTIVATIONS:
        raise ModelLoadError(
            f"The activation {activation!r:.60} is not supported (silu and relu2 are)."
        )
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


class Decoder:
    """Appends the operators of one model to a program.

    Every method raises ModelLoadError where a tensor is missing, misshapen or damaged.
    """

    def __init__(self, args: ModelArgs, weights: Weights, options: Options) -> None:
        self._args, self._weights = args, weights
        self._program = program = Program(
            threads=options.threads,
            heads=args.num_attention_heads,
            kv_heads=args.num_key_value_heads,
            head_dim=args.head_dim,
            layers=args.num_hidden_layers,
            half_cache=options.half_cache,
            isa=options.isa,
            pin=options.pin,
        )
        self._query = args.num_attention_heads * args.head_dim
        self._key = args.num_key_value_heads * args.head_dim
        self._x = program.buffer(args.hidden_size, whole=True)
        self._heads = program.buffer(self._query + 2 * self._key, whole=True)
        self._attended = program.buffer(self._query)
        self._gated = program.buffer(args.intermediate_size)
        angles, gain = frequencies(
            args.head_dim, args.rope_theta, args.rope_scaling, args.max_position_embeddings
        )
        self._rope = program.rope(angles, factor=gain, interleaved=args.rope_interleaved)
        self._bitnet = args.bitnet or {}
        self._skip = frozenset(self._bitnet.get("skip", ()))
        self._inner_eps = float(self._bitnet.get("inner_eps", 0.0))

    @property
    def layers(self) -> range:
        """Numbers of the layers."""
        return range(self._args.num_hidden_layers)

    def embed(self) -> None:
        """Looks tokens up: x = embedding[token]; packs the output matrix too.

        The largest matrices first: while one is packed its source is in memory too.
        """
        size, tied = (self._args.vocab_size, self._args.hidden_size), self._args.tie_word_embeddings
        shared = tied and not self._is_ternary("lm_head")
        name = "model.embed_tokens.weight"
        if shared:
            embedding = self._head = self._weights.head(name, *size)
        else:
            embedding = self._weights.matrix(name, *size, streamed=False)
            source = name if tied else "lm_head.weight"
            ternary = self._is_ternary("lm_head")
            self._head = (self._weights.ternary if ternary else self._weights.head)(source, *size)
        self._program.embed(embedding, self._x)

    def attention(self, layer: int, *, sub_norm: str | None = None) -> None:
        """Adds o(sub_norm(attention(rope(q), rope(k), v))) to x; q, k, v = projections of norm(x).

        Args:
            layer: its number.
            sub_norm: name of the norm within self_attn, None for none.
        """
        prefix = f"model.layers.{layer}"
        rows = {"q_proj": self._query, "k_proj": self._key, "v_proj": self._key}
        self._linear(
            self._x,
            {f"{prefix}.self_attn.{name}": size for name, size in rows.items()},
            self._heads,
            cols=self._args.hidden_size,
            norm=f"{prefix}.input_layernorm",
        )
        scale = 1 / math.sqrt(self._args.head_dim)
        self._program.attention(
            self._heads, self._attended, layer=layer, rope=self._rope, scale=scale
        )
        self._linear(
            self._attended,
            {f"{prefix}.self_attn.o_proj": self._args.hidden_size},
            self._x,
            cols=self._query,
            norm=f"{prefix}.self_attn.{sub_norm}" if sub_norm else None,
            accumulate=True,
        )

    def mlp(self, layer: int, *, sub_norm: str | None = None) -> None:
        """Adds down(sub_norm(activation(gate) * up)) to x; gate, up = projections of norm(x).

        Args:
            layer: its number.
            sub_norm: name of the norm within mlp, None for none.
        """
        prefix, args = f"model.layers.{layer}", self._args
        self._linear(
            self._x,
            {f"{prefix}.mlp.{name}": args.intermediate_size for name in ("gate_proj", "up_proj")},
            self._gated,
            cols=args.hidden_size,
            norm=f"{prefix}.post_attention_layernorm",
            gated=True,
            activation=_ACTIVATIONS[args.hidden_act],
        )
        self._linear(
            self._gated,
            {f"{prefix}.mlp.down_proj": args.hidden_size},
            self._x,
            cols=args.intermediate_size,
            norm=f"{prefix}.mlp.{sub_norm}" if sub_norm else None,
            accumulate=True,
        )

    def finish(self) -> Program:
        """Ends with logits = head * norm(x); returns the program, ready to run."""
        ternary = self._is_ternary("lm_head")
        self._program.finish(
            self._x,
            self._head,
            norm=self._weights.vector("model.norm.weight", self._args.hidden_size),
            eps=self._args.rms_norm_eps,
            per_token=ternary,
            inner_norm=self._inner_norm("lm_head", self._args.hidden_size),
            inner_eps=self._inner_eps,
        )
        return self._program

    def _linear(
        self,
        source: int,
        rows: Mapping[str, int],
        output: int,
        *,
        cols: int,
        norm: str | None,
        **options: Any,
    ) -> None:
        """Linear layers of these names and rows on one input, behind a norm if one is named."""
        inner = [self._inner_norm(name, cols) for name in rows]
        norms: dict[str, Any] = {}
        if norm is not None:
            weight = self._weights.vector(f"{norm}.weight", cols)
            norms = {"norm": weight, "eps": self._args.rms_norm_eps}
            if any(own is not None for own in inner):
                norms |= {"inner_norms": inner, "inner_eps": self._inner_eps}
        elif inner[0] is not None:
            norms = {"norm": inner[0], "eps": self._inner_eps}
        self._program.linear(
            source,
            [self._matrix(name, f"{name}.weight", size, cols) for name, size in rows.items()],
            output,
            biases=[self._weights.optional_vector(f"{n}.bias", size) for n, size in rows.items()],
            per_token=any(self._is_ternary(name) for name in rows),
            **norms,
            **options,
        )

    def _is_ternary(self, name: str) -> bool:
        return self._args.bitnet is not None and name not in self._skip

    def _inner_norm(self, name: str, cols: int) -> npt.NDArray[np.float32] | None:
        """The norm inside a ternary linear layer, None where it has none."""
        if not (self._is_ternary(name) and self._bitnet.get("inner_norm")):
            return None
        return self._weights.vector(f"{name}.rms_norm.weight", cols)

    def _matrix(self, name: str, tensor: str, rows: int, cols: int) -> PackedMatrix:
        if self._is_ternary(name):
            return self._weights.ternary(tensor, rows, cols)
        return self._weights.matrix(tensor, rows, cols)
