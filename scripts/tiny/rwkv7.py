"""RWKV-7 "Goose", in the layout of flash-linear-attention's RWKV7ForCausalLM.

    x = norm(embedding[token])
    for each layer:
        x += time mixing of norm(x)         a state (width, width) for each head, see `delta_rule`
        x += value(relu(key(mixed))^2)      mixed = norm(x) and its last token's, by x_k
    logits = lm_head(norm(x))

Names in comments are those of BlinkDL's files where they differ. (Peng et al., "RWKV-7 'Goose'
with Expressive Dynamic State Evolution", 2503.14456; initial values as in RWKV-LM's
`RWKV-v7/train_temp`.)
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
from .linear import Linear

__all__ = ["RWKV7", "Shape", "delta_rule"]

_CHUNK = 16  # over so many tokens the strongest decay still leaves a number that float32 divides by
_STRONGEST = -math.exp(-0.5)  # logarithm of the smallest decay a token can cause


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the model, under config.json's names."""

    hidden_size: int = 192
    intermediate_size: int = 768
    num_hidden_layers: int = 3
    head_dim: int = 64
    decay_low_rank_dim: int = 16
    a_low_rank_dim: int = 16
    v_low_rank_dim: int = 16
    gate_low_rank_dim: int = 32
    vocab_size: int = VOCABULARY
    norm_eps: float = 1e-5


