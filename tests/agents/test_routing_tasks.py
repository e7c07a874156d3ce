"""The tasks that measure routing are usable, and none of them is an example."""

from __future__ import annotations

from ryzanstein.agents.bench.routing_data import registry_tasks
from ryzanstein.registry import load_registry


def test_routing_tasks_name_agents_and_are_no_examples() -> None:
    registry = load_registry(user=False)
    data = registry_tasks(registry)
    tasks = [one for fold in data.folds for one in fold.test]
    examples = {example.casefold() for agent in registry.agents for example in agent.examples}
    examples.update(task.casefold() for task in registry.routing.elsewhere)
    texts = [text.casefold() for text in (*(task for task, _ in tasks), *data.outside)]
    assert len(set(texts)) == len(texts) > 350
    assert examples.isdisjoint(texts)
    wanted = [registry.agent(name).codename for _, right in tasks for name in right]
    assert set(wanted) == {agent.codename for agent in registry.agents}
