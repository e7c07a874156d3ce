from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.running.conversation import (
    Budget,
    Conversation,
    OutOfBudget,
    clipped,
    closed,
)
from ryzanstein.errors import InvalidRequest

MODEL = "smollm2-135m"


async def _words(text: str) -> int:
    return len(text.split())


async def test_a_text_that_fits_is_left_alone() -> None:
    assert await clipped("one two three", 3, _words) == "one two three"


async def test_a_text_that_is_cut_says_how_much_is_missing_and_keeps_both_ends() -> None:
    text = " ".join(f"w{i}" for i in range(1000))
    short = await clipped(text, 50, _words)
    assert await _words(short) <= 50
    assert short.startswith("w0 w1")
    assert short.endswith("w999")
    assert "characters left out" in short


async def test_where_not_even_the_mark_fits_it_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="does not fit"):
        await clipped("a b c d e f g h i j k l m n o p q", 2, _words)


@given(st.text(max_size=300))
def test_a_fence_in_an_answer_is_always_closed(text: str) -> None:
    assert closed(text).count("```") % 2 == 0


async def test_everything_said_is_counted_and_continues_the_cached_text(
    services: Services,
) -> None:
    async with services:
        talk = Conversation(services, Budget(100, 60), window=1000, model=MODEL)
        await talk.system("You are brief.")
        first = await talk.ask("Say one word. " * 30, max_tokens=8)
        second = await talk.ask("Another one.", max_tokens=8)
    assert second.cached_tokens >= first.prompt_tokens - 8
    assert talk.budget.spent == first.tokens + second.tokens
    assert second.prompt_tokens + second.tokens <= talk.used <= talk.window


async def test_a_full_window_is_noticed_before_the_model_is_asked(services: Services) -> None:
    async with services:
        talk = Conversation(services, Budget(100, 60), window=64, model=MODEL)
        await talk.system("You are brief.")
        with pytest.raises(OutOfBudget, match="window of 64"):
            await talk.ask("word " * 100, max_tokens=8, final=True)
