"""RWKV-6 "Finch" and RWKV-7 "Goose", as BlinkDL, Hugging Face and llama.cpp store them.

    .pth           BlinkDL's names; low-rank factors are for x @ w; vectors are [1, 1, hidden]
    Hugging Face   RWKV-7 as flash-linear-attention, its factors transposed; RWKV-6 as v6-Finch-HF
    GGUF           llama.cpp's: factors transposed, vectors flat, the token shift's weights in one
                   tensor; the first layer of RWKV-7 repeats a0, a1, a2 as v0, v1, v2, which nothing
                   reads; RWKV-6 halves the stream after every six layers, and their outputs with it

What llama.cpp's quantiser leaves alone (`llama-quant.cpp`) is as its converter made it: vectors
and the factors of decay and token shift are float32, the other factors float16.

Decays, the token shift's weights and what is added to low-rank results are those of a new model
(RWKV-LM's `train_temp`). Matrices that are 0 in a new model are noise here, scaled as in a trained
one: the results of factors stay below what they are added to, activations near 1.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np

from ryzanstein.inference.synthesize.shape import Kind, Shape, Tensor
from ryzanstein.inference.synthesize.values import Fill, Floats, Make, drawn, joined, noise, turned

__all__ = ["RWKV_SHAPES", "RwkvShape"]

_WIDTH: Final = 64  # of a head
_LOGIT_SPREAD: Final = 2.0
_FILE_TYPES: Final = {"F16": 1, "Q4_0": 2, "Q8_0": 7}
_HALVED_EVERY: Final = 6
_NORMS: Final = {"ln1": "attn_norm", "ln2": "attn_norm_2", "att.ln_x": "time_mix_ln"}
_EDGES: Final = {
    "emb": "token_embd",
    "ln0": "token_embd_norm",
    "ln_out": "output_norm",
    "head": "output",
}


@dataclass(frozen=True, kw_only=True)
class RwkvShape(Shape):
    """What both have.

    Attributes:
        inner: Rows of the channel mixing.
    """

    family: ClassVar[str] = "rwkv"

    tokenizer: str = "rwkv"
    vocab: int = 65_536
    context: int = 1 << 20  # what llama.cpp's converter says of models without a limit
    inner: int

    @property
    def heads(self) -> int:
        """Each with a state of 64 by 64 numbers."""
        return self.hidden // _WIDTH

    @property
    def hub_body(self) -> str:
        """BF16."""
        return "BF16"

    @property
    def hub_dtype(self) -> str:
        """BF16."""
        return "BF16"

    def pth_tensors(self) -> list[Tensor]:
        """Returns them under BlinkDL's names, which their values depend on."""
        size = (self.vocab, self.hidden)
        spread = _LOGIT_SPREAD / math.sqrt(self.hidden)
        return [
            _tensor("emb.weight", size, "matrix", 0.3),
            *(tensor for layer in range(self.layers) for tensor in self._block(layer)),
            *_norm("ln_out", self.hidden),
            _tensor("head.weight", size, "table", spread),
        ]

    def _block(self, layer: int) -> Iterator[Tensor]:
        at = f"blocks.{layer}."
        for name in ("ln0", "ln1", "ln2") if layer == 0 else ("ln1", "ln2"):
            yield from _norm(at + name, self.hidden)
        yield from self._time_mixing(layer, f"{at}att.")
        # Late layers of a new model read louder heads.
        gain = ((1 + layer) / self.layers) ** 0.7
        yield _made(f"{at}att.ln_x.weight", (self.hidden,), noise((self.hidden,), 0.05, gain))
        yield _tensor(f"{at}att.ln_x.bias", (self.hidden,), "float", 0.05)
        yield from self._channel_mixing(layer, f"{at}ffn.")

    @abstractmethod
    def _time_mixing(self, layer: int, at: str) -> Iterator[Tensor]: ...

    @abstractmethod
    def _channel_mixing(self, layer: int, at: str) -> Iterator[Tensor]: ...

    def _depth(self, layer: int) -> tuple[float, float]:
        """0 to 1, and 1 to almost 0, from the first layer to the last."""
        return layer / max(1, self.layers - 1), 1 - layer / self.layers

    def _shift(self, name: str, power: float) -> Tensor:
        """How much of the token before is mixed in: more in the first channels."""
        ramp = np.arange(self.hidden) / self.hidden
        return self._vector(name, lambda random: 1 - ramp**power)

    def _vector(self, name: str, fill: Fill) -> Tensor:
        return _made(name, (1, 1, self.hidden), fill)

    def _noise(self, name: str, scale: float, around: float) -> Tensor:
        return self._vector(name, noise((self.hidden,), scale, around))

    def _linear(self, name: str, rows: int, cols: int, gain: float) -> Tensor:
        return _tensor(f"{name}.weight", (rows, cols), "matrix", gain / math.sqrt(cols))

    def _metadata(self, architecture: str, body: str, **own: Any) -> Mapping[str, Any]:
        common = {
            "context_length": self.context,
            "embedding_length": self.hidden,
            "block_count": self.layers,
            "feed_forward_length": self.inner,
            "attention.head_count": 0,
            "attention.layer_norm_epsilon": 1e-5,
            "wkv.head_size": _WIDTH,
        }
        return {
            "general.architecture": architecture,
            "general.file_type": _FILE_TYPES[body],
            **{f"{architecture}.{key}": value for key, value in (common | own).items()},
        }


