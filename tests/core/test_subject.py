"""Whose work it is goes along with tasks and threads, and decides where its data lies."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from ryzanstein.config import load_settings
from ryzanstein.subject import OWNER, Subject, acting, current

ADA = Subject("0a", "Ada")
BOB = Subject("0b", "Bob")


def test_without_anybody_named_it_is_the_owner_who_may_do_everything() -> None:
    assert current() is OWNER
    assert current().key == ""
    assert current().admin


def test_a_fault_within_gives_the_subject_back() -> None:
    with pytest.raises(ValueError, match="within"), acting(ADA):
        raise ValueError("within")
    assert current() is OWNER


async def test_tasks_and_worker_threads_work_for_whoever_started_them() -> None:
    seen: dict[str, Subject] = {}

    async def work(name: str, go: anyio.Event) -> None:
        await go.wait()
        seen[name] = await anyio.to_thread.run_sync(current)

    async with anyio.create_task_group() as group:
        go = anyio.Event()
        for subject in (ADA, BOB):
            with acting(subject):
                group.start_soon(work, subject.name, go)
        group.start_soon(work, "owner", go)
        go.set()
    assert seen == {"Ada": ADA, "Bob": BOB, "owner": OWNER}


def test_a_thread_that_nobody_started_for_a_subject_is_the_owners() -> None:
    seen = []
    with acting(ADA):
        thread = threading.Thread(target=lambda: seen.append(current()))
        thread.start()
        thread.join()
    assert seen == [OWNER]


def test_every_subject_has_folders_and_a_database_of_its_own(tmp_path: Path) -> None:
    settings = load_settings({"RYZANSTEIN_DATA_DIR": str(tmp_path)})
    with acting(ADA):
        own = tmp_path / "subjects" / "0a"
        assert settings.own_dir == own
        assert settings.states_path == own / "states"
        assert settings.tool_roots == (own / "files",)
        assert settings.database == f"sqlite:///{own / 'ryzanstein.db'}"
    assert settings.own_dir == tmp_path
    assert settings.tool_roots == (Path.cwd(),)
    assert settings.database == f"sqlite:///{tmp_path / 'ryzanstein.db'}"


def test_the_roots_and_the_file_that_the_owner_set_are_not_another_subjects(tmp_path: Path) -> None:
    settings = load_settings(
        {
            "RYZANSTEIN_DATA_DIR": str(tmp_path),
            "RYZANSTEIN_ROOTS": str(tmp_path / "work"),
            "RYZANSTEIN_DATABASE_URL": f"sqlite:///{tmp_path / 'mine.db'}",
        }
    )
    with acting(BOB):
        assert settings.tool_roots == (tmp_path / "subjects" / "0b" / "files",)
        assert settings.database == f"sqlite:///{tmp_path / 'subjects' / '0b' / 'ryzanstein.db'}"
    assert settings.database.endswith("mine.db")


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("postgresql://host/name", "postgresql://host/name?schema=subject_0a"),
        ("postgres://host/name?sslmode=require", "&schema=subject_0a"),
    ],
)
def test_on_a_server_every_subject_has_a_schema(url: str, own: str) -> None:
    settings = load_settings({"RYZANSTEIN_DATABASE_URL": url})
    assert settings.database == url
    with acting(ADA):
        assert settings.database.startswith(url)
        assert settings.database.endswith(own)
