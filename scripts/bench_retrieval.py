"""How often a step finds its tool among the first 1, 3 and 8; the last line is JSON.

    scripts/bench_retrieval.py [--show]

The steps are those of tests/tools/data/steps.yaml. Weights were chosen on the first step of each
tool, so the others alone say what to expect.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import yaml

from ryzanstein.tools import all_tools
from ryzanstein.tools.retrieve import rank

STEPS = Path(__file__).parent.parent / "tests" / "tools" / "data" / "steps.yaml"
AMONG = (1, 3, 8)


def places(show: bool) -> tuple[list[int], list[int], float]:
    """Where each step's tool was found, of the chosen on and of the others; milliseconds a step."""
    tools = all_tools()
    names = {tool.name for tool in tools}
    found: tuple[list[int], list[int]] = ([], [])
    rank("warm", tools)
    began = time.perf_counter()
    for gold, steps in yaml.safe_load(STEPS.read_text(encoding="utf-8")).items():
        if gold not in names:
            print(f"no tool is called {gold}", file=sys.stderr)
            continue
        for number, step in enumerate(steps):
            ranked = [tool.name for tool in rank(step, tools, len(tools))]
            place = ranked.index(gold)
            found[min(number, 1)].append(place)
            if show and place >= AMONG[-1]:
                print(f"{place + 1:3} {gold:20} {step}  ({', '.join(ranked[:3])})")
    milliseconds = 1000 * (time.perf_counter() - began) / sum(map(len, found))
    return *found, milliseconds


def main() -> None:
    """Measures and prints."""
    chosen_on, others, milliseconds = places("--show" in sys.argv)
    measures: dict[str, object] = {"tools": len(all_tools())}
    for name, found in (("all", chosen_on + others), ("held_out", others)):
        recall = {f"recall_{k}": round(sum(p < k for p in found) / len(found), 3) for k in AMONG}
        measures[name] = {"steps": len(found), **recall}
    print(json.dumps({**measures, "ms_per_step": round(milliseconds, 2)}))


if __name__ == "__main__":
    main()