@dataclass(frozen=True, kw_only=True)
class Rwkv6Shape(RwkvShape):
    """An RWKV-6.

    Attributes:
        mix_rank: Of each of five low-rank factors of the token shift.
        decay_rank: Of the decay's.
    """

    mix_rank: int
    decay_rank: int

    def _time_mixing(self, layer: int, at: str) -> Iterator[Tensor]:
        size, (deep, shallow) = self.hidden, self._depth(layer)
        for name in "xwkvrg":
            yield self._shift(f"{at}time_maa_{name}", {"r": 0.5, "g": 0.5}.get(name, 1) * shallow)
        mixing, ranks = (size, 5 * self.mix_rank), (5, self.mix_rank, size)
        yield _factor(f"{at}time_maa_w1", mixing, 0.5 / math.sqrt(size), "float")
        yield _factor(f"{at}time_maa_w2", ranks, 0.2 / math.sqrt(self.mix_rank), "float")
        speed = -6 + 5 * (np.arange(size) / (size - 1)) ** (0.7 + 1.3 * deep)
        yield self._vector(f"{at}time_decay", lambda random: speed)
        decays = (size, self.decay_rank)
        yield _factor(f"{at}time_decay_w1", decays, 0.5 / math.sqrt(size), "float")
        back, spread = decays[::-1], 0.5 / math.sqrt(self.decay_rank)
        yield _factor(f"{at}time_decay_w2", back, spread, "float")
        channel = np.arange(size)
        bonus = deep * (1 - channel / (size - 1)) + 0.1 * ((channel + 1) % 3 - 1)
        heads = (self.heads, _WIDTH)
        yield _made(f"{at}time_faaaa", heads, lambda random: bonus.reshape(heads))
        gains = {"receptance": 1.0, "key": 0.5, "value": 1.0, "gate": 1.5, "output": 0.6}
        for name, gain in gains.items():
            yield self._linear(at + name, size, size, gain)

    def _channel_mixing(self, layer: int, at: str) -> Iterator[Tensor]:
        shallow = self._depth(layer)[1]
        yield self._shift(f"{at}time_maa_k", shallow)
        yield self._shift(f"{at}time_maa_r", shallow)
        yield self._linear(f"{at}key", self.inner, self.hidden, 1.0)
        yield self._linear(f"{at}receptance", self.hidden, self.hidden, 1.0)
        yield self._linear(f"{at}value", self.hidden, self.inner, 0.5)

    def tensors(self) -> list[Tensor]:
        """Returns them under the names of RWKV/v6-Finch-*-HF."""
        new = {"emb.": "embeddings.", ".ln0.": ".pre_ln.", ".att.": ".attention."}
        new[".ffn."] = ".feed_forward."

        def named(name: str) -> str:
            for old, replacement in new.items():
                name = name.replace(old, replacement)
            return name if name.startswith("head.") else f"rwkv.{name}"

        return [replace(tensor, name=named(tensor.name)) for tensor in self.pth_tensors()]

    def gguf_tensors(self) -> list[Tensor]:
        """Returns them as llama.cpp's converter stores them."""
        return _gguf_tensors(self.pth_tensors(), "time_maa_", "wkvrg", self._for_gguf)

    def _for_gguf(self, tensor: Tensor, layer: int, name: str) -> Iterator[Tensor]:
        old = {"att.time_decay": "time_mix_decay", "att.time_faaaa": "time_mix_first"}
        if name in {"att.output.weight", "ffn.value.weight"}:
            tensor = replace(tensor, scale=tensor.scale / 2 ** (layer // _HALVED_EVERY))
        if "maa_w" in name or "decay_w" in name:
            tensor = _transposed(tensor)
        elif tensor.shape[0] == 1:
            tensor = _flat(tensor)
        new = old.get(name) or name.replace("att.time_maa_w", "time_mix_w").replace(
            "time_maa", "lerp"
        )
        yield _renamed(tensor, layer, new.replace("att.time_decay_w", "time_mix_decay_w"))

    def config(self) -> dict[str, Any]:
        """Returns what RWKV publishes, without the names of its Python files."""
        return {
            "architectures": ["Rwkv6ForCausalLM"],
            "model_type": "rwkv6",
            "attention_hidden_size": self.hidden,
            "head_size": _WIDTH,
            "head_size_divisor": 8,
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "layer_norm_epsilon": 1e-05,
            "model_max_length": self.context,
            "num_attention_heads": _WIDTH,
            "num_hidden_layers": self.layers,
            "rescale_every": _HALVED_EVERY,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "use_cache": True,
            "vocab_size": self.vocab,
        }

    def metadata(self, body: str) -> Mapping[str, Any]:
        """Returns the keys of llama.cpp's `rwkv6`."""
        own = {
            "time_mix_extra_dim": self.mix_rank,
            "time_decay_extra_dim": self.decay_rank,
            "rescale_every_n_layers": _HALVED_EVERY,
        }
        return self._metadata("rwkv6", body, **own)


@dataclass(frozen=True, kw_only=True)
class Rwkv7Shape(RwkvShape):
    """An RWKV-7.

    Attributes:
        ranks: Of the factors of decay (w), in-context learning rate (a), value residual (v) and
        gate (g).
    """

    ranks: Mapping[str, int]

    def _time_mixing(self, layer: int, at: str) -> Iterator[Tensor]:
        size, (deep, shallow) = self.hidden, self._depth(layer)
        powers = {"r": 0.2, "w": 0.9, "k": 0.7, "v": 0.7, "a": 0.9, "g": 0.2}
        for name, power in powers.items():
            yield self._shift(f"{at}x_{name}", power * shallow)
        speed = -6.5 + 5 * (np.arange(size) / (size - 1)) ** (0.85 + math.sqrt(deep))
        yield self._vector(f"{at}w0", lambda random: speed)
        yield self._noise(f"{at}a0", 0.2, -0.19)
        if layer:
            yield self._noise(f"{at}v0", 0.2, 0.73)
        for name in ("w", "a", "v", "g") if layer else ("w", "a", "g"):
            kind: Kind = "float" if name == "w" else "half"
            rank = self.ranks[name]
            gain = 2.0 if name == "g" else 0.5
            yield _factor(f"{at}{name}1", (size, rank), 1 / math.sqrt(size), kind)
            yield _factor(f"{at}{name}2", (rank, size), gain / math.sqrt(rank), kind)
        yield self._noise(f"{at}k_k", 0.1, 0.71)
        yield self._noise(f"{at}k_a", 0.05, 1.0)
        heads = (self.heads, _WIDTH)
        yield _made(f"{at}r_k", heads, noise(heads, 0.1, -0.04))
        for name, gain in {"receptance": 1.0, "key": 0.5, "value": 1.0, "output": 0.6}.items():
            yield self._linear(at + name, size, size, gain)

    def _channel_mixing(self, layer: int, at: str) -> Iterator[Tensor]:
        yield self._shift(f"{at}x_k", self._depth(layer)[1] ** 4)
        yield self._linear(f"{at}key", self.inner, self.hidden, 1.0)
        yield self._linear(f"{at}value", self.hidden, self.inner, 0.3)

    def tensors(self) -> list[Tensor]:
        """Returns them as flash-linear-attention's RWKV7ForCausalLM."""
        return [self._for_hub(tensor) for tensor in self.pth_tensors()]

    def _for_hub(self, tensor: Tensor) -> Tensor:
        name = tensor.name
        if tensor.name.startswith("blocks."):
            _, layer, part = tensor.name.split(".", 2)
            name = f"layers.{layer}.{_fla_name(part)}"
            if part[4:] in {f"{low}{factor}" for low in "wavg" for factor in "12"}:
                tensor = _transposed(tensor)
            elif part[4:] in {"w0", "a0", "v0", "k_k", "k_a"} or part == "ffn.x_k":
                tensor = _flat(tensor)
        edges = {"emb.weight": "embeddings.weight", "head.weight": "lm_head.weight"}
        name = edges.get(name, name).replace("ln_out.", "norm.")
        return replace(tensor, name=name if name.startswith("lm_head") else f"model.{name}")

    def gguf_tensors(self) -> list[Tensor]:
        """Returns them as llama.cpp's converter stores them."""
        return _gguf_tensors(self.pth_tensors(), "x_", "rwkvag", self._for_gguf)

    def _for_gguf(self, tensor: Tensor, layer: int, name: str) -> Iterator[Tensor]:
        if name == "att.r_k" or tensor.shape[0] == 1:
            tensor = _flat(tensor)
        elif tensor.kind in {"float", "half"} and len(tensor.shape) == 2:
            tensor = _transposed(tensor)
        yield _renamed(tensor, layer, name.replace("ffn.x_k", "ffn.lerp_k"))
        if layer == 0 and name in {"att.a0", "att.a1", "att.a2"}:
            yield _renamed(tensor, layer, name.replace("att.a", "att.v"))

    def config(self) -> dict[str, Any]:
        """Returns what fla-hub publishes, without the names of its Python files."""
        return {
            "architectures": ["RWKV7ForCausalLM"],
            "model_type": "rwkv7",
            "a_low_rank_dim": self.ranks["a"],
            "attn": None,
            "attn_mode": "chunk",
            "decay_low_rank_dim": self.ranks["w"],
            "gate_low_rank_dim": self.ranks["g"],
            "head_dim": _WIDTH,
            "hidden_act": "sqrelu",
            "hidden_ratio": 4.0,
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "norm_bias": True,
            "norm_eps": 1e-05,
            "norm_first": True,
            "num_heads": self.heads,
            "num_hidden_layers": self.layers,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "use_cache": True,
            "v_low_rank_dim": self.ranks["v"],
            "vocab_size": self.vocab,
        }

    def metadata(self, body: str) -> Mapping[str, Any]:
        """Returns the keys of llama.cpp's `rwkv7`."""
        own = {
            "attention.decay_lora_rank": self.ranks["w"],
            "attention.iclr_lora_rank": self.ranks["a"],
            "attention.value_residual_mix_lora_rank": self.ranks["v"],
            "attention.gate_lora_rank": self.ranks["g"],
        }
        return self._metadata("rwkv7", body, **own)


def _gguf_tensors(
    tensors: list[Tensor],
    shifting: str,
    mixed: str,
    change: Callable[[Tensor, int, str], Iterator[Tensor]],
) -> list[Tensor]:
    """llama.cpp's names; the weights of the token shift, `mixed`, are stacked at the last one."""
    found: list[Tensor] = []
    shifts: dict[str, Make] = {}
    for tensor in tensors:
        first, _, name = tensor.name.partition(".")
        if first != "blocks":
            found.append(replace(tensor, gguf=f"{_EDGES[first]}.{name}"))
            continue
        number, _, name = name.partition(".")
        if name.startswith("ln0."):
            found.append(replace(tensor, gguf=name.replace("ln0", _EDGES["ln0"])))
        elif name.removeprefix(f"att.{shifting}") in set(mixed) and tensor.make is not None:
            shifts[name[-1]] = tensor.make
            if len(shifts) == len(mixed):
                fused = joined([shifts.pop(one) for one in mixed])
                shape = (len(mixed), 1, 1, tensor.shape[-1])
                whole = replace(tensor, shape=shape, make=fused)
                found.append(_renamed(whole, int(number), "att.lerp_fused"))
        else:
            found += change(tensor, int(number), name)
    return found


def _renamed(tensor: Tensor, layer: int, name: str) -> Tensor:
    for old, new in _NORMS.items():
        name = name.replace(f"{old}.", f"{new}.")
    name = name.replace("att.", "time_mix_").replace("ffn.", "channel_mix_")
    name = name if name.endswith((".weight", ".bias")) else f"{name}.weight"
    return replace(tensor, gguf=f"blk.{layer}.{name}")


def _fla_name(part: str) -> str:
    """Of a tensor of a block."""
    for old, new in (
        ("ln0.", "pre_norm."),
        ("ln1.", "attn_norm."),
        ("ln2.", "ffn_norm."),
        ("att.ln_x.", "attn.g_norm."),
        ("att.", "attn."),
        ("attn.receptance.", "attn.r_proj."),
        ("attn.key.", "attn.k_proj."),
        ("attn.value.", "attn.v_proj."),
        ("attn.output.", "attn.o_proj."),
    ):
        part = part.replace(old, new)
    low, factor = part.removeprefix("attn.")[:1], part[-1]
    if part in {f"attn.{low}{factor}" for low in "wavg" for factor in "012"}:
        return f"attn.{low}_lora.lora." + {"0": "2.bias", "1": "0.weight", "2": "2.weight"}[factor]
    return part


def _transposed(tensor: Tensor) -> Tensor:
    assert tensor.make is not None
    *outer, rows, cols = tensor.shape
    turn = turned(tensor.make, lambda values: values.swapaxes(-1, -2))
    return replace(tensor, shape=(*outer, cols, rows), make=turn)


def _flat(tensor: Tensor) -> Tensor:
    def ravel(values: Floats) -> Floats:
        return values.reshape(-1)

    return replace(
        tensor, shape=(tensor.size,), make=turned(tensor.make, ravel) if tensor.make else None
    )


def _tensor(name: str, shape: tuple[int, ...], kind: Kind, scale: float) -> Tensor:
    return Tensor(name, "", shape, kind, scale, key=name)


def _norm(name: str, size: int) -> Iterator[Tensor]:
    yield _tensor(f"{name}.weight", (size,), "norm", 0.05)
    yield _tensor(f"{name}.bias", (size,), "float", 0.05)


def _made(name: str, shape: tuple[int, ...], fill: Fill) -> Tensor:
    return Tensor(name, "", shape, "float", 0.0, key=name, make=drawn(name, fill))


def _factor(name: str, shape: tuple[int, ...], scale: float, kind: Kind) -> Tensor:
    return Tensor(name, "", shape, kind, scale, key=name, make=drawn(name, noise(shape, scale)))


def _goose(name: str, source: str, hidden: int, layers: int, *ranks: int) -> Rwkv7Shape:
    return Rwkv7Shape(
        name=name,
        source=source,
        hidden=hidden,
        layers=layers,
        inner=4 * hidden,
        ranks=dict(zip("wavg", ranks, strict=True)),
    )


RWKV_SHAPES: Final = (
    _goose("rwkv7-0.19b", "fla-hub/rwkv7-191M-world", 768, 12, 64, 64, 32, 128),
    _goose("rwkv7-1.5b", "fla-hub/rwkv7-1.5B-world", 2048, 24, 96, 96, 64, 256),
    _goose("rwkv7-2.9b", "fla-hub/rwkv7-2.9B-world", 2560, 32, 96, 96, 64, 320),
    Rwkv6Shape(
        name="rwkv6-1.6b",
        source="RWKV/v6-Finch-1B6-HF",
        hidden=2048,
        layers=24,
        inner=7168,
        mix_rank=32,
        decay_rank=64,
    ),
)
