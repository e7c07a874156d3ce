"""Mamba, Mamba-2 and Falcon-Mamba, as `transformers` and llama.cpp store them.

                 state-spaces/mamba-*-hf    mamba2-1.3b              tiiuae/falcon-mamba-7b
    decays       A_log [inner, state]       A_log [heads]            A_log [inner, state]
    time step    dt_proj of `rank`          rows of in_proj          dt_proj of `rank`
    B, C         x_proj                     rows of in_proj          x_proj, then an RMS norm each
    output       tied embeddings            tied embeddings          lm_head

A GGUF file holds A = -exp(A_log) as `ssm_a`, the convolution without its middle axis, and of
Mamba-2 A and D as columns and the norm as a row a group. What llama.cpp's quantiser leaves in
float32 (`llama-quant.cpp`) stays so: norms, biases, A, D and the convolution.

Decays, D and the bias of the time step are those of a new model (`mamba_ssm`): A is -1 to -state,
time steps are 0.001 to 0.1. The matrices are scaled to keep activations near 1, where a new model's
would shrink with every layer.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from ryzanstein.inference.synthesize.shape import Kind, Shape, Tensor
from ryzanstein.inference.synthesize.values import Floats, drawn, turned

__all__ = ["MAMBA_SHAPES", "Mamba2Shape", "MambaShape"]

_LOGIT_SPREAD: Final = 2.0
_FILE_TYPES: Final = {"F16": 1, "Q4_0": 2, "Q8_0": 7}
_STEPS: Final = (0.001, 0.1)  # of time, the smallest and the largest of a new model
_LONGEST: Final = 1 << 20  # what llama.cpp's converter says of models without a limit


@dataclass(frozen=True, kw_only=True)
class _Selective(Shape):
    """What both have.

    Attributes:
        state: Numbers a channel keeps.
        kernel: Tokens the convolution sees.
        tied: The embeddings are the output matrix too.
        dtype: Of the published checkpoint.
    """

    family: ClassVar[str] = "mamba"

    state: int
    kernel: int = 4
    tied: bool = True
    dtype: str = "F32"

    @property
    def inner(self) -> int:
        """Channels."""
        return 2 * self.hidden

    @property
    def hub_body(self) -> str:
        """The published dtype."""
        return self.dtype

    @property
    def hub_dtype(self) -> str:
        """The published dtype."""
        return self.dtype

    def tensors(self) -> list[Tensor]:
        """Returns the embeddings, the layers, the last norm and, where it is not tied, the head."""
        spread = _LOGIT_SPREAD / math.sqrt(self.hidden)
        size = (self.vocab, self.hidden)
        kind: Kind = "table" if self.tied else "matrix"
        first = Tensor("backbone.embeddings.weight", "token_embd.weight", size, kind, spread)
        layers = (tensor for layer in range(self.layers) for tensor in self._layer(layer))
        last = _norm("backbone.norm_f.weight", "output_norm.weight", self.hidden)
        head = Tensor("lm_head.weight", "output.weight", size, "table", spread)
        return [first, *layers, last, *([] if self.tied else [head])]

    def gguf_tensors(self) -> list[Tensor]:
        """Returns them as llama.cpp's converter stores them."""
        return [self._for_gguf(tensor) for tensor in self.tensors()]

    def _for_gguf(self, tensor: Tensor) -> Tensor:
        if tensor.gguf.endswith("ssm_conv1d.weight"):
            return replace(tensor, shape=(tensor.shape[0], tensor.shape[2]))
        if tensor.gguf.endswith("ssm_a") and tensor.make is not None:
            return replace(tensor, make=turned(tensor.make, _decay))
        return tensor

    def _layer(self, layer: int) -> Iterator[Tensor]:
        hub, gguf = f"backbone.layers.{layer}.mixer.", f"blk.{layer}."
        yield _norm(hub.replace("mixer", "norm") + "weight", f"{gguf}attn_norm.weight", self.hidden)
        yield from self._mixer(hub, gguf)
        # The gate halves what the convolution's silu has made small already.
        yield _linear(hub, "out_proj", gguf, "ssm_out", self.hidden, self.inner, self._out_gain)

    @property
    @abstractmethod
    def _out_gain(self) -> float: ...

    @abstractmethod
    def _mixer(self, hub: str, gguf: str) -> Iterator[Tensor]: ...

    def config(self) -> dict[str, Any]:
        """Returns what is published, with the keys both have."""
        return {
            "conv_kernel": self.kernel,
            "expand": 2,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "initializer_range": 0.1,
            "layer_norm_epsilon": 1e-05,
            "num_hidden_layers": self.layers,
            "pad_token_id": 0,
            "rescale_prenorm_residual": False,
            "residual_in_fp32": True,
            "state_size": self.state,
            "tie_word_embeddings": self.tied,
            "time_step_floor": 0.0001,
            "time_step_max": _STEPS[1],
            "time_step_min": _STEPS[0],
            "torch_dtype": {"F32": "float32", "BF16": "bfloat16"}[self.dtype],
            "use_bias": False,
            "use_cache": True,
            "use_conv_bias": True,
            "vocab_size": self.vocab,
        }

    def _metadata(self, architecture: str, body: str, **own: Any) -> Mapping[str, Any]:
        common = {
            "context_length": self.context,
            "embedding_length": self.hidden,
            "feed_forward_length": 0,
            "attention.head_count": 0,
            "block_count": self.layers,
            "ssm.conv_kernel": self.kernel,
            "ssm.inner_size": self.inner,
            "ssm.state_size": self.state,
            "attention.layer_norm_rms_epsilon": 1e-5,
            "vocab_size": self.vocab,
        }
        return {
            "general.architecture": architecture,
            "general.file_type": _FILE_TYPES[body],
            **{f"{architecture}.{key}": value for key, value in (common | own).items()},
        }


