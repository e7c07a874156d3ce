"""Text to token ids and ids to bytes: what a `Tokenizer` needs of a vocabulary, whatever its kind.

codec         vocabularies
HubCodec      byte-level BPE and SentencePiece, by the `tokenizers` package
WorldCodec    RWKV's World vocabulary (`world.py`)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HubTokenizer

__all__ = ["Codec", "HubCodec"]

_BYTE_PIECE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Codec(Protocol):
    """A vocabulary at work.

    Attributes:
        size: Number of tokens.
    """

    size: int

    def encode(self, text: str, *, specials: bool) -> list[int]:
        """Returns the ids of a text; with `specials` their text becomes those tokens."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """Returns the bytes a token stands for; empty for an id outside the vocabulary."""
        ...

    def all_bytes(self) -> list[bytes]:
        """Returns the bytes of every token, in order of ids."""
        ...

    def token_id(self, text: str) -> int | None:
        """Returns the id of the token spelt exactly so in the vocabulary, or None."""
        ...


class HubCodec:
    """A vocabulary of the `tokenizers` package.

    Bytes are taken from the tokens themselves, which are spelt in GPT-2's byte alphabet or as
    SentencePiece pieces.
    """

    def __init__(self, hub: HubTokenizer, *, byte_level: bool) -> None:
        self._hub = hub
        self._lock = Lock()
        self._byte_level = byte_level
        added = hub.get_added_tokens_decoder()
        self._added: Mapping[int, str] = {index: token.content for index, token in added.items()}
        self.size: int = hub.get_vocab_size()

    def encode(self, text: str, *, specials: bool) -> list[int]:
        """Returns the ids of a text; with `specials` their text becomes those tokens."""
        with self._lock:  # the package has this option on the object and not on the call
            self._hub.encode_special_tokens = not specials
            return list(self._hub.encode(text, add_special_tokens=False).ids)

    def token_bytes(self, token: int) -> bytes:
        """Returns the bytes a token stands for; empty for an id outside the vocabulary."""
        if token in self._added:
            return self._added[token].encode()
        piece = self._hub.id_to_token(token) if token >= 0 else None
        return b"" if piece is None else self._piece_bytes(piece)

    def all_bytes(self) -> list[bytes]:
        """Returns the bytes of every token, in order of ids."""
        listed = [b""] * self.size
        for piece, token in self._hub.get_vocab(with_added_tokens=False).items():
            if token < self.size:
                listed[token] = self._piece_bytes(piece)
        for token, text in self._added.items():
            listed[token] = text.encode()
        return listed

    def token_id(self, text: str) -> int | None:
        """Returns the id of the token spelt exactly so in the vocabulary, or None."""
        index: int | None = self._hub.token_to_id(text)
        return index

    def _piece_bytes(self, piece: str) -> bytes:
        if self._byte_level:
            try:
                return piece.translate(_FROM_ALPHABET).encode("latin-1")
            except UnicodeEncodeError:  # not spelt in the alphabet: a placeholder of the file
                return piece.encode()
        match = _BYTE_PIECE.fullmatch(piece)
        return bytes([int(match[1], 16)]) if match else piece.replace("▁", " ").encode()


def _byte_alphabet() -> dict[int, int]:
    """GPT-2's printable stand-in for every byte, as a translation from stand-ins to bytes.

    What is no stand-in becomes a character that Latin-1 does not have, so that encoding notices it.
    """
    plain: Sequence[int] = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    foreign = dict.fromkeys(others, 0xFFFD)
    spelt = {256 + index: byte for index, byte in enumerate(others)}
    return foreign | {byte: byte for byte in plain} | spelt


_FROM_ALPHABET: Final = _byte_alphabet()
