"""How an answer of JSON comes to its end within the tokens it was given.

A grammar says what may come next, not how to be done soon: a model that writes on and on leaves
JSON that does not parse. So when the tokens left are hardly more than an end takes, only those are
allowed that lead there:

    in a string             its closing quote
    between values          a bracket that closes, else an empty text, else a comma, else a digit

What an end takes is found by going there on a copy of the grammar's state. What choosing freely
once more can add to it is the longest of the schema's optional parts: that is the margin kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from numpy.typing import NDArray

    from ryzanstein.inference.tokenizer import Tokenizer

__all__ = ["SLACK", "Landing", "parts"]

_CLOSING: Final = frozenset(b'"]}')
_NEXT: Final = frozenset(b', "')
# Letters that only a string has, as no literal of JSON begins or goes on with them.
_LETTERS: Final = (b"k", b"z")
_DEPTH: Final = 12
# Characters of a part, and the least size of a text or an array, that are worth looking at.
_LONGEST: Final = 40_000
_MOST_SIZE: Final = 10_000
# Tokens for an escape, a number or half a character that is still open.
SLACK: Final = 8


class Landing:
    """The tokens of one vocabulary that end JSON."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokens = tokenizer.all_bytes()[: tokenizer.vocab_size]
        self._bytes = -(-tokenizer.vocab_size // 8)
        self._ends = self._bits([at in tokenizer.end_ids for at in range(len(tokens))])
        closing = [bool(token) and _CLOSING.issuperset(token) for token in tokens]
        pairs = list(zip(closing, tokens, strict=True))
        self._quotes = self._bits([ok and token[:1] == b'"' for ok, token in pairs])
        self._brackets = self._bits([ok and token[:1] != b'"' for ok, token in pairs])
        self._commas = self._bits([t[:1] == b"," and _NEXT.issuperset(t) for t in tokens])
        self._digits = self._bits([len(t) == 1 and t.isdigit() for t in tokens])
        self._letters = self._bits([token in _LETTERS for token in tokens])

    def _bits(self, flags: Sequence[bool]) -> NDArray[np.uint8]:
        packed = np.packbits(np.array(flags, dtype=np.bool_), bitorder="little")
        return np.pad(packed, (0, self._bytes - len(packed)))

    def narrowed(self, allowed: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns those of the allowed tokens that lead to the end soonest, as a bit mask."""
        allowed = allowed[: self._bytes]
        within = bool((allowed & self._letters).any())
        between = (self._ends, self._brackets, self._quotes, self._commas, self._digits)
        for kind in (self._quotes,) if within else between:
            chosen = allowed & kind
            if chosen.any():
                return chosen
        return allowed

    def needed(self, matcher: LLMatcher, most: int) -> int:
        """Returns how many tokens the way to the end takes from here; `most` where it is longer.

        Args:
            matcher: A copy, which is moved on.
            most: Where to give up.
        """
        count = 0
        while count < most and not matcher.is_stopped():
            tokens = matcher.compute_ff_tokens() or [self._first(matcher)]
            if self._ends[tokens[0] // 8] >> tokens[0] % 8 & 1:
                return count
            for token in tokens:
                matcher.consume_token(token)
            count += len(tokens)
        return min(count, most)

    def _first(self, matcher: LLMatcher) -> int:
        bits = self.narrowed(np.frombuffer(matcher.compute_bitmask(), np.uint8))
        at = int(np.argmax(bits != 0))
        lowest = int(bits[at])
        return 8 * at + (lowest & -lowest).bit_length() - 1


def parts(schema: Any) -> tuple[str, str]:
    """Returns a text as long as the shortest JSON of a schema can get, and its longest free part.

    Every property is there once, every array has an item, every choice is its longest: from
    wherever an answer has got to, its end takes at most that much. The free part is the longest of
    what need not be there: properties, items and alternatives. Both are cut where no answer is as
    long, since sizes and references of a schema can ask for more than fits into the memory.
    """
    found = _Parts(schema)
    return found.whole, found.free


class _Parts:
    def __init__(self, schema: Any) -> None:
        self._root = schema
        self._known: dict[tuple[int, int], str] = {}
        self.free = ""
        self.whole = self._text(schema, 0)

    def _text(self, schema: Any, depth: int) -> str:
        if not isinstance(schema, Mapping) or depth > _DEPTH:
            return '""'
        # Definitions that refer to each other would be gone through again from every side.
        place = (id(schema), depth)
        if place not in self._known:
            self._known[place] = self._made(schema, depth)[:_LONGEST]
        return self._known[place]

    def _made(self, schema: Mapping[str, Any], depth: int) -> str:
        if "const" in schema:
            return json.dumps(schema["const"], ensure_ascii=False)
        for key in ("enum", "anyOf", "oneOf"):
            if schema.get(key):
                return self._longest(key, schema[key], depth)
        if "$ref" in schema:
            return self._text(self._resolved(str(schema["$ref"])), depth + 3)
        together = "".join(self._text(part, depth + 1) for part in schema.get("allOf", ()))
        kinds = schema.get("type", "object" if "properties" in schema else "string")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        return together + max((self._of(kind, schema, depth) for kind in kinds), key=len)

    def _may_be_there(self, text: str) -> None:
        self.free = max(self.free, text, key=len)

    def _longest(self, key: str, options: Sequence[Any], depth: int) -> str:
        if key == "enum":
            return max((json.dumps(one, ensure_ascii=False) for one in options), key=len)
        texts = [self._text(one, depth + 1) for one in options]
        longest = max(texts, key=len)
        self._may_be_there(longest)
        return longest

    def _of(self, kind: str, schema: Mapping[str, Any], depth: int) -> str:
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            item = self._text(schema.get("items", {}), depth + 1)
            self._may_be_there(f"{item}, ")
            before = "".join(self._text(one, depth + 1) for one in schema.get("prefixItems", ()))
            count = min(max(1, _least(schema, "minItems")), _LONGEST // len(item) + 1)
            return f"[{before}{f'{item}, ' * count}]"
        if kind == "string":
            shaped = 40 if "pattern" in schema or "format" in schema else 0
            return f'"{"x" * max(shaped, _least(schema, "minLength"))}"'
        bounds = [json.dumps(schema.get(key, 0)) for key in ("minimum", "maximum")]
        return "false" if kind in {"boolean", "null"} else max(["-0.0", *bounds], key=len)

    def _object(self, schema: Mapping[str, Any], depth: int) -> str:
        texts = []
        required = schema.get("required", ())
        for name, part in schema.get("properties", {}).items():
            text = f"{json.dumps(name, ensure_ascii=False)}: {self._text(part, depth + 1)}, "
            texts.append(text)
            if name not in required:
                self._may_be_there(text)
        if schema.get("additionalProperties", not texts):
            texts.append('"": "", ')
            self._may_be_there(texts[-1])
        return f"{{{''.join(texts)}}}"

    def _resolved(self, reference: str) -> Any:
        found = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            found = found.get(step, {}) if isinstance(found, Mapping) else {}
        return found


def _least(schema: Mapping[str, Any], key: str) -> int:
    """A least size, as far as it matters."""
    value = schema.get(key, 0)
    return min(value, _MOST_SIZE) if isinstance(value, int) else 0
