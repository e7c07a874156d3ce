"""Time to first token of every agent, with its persona's saved state and with its prompt prefilled.

    python scripts/bench_personas.py MODEL --threads 2 --repeats 3
    python scripts/bench_personas.py MODEL --agents APEX,CIPHER --message "Hello." --states FOLDER

Two questions are asked of each agent, one turn after the other so that a busy minute slows all:

    persona   the agent's prompt and one token after it: the least that a first token takes
    task      the agent's first example task, or the message given, as `ask --no-tools` words it

    prefilled   the whole prompt is run
    restored    the state is read from its file, and what comes after it is run
    switched    the state is in memory, where another agent's prompt was answered meanwhile

Times are wall time from messages to the first token, tokenizer and template included for tasks,
medians of the repeats. Files are in the system's cache, as after a first use. The last line on
stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from ryzanstein.agents.running.persona import system_message, window_of
from ryzanstein.agents.running.prompting import plain_question
from ryzanstein.config import load_settings
from ryzanstein.inference.engine import Engine
from ryzanstein.inference.generate import Generation, Plan
from ryzanstein.inference.loaded import LoadedModel
from ryzanstein.inference.prompts import chat_prompt, persona_ids
from ryzanstein.inference.requests import ChatRequest
from ryzanstein.machine import cpu_name
from ryzanstein.registry import Registry, load_registry


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="catalogue name or path")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--agents", default="", help="codenames, by default all")
    parser.add_argument("--message", help="a task to give each agent instead of its own example")
    parser.add_argument("--states", type=Path, help="where states are kept, by default nowhere")
    options = parser.parse_args(arguments)
    registry = load_registry(user=False)
    names = [name for name in options.agents.upper().split(",") if name]
    agents = [registry.agent(name) for name in names] or list(registry.agents)
    with tempfile.TemporaryDirectory() as folder:
        settings = replace(
            load_settings(),
            threads=options.threads,
            data_dir=options.states or Path(folder),
            models_dir=load_settings().models_path,
        )
        engine = Engine(settings, registry)
        tasks = {agent.codename: options.message or agent.examples[0] for agent in agents}
        report = measured(engine, registry, tasks, options.model, options.repeats)
        engine.close()
    print(json.dumps({"machine": cpu_name(), "model": options.model, **report}))
    return 0


def measured(
    engine: Engine,
    registry: Registry,
    tasks: dict[str, str],
    model: str,
    repeats: int,
) -> dict[str, Any]:
    """Measures every agent with its task, and what all have in common."""
    loaded = engine.get(model)
    window = window_of(model, registry)
    systems = {name: system_message(registry.agent(name), window) for name in tasks}
    found, begin = [], time.perf_counter()
    sizes = [engine.warm(model, system, name).bytes for name, system in systems.items()]
    warming = time.perf_counter() - begin
    for name, task in tasks.items():
        found.append({"agent": name, **of_agent(engine, loaded, systems[name], task, repeats)})
        one = found[-1]
        print(
            f"{one['agent']:<12} {one['persona_tokens']:>4} tokens: "
            f"{one['persona']['prefilled_ms']:8.1f} -> {one['persona']['restored_ms']:6.1f} ms "
            f"x{one['persona']['ratio']:<6} with a task of {one['task_tokens']:>3}: "
            f"{one['task']['prefilled_ms']:8.1f} -> {one['task']['restored_ms']:6.1f} ms "
            f"x{one['task']['ratio']}",
            file=sys.stderr,
        )
    return {
        "isa": loaded.model.isa,
        "threads": loaded.model.threads,
        "repeats": repeats,
        "warm_seconds": round(warming, 1),
        "state_bytes": int(median(sizes)),
        **{kind: summary([one[kind] for one in found]) for kind in ("persona", "task")},
        "agents": found,
    }


def summary(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Medians over the agents, and the worst ratio."""
    middle = {name: round(median(one[name] for one in found), 2) for name in found[0]}
    return middle | {"worst_ratio": min(one["ratio"] for one in found)}


def of_agent(
    engine: Engine, loaded: LoadedModel, system: str, task: str, repeats: int
) -> dict[str, Any]:
    """Measures one agent both ways."""
    ids = persona_ids(loaded.tokenizer, system)
    question = plain_question(task, "")
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    request = ChatRequest.model_validate(
        {"model": loaded.name, "messages": messages, "max_tokens": 1}
    )
    prompt = chat_prompt(loaded.tokenizer, request)
    assert prompt[: len(ids)] == ids, "the prompt does not begin with the persona"
    following = prompt[len(ids)]
    ways: dict[str, dict[str, Callable[[], object]]] = {
        "persona": {
            "prefilled": lambda: prefilled(loaded, [*ids, following]),
            "restored": lambda: restored(loaded, ids, following),
        },
        "task": {
            "prefilled": lambda: prefilled(loaded, chat_prompt(loaded.tokenizer, request)),
            "restored": lambda: engine.chat(request),
            "switched": lambda: engine.chat(request),
        },
    }
    return {
        "persona_tokens": len(ids),
        "task_tokens": len(prompt) - len(ids),
        **{kind: timed(loaded, ids, named, repeats) for kind, named in ways.items()},
    }


def timed(
    loaded: LoadedModel, ids: Sequence[int], ways: dict[str, Callable[[], object]], repeats: int
) -> dict[str, float]:
    """Milliseconds of each way, the median of all repeats, and how many times sooner it is."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            loaded.cache.clear()
            if name == "switched":
                state = loaded.store.load(
                    loaded.model.state_shape, ids, loaded.model.context_tokens
                )
                assert state is not None
                loaded.cache.put(ids, state)
            begin = time.perf_counter()
            run()
            taken[name].append(1e3 * (time.perf_counter() - begin))
    found = {f"{name}_ms": round(median(times), 2) for name, times in taken.items()}
    return found | {"ratio": round(found["prefilled_ms"] / found["restored_ms"], 1)}


def prefilled(loaded: LoadedModel, prompt: Sequence[int]) -> None:
    """The first token after a prompt that is run as a whole, without any copies on the way."""
    state = loaded.model.new_state()
    Generation(loaded.model, loaded.tokenizer, state, prompt).run(Plan(max_tokens=1))


def restored(loaded: LoadedModel, ids: Sequence[int], following: int) -> None:
    """The first token after a persona's saved state and one more token."""
    state = loaded.store.load(loaded.model.state_shape, ids, loaded.model.context_tokens)
    assert state is not None
    prompt = [*ids, following]
    Generation(loaded.model, loaded.tokenizer, state, prompt).run(Plan(max_tokens=1))


if __name__ == "__main__":
    sys.exit(main())
