r"""How text is cut before byte-pair merging, by the name a GGUF file gives in `tokenizer.ggml.pre`.

The expressions are those of the models' own tokenizer.json; llama.cpp (`llama-vocab.cpp`) has them
under the same names. A name that is not here is refused, since a near match would give wrong ids
without any other sign.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

__all__ = ["COMPOSED", "IGNORES_MERGES", "PRE_TOKENIZERS", "pre_tokenizer"]

_GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2: Final = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_DEFAULT: Final = (
    r"[\p{P}\$\+<=>\^~\|]+",
    _GPT2,
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
)
_FALCON: Final = (r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, r"[0-9][0-9][0-9]")
_DEEPSEEK_CODER: Final = (
    r"[\r\n]",
    r"\s?\p{L}+",
    r"\s?\p{P}+",
    r"[一-龥ࠀ-一가-퟿]+",
    r"\p{N}",
)
_DIGITS_THEN_GPT2: Final = (r"\p{N}", _GPT2)

PRE_TOKENIZERS: Final[dict[str, tuple[str, ...]]] = {
    "default": _DEFAULT,
    "gpt-2": (_GPT2,),
    # GPT-NeoX's tokenizer, which Mamba and RWKV-4 "pile" have; llama.cpp's converter writes either.
    "mpt": (_GPT2,),
    "olmo": (_GPT2,),
    "falcon": _FALCON,
    "llama-bpe": (_LLAMA3,),
    "llama3": (_LLAMA3,),
    "qwen2": (_QWEN2,),
    "deepseek-r1-qwen": (_QWEN2,),
    "stablelm2": (_QWEN2,),
    "smollm": _DIGITS_THEN_GPT2,
    "starcoder": _DIGITS_THEN_GPT2,
    "refact": _DIGITS_THEN_GPT2,
    "command-r": _DIGITS_THEN_GPT2,
    "codeshell": _DIGITS_THEN_GPT2,
    "deepseek-coder": _DEEPSEEK_CODER,
}
# Tokens that stand in the vocabulary whole are taken whole, without asking the merges.
IGNORES_MERGES: Final = frozenset({"llama-bpe", "llama3"})
# Their original tokenizers bring text into Unicode's composed form first.
COMPOSED: Final = frozenset({"qwen2", "deepseek-r1-qwen", "mpt", "olmo"})


def pre_tokenizer(name: str) -> PreTokenizer:
    """Builds the pre-tokenizer of a name in PRE_TOKENIZERS; it ends in GPT-2's byte alphabet."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

    cuts = [Split(Regex(expression), "isolated") for expression in PRE_TOKENIZERS[name]]
    return Sequence([*cuts, ByteLevel(add_prefix_space=False, use_regex=False)])
