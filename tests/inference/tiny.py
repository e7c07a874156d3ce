"""Tiny random checkpoints of any shape, written on the spot: Hugging Face directories and GGUF.

    shape = Shape(model_type="qwen2", hidden=96, heads=6, kv_heads=2, tied=True)
    write_safetensors(tmp_path / "hf", shape)
    write_gguf(tmp_path / "m.gguf", shape, "Q8_0")     the same weights, quantised

The vocabulary is the 256 bytes of byte-level BPE, then MERGES, then SPECIALS at the end; a
vocabulary too small for that is written without a tokenizer.
"""

from __future__ import annotations

import json
import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = tuple(
    tuple(pair.split())
    for pair in (
        "Ġ t|h e|i n|Ġ a|Ġt he|e r|o n|r e|Ġ s|a t|e n|o r|e s|Ġ w|a n|i s|i t|Ġ c|o u|Ġ m|e d|"
        "in g|t o|Ġ b|l l|u s|s e|c e|Ġ I|l e|Ġ =|Ġ d|i on|a r|Ġa n|Ġan d|d e|f or|t r|t h|Ġ Ġ"
    ).split("|")
)
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MIN_VOCAB = 256 + len(MERGES) + len(SPECIALS)

Weights = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Shape:
    """What a tiny model looks like; `bias` None means as the architecture has it."""

    model_type: str = "llama"
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int | None = None
    inner: int = 160
    vocab: int = 320
    tied: bool = False
    bias: bool | None = None
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = field(default=None, hash=False)
    context: int = 512
    eps: float = 1e-5
    seed: int = 0

    @property
    def dim(self) -> int:
        return self.head_dim or self.hidden // self.heads

    @property
    def has_bias(self) -> bool:
        return self.model_type == "qwen2" if self.bias is None else self.bias


def config(shape: Shape) -> dict[str, Any]:
    """The config.json of a shape, as transformers reads it."""
    values: dict[str, Any] = {
        "architectures": [
            "Qwen2ForCausalLM" if shape.model_type == "qwen2" else "LlamaForCausalLM"
        ],
        "model_type": shape.model_type,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "intermediate_size": shape.inner,
        "vocab_size": shape.vocab,
        "rms_norm_eps": shape.eps,
        "rope_theta": shape.rope_theta,
        "rope_scaling": shape.rope_scaling,
        "max_position_embeddings": shape.context,
        "tie_word_embeddings": shape.tied,
        "hidden_act": "silu",
        "torch_dtype": "float32",
        "bos_token_id": None,
        "eos_token_id": special_id(shape, "<|im_end|>"),
    }
    if shape.head_dim is not None:
        values["head_dim"] = shape.head_dim
    if shape.model_type == "llama":
        values |= {"attention_bias": shape.has_bias, "mlp_bias": False}
    else:
        values |= {"use_sliding_window": False}
    return values


def weights(shape: Shape) -> Weights:
    """Random weights under Hugging Face's names, sized so that logits spread over a few units."""
    rng = np.random.default_rng(shape.seed)
    query, key = shape.heads * shape.dim, shape.kv_heads * shape.dim

    def matrix(rows: int, cols: int) -> npt.NDArray[np.float32]:
        return (rng.standard_normal((rows, cols)) * 1.5 / np.sqrt(cols)).astype(np.float32)

    def vector(size: int, around: float) -> npt.NDArray[np.float32]:
        return (around + 0.2 * rng.standard_normal(size)).astype(np.float32)

    out: Weights = {"model.embed_tokens.weight": matrix(shape.vocab, shape.hidden) * 4}
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        out[f"{prefix}.input_layernorm.weight"] = vector(shape.hidden, 1)
        for name, rows in (("q", query), ("k", key), ("v", key)):
            out[f"{prefix}.self_attn.{name}_proj.weight"] = matrix(rows, shape.hidden)
            if shape.has_bias:
                out[f"{prefix}.self_attn.{name}_proj.bias"] = vector(rows, 0)
        out[f"{prefix}.self_attn.o_proj.weight"] = matrix(shape.hidden, query)
        if shape.has_bias and shape.model_type == "llama":
            out[f"{prefix}.self_attn.o_proj.bias"] = vector(shape.hidden, 0)
        out[f"{prefix}.post_attention_layernorm.weight"] = vector(shape.hidden, 1)
        out[f"{prefix}.mlp.gate_proj.weight"] = matrix(shape.inner, shape.hidden)
        out[f"{prefix}.mlp.up_proj.weight"] = matrix(shape.inner, shape.hidden)
        out[f"{prefix}.mlp.down_proj.weight"] = matrix(shape.hidden, shape.inner)
    out["model.norm.weight"] = vector(shape.hidden, 1)
    if not shape.tied:
        out["lm_head.weight"] = matrix(shape.vocab, shape.hidden)
    return out


