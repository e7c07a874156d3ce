"""Grammars that an answer must follow: choices, a regular expression, a JSON schema, or Lark.

llguidance computes for every step which tokens may come next, and which must: forced tokens need no
model step of their own. JSON is written without optional white space, because small models lose
themselves in it, and strings, arrays and whole numbers without a bound of their own get one, so
that an answer ends; one that runs out of tokens before that is led to its end, and always parses.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ryzanstein.errors import InferenceError, ValidationError
from ryzanstein.inference.landing import SLACK, Landing, parts

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

    from ryzanstein.inference.tokenizer import Tokenizer

__all__ = ["Grammars", "Matcher", "bounded_schema"]

MAX_STRING: Final = 4000
MAX_ITEMS: Final = 100
# Small models can write zeros for ever.
MAX_INTEGER: Final = 10**18
_KEPT: Final = 32
_JSON: Final[JsonCompileOptions] = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
# Keywords whose values are schemas, lists of schemas, and objects of schemas.
_SCHEMAS: Final = ("items", "additionalProperties", "not", "if", "then", "else", "contains")
_LISTS: Final = ("items", "prefixItems", "anyOf", "oneOf", "allOf")
_OBJECTS: Final = ("properties", "$defs", "definitions", "dependentSchemas")


class Grammars:
    """Compiles constraints for one tokenizer and keeps the last ones compiled."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lock = Lock()
        self._compiled: OrderedDict[str, _Compiled] = OrderedDict()
        self._tables: LLTokenizer | None = None
        self._landing: Landing | None = None

    def matcher(self, constraint: Mapping[str, Any]) -> Matcher:
        """Returns a fresh matcher.

        Args:
            constraint: One of {"choices": […]}, {"regex": …}, {"json_schema": …}, {"grammar": …}.

        Raises:
            ValidationError: the constraint is not valid, or asks for what is not supported.
        """
        key = json.dumps(constraint, sort_keys=True)
        with self._lock:
            compiled = self._compiled.get(key) or self._compile(constraint)
            self._compiled[key] = compiled
            self._compiled.move_to_end(key)
            while len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
            return Matcher(compiled, self._tokenizer.vocab_size)

    def _compile(self, constraint: Mapping[str, Any]) -> _Compiled:
        from llguidance import LLMatcher, LLParserLimits

        if self._tables is None:
            self._tables = _tables(self._tokenizer)
        limits = LLParserLimits(verbose_errors=False)
        matcher = LLMatcher(self._tables, _grammar(constraint), log_level=0, limits=limits)
        error = matcher.get_error() if matcher.is_error() else ""
        if error:
            (kind,) = constraint
            raise ValidationError(f"The constraint {kind} is not valid: {_one_line(error)}.")
        if "json_schema" not in constraint:
            return _Compiled(matcher)
        if self._landing is None:
            self._landing = Landing(self._tokenizer)
        whole, free = (len(self._tokenizer.encode(x)) for x in parts(constraint["json_schema"]))
        return _Compiled(matcher, self._landing, whole + free + SLACK, free + SLACK)


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A grammar at its start, and for JSON how it is ended.

    Attributes:
        matcher: To be copied.
        landing: Leads to the end; None where the grammar is not JSON.
        reserve: With more tokens left than this the end is always in reach.
        margin: Tokens that one free choice can add to the way to the end.
    """

    matcher: LLMatcher
    landing: Landing | None = None
    reserve: int = 0
    margin: int = 0


class Matcher:
    """Follows one answer along its grammar.

    Attributes:
        led: Whether its end was forced because the tokens ran out.
    """

    def __init__(self, compiled: _Compiled, vocab_size: int) -> None:
        self._matcher = compiled.matcher.deep_copy()
        self._end = compiled
        self.led = False
        self._vocab_size = vocab_size

    def forced(self) -> list[int]:
        """Returns the tokens that must come next; empty where there is a choice."""
        return list(self._matcher.compute_ff_tokens())

    def allowed(self, left: int | None = None) -> npt.NDArray[np.bool_]:
        """Returns which tokens may come next, bool [vocabulary]; end tokens where it may end.

        Args:
            left: Tokens until the answer is cut off; JSON is led to its end before that.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        landing, margin = self._end.landing, self._end.margin
        if landing is not None and left is not None and left <= self._end.reserve:
            needed = landing.needed(self._matcher.deep_copy(), left)
            if needed + margin >= left:
                self.led = True
                bits = landing.narrowed(bits)
        return np.unpackbits(bits, count=self._vocab_size, bitorder="little").view(np.bool_)

    def accept(self, token: int) -> None:
        """Moves on by one token.

        Raises:
            InferenceError: the grammar does not allow it, or became too large to follow.
        """
        self._matcher.consume_token(token)
        self._check()

    @property
    def finished(self) -> bool:
        """Says that the answer is complete and nothing may follow."""
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            said = _one_line(self._matcher.get_error())
            raise InferenceError(f"The answer could not follow its grammar: {said}.")


