"""The files beside a checkpoint's weights that its tokenizer is made of.

tokenizer.json                   any model's
20B_tokenizer.json               RWKV-4's of the Pile, as BlinkDL names it
rwkv_vocab_v20230424.txt         RWKV's World vocabulary; vocab.txt in some directories
tokenizer_config.json, chat_template.jinja
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference import world

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HubTokenizer

    from ryzanstein.inference.formats.checkpoint import Checkpoint

__all__ = [
    "content",
    "directory_template",
    "hub_tokenizer",
    "read_object",
    "text_or_none",
    "vocabulary_file",
]


def vocabulary_file(checkpoint: Checkpoint) -> Path | None:
    """The file with a checkpoint's vocabulary: in its directory, or beside it where it is a file.

    A folder of RWKV models may hold the vocabularies of several; the right one is told by the
    number of rows.
    """
    rows, kind = checkpoint.config["vocab_size"], str(checkpoint.config.get("model_type"))
    folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    if not kind.startswith("rwkv"):
        files = [folder / "tokenizer.json"]
    elif rows < world.TOKENS:
        files = [folder / name for name in ("tokenizer.json", "20B_tokenizer.json")]
    else:
        files = [folder / name for name in (world.FILE_NAME, "rwkv_vocab.txt", "vocab.txt")]
        packaged = world.packaged_vocabulary()
        files += [folder / "tokenizer.json", *([packaged] if packaged else [])]
    return next((file for file in files if file.exists()), None)


def hub_tokenizer(file: Path) -> tuple[HubTokenizer, str]:
    """The tokenizer of a tokenizer.json, and the JSON of its decoder."""
    from tokenizers import Tokenizer

    text = _read(file) or ""
    try:
        hub = Tokenizer.from_str(text)
        decoder = json.dumps(json.loads(text).get("decoder"))
    except Exception as error:  # tokenizers raises nothing narrower
        reason = " ".join(str(error).split())[:200]
        raise ModelLoadError(f"its {file.name} cannot be read: {reason}.") from error
    if '"ByteLevel"' not in decoder and '"ByteFallback"' not in decoder:
        raise ModelLoadError(
            f"the decoder of its {file.name} is neither ByteLevel nor ByteFallback."
        )
    return hub, decoder


def directory_template(path: Path, settings: Mapping[str, Any]) -> str | None:
    """chat_template.jinja, or the key of tokenizer_config.json: a text, or a list of named ones."""
    alone = _read(path / "chat_template.jinja")
    if alone is not None:
        return text_or_none(alone)
    value = settings.get("chat_template")
    if isinstance(value, list):
        named = {
            entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)
        }
        value = named.get("default")
    return text_or_none(value)


def content(token: Any) -> str:
    """Special tokens are written as a text or as an object with `content`."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def text_or_none(value: Any) -> str | None:
    """A text with something in it, or None."""
    return value if isinstance(value, str) and value.strip() else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelLoadError(f"its {path.name} cannot be read: {error}.") from error


def read_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file; empty where there is no file, or no object in it."""
    text = _read(path)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ModelLoadError(f"its {path.name} is not valid JSON: {error}.") from error
    return value if isinstance(value, dict) else {}
