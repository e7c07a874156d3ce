"""Mamba, in the layout of transformers' MambaForCausalLM (state-spaces/mamba-*-hf).

    x = embedding[token]
    for each layer:
        u, z = in_proj(norm(x))
        u = silu(convolution of the last four u)
        step, B, C = x_proj(u);   step = softplus(dt_proj(step))
        h = exp(step * -exp(A_log)) * h + step * B * u       (inner, state)
        x += out_proj((h C + D * u) * silu(z))
    logits = embedding * norm(x)

(Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2312.00752.)
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .data import BEGIN, VOCABULARY
from .half import StoredInHalf
from .linear import Linear, project

__all__ = ["Mamba", "Shape", "scan"]


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the model, under config.json's names."""

    hidden_size: int = 192
    intermediate_size: int = 384
    num_hidden_layers: int = 4
    state_size: int = 16
    conv_kernel: int = 4
    time_step_rank: int = 12
    vocab_size: int = VOCABULARY
    layer_norm_epsilon: float = 1e-5


class _Scan(torch.autograd.Function):
    """The recurrence, one token after the other; states are kept, decays are computed again.

    Whatever reads or writes the states but does not carry them on is done for all tokens at once.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, step: Tensor, decay: Tensor, b: Tensor, c: Tensor) -> Tensor:
        u, step, b, c = (x.transpose(0, 1).contiguous() for x in (u, step, b, c))  # tokens first
        states = u.new_empty(len(u) + 1, *u.shape[1:], decay.shape[1])
        states[0] = 0
        driven = step * u
        for t in range(len(u)):
            kept = (step[t, :, :, None] * decay).exp_()
            torch.mul(driven[t, :, :, None], b[t, :, None], out=states[t + 1])
            states[t + 1].addcmul_(kept, states[t])
        ctx.save_for_backward(u, step, decay, b, c, states)
        return (states[1:] @ c[..., None]).squeeze(-1).transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        u, step, decay, b, c, states = ctx.saved_tensors
        grad = grads[0].transpose(0, 1).contiguous()
        to_states = torch.empty_like(states[1:])
        to_step = torch.empty_like(u)
        to_decay = torch.zeros_like(states[0])
        behind = torch.zeros_like(states[0])  # what later tokens want of this one's state
        for t in range(len(u) - 1, -1, -1):
            torch.mul(grad[t, :, :, None], c[t, :, None], out=to_states[t])
            to_states[t].add_(behind)
            behind = (step[t, :, :, None] * decay).exp_().mul_(to_states[t])
            through = behind * states[t]  # to the exponent, step * decay
            torch.sum(through * decay, -1, out=to_step[t])
            to_decay.addcmul_(through, step[t, :, :, None])
        to_driven = (to_states @ b[..., None]).squeeze(-1)
        to_b = ((step * u)[:, :, None] @ to_states).squeeze(-2)
        to_c = (grad[:, :, None] @ states[1:]).squeeze(-2)
        parts = (to_driven * step, to_step + to_driven * u, to_b, to_c)
        to_u, to_step, to_b, to_c = (part.transpose(0, 1) for part in parts)
        return to_u, to_step, to_decay.sum(0), to_b, to_c


def scan(u: Tensor, step: Tensor, decay: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Runs the selective scan.

    Args:
        u: Inputs (windows, tokens, inner).
        step: Step sizes, of the same shape.
        decay: A, negative (inner, state).
        b: What drives the state (windows, tokens, state).
        c: What reads it, of the same shape.

    Returns:
        (windows, tokens, inner), without D's part.
    """
    return cast(Tensor, _Scan.apply(u, step, decay, b, c))  # type: ignore[no-untyped-call]


