from __future__ import annotations

import time
from pathlib import Path

import anyio
import pytest

from ryzanstein.errors import ConnectionFailed, InvalidRequest, TimedOut
from ryzanstein.registry import RegistryError, Resilience, load_registry
from ryzanstein.resilience import Busy, Parties, Party, retried

QUICK = Resilience(first_wait=0.03, longest_wait=1, jitter=0, rest_seconds=0.2, slow_seconds=0.1)


class Fails:
    """Fails so many times, and notes when it was called."""

    def __init__(self, times: int, error: Exception) -> None:
        self.left, self.error = times, error
        self.at: list[float] = []

    async def __call__(self) -> str:
        self.at.append(time.monotonic())
        if self.left:
            self.left -= 1
            raise self.error
        return "done"

    @property
    def waits(self) -> list[float]:
        return [after - before for before, after in zip(self.at, self.at[1:], strict=False)]


async def _silent(error: Exception) -> None:
    """Hears of a retry."""


async def test_waits_double() -> None:
    call = Fails(3, ConnectionFailed("gone"))
    assert await retried(call, QUICK, safe=lambda error: True, on_retry=_silent) == "done"
    for wait, least in zip(call.waits, (0.03, 0.06, 0.12), strict=True):
        assert wait >= least


def test_the_registrys_waits_are_one_two_and_four_seconds() -> None:
    policy = load_registry(user=False).resilience
    assert (policy.retries, policy.first_wait, policy.failures) == (3, 1, 3)
    assert (policy.slow_seconds, policy.health_seconds) == (5, 10)


async def test_a_party_that_names_a_time_gets_it() -> None:
    call = Fails(1, Busy("busy", seconds=0.15))
    await retried(call, QUICK, safe=lambda error: True, on_retry=_silent)
    assert call.waits[0] >= 0.15


@pytest.mark.parametrize(
    ("error", "safe"),
    [(ConnectionFailed("gone"), False), (Busy("busy", seconds=60), True), (ValueError("x"), True)],
)
async def test_some_failures_are_final(error: Exception, safe: bool) -> None:
    call = Fails(1, error)
    with pytest.raises(type(error)):
        await retried(call, QUICK, safe=lambda _: safe, on_retry=_silent)
    assert len(call.at) == 1


async def test_cancelling_ends_the_waiting() -> None:
    call = Fails(9, ConnectionFailed("gone"))
    slow = QUICK.model_copy(update={"first_wait": 30.0, "longest_wait": 30.0})
    with anyio.move_on_after(0.1) as scope:
        await retried(call, slow, safe=lambda error: True, on_retry=_silent)
    assert scope.cancelled_caught
    assert len(call.at) == 1


async def test_a_cancelled_call_says_nothing_about_its_party() -> None:
    party = Party("server:x", QUICK)
    with anyio.move_on_after(0.01):
        async with party.watch(10):
            await anyio.sleep(10)
    assert (party.state, party.calls) == ("ok", 0)


async def test_silence_has_an_end_and_life_puts_it_off() -> None:
    party = Party("server:x", QUICK)
    with pytest.raises(TimedOut, match=r"server:x gave no sign of life for 0\.2 s"):
        async with party.watch(0.2):
            await anyio.sleep(10)
    assert party.slow
    async with party.watch(0.6) as watch:
        for _ in range(7):
            await anyio.sleep(0.1)
            watch.alive()


async def test_a_call_under_way_shows_that_its_party_is_slow() -> None:
    party = Party("server:x", QUICK)
    async with party.watch(10):
        assert not party.slow
        await anyio.sleep(0.15)
        assert party.slow


def test_there_is_one_party_of_a_name() -> None:
    parties = Parties()
    assert parties.get("a", QUICK) is parties.get("a", QUICK)
    parties.get("a", QUICK).failed(InvalidRequest("no"))
    parties.clear()
    assert parties.get("a", QUICK).state == "ok"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("resilience:\n  retrys: 2\n", 2, "retries"),
        ("resilience:\n  failures: 0\n", 2, "failures"),
        ("resilience:\n  slow_seconds: soon\n", 2, "slow_seconds"),
        ("resilience: quick\n", 1, "no mapping"),
        ("backends:\n  - {name: x, kind: openai}\n", 2, "url"),
        ("backends:\n  - {name: x, kind: openai, url: 'ftp://x'}\n", 2, "http"),
        ("backends:\n  - {name: local, seconds: 0}\n", 2, "seconds"),
        ("backends:\n  - {name: x, kind: local, api_key_env: 'a b'}\n", 2, "variable"),
    ],
)
def test_a_wrong_policy_or_backend_is_shown_with_its_line(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(text)
    with pytest.raises(RegistryError) as caught:
        load_registry(path, user=False)
    assert f"registry.yaml:{line}" in str(caught.value)
    assert message in str(caught.value)