def write_safetensors(path: Path, shape: Shape, dtype: str = "F32", shards: int = 1) -> Path:
    """Writes a Hugging Face directory, its weights spread over `shards` files; returns its path."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config(shape)), encoding="utf-8")
    tensors = list(weights(shape).items())
    if shards == 1:
        write_shard(path / "model.safetensors", dict(tensors), dtype)
    else:
        mapping = {}
        for index in range(shards):
            name = f"model-{index + 1:05}-of-{shards:05}.safetensors"
            part = dict(tensors[index::shards])
            write_shard(path / name, part, dtype)
            mapping |= dict.fromkeys(part, name)
        index_file = path / "model.safetensors.index.json"
        index_file.write_text(json.dumps({"metadata": {}, "weight_map": mapping}), encoding="utf-8")
    if shape.vocab >= MIN_VOCAB:
        write_tokenizer(path, shape)
    return path


def write_shard(path: Path, tensors: Weights, dtype: str = "F32") -> None:
    """Writes one .safetensors file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blobs, at = [], 0
    for name, array in tensors.items():
        blob = stored(array, dtype)
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [at, at + len(blob)],
        }
        at += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def stored(array: npt.NDArray[np.float32], dtype: str) -> bytes:
    """The bytes of an array as F32, F16 or BF16 (rounded to nearest, ties to even)."""
    if dtype == "F32":
        return array.tobytes()
    if dtype == "F16":
        return array.astype(np.float16).tobytes()
    bits = array.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()


def tokens(shape: Shape) -> list[str]:
    """The vocabulary in order of ids."""
    listed = [*byte_alphabet(), *("".join(pair) for pair in MERGES)]
    spare = shape.vocab - len(listed) - len(SPECIALS)
    return [*listed, *(f"<|unused_{index}|>" for index in range(spare)), *SPECIALS]


def special_id(shape: Shape, name: str) -> int | None:
    """Id of one of SPECIALS; None where the vocabulary is too small for a tokenizer."""
    return shape.vocab - len(SPECIALS) + SPECIALS.index(name) if shape.vocab >= MIN_VOCAB else None


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, sorted by byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    mapped = {byte: chr(byte) for byte in plain} | {b: chr(256 + i) for i, b in enumerate(others)}
    return [mapped[byte] for byte in range(256)]


