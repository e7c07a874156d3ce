"""The form an answer must have, for models that no grammar holds to it.

    options of `chat` ── Form ── instruction    said in words behind the last message
                                 schema         for servers that follow one (response_format)
                                 read(text)     the answer in that form, or Misfit, which says why

A model is asked, its answer is read, and where it does not fit, it is asked again with what is
wrong. So what comes out has the form or is an error, as with the engine's own constraints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ryzanstein.agents.backends.base import Message, Refused
from ryzanstein.errors import InferenceError, InvalidRequest
from ryzanstein.tools.fences import blocks

__all__ = ["Form", "Misfit"]

_REGEX_SECONDS = 0.5
_WRAPPED = "answer"
_CONSTRAINTS = ("choices", "regex", "json_schema", "grammar")


class Misfit(InferenceError):
    """An answer does not have the form that was asked for."""


@dataclass(frozen=True)
class Form:
    """A form; every field may be absent.

    Attributes:
        choices: The answer is exactly one of these.
        regex: The answer matches this as a whole.
        json_schema: The answer is JSON that fits this.
        prefix: What the answer starts with; not part of what `read` returns.
        stop: The answer ends before the first of these.
    """

    choices: Sequence[str] | None = None
    regex: str | None = None
    json_schema: Mapping[str, Any] | None = None
    prefix: str = ""
    stop: Sequence[str] = ()

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Form:
        """The form that options of `chat` ask for.

        Raises:
            InvalidRequest: More than one is given.
            Refused: A grammar, which only our engine follows.
        """
        given = [name for name in _CONSTRAINTS if options.get(name) is not None]
        if len(given) > 1:
            raise InvalidRequest(
                f"{' and '.join(given)} were given together.", hint="Give at most one constraint."
            )
        if given == ["grammar"]:
            raise Refused(
                "Only the local engine follows a Lark grammar.",
                hint="Use choices, regex or json_schema, or the local backend.",
            )
        return cls(
            choices=options.get("choices"),
            regex=options.get("regex"),
            json_schema=options.get("json_schema"),
            prefix=options.get("answer_prefix") or "",
            stop=tuple(options.get("stop") or ()),
        )

    @property
    def constrained(self) -> bool:
        """Whether the answer may not be just any text."""
        return self.choices is not None or self.regex is not None or self.json_schema is not None

    @property
    def schema(self) -> dict[str, Any] | None:
        """The form as a JSON schema; what is no JSON is wrapped into an object."""
        if self.json_schema is not None:
            return dict(self.json_schema)
        if self.choices is not None:
            return _wrapping({"type": "string", "enum": list(self.choices)})
        if self.regex is not None:
            return _wrapping({"type": "string", "pattern": f"^(?:{self.regex})$"})
        return None

    @property
    def instruction(self) -> str:
        """The form in words; empty where any text will do."""
        if self.choices is not None:
            lines = "\n".join(f"- {choice}" for choice in self.choices)
            return f"Answer with exactly one of these lines and nothing else:\n{lines}"
        if self.regex is not None:
            return f"Answer with nothing but a text that matches the expression {self.regex}"
        if self.json_schema is not None:
            schema = json.dumps(self.json_schema, separators=(",", ":"))
            return f"Answer with nothing but JSON that fits this schema:\n{schema}"
        if self.prefix.strip():
            return f"Begin your answer with exactly this:\n{self.prefix.rstrip()}"
        return ""

    def asked(self, messages: Sequence[Message]) -> list[dict[str, str]]:
        """The conversation with the instruction behind its last message."""
        found = [dict(one) for one in messages]
        if self.instruction and found and found[-1]["role"] == "user":
            found[-1]["content"] = f"{found[-1]['content']}\n\n{self.instruction}"
        return found

    def done(self, text: str) -> bool:
        """Whether text that is still growing holds all of the answer."""
        if self.constrained:
            return False
        rest = self._after_prefix(text)
        if self.prefix.strip() and rest is text:
            return False  # the prefix, or what stands for it, may yet come
        return any(mark in rest for mark in self.stop)

    def read(self, text: str, *, wrapped: bool = False) -> str:
        """Returns the answer in its form.

        Args:
            text: What the model said.
            wrapped: It was asked by `schema`.

        Raises:
            Misfit: It does not have the form; the message says what is wrong.
        """
        if self.json_schema is not None:
            return _json(text, self.json_schema)
        if wrapped and self.schema is not None:
            text = str(json.loads(_json(text, self.schema))[_WRAPPED])
        if self.choices is not None:
            return _choice(text, self.choices)
        if self.regex is not None:
            return _matching(text, self.regex)
        rest = self._after_prefix(text)
        ends = [rest.index(mark) for mark in self.stop if mark in rest]
        return rest[: min(ends)] if ends else rest

    def _after_prefix(self, text: str) -> str:
        """What follows the prefix; a model may leave it out, or say something before a fence."""
        prefix = self.prefix.strip()
        if not prefix:
            return text
        if text.lstrip().startswith(prefix):
            return text.lstrip()[len(prefix) :].removeprefix("\n")
        if not prefix.startswith("```"):
            return text
        opened = [block for block in blocks(text) if block.language]
        if opened:
            return text[opened[0].inside :]
        return text.partition("```")[2].partition("\n")[2] if text.count("```") > 1 else text


def _wrapping(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {_WRAPPED: schema},
        "required": [_WRAPPED],
        "additionalProperties": False,
    }


def _json(text: str, schema: Mapping[str, Any]) -> str:
    """The JSON in an answer, also out of a code fence or between sentences."""
    import jsonschema
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    start = min((at for at in map(text.find, "{[") if at >= 0), default=0)
    try:
        value, _ = json.JSONDecoder().raw_decode(text[start:].strip())
    except (ValueError, RecursionError) as error:
        raise Misfit(f"It is no JSON: {error}.") from error
    try:
        # An empty registry: a schema may come from another server, and no reference is fetched.
        jsonschema.validate(value, dict(schema), registry=Registry())
    except jsonschema.ValidationError as error:
        where = "/".join(str(step) for step in error.absolute_path) or "the whole"
        raise Misfit(f"{where} does not fit the schema: {error.message[:200]}.") from error
    except (jsonschema.SchemaError, Unresolvable) as error:
        raise InvalidRequest(f"This is no JSON schema: {str(error)[:200]}.") from error
    return json.dumps(value, ensure_ascii=False)


def _choice(text: str, choices: Sequence[str]) -> str:
    """The one choice that an answer names."""
    bare = text.strip().strip("`\"'*.- \n")
    lines = [bare, *bare.splitlines()[:1]]
    for fits in (str.__eq__, lambda one, other: one.casefold() == other.casefold()):
        for choice in choices:
            if any(fits(line.strip(), choice.strip()) for line in lines):
                return choice
    named = [choice for choice in choices if choice.strip() and choice.strip() in text]
    longest = [one for one in named if not any(one != other and one in other for other in named)]
    if len(longest) == 1:
        return longest[0]
    raise Misfit(f"'{bare[:80]}' is not one of the {len(choices)} answers that are allowed.")


def _matching(text: str, pattern: str) -> str:
    import regex

    for candidate in dict.fromkeys((text, text.strip(), text.strip().strip("`\"'").strip())):
        try:
            if regex.fullmatch(pattern, candidate, timeout=_REGEX_SECONDS):
                return candidate
        except TimeoutError:
            raise Misfit("It takes too long to see whether it matches.") from None
        except regex.error as error:
            raise InvalidRequest(f"'{pattern[:80]}' is no expression: {error}.") from error
    raise Misfit(f"'{text.strip()[:80]}' does not match {pattern[:200]}.")
