"""The official conformance suite finds nothing, on the fixture and on the real servers."""

from __future__ import annotations

import pytest
from suite import GENERIC, REVISIONS, SERVERS, SKILLS, TASKS, Suite


@pytest.mark.parametrize("revision", REVISIONS)
def test_everything_that_a_revision_requires_holds(suite: Suite, url: str, revision: str) -> None:
    code, found = suite.required(f"{url}everything", revision)
    faults = {name: one.faults for name, one in found.items() if one.faults}
    assert code == 0, faults
    wanted = {*GENERIC[revision], *(TASKS if revision == REVISIONS[0] else ())}
    assert {name for name in wanted if not found[name].ok} == set(), faults


@pytest.mark.parametrize("name", SERVERS)
def test_the_real_servers_hold_what_any_server_can(suite: Suite, url: str, name: str) -> None:
    found = suite.scenarios(f"{url}{name}", GENERIC)
    assert {label: one for label, one in found.items() if not one.ok} == {}


def test_agents_are_skills(suite: Suite, url: str) -> None:
    found = suite.scenarios(f"{url}orchestrator", {None: SKILLS})
    assert {label: one for label, one in found.items() if not one.ok} == {}
