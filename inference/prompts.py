"""From a request to the prompt's token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

from ryzanstein.errors import ValidationError
from ryzanstein.inference.template import render_ids

if TYPE_CHECKING:
    from ryzanstein.inference.requests import ChatRequest, GenerateRequest
    from ryzanstein.inference.tokenizer import Tokenizer

__all__ = ["chat_prompt", "completion_prompt", "persona_ids", "require_room"]

# User turns that have nothing in common, a line break at the beginning being glued to what is
# before it by many tokenizers.
_PROBES: Final = ("x", "\n1")
_GAP: Final = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


def completion_prompt(tokenizer: Tokenizer, request: GenerateRequest) -> list[int]:
    """Returns the ids of a text to continue, or of a gap to fill.

    Raises:
        ValidationError: the text is empty, or the model was not trained to fill gaps.
    """
    if request.suffix is not None:
        return _gap_prompt(tokenizer, request.prompt, request.suffix)
    ids = tokenizer.encode(request.prompt)
    if not ids:
        raise ValidationError("The prompt is empty.", hint="Give at least one character.")
    if tokenizer.bos_id is not None and ids[0] != tokenizer.bos_id:
        ids.insert(0, tokenizer.bos_id)
    return ids


def chat_prompt(tokenizer: Tokenizer, request: ChatRequest) -> list[int]:
    """Returns the ids of a conversation up to where the assistant is to go on.

    Raises:
        ModelLoadError: the model's template is no valid Jinja2.
        ValidationError: every message is empty, or the template refuses them.
    """
    if not any(message.content.strip() for message in request.messages):
        raise ValidationError("Every message is empty.", hint="Give at least one with text.")
    messages = [message.model_dump() for message in request.messages]
    return render_ids(
        tokenizer, messages, tools=request.tools or None, answer_prefix=request.answer_prefix
    )


def persona_ids(
    tokenizer: Tokenizer, system: str, tools: Sequence[Mapping[str, Any]] | None = None
) -> list[int]:
    """Returns the ids with which every conversation under a system message begins.

    Raises:
        ModelLoadError: the model's template is no valid Jinja2.
        ValidationError: the template refuses a system message.
    """
    first, second = (
        render_ids(
            tokenizer,
            [{"role": "system", "content": system}, {"role": "user", "content": probe}],
            tools=tools,
        )
        for probe in _PROBES
    )
    pairs = zip(first, second, strict=False)
    return [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]


def require_room(tokens: int, context: int) -> None:
    """Refuses a prompt that leaves no room for an answer.

    Raises:
        ValidationError: it has as many tokens as the context, or more.
    """
    if tokens >= context:
        raise ValidationError(
            f"The prompt has {tokens:,} tokens, and the limit is {context - 1:,}.",
            hint="Shorten it, or set a larger context_tokens (RYZANSTEIN_CONTEXT_TOKENS).",
        )


def _gap_prompt(tokenizer: Tokenizer, before: str, after: str) -> list[int]:
    marks = [tokenizer.specials.get(mark) for mark in _GAP]
    if None in marks:
        raise ValidationError(
            "This model was not trained to fill a gap.",
            hint="Leave the suffix out, or take a qwen2.5-coder model.",
        )
    prefix, suffix, middle = (mark for mark in marks if mark is not None)
    first = tokenizer.encode(before, specials=False)
    second = tokenizer.encode(after, specials=False)
    return [prefix, *first, suffix, *second, middle]
