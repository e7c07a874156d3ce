"""Chat templates: messages to the text a model was trained on.

A template comes with the model file, so it runs in Jinja2's immutable sandbox, under the
conventions of Hugging Face (trim_blocks, lstrip_blocks, loopcontrols, raise_exception,
strftime_now, tojson). A model without a template gets ChatML, and an RWKV model its own.

A message may contain the text of a special token, by accident or to forge a turn. Such text is
replaced by a marker before the template runs and comes back after it as plain text that is never
parsed as the special token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ryzanstein.errors import ModelLoadError, ValidationError

if TYPE_CHECKING:
    from jinja2 import Template

    from ryzanstein.inference.tokenizer import Tokenizer

__all__ = ["CHATML", "RWKV", "RWKV_STOPS", "render", "render_ids"]

CHATML: Final = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# BlinkDL's "User: …\n\nAssistant:". An empty line ends a turn, so there are none inside one; that
# also keeps a message from beginning a turn of its own.
RWKV: Final = (
    "{% for message in messages %}"
    "{{ message['role'] | capitalize }}: "
    "{{ message['content'].replace('\\r\\n', '\\n').split('\\n') | select | join('\\n') | trim }}"
    "{{ '\\n\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
RWKV_STOPS: Final = ("\n\nUser:",)
_MARKER: Final = re.compile("\ue000(\\d{1,4})\ue001")

# What an expression inside the sandbox can end in besides Jinja2's own errors.
_FAILURES: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)

Messages = Sequence[Mapping[str, Any]]


def render(
    source: str | None,
    messages: Messages,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    specials: Mapping[str, str] | None = None,
) -> str:
    """Returns the prompt for the assistant's next turn.

    Args:
        source: Jinja2 source; None means ChatML.
        messages: Objects with at least `role` and `content`.
        tools: Passed to the template, which may or may not know what to do with them.
        specials: `bos_token` and such, as templates may name them.

    Raises:
        ModelLoadError: the template is no valid Jinja2.
        ValidationError: the template refuses these messages, or fails on them.
    """
    from jinja2 import TemplateError

    template = _compile(source or CHATML)
    values = {"bos_token": "", "eos_token": "", **(specials or {})}
    try:
        return template.render(
            messages=messages, tools=tools or None, add_generation_prompt=True, **values
        )
    except _Refused as error:
        raise ValidationError(f"The chat template refuses these messages: {error}.") from error
    except (TemplateError, *_FAILURES) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValidationError(f"The chat template fails on these messages: {reason}.") from error


def render_ids(
    tokenizer: Tokenizer,
    messages: Messages,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    answer_prefix: str = "",
) -> list[int]:
    """Returns the prompt's token ids; special tokens written inside messages stay plain text.

    Raises:
        ModelLoadError: the template is no valid Jinja2.
        ValidationError: the template refuses these messages, or fails on them.
    """
    texts = sorted((text for text in tokenizer.specials if text), key=len, reverse=True)
    marked = [_mark(message, texts) for message in messages]
    named = _named(tokenizer)
    text = render(tokenizer.chat_template, marked, tools=_mark(tools, texts), specials=named)
    ids: list[int] = []
    # Splitting by a pattern with one group gives text, marker, text, marker, … text.
    for index, piece in enumerate(_MARKER.split(text)):
        if index % 2 == 0:
            ids += tokenizer.encode(piece)
        elif int(piece) < len(texts):
            ids += tokenizer.encode(texts[int(piece)], specials=False)
    if tokenizer.bos_id is not None and ids[:1] != [tokenizer.bos_id]:
        ids.insert(0, tokenizer.bos_id)
    return ids + tokenizer.encode(answer_prefix, specials=False) if answer_prefix else ids


def _mark(value: Any, texts: Sequence[str]) -> Any:
    """Replaces the text of special tokens in every string of a message or tool."""
    if isinstance(value, str):
        for index, text in enumerate(texts):
            if text in value:
                value = value.replace(text, f"\ue000{index}\ue001")
        return value
    if isinstance(value, Mapping):
        return {key: _mark(item, texts) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_mark(item, texts) for item in value]
    return value


def _named(tokenizer: Tokenizer) -> dict[str, str]:
    by_id = {index: text for text, index in tokenizer.specials.items()}
    return {"bos_token": by_id.get(tokenizer.bos_id, "") if tokenizer.bos_id is not None else ""}


class _Refused(Exception):
    """What a template says through raise_exception."""


def _raise(message: str) -> NoReturn:
    raise _Refused(" ".join(str(message).split())[:200].rstrip("."))


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


@lru_cache(maxsize=16)
def _compile(source: str) -> Template:
    from jinja2 import TemplateSyntaxError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    try:
        return environment.from_string(source)
    except TemplateSyntaxError as error:
        where = f"line {error.lineno}: {error.message}"
        raise ModelLoadError(f"The model's chat template is no valid Jinja2: {where}.") from error
    except RecursionError as error:
        raise ModelLoadError("The model's chat template is nested too deeply.") from error
