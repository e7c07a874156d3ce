"""The reference of a BitNet directory: a model of transformers with its own BitLinear modules.

`from_pretrained` wants `accelerate` for a quantised checkpoint, so the model is put together here
as its quantizer does it: the modules replaced, then the tensors loaded, packed ones unpacked for
the modules that hold floats.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.utils.quantization_config import BitNetQuantConfig

# The modules' arithmetic as it is written, not as a compiler would fuse it.
with patch.object(torch, "compile", lambda function: function):
    from transformers.integrations import bitnet
_EAGER = "force_eager"  # where somebody else imported it first

__all__ = ["bitnet", "load_reference", "logits"]


def load_reference(path: Path) -> Any:
    """Returns transformers' model of a directory, in float32, for inference."""
    tensors = load_file(path / "model.safetensors")
    given = json.loads((path / "config.json").read_text(encoding="utf-8"))
    if "BitnetForCausalLM" in given["architectures"]:
        return _earlier(given, tensors)
    config = AutoConfig.from_pretrained(path)
    quantization = BitNetQuantConfig(**_settings(config.quantization_config))
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    skip = quantization.modules_to_not_convert
    bitnet.replace_with_bitnet_linear(model, ["lm_head"] if skip is None else skip, quantization)
    return _filled(model, tensors)


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key != "quant_method"}


def _filled(model: Any, tensors: dict[str, torch.Tensor]) -> Any:
    for name, module in model.named_modules():
        stored = tensors.get(f"{name}.weight")
        if isinstance(module, bitnet.AutoBitLinear) and stored is not None:
            rows = module.out_features
            if stored.dtype == torch.uint8 and stored.shape[0] * 4 == rows:
                stored = bitnet.unpack_weights(stored, dtype=torch.float32)
            tensors[f"{name}.weight"] = stored.float()
    floats = {
        name: tensor if tensor.dtype == torch.uint8 else tensor.float()
        for name, tensor in tensors.items()
    }
    missing, unexpected = model.load_state_dict(floats, strict=False, assign=True)
    model.tie_weights()
    assert not unexpected, unexpected
    assert set(missing) <= {"lm_head.weight"}, missing
    return model.eval().requires_grad_(False)


class _SubNormed(torch.nn.Module):
    """A linear layer behind a norm: where 1bitLLM's code has inner_attn_ln and ffn_layernorm."""

    def __init__(self, linear: Any, norm: Any) -> None:
        super().__init__()
        self.linear, self.norm = linear, norm

    def forward(self, x: torch.Tensor) -> Any:
        return self.linear(self.norm(x))


def _earlier(given: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    """1bitLLM's BitnetForCausalLM, which transformers lacks: its Llama, BitLinear and RMSNorm."""
    config = AutoConfig.for_model(**(given | {"model_type": "llama"}))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    settings = BitNetQuantConfig(linear_class="autobitlinear", quantization_mode="online")
    bitnet.replace_with_bitnet_linear(model, ["lm_head"], settings)
    for layer in model.model.layers:
        for block, linear, size in (
            (layer.self_attn, "o_proj", config.num_attention_heads * config.head_dim),
            (layer.mlp, "down_proj", config.intermediate_size),
        ):
            norm = LlamaRMSNorm(size, eps=config.rms_norm_eps)
            setattr(block, linear, _SubNormed(getattr(block, linear), norm))
    renamed = {_renamed(name): tensor for name, tensor in tensors.items()}
    return _filled(model, renamed)


def _renamed(name: str) -> str:
    for theirs, ours in (
        ("self_attn.o_proj", "self_attn.o_proj.linear"),
        ("mlp.down_proj", "mlp.down_proj.linear"),
        ("self_attn.inner_attn_ln", "self_attn.o_proj.norm"),
        ("mlp.ffn_layernorm", "mlp.down_proj.norm"),
    ):
        name = name.replace(theirs, ours)
    return name


def logits(model: Any, ids: Any) -> Any:
    """Logits after each token, float32 [n, vocabulary]."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # these models are too small to share, and waiting is slow when busy
    try:
        with torch.no_grad(), torch.compiler.set_stance(_EAGER):
            return model(torch.as_tensor(ids)[None]).logits[0].numpy()
    finally:
        torch.set_num_threads(threads)
