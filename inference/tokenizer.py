"""Text to token ids and back, equal to the model's own tokenizer; and decoding token by token.

Ids come from the `tokenizers` package. Bytes are taken from the tokens themselves, because
streaming needs the bytes of one token: a character may be spread over several tokens, and only
whole ones may be shown.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Final

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.vocabulary import Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from ryzanstein.inference.formats.checkpoint import Checkpoint

__all__ = ["StreamDecoder", "Tokenizer", "load_tokenizer"]

_BYTE_PIECE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Tokenizer:
    """A model's tokenizer.

    Attributes:
        vocab_size: Number of tokens; the model's logits may be longer.
        specials: Text of every special token, with its id.
        end_ids: Tokens that end a generation: end of text, of turn, and of a file in
        fill-in-the-middle.
        bos_id: Token every prompt begins with, or None.
        chat_template: Jinja2 source, or None.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._hub = vocabulary.hub
        self._lock = Lock()
        self._byte_level = vocabulary.byte_level
        self._strips_space = vocabulary.strips_space
        added = self._hub.get_added_tokens_decoder()
        self._added: Mapping[int, str] = {index: token.content for index, token in added.items()}
        self._special_ids = frozenset(vocabulary.specials.values())
        self.vocab_size: int = self._hub.get_vocab_size()
        self.specials = vocabulary.specials
        self.end_ids = vocabulary.end_ids
        self.bos_id = vocabulary.bos_id
        self.chat_template = vocabulary.chat_template

    def encode(self, text: str, *, specials: bool = True) -> list[int]:
        """Returns the ids of a text, without a begin-of-text token.

        With `specials` the text of a special token becomes that token; without, it is plain text
        like any other.
        """
        with self._lock:  # the package has this option on the object and not on the call
            self._hub.encode_special_tokens = not specials
            return list(self._hub.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Iterable[int], *, specials: bool = False) -> str:
        """Returns the text of a sequence of tokens; special ones are left out unless asked for.

        Bytes that are no UTF-8 become U+FFFD.
        """
        text = b"".join(self._pieces(ids, specials)).decode("utf-8", "replace")
        return text[1:] if self._strips_space and text.startswith(" ") else text

    def stream(self) -> StreamDecoder:
        """Returns a decoder for tokens that come one by one."""
        return StreamDecoder(self)

    def token_bytes(self, token: int) -> bytes:
        """Returns the bytes a token stands for; empty for an id outside the vocabulary."""
        if token in self._added:
            return self._added[token].encode()
        piece = self._hub.id_to_token(token) if token >= 0 else None
        return b"" if piece is None else self._piece_bytes(piece)

    def all_bytes(self) -> list[bytes]:
        """Returns the bytes of every token, in order of ids."""
        listed = [b""] * self.vocab_size
        for piece, token in self._hub.get_vocab(with_added_tokens=False).items():
            if token < self.vocab_size:
                listed[token] = self._piece_bytes(piece)
        for token, text in self._added.items():
            listed[token] = text.encode()
        return listed

    def _piece_bytes(self, piece: str) -> bytes:
        if self._byte_level:
            try:
                return piece.translate(_FROM_ALPHABET).encode("latin-1")
            except UnicodeEncodeError:  # not spelt in the alphabet: a placeholder of the file
                return piece.encode()
        match = _BYTE_PIECE.fullmatch(piece)
        return bytes([int(match[1], 16)]) if match else piece.replace("▁", " ").encode()

    def is_special(self, token: int) -> bool:
        """Says whether a token is a special one, which decoding leaves out."""
        return token in self._special_ids

    def token_id(self, text: str) -> int | None:
        """Returns the id of the token spelt exactly so in the vocabulary, or None."""
        index: int | None = self._hub.token_to_id(text)
        return index

    def _pieces(self, ids: Iterable[int], specials: bool) -> Iterable[bytes]:
        return (self.token_bytes(i) for i in ids if specials or i not in self._special_ids)


class StreamDecoder:
    """Turns tokens into text as they come, holding back the bytes of an unfinished character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """Returns the text that has become certain; empty for specials and inside a character."""
        if self._tokenizer.is_special(token):
            return ""
        return self._utf8.decode(self._tokenizer.token_bytes(token))

    def finish(self) -> str:
        """Returns what is left, U+FFFD for a character that never was finished."""
        return self._utf8.decode(b"", final=True)


def load_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """Builds the tokenizer of an opened checkpoint.

    Raises:
        ModelLoadError: it has none, or one that is damaged, not supported, or larger than the
        model's vocabulary.
    """
    tokenizer = Tokenizer(read_vocabulary(checkpoint))
    rows = checkpoint.config["vocab_size"]
    if tokenizer.vocab_size > rows:
        said = f"has {tokenizer.vocab_size:,} tokens, but its model only {rows:,}"
        raise ModelLoadError(f"The tokenizer of {checkpoint.path.name} {said}.")
    return tokenizer


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