def _tables(tokenizer: Tokenizer) -> LLTokenizer:
    """The tokenizer as llguidance wants it; made when first needed, since it takes 0.4 s."""
    from llguidance import LLTokenizer, TokenizerWrapper

    return LLTokenizer(
        TokenizerWrapper(_Tables(tokenizer)),
        n_vocab=tokenizer.vocab_size,
        eos_token=sorted(tokenizer.end_ids) or None,
    )


class _Tables:
    """The attributes and the call that llguidance's TokenizerWrapper asks for."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        size = tokenizer.vocab_size
        self._tokenizer = tokenizer
        self.eos_token_id = min(tokenizer.end_ids, default=size - 1)
        self.bos_token_id = tokenizer.bos_id
        self.tokens = tokenizer.all_bytes()
        self.special_token_ids = sorted(set(tokenizer.specials.values()) | tokenizer.end_ids)

    def __call__(self, text: str) -> list[int]:
        if not isinstance(text, str):  # the wrapper probes whether bytes are taken
            raise TypeError("text is encoded, not bytes")
        return self._tokenizer.encode(text, specials=False)


def _grammar(constraint: Mapping[str, Any]) -> str:
    from llguidance import LLMatcher

    if len(constraint) != 1:
        raise ValidationError(
            "A constraint has exactly one of choices, regex, json_schema, grammar."
        )
    ((kind, value),) = constraint.items()
    if kind == "choices":
        if not value or not all(isinstance(choice, str) and choice for choice in value):
            raise ValidationError(
                "The constraint choices is a list of at least one text, none of them empty."
            )
        listed = " | ".join(
            json.dumps(choice, ensure_ascii=False) for choice in dict.fromkeys(value)
        )
        return str(LLMatcher.grammar_from_lark(f"start: {listed}"))
    if kind == "regex":
        return str(LLMatcher.grammar_from_regex(value))
    if kind == "grammar":
        return str(LLMatcher.grammar_from_lark(value))
    if kind == "json_schema":
        try:
            return str(LLMatcher.grammar_from_json_schema(bounded_schema(value), overrides=_JSON))
        except ValueError as error:
            raise ValidationError(
                f"The constraint json_schema is not valid: {_one_line(error)}."
            ) from error
    raise ValidationError(
        f"There is no constraint {kind!r:.40}.", hint="Use choices, regex, json_schema or grammar."
    )


def bounded_schema(schema: Any, depth: int = 0) -> Any:
    """Returns a schema in which every string, array and whole number without bounds gets them.

    Raises:
        ValidationError: it is no schema, nested too deeply, or has patternProperties, which
        llguidance accepts and
            then does not follow.
    """
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, Mapping):
        raise ValidationError(
            "The constraint json_schema is no JSON schema: an object was expected."
        )
    if depth > 40:
        raise ValidationError("The constraint json_schema is nested too deeply.")
    if "patternProperties" in schema:
        raise ValidationError(
            "The constraint json_schema uses patternProperties, which is not supported."
        )
    bounded = dict(schema)
    for key in _SCHEMAS:
        if isinstance(schema.get(key), Mapping):
            bounded[key] = bounded_schema(schema[key], depth + 1)
    for key in _LISTS:
        if isinstance(schema.get(key), Sequence) and not isinstance(schema[key], str):
            bounded[key] = [bounded_schema(item, depth + 1) for item in schema[key]]
    for key in _OBJECTS:
        if isinstance(schema.get(key), Mapping):
            bounded[key] = {
                name: bounded_schema(item, depth + 1) for name, item in schema[key].items()
            }
    return _with_limits(bounded)


def _with_limits(schema: dict[str, Any]) -> dict[str, Any]:
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    given = {"enum", "const", "format", "pattern", "maxLength"} & schema.keys()
    if "string" in kinds and not given:
        schema["maxLength"] = max(MAX_STRING, _least(schema, "minLength"))
    if "array" in kinds and not {"enum", "const", "maxItems"} & schema.keys():
        schema["maxItems"] = max(MAX_ITEMS, _least(schema, "minItems"))
    if "integer" in kinds and not {"enum", "const"} & schema.keys():
        _bound_integer(schema)
    return schema


def _bound_integer(schema: dict[str, Any]) -> None:
    """Sets the bounds that a whole number lacks, unless it is meant to be larger."""
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None and (high is None or high > -MAX_INTEGER):
        schema["minimum"] = -MAX_INTEGER
    if high is None and (low is None or low < MAX_INTEGER):
        schema["maximum"] = MAX_INTEGER


def _least(schema: Mapping[str, Any], key: str) -> int:
    value = schema.get(key)
    return value if isinstance(value, int) else 0


def _one_line(error: object) -> str:
    """The library's text without the excerpt of the grammar that it draws below."""
    return re.split(r"\s+\d+ \| ", " ".join(str(error).split()))[0][:300].rstrip(".")
