from __future__ import annotations

import datetime
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.errors import ToolError
from ryzanstein.tools import ToolResult, all_tools
from ryzanstein.tools.families.system import machine

Call = Callable[..., Awaitable[ToolResult]]
SECRET = "heron-secret"


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a secret in its arguments and in its environment."""
    line = [sys.executable, "-c", "import sys; sys.stdin.read()", f"--password={SECRET}"]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, env={"TOKEN": SECRET})
    yield process
    process.communicate()


def test_the_whole_family_only_reads() -> None:
    family = [item for item in all_tools() if item.family == "system"]
    assert len(family) >= 9 and all(item.read_only for item in family)


async def test_the_machine_is_described(call: Call) -> None:
    facts = (await call("machine_facts")).data
    assert facts["cpus"] >= facts["usable_cpus"] >= 1
    assert 0 < facts["free_memory_gib"] <= facts["memory_gib"] + 1
    assert facts["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    detail = (await call("machine_facts", {"detail": True})).data
    assert len(detail["load_percent_by_cpu"]) >= 1 and isinstance(detail["disks"], list)


async def test_processes_are_listed_and_described(
    call: Call, child: subprocess.Popen[bytes]
) -> None:
    listed = await call("list_processes", {"name": "python", "by": "age", "limit": 500})
    assert child.pid in [row["pid"] for row in listed.data["processes"]]
    about = await call("process_info", {"pid": child.pid})
    assert about.data["parent"].startswith(f"{os.getpid()} ")
    own = await call("process_info", {"pid": os.getpid()})
    assert any(entry.startswith(f"{child.pid} ") for entry in own.data["children"])
    few = await call("list_processes", {"limit": 1})
    assert "the first 1 are shown" in few.text
    for by in ("cpu", "memory", "name"):
        assert (await call("list_processes", {"by": by})).data["count"] >= 2
    with pytest.raises(ToolError, match=r"no process 2147483646\. list_processes"):
        await call("process_info", {"pid": 2147483646})


async def test_nothing_secret_is_shown(
    call: Call, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_TOKEN", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "LANGSMITH_API_KEY"):
        monkeypatch.setenv(name, SECRET)
    for name, arguments in (
        ("machine_facts", {"detail": True}),
        ("environment_facts", {"packages": "py"}),
        ("list_processes", {"limit": 500}),
        ("process_info", {"pid": child.pid}),
        ("find_programs", {"names": ["git"]}),
    ):
        result = await call(name, arguments)
        assert SECRET not in result.text + str(result.data), name


async def test_surroundings_are_told(
    call: Call, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    facts = (await call("environment_facts", {"packages": "pydantic"})).data
    assert facts["folders"] == [str(root)] and facts["LANG"] == "de_DE.UTF-8"
    assert any(line.startswith("pydantic ") for line in facts["packages"])
    found = await call("find_programs", {"names": ["git", "no-such-program"]})
    assert found.data["programs"]["git"].endswith("git")
    assert "no-such-program: not installed" in found.text
    for name in ("/bin/sh", "../x", "a b", "-x"):
        with pytest.raises(ToolError, match="no name of a program"):
            await call("find_programs", {"names": [name]})


async def test_what_takes_up_space_is_told(
    call: Call, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "big").mkdir()
    (root / "big/a").write_bytes(b"x" * 5000)
    (root / ".hidden").write_bytes(b"x" * 300)
    (root / "out").symlink_to("/usr")
    used = await call("disk_usage")
    assert used.text.splitlines()[0] == "5,000 bytes  big"
    assert used.data["largest"][1] == {"name": ".hidden", "bytes": 300}
    assert 0 < used.data["disk_free_bytes"] <= used.data["disk_bytes"]
    assert used.data["bytes"] < 6000
    monkeypatch.setattr(machine, "_WALK_SECONDS", -1.0)
    assert "too many files" in (await call("disk_usage")).text
    with pytest.raises(ToolError, match="not a directory"):
        await call("disk_usage", ".hidden")


async def test_the_time_is_told_here_and_elsewhere(call: Call) -> None:
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    here = (await call("current_time")).data
    assert datetime.datetime.fromisoformat(here["iso"]) >= before
    there = (await call("current_time", "Asia/Tokyo")).data
    assert there["iso"].endswith("+09:00")
    assert (await call("current_time", "tokyo")).data["iso"].endswith("+09:00")
    for wrong in ("Europe/Berlim", "../../etc/passwd", "/etc/localtime", "x\0"):
        with pytest.raises(ToolError, match="no time zone"):
            await call("current_time", {"timezone": wrong})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"date": "2026-01-31", "months": 1}, "2026-02-28, a Saturday"),
        ({"date": "2024-02-29", "years": 1}, "2025-02-28, a Friday"),
        ({"date": "2026-12-31", "days": 1}, "2027-01-01, a Friday"),
        ({"date": "2026-03-15", "months": -15, "weeks": 1}, "2024-12-22, a Sunday"),
        ({"date": "2026-11-20", "workdays": 1}, "2026-11-23, a Monday"),
        ({"date": "2026-11-21", "workdays": 1}, "2026-11-23, a Monday"),
        ({"date": "2026-11-21", "workdays": -1}, "2026-11-20, a Friday"),
        ({"date": "2026-11-23", "workdays": -1}, "2026-11-20, a Friday"),
        ({"date": "2026-11-20", "workdays": 12}, "2026-12-08, a Tuesday"),
        ({"date": "2026-01-01 23:30", "minutes": 45}, "2026-01-02 00:15, a Friday"),
        ({"date": "2026-01-01T12:00+02:00", "hours": 1}, "2026-01-01 11:00, a Thursday"),
    ],
)
async def test_a_date_is_shifted(call: Call, arguments: dict[str, Any], expected: str) -> None:
    assert (await call("shift_date", arguments)).text == expected


async def test_workdays_are_the_same_both_ways(call: Call) -> None:
    for day in range(1, 15):
        for count in (-11, -5, -1, 1, 4, 5, 6, 30):
            start = f"2026-11-{day:02}"
            end = (await call("shift_date", {"date": start, "workdays": count})).data["date"]
            between = await call("compare_dates", {"start": start, "end": end})
            weekend = datetime.date.fromisoformat(start).weekday() >= 5
            assert between.data["workdays"] in ({count} | ({count + 1} if weekend else set()))


async def test_dates_are_compared(call: Call) -> None:
    span = await call("compare_dates", {"start": "2024-02-29", "end": "2026-03-01"})
    assert span.data["days"] == 731 and span.data["calendar"] == "2 years, 0 months and 1 days"
    assert span.data["weeks"] == "104 weeks and 3 days"
    back = await call("compare_dates", {"start": "2026-01-31", "end": "2025-12-31"})
    assert back.data["days"] == -31 and back.data["calendar"] == "-0 years, 1 months and 0 days"
    hours = await call("compare_dates", {"start": "2026-01-01 10:00", "end": "2026-01-02 11:30"})
    assert hours.data["hours"] == 25.5
    assert (await call("compare_dates", {"start": "today", "end": "tomorrow"})).data["days"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        *("soon", "2026-02-30", "31.1.2026", "", "9" * 40, "2026-13-01"),
        *("0001-01-01T00:00+05:00", "9999-12-31T23:00-05:00"),
    ],
)
async def test_what_is_no_date_is_said(call: Call, wrong: str) -> None:
    with pytest.raises(ToolError, match=r"is no date|date must be"):
        await call("shift_date", {"date": wrong})


async def test_dates_beyond_the_calendar_are_refused(call: Call) -> None:
    for amounts in (
        {"years": 9000},
        {"days": -100_000, "years": -2000},
        {"workdays": -100_000, "years": -1900},
    ):
        with pytest.raises(ToolError, match="beyond the years"):
            await call("shift_date", {"date": "2026-01-01", **amounts})
