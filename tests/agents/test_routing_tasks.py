"""The tasks that measure routing are usable, and none of them is an example."""

from __future__ import annotations

from pathlib import Path

import yaml

from ryzanstein.registry import load_registry

TASKS = Path(__file__).with_name("routing_tasks.yaml")


def test_routing_tasks_name_agents_and_are_no_examples() -> None:
    registry = load_registry(user=False)
    sets = yaml.safe_load(TASKS.read_text(encoding="utf-8"))
    tasks = [task for entries in sets.values() for task in entries]
    examples = {example.casefold() for agent in registry.agents for example in agent.examples}
    texts = [task["task"].casefold() for task in tasks]
    assert len(set(texts)) == len(texts) > 140
    assert examples.isdisjoint(texts)
    wanted = [registry.agent(name).codename for task in tasks for name in task["agents"]]
    assert set(wanted) == {agent.codename for agent in registry.agents}
