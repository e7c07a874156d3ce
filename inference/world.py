r"""RWKV's World vocabulary: 65,536 ids, and greedy longest match over bytes.

At every place of the text the longest token that matches is taken; there are no merges and no
cutting into words before. A token is a string of bytes, often no whole character; every single
byte is a token, so that any bytes can be written. Id 0 is the end of a text and has no bytes.

    from                          a line or an entry
    rwkv_vocab_v20230424.txt      ID LITERAL LENGTH, with LITERAL as Python writes a str or bytes
    GGUF tokenizer.ggml.tokens    \t \n \r \\ \xFF for bytes, else the character itself

The definition is `TRIE_TOKENIZER` of the `rwkv` package (BlinkDL/ChatRWKV). A trie of Python
objects takes 2.5 s to build; the table here takes 0.15 s and is faster at encoding: tokens are
found in one dict, and another says which lengths occur after the three bytes that come next.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ryzanstein.errors import ModelLoadError

__all__ = [
    "END_TEXT",
    "FILE_NAME",
    "TOKENS",
    "WorldCodec",
    "packaged_vocabulary",
    "read_tokens",
    "unescape",
]

FILE_NAME: Final = "rwkv_vocab_v20230424.txt"
TOKENS: Final = 65530
_END: Final = 0
# What Hugging Face's files call id 0. GGUF files say <s>, which is also a tag of HTML.
END_TEXT: Final = "<|rwkv_tokenizer_end_of_text|>"
_PREFIX: Final = 3
_SHORT: Final = (3, 2, 1)
_ESCAPE: Final = re.compile(rb"\\(x([0-9a-fA-F]{2})|.)", re.DOTALL)
_ESCAPED: Final = {b"t": b"\t", b"n": b"\n", b"r": b"\r"}


class WorldCodec:
    """The vocabulary at work.

    Attributes:
        size: Number of tokens, ids without bytes at the end not counted.
    """

    def __init__(self, tokens: Sequence[bytes]) -> None:
        """Takes every token's bytes, in order of ids; empty where an id has none.

        Raises:
            ModelLoadError: a byte has no token.
        """
        self._ids = {token: index for index, token in enumerate(tokens) if token}
        missing = [byte for byte in range(256) if bytes([byte]) not in self._ids]
        if missing:
            raise ModelLoadError(f"its World vocabulary has no token for the byte {missing[0]}.")
        self.size = max(self._ids.values()) + 1
        self._tokens = [END_TEXT.encode(), *tokens[1 : self.size]]
        self._lengths = _lengths(self._ids)

    def encode(self, text: str, *, specials: bool) -> list[int]:
        """Returns the ids of a text; with `specials` END_TEXT becomes id 0."""
        if not specials or END_TEXT not in text:
            return self.encode_bytes(text.encode())
        first, *rest = (self.encode_bytes(part.encode()) for part in text.split(END_TEXT))
        return first + [token for part in rest for token in (_END, *part)]

    def encode_bytes(self, data: bytes) -> list[int]:
        """Returns the ids of any bytes, which need be no UTF-8."""
        found: list[int] = []
        ids, lengths, at = self._ids, self._lengths, 0
        while at < len(data):
            for length in lengths.get(data[at : at + _PREFIX], _SHORT):
                piece = data[at : at + length]  # shorter at the end, and then no longer one exists
                if piece in ids:
                    break
            found.append(ids[piece])
            at += len(piece)
        return found

    def token_bytes(self, token: int) -> bytes:
        """Returns the bytes a token stands for; empty for an id outside the vocabulary."""
        return self._tokens[token] if 0 <= token < self.size else b""

    def all_bytes(self) -> list[bytes]:
        """Returns the bytes of every token, in order of ids."""
        return list(self._tokens)

    def token_id(self, text: str) -> int | None:
        """Returns the id of the token spelt exactly so in the vocabulary, or None."""
        return _END if text == END_TEXT else self._ids.get(text.encode())


def _lengths(tokens: Iterable[bytes]) -> dict[bytes, tuple[int, ...]]:
    """Lengths of the tokens that begin with three bytes, longest first, then 2 and 1."""
    found: dict[bytes, set[int]] = {}
    for token in tokens:
        if len(token) > _PREFIX:
            found.setdefault(token[:_PREFIX], set()).add(len(token))
    return {start: (*sorted(each, reverse=True), *_SHORT) for start, each in found.items()}


def read_tokens(path: Path) -> list[bytes]:
    """Reads a vocabulary's text file: every token's bytes in order of ids, the first one empty.

    Raises:
        ModelLoadError: it cannot be read, or a line is not `ID LITERAL LENGTH`.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelLoadError(f"its {path.name} cannot be read: {error}.") from error
    named = dict(_line(line, path.name) for line in lines if line.strip())
    if not named or not 0 <= min(named) <= max(named) < 1 << 20:
        raise ModelLoadError(f"its {path.name} is no World vocabulary.")
    tokens = [named.get(index, b"") for index in range(max(named) + 1)]
    tokens[_END] = b""
    return tokens


def _line(line: str, name: str) -> tuple[int, bytes]:
    try:
        index, rest = line.split(" ", 1)
        literal, length = rest.rsplit(" ", 1)
        token = _bytes(literal)
        if len(token) == int(length):
            return int(index), token
    except (ValueError, SyntaxError):
        pass
    raise ModelLoadError(f"its {name} has a line that is no token: {line!r:.60}.")


def _bytes(literal: str) -> bytes:
    # Most literals are plain; asking the parser for all of them takes four times as long.
    if "\\" not in literal and literal[0] == literal[-1] and literal[0] in "'\"":
        return literal[1:-1].encode()
    value = ast.literal_eval(literal)
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise ValueError(literal)


def unescape(token: str) -> bytes:
    """Returns the bytes of a token as GGUF files spell it (llama.cpp, `llama-vocab.cpp`)."""
    return _ESCAPE.sub(_unescaped, token.encode()) if "\\" in token else token.encode()


def _unescaped(match: re.Match[bytes]) -> bytes:
    if match[2]:
        return bytes([int(match[2], 16)])
    return _ESCAPED.get(match[1], match[1])


def packaged_vocabulary() -> Path | None:
    """Returns the vocabulary of the `rwkv` package, where that is installed; nothing is run."""
    found = find_spec("rwkv")
    folders = (found.submodule_search_locations or []) if found else []
    files = (Path(folder) / FILE_NAME for folder in folders)
    return next((file for file in files if file.is_file()), None)
