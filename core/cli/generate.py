"""`ryzanstein generate`: text from a model, without agents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ryzanstein.cli._client import call, read_text
from ryzanstein.cli._group import command
from ryzanstein.cli._output import Output
from ryzanstein.cli._progress import Live
from ryzanstein.cli.ask import bring_model
from ryzanstein.errors import InvalidRequest

__all__ = ["generate"]


@command(
    "generate",
    'ryzanstein generate --prompt "The capital of France is" --max-tokens 8',
    'ryzanstein generate --chat --prompt "Say hello in Finnish" --model smollm2-135m',
    'ryzanstein generate --chat --prompt "Is 91 prime?" --choice yes --choice no --json',
)
@click.option("--prompt", required=True, help="Text to continue, or - for stdin.")
@click.option("--model", metavar="NAME|PATH", help="Another model than the default.")
@click.option("--chat", "as_chat", is_flag=True, help="As a question in the model's chat template.")
@click.option("--max-tokens", type=click.IntRange(1, 32_768), default=256, show_default=True)
@click.option("--temperature", type=click.FloatRange(0, 5), default=0.0, show_default=True)
@click.option("--top-k", type=click.IntRange(0, 1000), help="Only the k likeliest tokens.")
@click.option("--top-p", type=click.FloatRange(0, 1), help="Only the likeliest, to this share.")
@click.option("--min-p", type=click.FloatRange(0, 1), help="Only those near the likeliest.")
@click.option("--repetition-penalty", type=click.FloatRange(0, 5, min_open=True))
@click.option("--seed", type=click.IntRange(0), help="The same seed gives the same text.")
@click.option("--stop", multiple=True, help="End before this text; may be given again.")
@click.option("--choice", "choices", multiple=True, help="Answer one of these; give it again.")
@click.option("--regex", help="Answer something that matches.")
@click.option(
    "--json-schema",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Answer JSON that fits the schema in this file.",
)
def generate(
    out: Output,
    prompt: str,
    model: str | None,
    as_chat: bool,
    stop: tuple[str, ...],
    choices: tuple[str, ...],
    json_schema: Path | None,
    **options: Any,
) -> None:
    """Continue a text on the local model; greedy unless a temperature is given."""
    text = read_text(prompt)
    arguments = {
        **options,
        "model": bring_model(model),
        "stop": list(stop) or None,
        "choices": list(choices) or None,
        "json_schema": _schema(json_schema) if json_schema else None,
    }
    with Live() as live:
        if as_chat:
            messages = [{"role": "user", "content": text}]
            result = call("inference", "chat", {**arguments, "messages": messages}, live.report)
        else:
            result = call("inference", "generate_text", {**arguments, "prompt": text}, live.report)
    out.result(result, lambda: print(result["text"]))


def _schema(path: Path) -> dict[str, Any]:
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path}: {error}", hint="Give a file with a JSON schema.") from error
    if not isinstance(schema, dict):
        raise InvalidRequest(
            f"{path} holds no JSON object.", hint="Give a file with a JSON schema."
        )
    return schema
