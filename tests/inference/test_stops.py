from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ryzanstein.inference.stops import StopFilter


def test_a_stop_across_pieces_is_found_and_never_shown() -> None:
    stops = StopFilter(["</answer>"])
    shown = [stops.push(piece) for piece in ("Yes <", "/ans", "wer> no", " more")]
    assert shown == ["Yes ", "", "", ""]
    assert stops.stopped
    assert stops.finish() == ""


def test_a_beginning_that_comes_to_nothing_is_shown_later() -> None:
    stops = StopFilter(["STOP"])
    assert [stops.push("a ST"), stops.push("AR"), stops.finish()] == ["a ", "STAR", ""]
    assert [stops.push("ST"), stops.finish()] == ["", "ST"]


def test_the_first_of_several_stops_counts() -> None:
    stops = StopFilter(["bc", "c", "abcd"])
    assert stops.push("xabc") == "xa"


@given(
    text=st.text("ab\n", max_size=40),
    stops=st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 40), max_size=10),
)
def test_however_the_text_is_cut_the_answer_ends_before_the_first_stop(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    borders = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(borders)]
    filtered = StopFilter(stops)
    shown = ""
    for piece in pieces:
        shown += filtered.push(piece)
        # Earlier pieces may end before a stop that another one would have reached first.
        assert text.startswith(shown)
        if filtered.stopped:
            break
    shown += filtered.finish()
    assert filtered.stopped == bool(found)
    if not found:
        assert shown == text
    else:
        assert not any(stop in shown for stop in stops)
