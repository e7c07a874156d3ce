"""What RWKV's versions have in common: BlinkDL's names, and how other files' names become them.

    emb.weight [vocabulary, D], ln_out.{weight,bias} [D], head.weight [vocabulary, D]
    blocks.0.ln0.{weight,bias}, blocks.N.ln1.*, .ln2.*
    blocks.N.att.{receptance,key,value}.weight [A, D], .output.weight [D, A]
    blocks.N.ffn.key.weight [F, D], .value.weight [D, F]

and what a version adds, in its own file beside this one. D is hidden_size, A that of attention, F
intermediate_size, H the heads, N their size. Vectors are flat. Matrices are [out, in]: BlinkDL
stores the small ones of low rank as x @ w takes them; their names end without .weight, while
Hugging Face and GGUF have them as [out, in] under a name that ends in .weight, and that is how the
two are told apart here.

    container                     layer                  attention      channel mixing
    .pth of BlinkDL               blocks.N               att            ffn
    RwkvForCausalLM               rwkv.blocks.N          attention      feed_forward
    RWKV7ForCausalLM (fla)        model.layers.N         attn           ffn
    .gguf                         blk.N                  time_mix_…     channel_mix_…

Sources: BlinkDL/ChatRWKV rwkv_pip_package/src/rwkv/model.py, transformers
models/rwkv/modeling_rwkv.py, fla-org/flash-linear-attention fla/layers/rwkv7.py, ggml-org/llama.cpp
conversion/rwkv.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.adapt import Tensor, reshaped, transposed
from ryzanstein.inference.formats.layouts.keys import Metadata, whole
from ryzanstein.inference.formats.layouts.layout import (
    Config,
    Layout,
    Shapes,
    Stored,
    UnsupportedModel,
)
from ryzanstein.inference.formats.raw import RawTensor

__all__ = ["NO_LIMIT", "Rwkv", "pth_version", "rank_of"]

NO_LIMIT: Final = 1 << 20
"""max_position_embeddings of a model whose memory does not grow; llama.cpp writes this number."""

_GROUP_NORM_EPS: Final = 64e-5

_HF_ENDS: Final = {
    "rwkv.embeddings.weight": "emb.weight",
    "rwkv.ln_out.weight": "ln_out.weight",
    "rwkv.ln_out.bias": "ln_out.bias",
    "model.embeddings.weight": "emb.weight",
    "model.norm.weight": "ln_out.weight",
    "model.norm.bias": "ln_out.bias",
    "lm_head.weight": "head.weight",
}
_HF_BLOCK: Final = re.compile(r"(?:rwkv\.blocks|model\.layers)\.(\d+)\.(.+)")
_HF_PARTS: Final = (
    (re.compile(r"(?:pre_ln|pre_norm)\."), "ln0."),
    (re.compile(r"attn_norm\."), "ln1."),
    (re.compile(r"ffn_norm\."), "ln2."),
    (re.compile(r"(?:attention|attn)\."), "att."),
    (re.compile(r"feed_forward\."), "ffn."),
    (re.compile(r"att\.g_norm\."), "att.ln_x."),
    (re.compile(r"att\.r_proj\."), "att.receptance."),
    (re.compile(r"att\.k_proj\."), "att.key."),
    (re.compile(r"att\.v_proj\."), "att.value."),
    (re.compile(r"att\.o_proj\."), "att.output."),
    (re.compile(r"att\.([wavg])_lora\.lora\.0\."), r"att.\g<1>1."),
    (re.compile(r"att\.([wavg])_lora\.lora\.2\.weight"), r"att.\g<1>2.weight"),
    (re.compile(r"att\.([wavg])_lora\.lora\.2\.bias"), r"att.\g<1>0"),
    (re.compile(r"(att|ffn)\.time_mix_([kvrg])\w+"), r"\1.time_mix_\2"),
)

_GGUF_ENDS: Final = {
    "token_embd.weight": "emb.weight",
    "token_embd_norm.weight": "blocks.0.ln0.weight",
    "token_embd_norm.bias": "blocks.0.ln0.bias",
    "output_norm.weight": "ln_out.weight",
    "output_norm.bias": "ln_out.bias",
    "output.weight": "head.weight",
}
_GGUF_BLOCK: Final = re.compile(r"blk\.(\d+)\.(.+)")
_GGUF_PARTS: Final = {
    "attn_norm.weight": "ln1.weight",
    "attn_norm.bias": "ln1.bias",
    "attn_norm_2.weight": "ln2.weight",
    "attn_norm_2.bias": "ln2.bias",
    "time_mix_key.weight": "att.key.weight",
    "time_mix_value.weight": "att.value.weight",
    "time_mix_receptance.weight": "att.receptance.weight",
    "time_mix_output.weight": "att.output.weight",
    "time_mix_ln.weight": "att.ln_x.weight",
    "time_mix_ln.bias": "att.ln_x.bias",
    "channel_mix_key.weight": "ffn.key.weight",
    "channel_mix_value.weight": "ffn.value.weight",
}

_BLOCK: Final = re.compile(r"blocks\.(\d{1,9})\.(.+)")
_MATRIX: Final = re.compile(
    r"emb\.weight|head\.weight|(?:att|ffn)\.(?:key|value|receptance|output|gate)\.weight"
)
# Keys of config.json that say what the tensors say too; a difference shows in the check of shapes.
_TOLD: Final = (
    "hidden_size",
    "num_hidden_layers",
    "vocab_size",
    "attention_hidden_size",
    "intermediate_size",
)


class Rwkv(Layout):
    """One version.

    Attributes:
        version: Its number in `model_type`.
        low_rank: Parts of a block that are matrices of low rank, without .weight.
        flat: Parts with one row a head, whose canonical form is flat.
        gguf_parts: What a GGUF file calls the parts of this version alone.
    """

    embedding = "emb.weight"
    head = "head.weight"
    version: ClassVar[str]
    low_rank: ClassVar[tuple[str, ...]] = ()
    flat: ClassVar[tuple[str, ...]] = ()
    gguf_parts: ClassVar[Mapping[str, str]] = {}

    def hf_name(self, name: str) -> str:
        """BlinkDL's name, or one that `adapt` makes it of; such a name may come in as well."""
        match = _HF_BLOCK.fullmatch(name)
        if match is None:
            return _HF_ENDS.get(name, name)
        part = match[2]
        for pattern, replacement in _HF_PARTS:
            found = pattern.match(part)
            if found is not None:
                part = found.expand(replacement) + part[found.end() :]
        return f"blocks.{match[1]}.{part}"

    def gguf_name(self, name: str) -> str:
        """BlinkDL's name, or one that `adapt` makes it of."""
        if name in _GGUF_ENDS:
            return _GGUF_ENDS[name]
        match = _GGUF_BLOCK.fullmatch(name)
        part = match and (_GGUF_PARTS.get(match[2]) or self.gguf_parts.get(match[2]))
        if match is None or part is None:
            raise UnsupportedModel(f"it holds the tensor {name}, which the engine has no use for")
        return f"blocks.{match[1]}.{part}"

    def hf_config(self, raw: Mapping[str, Any], stored: Stored, file: str) -> Config:
        """The configuration of the tensors, and of config.json where they do not say it."""
        self.refuse(raw, file)
        dim = whole(raw, "head_dim", file) if raw.get("head_dim") is not None else None
        try:
            config = self.config(stored, dim)
        except UnsupportedModel as error:
            raise ModelLoadError(f"{file} cannot be run: {error}.") from error
        config |= {key: whole(raw, key, file) for key in _TOLD if raw.get(key) is not None}
        epsilon = raw.get("norm_eps", raw.get("layer_norm_epsilon", 1e-5))
        if not isinstance(epsilon, float) or not 0 < epsilon < 1:
            raise ModelLoadError(f"{file}: the epsilon of its norms is {epsilon!r:.60}.")
        config["norm_eps"] = epsilon
        config["group_norm_eps"] = self.hf_group_norm_eps(config, raw)
        config["tie_word_embeddings"] = bool(raw.get("tie_word_embeddings"))
        # The World and the Pile tokenizer both end a text with token 0; a .pth does not say it.
        config["bos_token_id"] = raw.get("bos_token_id")
        config["eos_token_id"] = raw.get("eos_token_id", 0)
        return config

    def refuse(self, raw: Mapping[str, Any], file: str) -> None:
        """Refuses by name what config.json may ask for and the version does not do."""

    def hf_group_norm_eps(self, config: Config, raw: Mapping[str, Any]) -> float:
        """The epsilon of the norm of each head; in BlinkDL's code a constant."""
        return _GROUP_NORM_EPS

    def gguf_config(self, metadata: Mapping[str, Any], stored: Stored) -> Config:
        """The configuration of metadata and tensors."""
        reader = Metadata(metadata)
        if reader.get("token_shift_count") not in (None, 2):
            raise UnsupportedModel("it shifts tokens in attention only, which is not supported")
        config = self.config(stored, reader.whole("wkv.head_size"))
        return config | {
            "hidden_size": reader.whole("embedding_length"),
            "num_hidden_layers": reader.whole("block_count"),
            "vocab_size": reader.vocabulary(),
            "intermediate_size": reader.whole("feed_forward_length"),
            "norm_eps": reader.real("attention.layer_norm_epsilon", 1e-5),
            "group_norm_eps": _GROUP_NORM_EPS,
            "tie_word_embeddings": False,
            "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": metadata.get("tokenizer.ggml.eos_token_id"),
        }

    def config(self, stored: Stored, head_dim: int | None) -> Config:
        """What the tensors say; `head_dim` where they may not.

        Raises:
            UnsupportedModel: a tensor that says it is missing or has no such shape.
        """
        vocabulary, hidden = matrix_shape(stored, "emb.weight")
        attention, _ = matrix_shape(stored, "blocks.0.att.key.weight")
        inner, _ = matrix_shape(stored, "blocks.0.ffn.key.weight")
        layers = [int(match[1]) for name in stored if (match := _BLOCK.fullmatch(name))]
        config: Config = {
            "model_type": f"rwkv{self.version}",
            "rwkv_version": self.version,
            "hidden_size": hidden,
            "num_hidden_layers": 1 + max(layers, default=0),
            "vocab_size": vocabulary,
            "attention_hidden_size": attention,
            "intermediate_size": inner,
            "max_position_embeddings": NO_LIMIT,
            "bitnet": None,
        }
        heads = self.heads(stored, attention, head_dim)
        config["num_heads"], config["head_dim"] = heads, attention // heads
        if head_dim not in (None, config["head_dim"]):
            raise UnsupportedModel(f"its heads are of {config['head_dim']}, not of {head_dim}")
        return config | self.more(stored, config)

    def heads(self, stored: Stored, attention: int, head_dim: int | None) -> int:
        """Number of heads; the version's first vector with a row a head says it, or `head_dim`."""
        for part in self.flat:
            shape = stored[f"blocks.0.{part}"].shape if f"blocks.0.{part}" in stored else ()
            if len(shape) == 2 and shape[0] > 0:
                return shape[0]
        return max(attention // head_dim, 1) if head_dim else 1

    def more(self, stored: Stored, config: Config) -> Config:
        """Keys of the version alone, such as the ranks of its small matrices."""
        return {}

    def adapt(self, config: Config, stored: Stored) -> dict[str, Tensor]:
        """Flat vectors, small matrices as [out, in], and what GGUF has fused taken apart."""
        adapted: dict[str, Tensor] = {}
        for name, raw in stored.items():
            for found, tensor in self.canonical(name, raw, config):
                if found in adapted:
                    raise ModelLoadError(f"The model holds {found} twice, in two forms.")
                adapted[found] = tensor
        return adapted

    def canonical(self, name: str, raw: RawTensor, config: Config) -> Iterator[tuple[str, Tensor]]:
        """The tensors that one stored tensor becomes."""
        match = _BLOCK.fullmatch(name)
        part = match[2] if match else name
        if part.removesuffix(".weight") in self.low_rank:
            stored_transposed = not part.endswith(".weight")
            yield name.removesuffix(".weight"), transposed(raw) if stored_transposed else raw
        elif _MATRIX.fullmatch(part):
            yield name, raw
        elif part in self.flat:
            yield name, reshaped(raw, (math.prod(raw.shape),))
        else:
            yield name, reshaped(raw, tuple(size for size in raw.shape if size != 1) or (1,))

    def check(self, config: Mapping[str, Any], file: str) -> None:
        """Heads share attention evenly, and past version 4 it is as wide as the model."""
        attention, heads = config["attention_hidden_size"], config["num_heads"]
        if attention != heads * config["head_dim"]:
            raise ModelLoadError(f"{file}: {heads} heads cannot share {attention} channels.")
        if self.version != "4" and attention != config["hidden_size"]:
            raise ModelLoadError(
                f"{file}: attention of {attention} channels in a model of {config['hidden_size']} "
                "is not supported."
            )

    def required(self, config: Mapping[str, Any]) -> Shapes:
        """Shapes of all tensors."""
        hidden, vocabulary = config["hidden_size"], config["vocab_size"]
        attention, inner = config["attention_hidden_size"], config["intermediate_size"]
        shapes: Shapes = {
            "emb.weight": (vocabulary, hidden),
            **norm("blocks.0.ln0", hidden),
            **norm("ln_out", hidden),
            "head.weight": (vocabulary, hidden),
        }
        for layer in range(config["num_hidden_layers"]):
            block = f"blocks.{layer}"
            shapes |= norm(f"{block}.ln1", hidden) | norm(f"{block}.ln2", hidden)
            shapes |= {
                f"{block}.att.receptance.weight": (attention, hidden),
                f"{block}.att.key.weight": (attention, hidden),
                f"{block}.att.value.weight": (attention, hidden),
                f"{block}.att.output.weight": (hidden, attention),
                f"{block}.ffn.key.weight": (inner, hidden),
                f"{block}.ffn.value.weight": (hidden, inner),
            }
            parts = self.parts(config, layer)
            shapes |= {f"{block}.{part}": shape for part, shape in parts.items()}
        return shapes

    def parts(self, config: Mapping[str, Any], layer: int) -> Shapes:
        """Shapes of the parts of one block that the version adds."""
        raise NotImplementedError


def norm(name: str, size: int) -> Shapes:
    """Weight and bias of a norm."""
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def matrix_shape(stored: Stored, name: str) -> tuple[int, int]:
    """Rows and columns of a matrix that has to be there.

    Raises:
        UnsupportedModel: it is not, or is no matrix.
    """
    if name not in stored:
        raise UnsupportedModel(f"it has no tensor {name}")
    shape = stored[name].shape
    if len(shape) != 2 or 0 in shape:
        raise UnsupportedModel(f"{name} has the shape {shape} and is no matrix")
    return shape[0], shape[1]


def rank_of(stored: Stored, part: str, layer: int = 0) -> int:
    """Rows of the first of two matrices of low rank, whichever way it is stored.

    Raises:
        UnsupportedModel: it is not there, or is no matrix.
    """
    name = f"blocks.{layer}.{part}"
    if f"{name}.weight" in stored:
        return matrix_shape(stored, f"{name}.weight")[0]
    return matrix_shape(stored, name)[1]


def pth_version(stored: Stored) -> str:
    """The model_type of BlinkDL's file, told by its tensors as his package `rwkv` does.

    Raises:
        UnsupportedModel: it is no RWKV.
    """
    if "emb.weight" not in stored or "blocks.0.att.key.weight" not in stored:
        raise UnsupportedModel("it has not the tensors of an RWKV, and no other .pth is read")
    parts = {match[2] for name in stored if (match := _BLOCK.fullmatch(name))}
    if "att.r_k" in parts:
        return "rwkv7"
    if any("time_maa" in part for part in parts):
        return "rwkv6"
    return "rwkv5" if "att.ln_x.weight" in parts else "rwkv4"
