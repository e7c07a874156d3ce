"""What a busy neighbour costs: speed with one and more threads, alone and beside another process.

    python scripts/bench_threads.py MODEL [--threads 2] [--prompt 128] [--new 32] [--rounds 7]

The other process spins without end, held on the last CPU that this process may use, and is
stopped where a case wants the machine to itself. Cases run in turns, since the bandwidth of a
shared machine changes from minute to minute; figures are medians over the rounds, ratios medians of
each round's ratio. What counts is `contended_ratio`: all threads beside the other process over one
thread on a free machine. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from ryzanstein.inference.load import load_model
from ryzanstein.inference.model import Model
from ryzanstein.machine import cpu_name

PHASES = ("prefill", "decode")
SETTLE = 0.4  # seconds of decoding, not counted, that let scheduler and pool notice what changed


class Neighbour:
    """A process that wants one CPU for itself, stopped at first."""

    def __init__(self, cpu: int) -> None:
        # It ends with its parent, however that ends.
        code = f"import os; os.sched_setaffinity(0, {{{cpu}}})\n"
        code += f"while os.getppid() == {os.getpid()}: pass"
        self._child = subprocess.Popen([sys.executable, "-c", code])
        time.sleep(0.2)
        self.busy(False)

    def busy(self, on: bool) -> None:
        """Lets it go on, or stops it."""
        self._child.send_signal(signal.SIGCONT if on else signal.SIGSTOP)

    def end(self) -> None:
        """Ends the process."""
        self._child.kill()
        self._child.wait()


def settle(model: Model) -> None:
    """Decodes for a moment whose speed does not count."""
    started = time.perf_counter()
    while time.perf_counter() - started < SETTLE:
        model.forward([1], model.new_state(1))


def speed(model: Model, prompt: Sequence[int], new: int) -> dict[str, float]:
    """Tokens a second of reading a prompt and of writing after it."""
    state = model.new_state()
    started = time.perf_counter()
    token = model.next_token(prompt, state).token
    read = time.perf_counter()
    for _ in range(new):
        token = model.next_token([token], state).token
    ended = time.perf_counter()
    return {"prefill": len(prompt) / (read - started), "decode": new / (ended - read)}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs all cases in turns."""
    context = options.prompt + options.new + 1
    models = {
        count: load_model(options.model, count, context_tokens=context, pin=options.pin)
        for count in (1, options.threads)
    }
    # Ids that every vocabulary has; which words they are makes no difference to the speed.
    prompt = [(7 * i) % 200 for i in range(options.prompt)]
    cases = {"one_alone": (1, False), "alone": (options.threads, False)}
    cases |= {"one_contended": (1, True), "contended": (options.threads, True)}
    neighbour = Neighbour(max(os.sched_getaffinity(0)))
    rounds: dict[str, list[dict[str, float]]] = {case: [] for case in cases}
    try:
        for at in range(options.rounds + 1):
            for case, (threads, busy) in cases.items():
                neighbour.busy(busy)
                settle(models[threads])
                result = speed(models[threads], prompt, options.new)
                if at > 0:  # the first round warms up
                    rounds[case].append(result)
    finally:
        neighbour.end()
    return facts(options, models[options.threads], rounds)


def facts(
    options: argparse.Namespace, model: Model, rounds: dict[str, list[dict[str, float]]]
) -> dict[str, Any]:
    """Medians of the rounds, and their ratios to one thread alone in the same round."""
    result: dict[str, Any] = {
        "machine": cpu_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "isa": model.isa,
        "model": options.model,
        "bytes_per_token": model.weight_bytes_per_token,
        "threads": options.threads,
        "pinned": options.pin,
        "prompt_tokens": options.prompt,
        "new_tokens": options.new,
        "rounds": options.rounds,
    }
    for phase in PHASES:
        for case, results in rounds.items():
            result[f"{phase}_{case}_tok_s"] = round(median(r[phase] for r in results), 1)
        for case in ("alone", "one_contended", "contended"):
            pairs = zip(rounds[case], rounds["one_alone"], strict=True)
            ratios = [mine[phase] / one[phase] for mine, one in pairs]
            result[f"{phase}_{case}_ratio"] = round(median(ratios), 3)
    return result


def main() -> None:
    """Measures and prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("model", help="path of a checkpoint")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pin", action="store_true", help="give each thread a CPU of its own")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    print(json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
