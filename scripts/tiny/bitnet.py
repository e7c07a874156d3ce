"""BitNet b1.58 with quantisation-aware training, in the layout of transformers' BitNetForCausalLM.

    x = embedding[token]
    for each layer:
        x += o(norm(attention(rope(q), rope(k), v)))      q, k, v = ternary projections of norm(x)
        x += down(norm(relu(gate)^2 * up))                gate, up = ternary projections of norm(x)
    logits = embedding * norm(x)

A ternary projection rounds weights to -1, 0, 1 times their mean magnitude, and each token's
activations to int8 by their largest magnitude, in every forward pass; gradients pass the rounding
as if it were not there. Codes are whole numbers up to 127, which bfloat16 holds exactly, so the
products of a training step run in bfloat16. ("The Era of 1-bit LLMs", 2402.17764; BitNet
b1.58 2B4T Technical Report, 2504.12285.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .data import BEGIN, VOCABULARY

__all__ = ["BitNet", "Shape", "absmean"]


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the model, under config.json's names."""

    hidden_size: int = 192
    intermediate_size: int = 512
    num_hidden_layers: int = 4
    num_attention_heads: int = 6
    num_key_value_heads: int = 2
    max_position_embeddings: int = 256
    vocab_size: int = VOCABULARY
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0


