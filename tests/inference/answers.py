"""A process that prints what models answer on its instruction set, as JSON.

    python answers.py MODEL PRECISION TOKENS [MODEL PRECISION TOKENS …]

For each model: the greedy continuation of PROMPT, and the logits after PROMPT and after that.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

PROMPT = "The harbour of the old town closes at nine, and"


def answer(path: str, precision: str, count: int) -> dict[str, Any]:
    from ryzanstein.inference import load_model

    model = load_model(path, threads=2, precision=precision)
    prompt = model.tokenizer.encode(PROMPT)
    state = model.new_state()
    logits = model.forward(prompt, state)[0]
    seen = [logits.tolist()]
    ids = []
    for _ in range(count):
        ids.append(int(np.argmax(logits)))
        logits = model.forward([ids[-1]], state)[0]
    seen.append(logits.tolist())
    isa = model.isa
    text = model.tokenizer.decode(ids)
    model.close()
    return {"isa": isa, "ids": ids, "text": text, "logits": seen}


def main() -> None:
    given = sys.argv[1:]
    specs = zip(given[::3], given[1::3], given[2::3], strict=True)
    print(json.dumps([answer(path, precision, int(count)) for path, precision, count in specs]))


if __name__ == "__main__":
    main()
