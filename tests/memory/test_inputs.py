"""What callers give by mistake is refused in words, the same on both databases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.embed import get_embedder
from ryzanstein.memory.records import Draft
from ryzanstein.memory.store import MemoryStore

NO_IDS: dict[str, Any] = {"surrogate": "mem_\ud800", "NUL": "mem_\x00", "None": None, "int": 5}


@pytest.mark.parametrize("id", NO_IDS.values(), ids=NO_IDS)
def test_what_can_be_no_id_is_an_unknown_id(store: MemoryStore, id: Any) -> None:
    kept = store.remember("fine")
    assert store.get(id) is None and store.history(id) == [] and store.forget(id) is False
    calls: list[Callable[[], object]] = [
        lambda: store.explain(id),
        lambda: store.links(id),
        lambda: store.journal(id),
        lambda: store.unmerge(id),
        lambda: store.correct(id, "other"),
        lambda: store.mark(id, 1.0),
        lambda: store.use([id]),
        lambda: store.rate_experience(id, 1.0),
    ]
    for call in calls:
        with pytest.raises(InvalidRequest, match="has the id"):
            call()
    assert store.get(kept.id) == kept


@pytest.mark.parametrize("field", ["agent", "source", "kind", "conversation", "task"])
@pytest.mark.parametrize("wrong", ["a\ud800", "a\x00", 5], ids=["surrogate", "NUL", "int"])
def test_filters_that_no_text_can_meet_are_refused(
    store: MemoryStore, field: str, wrong: Any
) -> None:
    chosen: dict[str, Any] = {field: wrong}
    for call in (lambda: store.recall("fine", **chosen), lambda: store.list(**chosen)):
        with pytest.raises(InvalidRequest, match=f"can be no {field}"):
            call()


def test_values_of_another_type_are_named(store: MemoryStore) -> None:
    unfit: Any = "1"
    calls: dict[str, Callable[[], object]] = {
        "'work' is no list of tags": lambda: store.remember("fine", tags="work"),
        "Draft 0: 'work' is no list": lambda: store.remember_many(
            [Draft("a", tags="work"), Draft("b")]  # type: ignore[arg-type]
        ),
        "'home' is no list of tags": lambda: store.recall("fine", tags="home"),
        "None is no list of tags": lambda: store.list(tags=None),  # type: ignore[typeddict-item]
        "5 cannot be a tag": lambda: store.remember("fine", tags=[5]),  # type: ignore[list-item]
        "importance is '1'": lambda: store.remember("fine", importance=unfit),
        "turn is 1.5": lambda: store.remember("fine", turn=1.5),  # type: ignore[arg-type]
        "limit is 1.5": lambda: store.recall("fine", limit=1.5),  # type: ignore[arg-type]
        "limit is '1'": lambda: store.list(limit=unfit),
        "outcome is '1'": lambda: store.use(["mem_0"], outcome=unfit),
        "None is no list of ids": lambda: store.use(None),  # type: ignore[arg-type]
        "query is empty": lambda: store.recall(None),  # type: ignore[arg-type]
        "5 is no tier": lambda: store.list(tier=5),  # type: ignore[typeddict-item]
        "Tokens and seconds": lambda: store.record_experience(
            task="a", agent="APEX", outcome="failed", tokens=unfit
        ),
        f"'{'9' * 18}' is no cursor": lambda: store.list(cursor="9" * 18),
        "5 is no cursor": lambda: store.list(cursor=5),  # type: ignore[arg-type]
    }
    for says, call in calls.items():
        with pytest.raises(InvalidRequest, match=says):
            call()
    assert store.stats().memories == 0
    assert store.list(cursor=str(2**31 - 1)).memories == ()


class Odd:
    """An embedder that does something else to its vectors."""

    model_id = "odd"
    dimension = 256

    def __init__(self, change: Callable[[Any], Any]) -> None:
        self._change = change

    def embed(self, texts: Sequence[str]) -> Any:
        return self._change(get_embedder().embed(texts))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda made: made[:-1], r"\(0, 256\), not float32 \(1, 256\)"),
        (lambda made: made[:, :8], r"\(1, 8\), not"),
        (lambda made: made.astype(str), "not float32"),
        (lambda made: made * np.nan, "NaN or infinity"),
    ],
    ids=["too few", "too short", "no numbers", "NaN"],
)
def test_vectors_that_do_not_fit_are_an_embedders_fault(
    url: str, change: Callable[[Any], Any], says: str
) -> None:
    with MemoryStore(url, embedder=Odd(change)) as store:
        with pytest.raises(InvalidRequest, match=says) as caught:
            store.remember("fine")
        assert caught.value.hint
        assert store.stats().memories == 0


@pytest.mark.parametrize("change", [lambda m: m.astype(np.float64), lambda m: m.tolist()])
def test_other_numbers_are_converted(url: str, change: Callable[[Any], Any]) -> None:
    with MemoryStore(url, embedder=Odd(change)) as store:
        kept = store.remember("The quay has seven berths")
        [hit] = store.recall("how many berths are there at the quay?")
        assert hit.memory.id == kept.id and hit.similarity > 0.3
