"""Reads a checkpoint's vocabulary: a GGUF file's tables, or files beside the weights.

    tokenizer.ggml.model   built as
    gpt2                   byte-level BPE, cut by tokenizer.ggml.pre
    llama                  SentencePiece: BPE with byte fallback, merges recovered from the scores
    rwkv                   RWKV's World vocabulary
    (files)                tokenizer.json as it is; 20B_tokenizer.json and rwkv_vocab_v20230424.txt
                           beside an RWKV checkpoint, the latter also from the `rwkv` package

From the tables of Qwen's 151,936 tokens this takes 0.35 s, so nothing is cached on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference import world
from ryzanstein.inference.codec import Codec, HubCodec
from ryzanstein.inference.pretokenize import (
    COMPOSED,
    IGNORES_MERGES,
    PRE_TOKENIZERS,
    pre_tokenizer,
)
from ryzanstein.inference.template import RWKV, RWKV_STOPS
from ryzanstein.inference.vocabulary_files import (
    content,
    directory_template,
    hub_tokenizer,
    read_object,
    text_or_none,
    vocabulary_file,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HubTokenizer

    from ryzanstein.inference.formats.checkpoint import Checkpoint

__all__ = ["Vocabulary", "has_vocabulary", "read_vocabulary"]

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
# Texts that end a turn or a file in the models met so far, whatever the metadata says (llama.cpp
# does the same): a model that was fine-tuned for chat often keeps the base model's end-of-text id.
_ENDINGS: Final = (
    "<|im_end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer and what the checkpoint says about its special tokens.

    Attributes:
        codec: From text to ids and from ids to bytes.
        specials: Text of every special token, with its id.
        end_ids: Tokens that end a generation.
        bos_id: Token to begin every prompt with, or None.
        strips_space: Decoding drops one leading space, which encoding has put there.
        chat_template: Jinja2 source, or None.
        chat_stops: Texts that end an answer in a conversation.
    """

    codec: Codec
    specials: Mapping[str, int]
    end_ids: frozenset[int]
    bos_id: int | None
    strips_space: bool
    chat_template: str | None
    chat_stops: tuple[str, ...] = ()


def read_vocabulary(checkpoint: Checkpoint) -> Vocabulary:
    """Reads a checkpoint's tokenizer.

    Raises:
        ModelLoadError: there is none, it is damaged, or of a kind that is not supported.
    """
    try:
        if checkpoint.metadata:
            model = checkpoint.metadata.get("general.architecture")
            read = _from_tables(checkpoint.metadata)
        else:
            model = checkpoint.config.get("model_type")
            read = _from_files(checkpoint)
        return _as_rwkv(read) if str(model).startswith("rwkv") else read
    except ModelLoadError as error:
        raise ModelLoadError(f"{checkpoint.path.name}: {error.message}", hint=error.hint) from error


def _from_tables(metadata: Mapping[str, Any]) -> Vocabulary:
    model = metadata.get("tokenizer.ggml.model")
    if model == "rwkv":
        return _world_from_tables(metadata)
    tokens = list(_table(metadata, "tokens", str))
    kinds = [int(kind) for kind in _table(metadata, "token_type", int, default=[1] * len(tokens))]
    if len(kinds) != len(tokens):
        raise ModelLoadError("its tables of tokens and token types differ in length.")
    if model == "gpt2":
        hub = _byte_level(tokens, metadata)
    elif model == "llama":
        hub = _sentencepiece(tokens, metadata)
    else:
        hint = "Supported are gpt2, llama and rwkv."
        raise ModelLoadError(f"its tokenizer {model!r:.40} is not supported.", hint=hint)
    added = _add_specials(hub, tokens, kinds)
    adds_bos = _adds_bos(metadata, model)
    return Vocabulary(
        codec=HubCodec(hub, byte_level=model == "gpt2"),
        specials=added,
        end_ids=_end_ids(_metadata_ends(metadata), added, len(tokens)),
        bos_id=_identifier(metadata, "bos_token_id", len(tokens)) if adds_bos else None,
        strips_space=model == "llama"
        and bool(metadata.get("tokenizer.ggml.add_space_prefix", True)),
        chat_template=text_or_none(metadata.get("tokenizer.chat_template")),
    )


