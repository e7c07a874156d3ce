"""Text to token ids and back, equal to the model's own tokenizer; and decoding token by token.

Ids and bytes come from the vocabulary's codec (`codec.py`). Streaming needs the bytes of one token:
a character may be spread over several tokens, and only whole ones may be shown.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.vocabulary import Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from ryzanstein.inference.formats.checkpoint import Checkpoint

__all__ = ["StreamDecoder", "Tokenizer", "load_tokenizer"]


class Tokenizer:
    """A model's tokenizer.

    Attributes:
        vocab_size: Number of tokens; the model's logits may be longer.
        specials: Text of every special token, with its id.
        end_ids: Tokens that end a generation: end of text, of turn, and of a file in
        fill-in-the-middle.
        bos_id: Token every prompt begins with, or None.
        chat_template: Jinja2 source, or None.
        chat_stops: Texts that end an answer in a conversation, as the next speaker's name does.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._codec = vocabulary.codec
        self._strips_space = vocabulary.strips_space
        self._special_ids = frozenset(vocabulary.specials.values())
        self.vocab_size = vocabulary.codec.size
        self.specials = vocabulary.specials
        self.end_ids = vocabulary.end_ids
        self.bos_id = vocabulary.bos_id
        self.chat_template = vocabulary.chat_template
        self.chat_stops = vocabulary.chat_stops

    def encode(self, text: str, *, specials: bool = True) -> list[int]:
        """Returns the ids of a text, without a begin-of-text token.

        With `specials` the text of a special token becomes that token; without, it is plain text
        like any other.
        """
        return self._codec.encode(text, specials=specials)

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
        return self._codec.token_bytes(token)

    def all_bytes(self) -> list[bytes]:
        """Returns the bytes of every token, in order of ids."""
        return self._codec.all_bytes()

    def is_special(self, token: int) -> bool:
        """Says whether a token is a special one, which decoding leaves out."""
        return token in self._special_ids

    def token_id(self, text: str) -> int | None:
        """Returns the id of the token spelt exactly so in the vocabulary, or None."""
        return self._codec.token_id(text)

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
