"""One tiny RWKV in every container: from the tensors of BlinkDL's .pth to the other files' forms.

    stored = blinkdl("5.2")               float32, in the shapes and orientations of a .pth
    write_pth(path, stored)
    write_hub(folder, stored)             RwkvForCausalLM, or fla's RWKV7ForCausalLM
    write_gguf(path, stored)              rwkv6, rwkv7 as llama.cpp's converter writes them

The canonical form of a tensor is what `canonical` makes of the stored one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.inference.models import random_rwkv, random_rwkv4

Tensors = dict[str, npt.NDArray[np.float32]]

_SMALL = re.compile(r"[wavg][12]|time_(maa|decay)_w[12]")
_VECTOR = re.compile(r"[xk]_\w|[wav]0|time_.*|r_k")


def blinkdl(version: str, **sizes: int) -> Tensors:
    """Random tensors of a version, 4, 5, 5.1, 5.2, 6 or 7, as its .pth holds them."""
    sizes = {"layers": 3, "heads": 2, "head_dim": 16, "inner": 56, "vocab": 40} | sizes
    if version in ("6", "7"):
        return random_rwkv.stored(random_rwkv.Shape(version=int(version), **sizes))
    return random_rwkv4.tensors(random_rwkv4.Shape(version, **sizes))


def canonical(stored: Tensors) -> Tensors:
    """What every container has to give: matrices [out, in], flat vectors, no v0-v2 in block 0."""
    return {
        name: _canonical(name, values)
        for name, values in stored.items()
        if not re.fullmatch(r"blocks\.0\.att\.v\d", name)
    }


def _canonical(name: str, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    part = name.rsplit(".", 1)[-1]
    if _SMALL.fullmatch(part):
        return values.swapaxes(-1, -2)
    return values.reshape(-1) if _VECTOR.fullmatch(part) else values


def write_pth(path: Path, stored: Tensors, dtype: str = "float32") -> Path:
    """A file as BlinkDL's trainers leave it."""
    import torch

    kind = getattr(torch, dtype)
    torch.save({name: torch.from_numpy(values).to(kind) for name, values in stored.items()}, path)
    return path


def write_hub(path: Path, stored: Tensors, *, fused: bool = False, **settings: Any) -> Path:
    """A directory: fla's names where it is a version 7, else those of transformers' Rwkv.

    `fused` joins x_r … x_g into one tensor; `settings` go into config.json.
    """
    from safetensors.numpy import save_file

    path.mkdir(parents=True, exist_ok=True)
    seventh = "blocks.0.att.r_k" in stored
    name_of, config = (_fla, _fla_config) if seventh else (_rwkv, _rwkv_config)
    renamed = dict(name_of(name, values) for name, values in stored.items())
    if fused:
        renamed = _fused(renamed)
    renamed = {name: np.ascontiguousarray(values) for name, values in renamed.items()}
    save_file(renamed, path / "model.safetensors")
    text = json.dumps({**config(stored), **settings})
    (path / "config.json").write_text(text, encoding="utf-8")
    return path


def _sizes(stored: Tensors) -> dict[str, Any]:
    vocab, width = stored["emb.weight"].shape
    layers = 1 + max(int(name.split(".")[1]) for name in stored if name.startswith("blocks."))
    return {
        "vocab_size": vocab,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "intermediate_size": stored["blocks.0.ffn.key.weight"].shape[0],
        "tie_word_embeddings": False,
    }


def _fla_config(stored: Tensors) -> dict[str, Any]:
    heads, dim = stored["blocks.0.att.r_k"].shape
    told = {"model_type": "rwkv7", "head_dim": dim, "num_heads": heads, "norm_eps": 1e-5}
    return _sizes(stored) | told | {"hidden_act": "sqrelu", "attn": None, "bos_token_id": 1}


def _rwkv_config(stored: Tensors) -> dict[str, Any]:
    attention = stored["blocks.0.att.key.weight"].shape[0]
    told = {"model_type": "rwkv", "layer_norm_epsilon": 1e-5, "rescale_every": 6}
    return _sizes(stored) | told | {"attention_hidden_size": attention, "bos_token_id": 0}


_FLA = {
    "emb.": "model.embeddings.",
    "ln_out.": "model.norm.",
    "head.": "lm_head.",
    "blocks.": "model.layers.",
    ".ln0.": ".pre_norm.",
    ".ln1.": ".attn_norm.",
    ".ln2.": ".ffn_norm.",
    ".att.": ".attn.",
    ".ln_x.": ".g_norm.",
    ".attn.receptance.": ".attn.r_proj.",
    ".attn.key.": ".attn.k_proj.",
    ".attn.value.": ".attn.v_proj.",
    ".attn.output.": ".attn.o_proj.",
}


def _fla(name: str, values: npt.NDArray[np.float32]) -> tuple[str, npt.NDArray[np.float32]]:
    new = name
    for old, changed in _FLA.items():
        new = new.replace(old, changed) if old.startswith(".") or name.startswith(old) else new
    new = re.sub(r"\.([wavg])1$", r".\1_lora.lora.0.weight", new)
    new = re.sub(r"\.([wavg])2$", r".\1_lora.lora.2.weight", new)
    new = re.sub(r"\.([wav])0$", r".\1_lora.lora.2.bias", new)
    kept = values if re.search(r"att\.x_|r_k$", name) else _canonical(name, values)
    return new, kept


