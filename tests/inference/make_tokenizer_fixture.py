"""Writes data/tokenizer_ids.json: ids that llama.cpp gives for data/texts.json.

    python -m tests.inference.make_tokenizer_fixture SMOLLM2.gguf [OTHER.gguf …]

llama-cpp-python is needed here and not by the tests. The first file's own tokenizer goes into the
fixture, then its tables under other pre-tokenizers (the vocabulary stays, only the cuts differ),
then the small SentencePiece model of `tiny.write_sentencepiece`. Further files are only compared
with this project's tokenizer, and the comparison printed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.inference import tiny

DATA = Path(__file__).parent / "data"
PRE_TOKENIZERS = (
    "smollm",
    "qwen2",
    "llama-bpe",
    "default",
    "gpt-2",
    "deepseek-coder",
    "starcoder",
    "mpt",
    "olmo",
    "falcon",
)


def reference_ids(path: Path, texts: dict[str, str]) -> dict[str, list[int]]:
    """What llama.cpp makes of every text, without a begin-of-text token."""
    import llama_cpp

    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    return {
        name: model.tokenize(text.encode(), add_bos=False, special=True)
        for name, text in texts.items()
    }


def main(arguments: list[str]) -> int:
    """Writes the fixture from the first file and compares the others."""
    from ryzanstein.inference.formats.checkpoint import open_checkpoint
    from ryzanstein.inference.tokenizer import load_tokenizer

    texts: dict[str, str] = json.loads((DATA / "texts.json").read_text(encoding="utf-8"))
    first, *others = [Path(argument) for argument in arguments]
    ids: dict[str, dict[str, list[int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in PRE_TOKENIZERS:
            changed = tiny.with_pre_tokenizer(first, Path(folder) / f"{name}.gguf", name)
            ids[name] = reference_ids(changed, texts)
        ids["sentencepiece"] = reference_ids(
            tiny.write_sentencepiece(Path(folder) / "s.gguf"), texts
        )
    lines = (
        f"  {json.dumps(name)}: {json.dumps(values, separators=(',', ':'))}"
        for name, values in ids.items()
    )
    (DATA / "tokenizer_ids.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    different = 0
    for path in [first, *others]:
        tokenizer = load_tokenizer(open_checkpoint(path))
        expected = reference_ids(path, texts)
        wrong = [name for name, text in texts.items() if tokenizer.encode(text) != expected[name]]
        different += len(wrong)
        print(f"{path.name}: {len(texts) - len(wrong)} of {len(texts)} texts equal", *wrong)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
