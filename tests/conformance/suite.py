"""The official conformance suite, run on a server that `serve.py` serves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SERVERS = ("orchestrator", "inference", "memory", "model", "cache", "analytics", "tools")
REVISIONS = ("2026-07-28", "2025-11-25")

# The scenarios that ask for nothing that a server would have to be made for.
GENERIC = {
    "2026-07-28": (
        "tools-list",
        "resources-list",
        "prompts-list",
        "completion-complete",
        "caching",
        "dns-rebinding-protection",
        "http-header-validation",
        "server-sse-multiple-streams",
        "sep-2164-resource-not-found",
        "input-required-result-unsupported-methods",
    ),
    "2025-11-25": (
        "server-initialize",
        "ping",
        "tools-list",
        "resources-list",
        "prompts-list",
        "completion-complete",
        "server-sse-multiple-streams",
        "dns-rebinding-protection",
        "server-session-lifecycle",
    ),
}
SKILLS = ("sep-2640-skills-enumeration", "sep-2640-skills-manifest", "sep-2640-skills-directory")
# The suite skips tasks-status-notifications itself, until it listens where they are sent.
TASKS = (
    "tasks-lifecycle",
    "tasks-capability-negotiation",
    "tasks-wire-fields",
    "tasks-request-state-removal",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-dispatch-and-envelope",
    "tasks-required-task-error",
    "tasks-mrtr-composition",
)


@dataclass(frozen=True)
class Outcome:
    """Of one scenario.

    Attributes:
        passed: How many checks held.
        faults: What the others found.
    """

    passed: int
    faults: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Something was checked, and all of it held."""
        return self.passed > 0 and not self.faults


@contextmanager
def served(names: Sequence[str] = SERVERS) -> Iterator[str]:
    """Serves the fixture and the servers of these names; the URL of one is this and its name."""
    command = [sys.executable, str(HERE / "serve.py"), *names]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as child:
        try:
            assert child.stdout is not None
            yield json.loads(child.stdout.readline())["url"]
        finally:
            child.terminate()


class Suite:
    """The suite, installed.

    Args:
        node_modules: Where.
        environment: With Node on its path.
        folder: For what it writes.
    """

    def __init__(self, node_modules: Path, environment: dict[str, str], folder: Path) -> None:
        package = node_modules / "@modelcontextprotocol" / "conformance"
        self.version = str(json.loads((package / "package.json").read_bytes())["version"])
        self._command = ["node", str(HERE / "run.mjs"), str(package / "dist" / "index.js")]
        self._environment = environment
        self._folder = folder
        self._runs = 0

    def required(self, url: str, revision: str) -> tuple[int, dict[str, Outcome]]:
        """Runs what a revision requires; returns the exit status, and outcomes by scenario."""
        [(code, found)] = self._run([["--url", url, "--requirements", revision]])
        return code, found

    def scenarios(self, url: str, names: Mapping[str | None, Sequence[str]]) -> dict[str, Outcome]:
        """Runs some scenarios of each revision; None means of an extension.

        One that did not run at all has nothing that passed.
        """
        calls, told = [], []
        for revision, some in names.items():
            version = ["--spec-version", revision] if revision else []
            calls += [["--url", url, "--scenario", name, *version] for name in some]
            told += [(name, f"{name} {revision}" if revision else name) for name in some]
        found: dict[str, Outcome] = {}
        for (name, label), (code, outcomes) in zip(told, self._run(calls), strict=True):
            found[label] = outcomes.get(name, Outcome(0, (f"exit status {code}",)))
        return found

    def _run(self, calls: list[list[str]]) -> list[tuple[int, dict[str, Outcome]]]:
        self._runs += 1
        folders = [self._folder / f"{self._runs}-{number}" for number in range(len(calls))]
        given = [
            ["server", *call, "-o", str(folder)]
            for call, folder in zip(calls, folders, strict=True)
        ]
        done = subprocess.run(
            self._command,
            input=json.dumps(given),
            env=self._environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
        )
        codes = [int(one["code"]) for one in json.loads(done.stdout)]
        return [(code, _read(folder)) for code, folder in zip(codes, folders, strict=True)]


def _read(folder: Path) -> dict[str, Outcome]:
    """What the suite wrote: a folder `server-SCENARIO-TIME` with `checks.json` each."""
    found = {}
    for path in sorted(folder.glob("server-*/checks.json")):
        name = path.parent.name.removeprefix("server-")[: -len("-2026-11-22T03-03-51-154Z")]
        checks: list[dict[str, Any]] = json.loads(path.read_bytes())
        failed = [one for one in checks if one["status"] == "FAILURE"]
        faults = tuple(f"{one['id']}: {one.get('errorMessage', '')}" for one in failed)
        found[name] = Outcome(sum(one["status"] == "SUCCESS" for one in checks), faults)
    return found