@dataclass(frozen=True, kw_only=True)
class MambaShape(_Selective):
    """A Mamba, or with `normed` a Falcon-Mamba.

    Attributes:
        normed: B, C and the time step pass through an RMS norm without weights.
    """

    normed: bool = False

    @property
    def rank(self) -> int:
        """Columns of the time step's projection."""
        return -(-self.hidden // 16)

    @property
    def _out_gain(self) -> float:
        return 3.0

    def _mixer(self, hub: str, gguf: str) -> Iterator[Tensor]:
        inner, state, rank = self.inner, self.state, self.rank
        yield _linear(hub, "in_proj", gguf, "ssm_in", 2 * inner, self.hidden)
        yield from _convolution(hub, gguf, inner, self.kernel)
        yield _linear(hub, "x_proj", gguf, "ssm_x", rank + 2 * state, inner, 4.0)
        yield _linear(hub, "dt_proj", gguf, "ssm_dt", inner, rank, 0.6)
        yield _steps(f"{hub}dt_proj.bias", f"{gguf}ssm_dt.bias", inner)

        def logarithms(_: np.random.Generator) -> npt.NDArray[Any]:
            return np.tile(np.log(np.arange(1, state + 1)), (inner, 1))

        yield _float(f"{hub}A_log", f"{gguf}ssm_a", (inner, state), logarithms)
        yield _norm(f"{hub}D", f"{gguf}ssm_d", inner)

    def config(self) -> dict[str, Any]:
        """Returns what state-spaces or TII publish."""
        own = {
            "architectures": ["MambaForCausalLM"],
            "model_type": "mamba",
            "intermediate_size": self.inner,
            "time_step_init_scheme": "random",
            "time_step_rank": self.rank,
            "time_step_scale": 1.0,
        }
        falcon = {
            "architectures": ["FalconMambaForCausalLM"],
            "model_type": "falcon_mamba",
            "mixer_rms_eps": 1e-06,
        }
        return super().config() | own | (falcon if self.normed else {})

    def metadata(self, body: str) -> Mapping[str, Any]:
        """Returns the keys of llama.cpp's `mamba`, which computes both."""
        own = {"ssm.time_step_rank": self.rank, "ssm.dt_b_c_rms": self.normed}
        return self._metadata("mamba", body, **own)


@dataclass(frozen=True, kw_only=True)
class Mamba2Shape(_Selective):
    """A Mamba-2.

    Attributes:
        width: Channels of a head, which share a decay and a time step.
        groups: Of heads, which share B and C.
    """

    width: int = 64
    groups: int = 1

    @property
    def heads(self) -> int:
        """Of `width` channels each."""
        return self.inner // self.width

    @property
    def _out_gain(self) -> float:
        return 0.5

    def _mixer(self, hub: str, gguf: str) -> Iterator[Tensor]:
        mixed = self.inner + 2 * self.groups * self.state
        rows = self.inner + mixed + self.heads
        yield _linear(hub, "in_proj", gguf, "ssm_in", rows, self.hidden)
        yield from _convolution(hub, gguf, mixed, self.kernel)
        yield _steps(f"{hub}dt_bias", f"{gguf}ssm_dt.bias", self.heads)

        def logarithms(random: np.random.Generator) -> npt.NDArray[Any]:
            return np.log(random.uniform(1, 16, self.heads))

        yield _float(f"{hub}A_log", f"{gguf}ssm_a", (self.heads,), logarithms)
        yield _norm(f"{hub}D", f"{gguf}ssm_d", self.heads)
        yield _norm(f"{hub}norm.weight", f"{gguf}ssm_norm.weight", self.inner)

    def _for_gguf(self, tensor: Tensor) -> Tensor:
        tensor = super()._for_gguf(tensor)
        name = tensor.gguf.rpartition(".ssm_")[2]
        if name in {"a", "d"}:
            return replace(tensor, shape=(self.heads, 1))
        if name == "norm.weight":
            return replace(tensor, shape=(self.groups, self.inner // self.groups))
        return tensor

    def config(self) -> dict[str, Any]:
        """Returns what is published for `transformers`."""
        return super().config() | {
            "architectures": ["Mamba2ForCausalLM"],
            "model_type": "mamba2",
            "chunk_size": 256,
            "head_dim": self.width,
            "n_groups": self.groups,
            "norm_before_gate": False,
            "num_heads": self.heads,
            "rms_norm": True,
            "time_step_rank": -(-self.hidden // 16),
        }

    def metadata(self, body: str) -> Mapping[str, Any]:
        """Returns the keys of llama.cpp's `mamba2`, whose time step's rank is the heads."""
        own = {"ssm.time_step_rank": self.heads, "ssm.group_count": self.groups}
        return self._metadata("mamba2", body, **own)


def _norm(name: str, gguf: str, size: int) -> Tensor:
    return Tensor(name, gguf, (size,), "norm", 0.05)


def _linear(
    hub: str, name: str, gguf: str, short: str, rows: int, cols: int, gain: float = 1.0
) -> Tensor:
    spread = gain / math.sqrt(cols)
    return Tensor(f"{hub}{name}.weight", f"{gguf}{short}.weight", (rows, cols), "matrix", spread)


def _convolution(hub: str, gguf: str, channels: int, kernel: int) -> Iterator[Tensor]:
    name, short, spread = f"{hub}conv1d", f"{gguf}ssm_conv1d", 0.6 / math.sqrt(kernel)
    yield Tensor(f"{name}.weight", f"{short}.weight", (channels, 1, kernel), "float", spread)
    yield Tensor(f"{name}.bias", f"{short}.bias", (channels,), "float", 0.1)


def _steps(name: str, gguf: str, size: int) -> Tensor:
    """Biases whose softplus is spread evenly over the logarithms of time steps."""

    def fill(random: np.random.Generator) -> npt.NDArray[Any]:
        shortest, longest = map(math.log, _STEPS)
        steps = np.exp(random.uniform(shortest, longest, size))
        return np.asarray(steps + np.log(-np.expm1(-steps)))

    return _float(name, gguf, (size,), fill)


def _float(name: str, gguf: str, shape: tuple[int, ...], fill: Any) -> Tensor:
    return Tensor(name, gguf, shape, "float", 0.0, make=drawn(gguf, fill))


def _decay(logarithms: Floats) -> Floats:
    return -np.exp(logarithms)


def _mamba(name: str, hidden: int, layers: int) -> MambaShape:
    return MambaShape(
        name=name,
        source=f"state-spaces/{name}-hf",
        tokenizer="gpt-neox",
        vocab=50_280,
        hidden=hidden,
        layers=layers,
        context=_LONGEST,
        state=16,
    )


MAMBA_SHAPES: Final = (
    _mamba("mamba-130m", 768, 24),
    _mamba("mamba-790m", 1536, 48),
    _mamba("mamba-1.4b", 2048, 48),
    _mamba("mamba-2.8b", 2560, 64),
    Mamba2Shape(
        name="mamba2-1.3b",
        source="state-spaces/mamba2-1.3b",
        tokenizer="gpt-neox",
        vocab=50_288,
        hidden=2048,
        layers=48,
        context=_LONGEST,
        state=128,
    ),
    MambaShape(
        name="falcon-mamba-7b",
        source="tiiuae/falcon-mamba-7b",
        tokenizer="gpt-neox",
        vocab=65_024,
        hidden=4096,
        layers=64,
        context=_LONGEST,
        state=16,
        tied=False,
        dtype="BF16",
        normed=True,
    ),
)
