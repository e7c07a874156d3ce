"""Writes a trained model as a Hugging Face directory: weights, configuration, tokenizer, card.

config.json            under the architecture's published keys
model.safetensors      under its published names
tokenizer.json         bytes as tokens: byte-level BPE without merges, ids equal to the bytes
tokenizer_config.json  says which token begins a text
README.md              the card; its front matter has the numbers, as YAML
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from .data import BEGIN

__all__ = ["Card", "load_tensors", "write_card", "write_checkpoint"]

_BEGIN_TEXT = "<|endoftext|>"

_CARD = """\
---
{front}
---

# {name}

{title}. It is here to show that an engine computes this
architecture rightly, on every machine and without a download: it writes what looks like the text it
learned from, and it knows nothing else.

- Data: {data}. The last tenth was held out.
- {parameters:,} parameters, context of {context} bytes. The weights are {size:,} bytes: {stored}.
- Tokens are bytes; token {begin} (`{begin_text}`) stands in front of every text.
- {steps:,} steps of {windows} windows ({seen:.1f} times the text); loss on the training text
  at the end: {loss:.3f} nats a byte.
- {minutes:.1f} minutes with {threads} on a shared machine, {cpu_minutes:.1f} of them on the CPU.
- Bits per byte, of the stored weights in float32 with PyTorch, in windows of {context} bytes cut
  end to end: {bits_per_byte:.4f} on all held-out text, {bits_per_byte_excerpt:.4f} on its first
  {excerpt_bytes:,} bytes.
- The command is above, under `command`.

What it writes at temperature {temperature} after `{prompt}`:

```text
{sample}
```
"""


@dataclass(frozen=True, slots=True)
class Card:
    """What the card says.

    Attributes:
        front: The front matter: what tests and tools read.
        title: What the model is, in words.
        stored: How the weights are stored, in words.
        prompt: What the sample begins with.
        temperature: How the sample was drawn.
        sample: Text that the model wrote, the prompt included.
    """

    front: Mapping[str, Any]
    title: str
    stored: str
    prompt: str
    temperature: float
    sample: str


def write_checkpoint(
    out: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], context: int
) -> None:
    """Writes everything but the card."""
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        out / "model.safetensors",
        metadata={"format": "pt"},
    )
    _write_json(out / "config.json", config)
    _write_json(out / "tokenizer.json", _tokenizer())
    _write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": _BEGIN_TEXT,
            "eos_token": _BEGIN_TEXT,
            "model_max_length": context,
        },
    )


def load_tensors(out: Path) -> dict[str, Tensor]:
    """Reads the weights back, as a user of the directory gets them."""
    tensors: dict[str, Tensor] = load_file(out / "model.safetensors")
    return tensors


def write_card(out: Path, card: Card) -> None:
    """Writes README.md."""
    front = card.front
    threads = "one thread" if front["threads"] == 1 else f"{front['threads']} threads"
    text = _CARD.format(
        **{**front, "threads": threads},
        front="\n".join(f"{key}: {json.dumps(value)}" for key, value in front.items()),
        title=card.title,
        stored=card.stored,
        prompt=card.prompt,
        temperature=card.temperature,
        sample=card.sample.rstrip(),
        minutes=front["seconds"] / 60,
        cpu_minutes=front["cpu_seconds"] / 60,
        size=(out / "model.safetensors").stat().st_size,
        seen=front["steps"] * front["windows"] * front["context"] / front["training_bytes"],
        begin=BEGIN,
        begin_text=_BEGIN_TEXT,
    )
    (out / "README.md").write_text(text, encoding="utf-8")


def _tokenizer() -> dict[str, Any]:
    """tokenizer.json, written by the `tokenizers` package itself."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
    from tokenizers.models import BPE

    hub = Tokenizer(BPE(vocab={piece: byte for byte, piece in _alphabet().items()}, merges=[]))
    hub.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    hub.decoder = decoders.ByteLevel()
    hub.add_special_tokens([AddedToken(_BEGIN_TEXT, special=True, normalized=False)])
    hub.post_processor = processors.TemplateProcessing(
        single=f"{_BEGIN_TEXT} $A", special_tokens=[(_BEGIN_TEXT, BEGIN)]
    )
    described: dict[str, Any] = json.loads(hub.to_str())
    return described


def _alphabet() -> dict[int, str]:
    """GPT-2's printable stand-in for every byte: itself, or the next free one from U+0100 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    spelt = {byte: chr(byte) for byte in plain}
    spelt |= {byte: chr(256 + index) for index, byte in enumerate(others)}
    return dict(sorted(spelt.items()))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
