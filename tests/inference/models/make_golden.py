"""Writes data/smollm2_greedy.json: greedy continuations of SmolLM2-135M by llama.cpp.

    python tests/inference/models/make_golden.py PATH/TO/SmolLM2-135M-Instruct.Q4_1.gguf

Needs the `peer` extra. Run again only when the model file changes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

PROMPTS = (
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n",
    "1, 2, 3, 4, 5, 6, 7, 8,",
    "10, 20, 30, 40, 50,",
    "A B C D E F G H I J",
    "January, February, March,",
    "def add(a, b):\n    return a + b\n\ndef subtract(a, b):\n    return",
    "The three laws of thermodynamics are",
)
NEW_TOKENS = 32
MARGIN = 0.6  # logits; where the two best are nearer, rounding decides and the text ends


def main(model: str) -> None:
    """Asks llama.cpp and writes the file."""
    from llama_cpp import Llama

    llama = Llama(model, n_ctx=512, n_threads=2, verbose=False, logits_all=False)
    cases = []
    for prompt in PROMPTS:
        ids = llama.tokenize(prompt.encode(), add_bos=False, special=True)
        llama.reset()
        llama.eval(ids)
        made: list[int] = []
        for _ in range(NEW_TOKENS):
            logits = np.ctypeslib.as_array(llama._ctx.get_logits(), (llama.n_vocab(),))
            second, best = np.sort(logits)[-2:]
            if best - second < MARGIN:
                break
            made.append(int(logits.argmax()))
            llama.eval(made[-1:])
        text = llama.detokenize(made).decode("utf-8", "replace")
        cases.append({"prompt": prompt, "prompt_ids": ids, "ids": made, "text": text})
    out = Path(__file__).parent / "data" / "smollm2_greedy.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(cases, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