def _world_from_tables(metadata: Mapping[str, Any]) -> Vocabulary:
    """Reads llama.cpp's tables.

    What they name as end of turn is not taken: it is an empty line, which also ends paragraphs.
    """
    tokens = list(_table(metadata, "tokens", str))
    kinds = [int(kind) for kind in _table(metadata, "token_type", int, default=[1] * len(tokens))]
    if len(kinds) != len(tokens):
        raise ModelLoadError("its tables of tokens and token types differ in length.")
    pairs = zip(tokens, kinds, strict=True)
    listed = [world.unescape(token) if kind == _NORMAL else b"" for token, kind in pairs]
    template = text_or_none(metadata.get("tokenizer.chat_template"))
    # A name of llama.cpp's own templates, from before it wrote them out.
    return _world([b"", *listed[1:]], None if template == "rwkv-world" else template)


def _world(tokens: Sequence[bytes], template: str | None) -> Vocabulary:
    return Vocabulary(
        codec=world.WorldCodec(tokens),
        specials={world.END_TEXT: 0},
        end_ids=frozenset({0}),
        bos_id=None,
        strips_space=False,
        chat_template=template,
    )


def _as_rwkv(vocabulary: Vocabulary) -> Vocabulary:
    template = vocabulary.chat_template or RWKV
    return replace(vocabulary, chat_template=template, chat_stops=RWKV_STOPS)


def _byte_level(tokens: Sequence[str], metadata: Mapping[str, Any]) -> HubTokenizer:
    from tokenizers import Tokenizer, decoders, normalizers
    from tokenizers.models import BPE

    name = metadata.get("tokenizer.ggml.pre", "default")
    if name not in PRE_TOKENIZERS:
        hint = f"Supported are {', '.join(PRE_TOKENIZERS)}."
        raise ModelLoadError(f"its pre-tokenizer {name!r:.40} is not supported.", hint=hint)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges: list[tuple[str, str]] = []
    for merge in _table(metadata, "merges", str):
        left, _, right = merge.partition(" ")
        # The tokenizers package panics on these instead of raising.
        if left not in vocabulary or right not in vocabulary or left + right not in vocabulary:
            raise ModelLoadError(f"its merge {merge!r:.60} makes no token of its vocabulary.")
        # The table's own texts: copies for hundreds of thousands of merges take 60 MB more.
        merges.append((tokens[vocabulary[left]], tokens[vocabulary[right]]))
    hub = Tokenizer(BPE(vocab=vocabulary, merges=merges, ignore_merges=name in IGNORES_MERGES))
    if name in COMPOSED:
        hub.normalizer = normalizers.NFC()
    hub.pre_tokenizer = pre_tokenizer(name)
    hub.decoder = decoders.ByteLevel()
    return hub


def _sentencepiece(tokens: Sequence[str], metadata: Mapping[str, Any]) -> HubTokenizer:
    from tokenizers import Tokenizer, decoders, normalizers
    from tokenizers.models import BPE

    scores = [float(score) for score in _table(metadata, "scores", float)]
    if len(scores) != len(tokens):
        raise ModelLoadError("its tables of tokens and scores differ in length.")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    unknown = _identifier(metadata, "unknown_token_id", len(tokens))
    hub = Tokenizer(
        BPE(
            vocab=vocabulary,
            merges=_merges_from_scores(vocabulary, scores),
            unk_token=tokens[unknown] if unknown is not None else None,
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    prefixed = bool(metadata.get("tokenizer.ggml.add_space_prefix", True))
    spaces = normalizers.Replace(" ", "▁")
    prefix = [normalizers.Prepend("▁")] if prefixed else []
    hub.normalizer = normalizers.Sequence([*prefix, spaces])
    hub.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return hub


def _merges_from_scores(
    vocabulary: Mapping[str, int], scores: Sequence[float]
) -> list[tuple[str, str]]:
    """Recovers the merges of a SentencePiece BPE model: a better score was merged earlier.

    Every way to cut a token into two tokens is a merge of it; transformers' SentencePieceExtractor
    does the same.
    """
    merges: list[tuple[float, int, int, str, str]] = []
    for token, index in vocabulary.items():
        cuts = ((token[:at], token[at:]) for at in range(1, len(token)))
        merges.extend(
            (-scores[index], vocabulary[left], vocabulary[right], left, right)
            for left, right in cuts
            if left in vocabulary and right in vocabulary
        )
    merges.sort()
    return [(left, right) for *_, left, right in merges]


def _add_specials(hub: HubTokenizer, tokens: Sequence[str], kinds: Sequence[int]) -> dict[str, int]:
    """Marks control tokens as special, user-defined ones as indivisible; returns the former."""
    from tokenizers import AddedToken

    special = {t: i for i, (t, k) in enumerate(zip(tokens, kinds, strict=True)) if k == _CONTROL}
    whole = [t for t, kind in zip(tokens, kinds, strict=True) if kind == _USER_DEFINED and t]
    hub.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in special if text]
    )
    hub.add_tokens([AddedToken(text, normalized=False) for text in whole])
    return special


