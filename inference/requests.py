"""What callers ask of the engine and what they get: the wire types, with their bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ryzanstein.errors import ValidationError
from ryzanstein.inference.sample import Sampling

__all__ = [
    "ChatRequest",
    "Constraint",
    "GenerateRequest",
    "GenerateResult",
    "Message",
    "Request",
    "ScoreResult",
    "checked",
]

MAX_TEXT: Final = 4_000_000
MAX_NEW_TOKENS: Final = 32_768

Stop = Annotated[str, Field(min_length=1, max_length=200)]
Choice = Annotated[str, Field(min_length=1, max_length=2_000)]
Bias = Annotated[float, Field(ge=-1000, le=1000)]
_Kind = TypeVar("_Kind", bound=BaseModel)
TokenId = Annotated[int, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Constraint(_Strict):
    """What the answer must be; exactly one of the four."""

    choices: list[Choice] | None = Field(None, min_length=1, max_length=1000)
    regex: str | None = Field(None, min_length=1, max_length=20_000)
    json_schema: dict[str, Any] | bool | None = None
    grammar: str | None = Field(None, min_length=1, max_length=100_000)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.given()) != 1:
            raise ValueError("give exactly one of choices, regex, json_schema, grammar")
        return self

    def given(self) -> dict[str, Any]:
        """Returns the one that was given, by its name."""
        return {name: value for name, value in self if value is not None}


class Request(_Strict):
    """What generate and chat have in common.

    Attributes:
        model: Catalogue name or path; None means the default model.
        max_tokens: At most so many tokens are generated.
        stop: Texts that end the answer and are not part of it.
        constraint: What the answer must be.
    """

    model: str | None = Field(None, min_length=1, max_length=4096)
    max_tokens: int = Field(256, ge=1, le=MAX_NEW_TOKENS)
    temperature: float = Field(0.0, ge=0, le=5)
    top_k: int = Field(0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    min_p: float = Field(0.0, ge=0, le=1)
    repetition_penalty: float = Field(1.0, ge=0.1, le=10)
    frequency_penalty: float = Field(0.0, ge=-10, le=10)
    presence_penalty: float = Field(0.0, ge=-10, le=10)
    stop: list[Stop] = Field(default_factory=list, max_length=16)
    logit_bias: dict[TokenId, Bias] = Field(default_factory=dict, max_length=1024)
    seed: int | None = Field(None, ge=0, lt=1 << 63)
    constraint: Constraint | None = None

    def sampling(self) -> Sampling:
        """Returns how tokens are to be chosen."""
        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            logit_bias=self.logit_bias,
            seed=self.seed,
        )


class GenerateRequest(Request):
    """Continues a text as it is.

    Attributes:
        prompt: The text; special tokens written in it are parsed as such, except where a suffix is
        given.
        suffix: Text after the gap, for models that were trained to fill in the middle.
    """

    prompt: str = Field(max_length=MAX_TEXT)
    suffix: str | None = Field(None, max_length=MAX_TEXT)


class Message(BaseModel):
    """One turn; further keys (tool_calls, name) go to the template as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    role: Literal["system", "user", "assistant", "tool"]
    content: str = Field(max_length=MAX_TEXT)


class ChatRequest(Request):
    """Answers a conversation through the model's chat template.

    Attributes:
        messages: The turns so far, oldest first.
        answer_prefix: Text the answer is made to begin with; the result's text does not repeat it.
        tools: Descriptions of tools, for templates that know what to do with them.
        keep_system: Keep the state after the system message on disk, so that every later
        conversation under it starts there.
    """

    messages: list[Message] = Field(min_length=1, max_length=10_000)
    answer_prefix: str = Field("", max_length=100_000)
    tools: list[dict[str, Any]] = Field(default_factory=list, max_length=1000)
    keep_system: bool = False


class GenerateResult(_Strict):
    """An answer and what it cost.

    Attributes:
        text: The answer, without prompt, prefix and stop text.
        model: Name the model was asked for by.
        prompt_tokens: Tokens of the prompt, cached ones included.
        cached_tokens: How many of them a kept state already held.
        tokens: Tokens generated.
        finish_reason: stop (end token, stop text or grammar), length, or cancelled.
        prefill_seconds: Time until the first token could be chosen.
        seconds: Time altogether.
    """

    text: str
    model: str
    prompt_tokens: int
    cached_tokens: int
    tokens: int
    finish_reason: Literal["stop", "length", "cancelled"]
    prefill_seconds: float
    seconds: float


class ScoreResult(_Strict):
    """How likely a model finds a text.

    Attributes:
        tokens: Tokens that were scored: all but the first, which has nothing before it.
        logprob: Sum of their natural log-probabilities.
        perplexity: exp(-logprob / tokens).
    """

    model: str
    tokens: int
    logprob: float
    perplexity: float


def checked(kind: type[_Kind], values: _Kind | Mapping[str, Any]) -> _Kind:
    """Returns a request as it is, or made from plain values.

    Raises:
        ValidationError: a value is out of its bounds; says which in one line.
    """
    if isinstance(values, kind):
        return values
    try:
        return kind.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the request"
        message = first["msg"].removeprefix("Value error, ")
        raise ValidationError(f"{where}: {message[:1].lower()}{message[1:]}.") from error