def delta_rule(r: Tensor, log_w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Runs S = S diag(w) + (S a) b' + v k' and reads S r, all (windows, heads, tokens, width).

    In chunks. With P the product of the decays since the chunk's start, S = Z diag(P), and Z only
    grows by outer products; what they read from one another is a triangular system for each chunk.

    Args:
        r: What reads the state.
        log_w: Logarithms of the decays, not below -exp(-0.5).
        k: Keys.
        v: Values.
        a: What the state is asked for.
        b: What that answer is written back to.
    """
    windows, heads, tokens, width = r.shape
    padding = -tokens % _CHUNK
    r, log_w, k, v, a, b = (
        F.pad(x, (0, 0, 0, padding)).reshape(windows, heads, -1, _CHUNK, width)
        for x in (r, log_w, k, v, a, b)
    )
    logs = log_w.cumsum(-2)
    grown, shrunk = torch.exp(-logs), torch.exp(logs)
    k, b, r, a = k * grown, b * grown, r * shrunk, a * torch.exp(logs - log_w)
    system = torch.eye(_CHUNK) - (a @ b.mT).tril(-1)
    right = torch.cat([a, (a @ k.mT).tril(-1) @ v], dim=-1)
    solved = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)
    from_state, from_chunk = solved.split(width, dim=-1)
    read_b, read_k = (r @ b.mT).tril(), (r @ k.mT).tril() @ v
    last = shrunk[..., -1:, :]
    written = v.mT @ k
    state = r.new_zeros(windows, heads, width, width)
    out = []
    parts = (from_state, from_chunk, r, read_b, read_k, b, written, last)
    for ask, asked, reads, reads_b, known, backs, new, end in zip(
        *(part.unbind(2) for part in parts), strict=True
    ):
        asked = ask @ state.mT + asked
        out.append(reads @ state.mT + reads_b @ asked + known)
        state = (state + asked.mT @ backs + new) * end
    return torch.cat(out, dim=2)[:, :, :tokens]


class _LowRank(nn.Module):
    """A projection through few dimensions. BlinkDL: 0.weight is w1', 2.weight w2', 2.bias w0."""

    def __init__(self, hidden: int, rank: int, between: nn.Module, bias: Tensor | None) -> None:
        super().__init__()
        inward, outward = Linear(hidden, rank), Linear(rank, hidden, bias=bias is not None)
        self.lora = nn.Sequential(inward, between, outward)
        nn.init.zeros_(inward.weight)
        nn.init.orthogonal_(outward.weight, gain=0.1)
        if bias is not None:
            outward.bias.data = bias

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.lora(x)
        return out


class _TimeMixing(nn.Module):
    x_r: nn.Parameter
    x_w: nn.Parameter
    x_k: nn.Parameter
    x_v: nn.Parameter
    x_a: nn.Parameter
    x_g: nn.Parameter

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        hidden, self.width, self.layer = shape.hidden_size, shape.head_dim, layer
        heads = hidden // self.width
        place = torch.arange(hidden) / hidden
        late = 1 - layer / shape.num_hidden_layers
        for name, power in (("r", 0.2), ("w", 0.9), ("k", 0.7), ("v", 0.7), ("a", 0.9), ("g", 0.2)):
            mixing = 1 - place ** (power * late)
            self.register_parameter(f"x_{name}", nn.Parameter(mixing.reshape(1, 1, hidden)))
        ramp, zigzag = torch.linspace(-0.5, 0.5, hidden), torch.linspace(-1, 1, self.width)
        zigzag = (zigzag * zigzag.abs()).repeat(heads)
        depth = layer / max(shape.num_hidden_layers - 1, 1)
        decay = 6 * (ramp + 0.5) ** (1 + depth**0.3) - 5.5 + zigzag * 2.5
        self.w_lora = _LowRank(hidden, shape.decay_low_rank_dim, nn.Tanh(), decay)
        asking = -0.19 + zigzag * 0.3 + ramp * 0.4
        self.a_lora = _LowRank(hidden, shape.a_low_rank_dim, nn.Identity(), asking)
        if layer:
            self.v_lora = _LowRank(hidden, shape.v_low_rank_dim, nn.Identity(), 0.73 - ramp * 0.4)
        self.g_lora = _LowRank(hidden, shape.gate_low_rank_dim, nn.Sigmoid(), None)
        self.k_k = nn.Parameter(0.71 - ramp * 0.1)
        self.k_a = nn.Parameter(torch.full((hidden,), 1.02))
        self.r_k = nn.Parameter(torch.full((heads, self.width), -0.04))
        self.r_proj, self.k_proj = Linear(hidden, hidden), Linear(hidden, hidden)  # receptance, key
        self.v_proj, self.o_proj = Linear(hidden, hidden), Linear(hidden, hidden)  # value, output
        self.g_norm = nn.GroupNorm(heads, hidden, eps=shape.norm_eps * self.width)  # ln_x
        nn.init.constant_(self.g_norm.weight, ((layer + 1) / shape.num_hidden_layers) ** 0.7)
        for one, gain in ((self.r_proj, 1.0), (self.k_proj, 0.1), (self.v_proj, 1.0)):
            nn.init.orthogonal_(one.weight, gain=gain)
        nn.init.zeros_(self.o_proj.weight)

    def forward(self, x: Tensor, first: Tensor | None) -> tuple[Tensor, Tensor]:
        """Takes and returns the first layer's values, which later layers mix in."""
        change = _shifted(x) - x
        r = self.r_proj(x + change * self.x_r)
        log_w = _STRONGEST * torch.sigmoid(self.w_lora(x + change * self.x_w))
        k = self.k_proj(x + change * self.x_k)
        to_v = x + change * self.x_v
        v = self.v_proj(to_v)
        if first is None:
            first = v
        else:
            v = v + (first - v) * torch.sigmoid(self.v_lora(to_v))
        a = torch.sigmoid(self.a_lora(x + change * self.x_a))
        gate = self.g_lora(x + change * self.x_g)
        unit = F.normalize(self._split(k * self.k_k), dim=-1)
        k = k * (1 + (a - 1) * self.k_a)
        r, log_w, k, v, a = (self._split(part) for part in (r, log_w, k, v, a))
        out = _joined(delta_rule(r, log_w, k, v, -unit, unit * a))
        out = self.g_norm(out.flatten(0, 1)).view_as(out)
        bonus = (r * k * self.r_k[:, None]).sum(-1, keepdim=True) * v
        return self.o_proj((out + _joined(bonus)) * gate), first

    def _split(self, x: Tensor) -> Tensor:
        """(windows, tokens, heads * width) to (windows, heads, tokens, width)."""
        return x.reshape(*x.shape[:2], -1, self.width).transpose(1, 2)


class _ChannelMixing(nn.Module):
    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        late = 1 - layer / shape.num_hidden_layers
        place = torch.arange(shape.hidden_size) / shape.hidden_size
        self.x_k = nn.Parameter(1 - place ** (late**4))
        self.key = Linear(shape.hidden_size, shape.intermediate_size)
        self.value = Linear(shape.intermediate_size, shape.hidden_size)
        nn.init.orthogonal_(self.key.weight)
        nn.init.zeros_(self.value.weight)

    def forward(self, x: Tensor) -> Tensor:
        mixed = x + (_shifted(x) - x) * self.x_k
        out: Tensor = self.value(F.relu(self.key(mixed)).square())
        return out


class _Layer(nn.Module):
    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        if not layer:
            self.pre_norm = nn.LayerNorm(shape.hidden_size, eps=shape.norm_eps)  # ln0
        self.attn_norm = nn.LayerNorm(shape.hidden_size, eps=shape.norm_eps)  # ln1
        self.ffn_norm = nn.LayerNorm(shape.hidden_size, eps=shape.norm_eps)  # ln2
        self.attn, self.ffn = _TimeMixing(shape, layer), _ChannelMixing(shape, layer)


class _Body(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(shape.vocab_size, shape.hidden_size)
        layers = nn.ModuleList(_Layer(shape, n) for n in range(shape.num_hidden_layers))
        self.layers = cast("list[_Layer]", layers)
        self.norm = nn.LayerNorm(shape.hidden_size, eps=shape.norm_eps)  # ln_out


class RWKV7(StoredInHalf):
    """The model; its parameters are named as in a published checkpoint."""

    def __init__(self, shape: Shape = Shape()) -> None:
        super().__init__()
        self.shape, self.model = shape, _Body(shape)
        self.lm_head = Linear(shape.hidden_size, shape.vocab_size)
        nn.init.uniform_(self.model.embeddings.weight, -1e-4, 1e-4)
        nn.init.orthogonal_(self.lm_head.weight, gain=0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Ids (windows, tokens) to logits (windows, tokens, vocabulary)."""
        layers = self.model.layers
        x = layers[0].pre_norm(self.model.embeddings(tokens))
        first = None
        for layer in layers:
            mixed, first = layer.attn(layer.attn_norm(x), first)
            x = x + mixed
            x = x + layer.ffn(layer.ffn_norm(x))
        logits: Tensor = self.lm_head(self.model.norm(x))
        return logits

    def matrices(self) -> list[nn.Parameter]:
        """The large projections, which Muon trains."""
        names = ("_proj.weight", "key.weight", "value.weight")
        return [tensor for name, tensor in self.named_parameters() if name.endswith(names)]

    def config(self) -> dict[str, Any]:
        """config.json of the checkpoint."""
        shape = self.shape
        return {
            "architectures": ["RWKV7ForCausalLM"],
            "model_type": "rwkv7",
            **asdict(shape),
            "num_heads": shape.hidden_size // shape.head_dim,
            "value_dim": [shape.hidden_size] * shape.num_hidden_layers,
            "hidden_ratio": shape.intermediate_size / shape.hidden_size,
            "hidden_act": "sqrelu",
            "attn": None,
            "attn_mode": "chunk",
            "norm_first": True,
            "norm_bias": True,
            "tie_word_embeddings": False,
            "bos_token_id": BEGIN,
            "eos_token_id": BEGIN,
            "dtype": "float16",
        }


def _shifted(x: Tensor) -> Tensor:
    """Every token's predecessor; zeros before the first."""
    return F.pad(x, (0, 0, 1, -1))


def _joined(x: Tensor) -> Tensor:
    """(windows, heads, tokens, width) to (windows, tokens, heads * width)."""
    return x.transpose(1, 2).flatten(2)