def _fused(renamed: Tensors) -> Tensors:
    """x_r x_w x_k x_v x_a x_g of a layer as x_x, as some directories have them."""
    joined = {name: values for name, values in renamed.items() if ".attn.x_" not in name}
    for name in [name for name in renamed if name.endswith(".attn.x_r")]:
        stem = name.removesuffix("r")
        joined[f"{stem}x"] = np.concatenate([renamed[stem + letter] for letter in "rwkvag"])
    return joined


def _rwkv(name: str, values: npt.NDArray[np.float32]) -> tuple[str, npt.NDArray[np.float32]]:
    new = name if name.startswith("head.") else f"rwkv.{name}"
    new = new.replace("rwkv.emb.", "rwkv.embeddings.").replace(".ln0.", ".pre_ln.")
    new = new.replace(".att.", ".attention.").replace(".ffn.", ".feed_forward.")
    words = {"k": "key", "v": "value", "r": "receptance", "g": "gate"}
    return re.sub(r"time_mix_(\w)$", lambda m: f"time_mix_{words[m[1]]}", new), values


def write_gguf(
    path: Path, stored: Tensors, dtype: str = "F32", rescale: int = 0, **metadata: int
) -> Path:
    """A file as llama.cpp's converter writes it; `dtype` is that of the large matrices."""
    import gguf

    seventh = "blocks.0.att.r_k" in stored
    arch = "rwkv7" if seventh else "rwkv6"
    writer = gguf.GGUFWriter(path, arch)
    sizes = _sizes(stored)
    writer.add_context_length(1 << 20)
    writer.add_embedding_length(sizes["hidden_size"])
    writer.add_block_count(sizes["num_hidden_layers"])
    writer.add_layer_norm_eps(1e-5)
    writer.add_vocab_size(sizes["vocab_size"])
    writer.add_feed_forward_length(sizes["intermediate_size"])
    writer.add_head_count(0)
    writer.add_wkv_head_size(metadata.pop("head_size", stored[_by_head(arch)].shape[1]))
    if not seventh:
        writer.add_rescale_every_n_layers(rescale)
    for key, value in metadata.items():
        writer.add_uint32(f"{arch}.{key}", value)
    kind = gguf.GGMLQuantizationType[dtype]
    for name, values in _gguf_tensors(stored, arch, rescale).items():
        large = values.ndim == 2 and min(values.shape) >= 32 and "time_mix_w" not in name
        if large and dtype != "F32":
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _by_head(arch: str) -> str:
    return "blocks.0.att.r_k" if arch == "rwkv7" else "blocks.0.att.time_faaaa"


_GGUF = {
    "emb.weight": "token_embd.weight",
    "ln_out.weight": "output_norm.weight",
    "ln_out.bias": "output_norm.bias",
    "head.weight": "output.weight",
    "blocks.0.ln0.weight": "token_embd_norm.weight",
    "blocks.0.ln0.bias": "token_embd_norm.bias",
}
_GGUF_PARTS = {
    "ln1": "attn_norm",
    "ln2": "attn_norm_2",
    "att.ln_x": "time_mix_ln",
    "att.time_maa_w1": "time_mix_w1",
    "att.time_maa_w2": "time_mix_w2",
    "att.time_maa_x": "time_mix_lerp_x",
    "att.time_decay": "time_mix_decay",
    "att.time_decay_w1": "time_mix_decay_w1",
    "att.time_decay_w2": "time_mix_decay_w2",
    "att.time_faaaa": "time_mix_first",
    "ffn.time_maa_k": "channel_mix_lerp_k",
    "ffn.time_maa_r": "channel_mix_lerp_r",
    "ffn.x_k": "channel_mix_lerp_k",
}
_LERPS = {"rwkv6": ("time_maa_", "wkvrg"), "rwkv7": ("x_", "rwkvag")}


def _gguf_tensors(stored: Tensors, arch: str, rescale: int) -> Tensors:
    stem, letters = _LERPS[arch]
    lerp = re.compile(rf"blocks\.(\d+)\.att\.{stem}([{letters}])")
    made: Tensors = {}
    for name, values in stored.items():
        match = lerp.fullmatch(name)
        if match is None:
            made |= _gguf_tensor(name, values, rescale)
        elif match[2] == letters[0]:
            each = [stored[name[:-1] + letter].reshape(1, 1, -1) for letter in letters]
            made[f"blk.{match[1]}.time_mix_lerp_fused.weight"] = np.stack(each)
    if arch == "rwkv7":  # llama.cpp wants v0, v1 and v2 in block 0 too, whatever they hold
        dummies = {
            name.replace("_mix_a", "_mix_v"): v for name, v in made.items() if "_mix_a" in name
        }
        made |= {name: v for name, v in dummies.items() if name.startswith("blk.0.")}
    return made


def _gguf_tensor(
    name: str, values: npt.NDArray[np.float32], rescale: int
) -> Mapping[str, npt.NDArray[np.float32]]:
    if name in _GGUF:
        return {_GGUF[name]: values}
    _, layer, part = name.split(".", 2)
    kind = "bias" if part.endswith(".bias") else "weight"
    part = part.removesuffix(f".{kind}")
    if rescale and part in ("att.output", "ffn.value"):
        values = values / np.float32(2.0 ** min(int(layer) // rescale, 64))
    known = part.replace("att.", "time_mix_").replace("ffn.", "channel_mix_")
    if not part.endswith("time_faaaa"):
        values = np.ascontiguousarray(_canonical(name, values))
    return {f"blk.{layer}.{_GGUF_PARTS.get(part, known)}.{kind}": values}
