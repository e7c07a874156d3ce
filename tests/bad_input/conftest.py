"""The installed console command as a child process, with a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest

from tests import warm

COMMAND = Path(sysconfig.get_path("scripts")) / "ryzanstein"


@dataclass(frozen=True)
class Done:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)

    def failed(self, code: str, *words: str, exit_code: int = 1) -> dict[str, str]:
        """Checks the one line on stderr and the document on stdout; returns its error."""
        assert self.code == exit_code, (self.code, self.err)
        assert "Traceback" not in self.err
        said = [line for line in self.err.splitlines() if line.startswith("ryzanstein: ")]
        assert len(said) == 1 and self.err.endswith(f"{said[0]}\n"), self.err
        document = self.json
        assert list(document) == ["error"]
        error: dict[str, str] = document["error"]
        assert sorted(error) == ["code", "hint", "message"]
        assert error["code"] == code, error
        line = f"{error['message']} {error['hint']}"
        for word in words:
            assert word in line, (word, line)
        assert error["message"].split()[0] in said[0]
        return error


@dataclass(frozen=True)
class Place:
    """A home directory, and commands run in it.

    Attributes:
        folder: Where everything is.
        environment: Further variables.
    """

    folder: Path
    models: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def database(self) -> Path:
        return self.data / "ryzanstein.db"

    def variables(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RYZANSTEIN_", "PIP_", "PYTHON")) or name == "RYZANSTEIN_ISA"
        }
        return {
            **kept,
            "RYZANSTEIN_DATA_DIR": str(self.data),
            "RYZANSTEIN_CONFIG_DIR": str(self.config),
            "RYZANSTEIN_CACHE_DIR": str(self.folder / "cache"),
            "RYZANSTEIN_MODELS_DIR": str(self.models),
            "NO_COLOR": "1",
            # Under a limit to the size of files Python leaves modules half written for everybody.
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.environment,
        }

    def start(
        self, *arguments: str, wrap: Sequence[str] = (), **options: Any
    ) -> subprocess.Popen[bytes]:
        """Starts a command; its streams are pipes unless said otherwise."""
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(
            [*wrap, str(COMMAND), *arguments],
            env=self.variables(),
            cwd=self.folder,
            **{**streams, **options},
        )

    def run(self, *arguments: str, stdin: bytes = b"", **options: Any) -> Done:
        """Runs a command to its end, with the imports done where nothing is said of the process."""
        if not options:
            return self._run_warm(arguments, stdin)
        with self.start(*arguments, **options) as child:
            out, err = child.communicate(stdin, timeout=100)
        return Done(child.returncode, (out or b"").decode(), (err or b"").decode())

    def _run_warm(self, arguments: Sequence[str], stdin: bytes) -> Done:
        with TemporaryDirectory() as name:
            streams = Path(name)
            (streams / "in").write_bytes(stdin)
            code = warm.run(arguments, self.variables(), self.folder, streams)
            out, err = ((streams / one).read_text("utf-8") for one in ("out", "err"))
        return Done(code, out, err)

    def with_environment(self, **variables: str) -> Place:
        return Place(self.folder, self.models, {**self.environment, **variables})

    def remembered(self) -> list[str]:
        """Texts in the database, after it was found to be whole."""
        import sqlite3

        with closing(sqlite3.connect(self.database)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert database.execute("PRAGMA foreign_key_check").fetchall() == []
            return [text for (text,) in database.execute("SELECT text FROM memories ORDER BY row")]

    def runs(self) -> list[str]:
        """How the runs in the database ended."""
        import sqlite3

        with closing(sqlite3.connect(self.database)) as database:
            return [status for (status,) in database.execute("SELECT status FROM runs")]


@pytest.fixture(scope="module")
def make_place(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Place]:
    """Makes a new home; models are looked for where the small one was brought."""

    def make(models: Path | None = None, **variables: str) -> Place:
        folder = tmp_path_factory.mktemp("place")
        (folder / "config").mkdir()
        return Place(folder, models or folder / "models", dict(variables))

    return make


@pytest.fixture
def place(make_place: Callable[..., Place]) -> Place:
    return make_place()


def read_only(*folders: Path) -> list[str]:
    """A command's prefix under which these folders cannot be written, not even by root."""
    bound = [word for folder in folders for word in ("--ro-bind", str(folder), str(folder))]
    return ["bwrap", "--dev-bind", "/", "/", *bound]


def small_disk(folder: Path, size: int) -> list[str]:
    """A command's prefix under which a folder is an empty disk of so many bytes."""
    return ["bwrap", "--dev-bind", "/", "/", "--size", str(size), "--tmpfs", str(folder)]


@pytest.fixture(scope="session")
def wraps() -> SimpleNamespace:
    """Prefixes that put a command into another view of the disk."""
    return SimpleNamespace(read_only=read_only, small_disk=small_disk)