class _Convolution(nn.Module):
    """Over time, each channel on its own; products of shifted inputs are fastest on a CPU."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        reach = width**-0.5
        self.weight = nn.Parameter(torch.empty(channels, 1, width).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, u: Tensor) -> Tensor:
        width, tokens = self.weight.shape[-1], u.shape[1]
        padded = F.pad(u, (0, 0, width - 1, 0))
        out = self.bias.expand_as(u)
        for k in range(width):
            out = torch.addcmul(out, padded[:, k : k + tokens], self.weight[:, 0, k])
        return out


class _Mixer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        hidden, inner, state = shape.hidden_size, shape.intermediate_size, shape.state_size
        self.in_proj = Linear(hidden, 2 * inner)
        self.conv1d = _Convolution(inner, shape.conv_kernel)
        self.x_proj = Linear(inner, shape.time_step_rank + 2 * state)
        self.dt_proj = Linear(shape.time_step_rank, inner, bias=True)
        self.out_proj = Linear(inner, hidden)
        self.A_log = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        reach = shape.time_step_rank**-0.5
        nn.init.uniform_(self.dt_proj.weight, -reach, reach)
        # Steps begin between 0.001 and 0.1, evenly in their logarithm; softplus, the other way.
        first = torch.exp(torch.rand(inner) * math.log(100) + math.log(0.001))
        self.dt_proj.bias.data = first + torch.log(-torch.expm1(-first))

    def forward(self, x: Tensor) -> Tensor:
        u, gate = self.in_proj(x).chunk(2, dim=-1)
        u = F.silu(self.conv1d(u))
        sizes = [self.shape.time_step_rank, self.shape.state_size, self.shape.state_size]
        step, b, c = self.x_proj(u).split(sizes, dim=-1)
        step = F.softplus(self.dt_proj(step))
        y = scan(u, step, -torch.exp(self.A_log), b, c) + self.D * u
        out: Tensor = self.out_proj(y * F.silu(gate))
        return out


class _Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(shape.hidden_size, eps=shape.layer_norm_epsilon)
        self.mixer = _Mixer(shape)


class _Body(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(shape.vocab_size, shape.hidden_size)
        layers = nn.ModuleList(_Layer(shape) for _ in range(shape.num_hidden_layers))
        self.layers = cast("list[_Layer]", layers)
        self.norm_f = nn.RMSNorm(shape.hidden_size, eps=shape.layer_norm_epsilon)


class Mamba(StoredInHalf):
    """The model; its parameters are named as in a published checkpoint."""

    def __init__(self, shape: Shape = Shape()) -> None:
        super().__init__()
        self.shape, self.backbone = shape, _Body(shape)
        nn.init.normal_(self.backbone.embeddings.weight, std=0.02)
        for layer in self.backbone.layers:
            nn.init.normal_(layer.mixer.in_proj.weight, std=0.04)
            nn.init.normal_(layer.mixer.x_proj.weight, std=0.04)
            nn.init.normal_(layer.mixer.out_proj.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Ids (windows, tokens) to logits (windows, tokens, vocabulary)."""
        x = self.backbone.embeddings(tokens)
        for layer in self.backbone.layers:
            x = x + layer.mixer(layer.norm(x))
        return project(self.backbone.norm_f(x), self.backbone.embeddings.weight, self.training)

    def matrices(self) -> list[nn.Parameter]:
        """The projections that Muon trains; dt_proj begins at a scale of its own and keeps it."""
        names = ("in_proj.weight", "x_proj.weight", "out_proj.weight")
        return [tensor for name, tensor in self.named_parameters() if name.endswith(names)]

    def config(self) -> dict[str, Any]:
        """config.json of the checkpoint."""
        return {
            "architectures": ["MambaForCausalLM"],
            "model_type": "mamba",
            **asdict(self.shape),
            "expand": self.shape.intermediate_size // self.shape.hidden_size,
            "hidden_act": "silu",
            "use_bias": False,
            "use_conv_bias": True,
            "residual_in_fp32": True,
            "tie_word_embeddings": True,
            "bos_token_id": BEGIN,
            "eos_token_id": BEGIN,
            "dtype": "float16",
        }