def write_tokenizer(path: Path, shape: Shape) -> None:
    """Writes tokenizer.json and tokenizer_config.json with a ChatML template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocab = {token: index for index, token in enumerate(tokens(shape))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[(a, b) for a, b in MERGES]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIALS])
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {"chat_template": TEMPLATE, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


_GGUF_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GGUF_GLOBAL = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def write_gguf(path: Path, shape: Shape, dtype: str = "F32", **metadata: str | int | float) -> Path:
    """Writes a GGUF file: matrices as `dtype`, vectors as F32, q and k permuted for llama.

    `metadata` adds keys of the architecture, with "__" for "." (rope__scaling__type="linear").
    """
    import gguf

    writer = gguf.GGUFWriter(path, shape.model_type)
    _write_settings(writer, shape)
    for key, value in metadata.items():
        name = f"{shape.model_type}.{key.replace('__', '.')}"
        add = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}[
            type(value)
        ]
        add(name, value)
    if shape.vocab >= MIN_VOCAB:
        _write_tables(writer, shape)
    kind = gguf.GGMLQuantizationType[dtype]
    for name, array in weights(shape).items():
        array = permuted(name, array, shape)
        if array.ndim == 1 or dtype == "F32":
            writer.add_tensor(gguf_name(name), array)
        else:
            writer.add_tensor(gguf_name(name), gguf.quants.quantize(array, kind), raw_dtype=kind)
    return _close(writer)


def gguf_name(name: str) -> str:
    """llama.cpp's name of a tensor."""
    if name in _GGUF_GLOBAL:
        return _GGUF_GLOBAL[name]
    _, _, layer, middle = name.split(".", 3)
    part, kind = middle.rsplit(".", 1)
    return f"blk.{layer}.{_GGUF_LAYER[part]}.{kind}"


def permuted(name: str, array: npt.NDArray[np.float32], shape: Shape) -> npt.NDArray[np.float32]:
    """Rows of llama's q and k as llama.cpp's converter orders them (LlamaModel.permute)."""
    heads = {"q_proj": shape.heads, "k_proj": shape.kv_heads}.get(name.split(".")[-2])
    if shape.model_type != "llama" or heads is None:
        return array
    halves = array.reshape(heads, 2, shape.dim // 2, *array.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)


def _write_settings(writer: Any, shape: Shape) -> None:
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.eps)
    writer.add_vocab_size(shape.vocab)
    if shape.head_dim is not None:
        writer.add_key_length(shape.head_dim)
        writer.add_value_length(shape.head_dim)


def _write_tables(writer: Any, shape: Shape) -> None:
    listed = tokens(shape)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(listed)
    writer.add_token_types(
        [3 if token in SPECIALS else 5 if "unused" in token else 1 for token in listed]
    )
    writer.add_token_merges([" ".join(pair) for pair in MERGES])
    writer.add_eos_token_id(special_id(shape, "<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def with_pre_tokenizer(source: Path, path: Path, name: str) -> Path:
    """Writes a GGUF file with only the vocabulary of another, cut by another pre-tokenizer."""
    import gguf

    from ryzanstein.inference.formats.gguf_header import read_header

    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
        metadata = read_header(buffer).metadata
        writer = gguf.GGUFWriter(path, "llama")
        _write_settings(writer, Shape(vocab=len(metadata["tokenizer.ggml.tokens"])))
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(name)
        writer.add_token_list(list(metadata["tokenizer.ggml.tokens"]))
        writer.add_token_types([int(kind) for kind in metadata["tokenizer.ggml.token_type"]])
        writer.add_token_merges(list(metadata["tokenizer.ggml.merges"]))
        writer.add_eos_token_id(int(metadata["tokenizer.ggml.eos_token_id"]))
        writer.add_add_bos_token(False)
    return _close(writer)


def write_sentencepiece(path: Path) -> Path:
    """Writes a GGUF file with only a small SentencePiece vocabulary, byte fallback included."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    words = (
        "▁the ▁and ▁world ing ▁is ▁in tion ▁of ▁Hello ▁def return ▁für ▁что ▁不 人工 ▁1 12 ▁▁ ▁▁▁▁"
    ).split()
    characters = sorted(
        {character for word in words for character in word} | set(map(chr, range(33, 127)))
    )
    longer = sorted(
        {word[:end] for word in words for end in range(2, len(word) + 1)},
        key=lambda piece: (len(piece), piece),
    )
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *longer,
        *characters,
    ]
    kinds = [2, 3, 3, *[6] * 256, *[1] * (len(longer) + len(characters))]
    scores = [0.0] * 259 + [-float(rank) for rank in range(len(longer) + len(characters))]
    _write_settings(writer, Shape(vocab=len(pieces)))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    return _close(writer)


def _close(writer: Any) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(writer.path)