def absmean(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds a matrix to -1, 0, 1; returns these and what they are multiplied by."""
    scale = weight.abs().mean().clamp(min=1e-5)
    return (weight / scale).round().clamp(-1, 1), scale


class _TernaryProduct(torch.autograd.Function):
    """x (…, in) times a matrix (out, in), both rounded; gradients as if neither were."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        codes, scale = absmean(weight)
        token = x.abs().amax(-1, keepdim=True).clamp(min=1e-5) / 127
        rounded = (x / token).round_().to(torch.bfloat16)
        codes = codes.to(torch.bfloat16)
        ctx.save_for_backward(rounded, token, codes, scale)
        return F.linear(rounded, codes).float() * (token * scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        rounded, token, codes, scale = ctx.saved_tensors
        grad = grads[0]
        to_x = (grad.to(torch.bfloat16) @ codes).float() * scale
        scaled = (grad * token).to(torch.bfloat16).flatten(0, -2)
        return to_x, (scaled.T @ rounded.flatten(0, -2)).float()


class _Ternary(nn.Linear):
    """A ternary projection. With `scale` set, the weights are codes already."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.scale: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return cast(Tensor, _TernaryProduct.apply(x, self.weight))  # type: ignore[no-untyped-call]
        codes, scale = absmean(self.weight) if self.scale is None else (self.weight, self.scale)
        token = 127 / x.abs().amax(-1, keepdim=True).clamp(min=1e-5)
        rounded = (x * token).round().clamp(-128, 127) / token
        return F.linear(rounded, codes) * scale


class _Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        hidden, self.heads = shape.hidden_size, shape.num_attention_heads
        self.groups, self.width = shape.num_key_value_heads, hidden // self.heads
        self.q_proj = _Ternary(hidden, hidden)
        self.k_proj = _Ternary(hidden, self.groups * self.width)
        self.v_proj = _Ternary(hidden, self.groups * self.width)
        self.o_proj = _Ternary(hidden, hidden)
        self.attn_sub_norm = nn.RMSNorm(hidden, eps=shape.rms_norm_eps)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        query = _rotated(self._split(self.q_proj(x)), turn)
        key = _rotated(self._split(self.k_proj(x)), turn)
        value = self._split(self.v_proj(x))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        joined: Tensor = self.o_proj(self.attn_sub_norm(mixed.transpose(1, 2).flatten(2)))
        return joined

    def _split(self, x: Tensor) -> Tensor:
        """(windows, tokens, heads * width) to (windows, heads, tokens, width)."""
        return x.reshape(*x.shape[:2], -1, self.width).transpose(1, 2)


class _Gated(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        hidden, inner = shape.hidden_size, shape.intermediate_size
        self.gate_proj, self.up_proj = _Ternary(hidden, inner), _Ternary(hidden, inner)
        self.down_proj = _Ternary(inner, hidden)
        self.ffn_sub_norm = nn.RMSNorm(inner, eps=shape.rms_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        gated = F.relu(self.gate_proj(x)).square() * self.up_proj(x)
        down: Tensor = self.down_proj(self.ffn_sub_norm(gated))
        return down


class _Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn, self.mlp = _Attention(shape), _Gated(shape)
        self.input_layernorm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), turn)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class _Body(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        layers = nn.ModuleList(_Layer(shape) for _ in range(shape.num_hidden_layers))
        self.layers = cast("list[_Layer]", layers)
        self.norm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)


class BitNet(nn.Module):
    """The model; its parameters are named as in a published checkpoint."""

    def __init__(self, shape: Shape = Shape()) -> None:
        super().__init__()
        self.shape, self.model = shape, _Body(shape)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02 if "embed" in name else 0.04)

    def forward(self, tokens: Tensor) -> Tensor:
        """Ids (windows, tokens) to logits (windows, tokens, vocabulary)."""
        x = self.model.embed_tokens(tokens)
        width = self.shape.hidden_size // self.shape.num_attention_heads
        turn = _turn(tokens.shape[1], width, self.shape.rope_theta)
        for layer in self.model.layers:
            x = layer(x, turn)
        return F.linear(self.model.norm(x), self.model.embed_tokens.weight)

    def matrices(self) -> list[nn.Parameter]:
        """The master weights of the ternary projections, which Muon trains."""
        return [one for name, one in self.named_parameters() if name.endswith("_proj.weight")]

    def config(self) -> dict[str, Any]:
        """config.json of the packed checkpoint."""
        sizes = asdict(self.shape)
        theta = sizes.pop("rope_theta")
        return {
            "architectures": ["BitNetForCausalLM"],
            "model_type": "bitnet",
            **sizes,
            "hidden_act": "relu2",
            "rope_parameters": {"rope_type": "default", "rope_theta": theta},
            "tie_word_embeddings": True,
            "bos_token_id": BEGIN,
            "eos_token_id": BEGIN,
            "dtype": "bfloat16",
            "quantization_config": {
                "quant_method": "bitnet",
                "linear_class": "autobitlinear",
                "quantization_mode": "offline",
            },
        }

    def exported(self) -> Mapping[str, Tensor]:
        """Tensors as published: four ternary rows to a byte with their scale, the rest bfloat16."""
        tensors = {}
        for name, tensor in self.state_dict().items():
            if name.endswith("_proj.weight"):
                codes, scale = absmean(tensor)
                tensors[name] = _packed(codes)
                tensors[f"{name}_scale"] = scale.reshape(1).to(torch.bfloat16)
            else:
                tensors[name] = tensor.to(torch.bfloat16)
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over what `exported` gave, so that the stored model can be scored."""
        own = {name: tensor.float() for name, tensor in tensors.items() if "_scale" not in name}
        for name, module in self.named_modules():
            if isinstance(module, _Ternary):
                own[f"{name}.weight"] = _unpacked(tensors[f"{name}.weight"])
                module.scale = tensors[f"{name}.weight_scale"].float()
        self.load_state_dict(own)


def _packed(codes: Tensor) -> Tensor:
    """Ternary (rows, columns) to bytes (rows / 4, columns); a byte has every rows / 4-th row."""
    quarters = (codes + 1).to(torch.uint8).chunk(4)
    packed = torch.zeros_like(quarters[0])
    for place, rows in enumerate(quarters):
        packed |= rows << 2 * place
    return packed


def _unpacked(packed: Tensor) -> Tensor:
    return torch.cat([(packed >> 2 * place & 3).float() - 1 for place in range(4)])


def _turn(tokens: int, width: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines (tokens, width), each angle once in either half of the head."""
    speeds = theta ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    angles = torch.arange(tokens, dtype=torch.float32)[:, None] * speeds
    twice = torch.cat([angles, angles], dim=-1)
    return twice.cos(), twice.sin()


def _rotated(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * turn[0] + torch.cat([-second, first], dim=-1) * turn[1]