def _adds_bos(metadata: Mapping[str, Any], model: Any) -> bool:
    told = metadata.get("tokenizer.ggml.add_bos_token")
    by_default = model == "llama" or metadata.get("tokenizer.ggml.pre") in IGNORES_MERGES
    return by_default if told is None else bool(told)


def _metadata_ends(metadata: Mapping[str, Any]) -> list[Any]:
    return [metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]


def _end_ids(told: Iterable[Any], specials: Mapping[str, int], size: int) -> frozenset[int]:
    known = {specials[text] for text in _ENDINGS if text in specials}
    return frozenset(known | {int(i) for i in told if isinstance(i, int) and 0 <= i < size})


def _identifier(metadata: Mapping[str, Any], name: str, size: int) -> int | None:
    value = metadata.get(f"tokenizer.ggml.{name}")
    if value is None:
        return None
    if not isinstance(value, int) or not 0 <= value < size:
        raise ModelLoadError(f"its {name} {value!r:.40} is no token of its vocabulary.")
    return value


def _table(
    metadata: Mapping[str, Any], name: str, kind: type, default: Sequence[int] | None = None
) -> Iterable[Any]:
    table = metadata.get(f"tokenizer.ggml.{name}", default)
    wanted = Sequence if kind is str or table is default else np.ndarray
    if table is None:
        raise ModelLoadError(f"it has no tokenizer: its metadata lacks tokenizer.ggml.{name}.")
    if not isinstance(table, wanted) or isinstance(table, str):
        raise ModelLoadError(f"its metadata tokenizer.ggml.{name} is no list of the right kind.")
    return cast("Iterable[Any]", table)


def _from_files(checkpoint: Checkpoint) -> Vocabulary:
    file = vocabulary_file(checkpoint)
    if file is None:
        raise _missing(checkpoint)
    if file.suffix == ".txt":
        settings = read_object(file.parent / "tokenizer_config.json")
        return _world(world.read_tokens(file), directory_template(file.parent, settings))
    return _from_json(file)


def _missing(checkpoint: Checkpoint) -> ModelLoadError:
    kind, rows = str(checkpoint.config.get("model_type")), checkpoint.config["vocab_size"]
    if kind.startswith("rwkv") and rows >= world.TOKENS:
        hint = "Copy it beside the model, or `pip install rwkv`, which has it."
        return ModelLoadError(f"it has no {world.FILE_NAME}.", hint=hint)
    return ModelLoadError("it has no tokenizer.json.", hint="Copy the model's own beside it.")


def _from_json(file: Path) -> Vocabulary:
    hub, decoder = hub_tokenizer(file)
    path = file.parent
    settings = read_object(path / "tokenizer_config.json")
    added = hub.get_added_tokens_decoder()
    specials = {token.content: index for index, token in added.items() if token.special}
    begins = hub.encode("", add_special_tokens=True).ids
    told = [
        read_object(path / name).get("eos_token_id")
        for name in ("generation_config.json", "config.json")
    ]
    ends = [i for value in told for i in (value if isinstance(value, list) else [value])]
    ends.append(specials.get(content(settings.get("eos_token"))))
    return Vocabulary(
        codec=HubCodec(hub, byte_level='"ByteLevel"' in decoder),
        specials=specials,
        end_ids=_end_ids(ends, specials, hub.get_vocab_size()),
        bos_id=begins[0]
        if begins and begins[0] == specials.get(content(settings.get("bos_token")))
        else None,
        strips_space='"Strip"' in decoder,
        chat_template=directory_template(path, settings),
    )


def has_vocabulary(checkpoint: Checkpoint) -> bool:
    """Says whether a checkpoint comes with a tokenizer at all."""
    if checkpoint.metadata:
        return "tokenizer.ggml.tokens" in checkpoint.metadata
    return vocabulary_file(checkpoint) is not None
