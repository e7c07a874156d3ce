from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzanstein.memory.sources.subtitles import is_subtitles, read_subtitles
from ryzanstein.memory.sources.transcripts import read_transcript
from ryzanstein.memory.sources.turns import Turn


def at(hour: int, minute: int = 0, day: int = 1) -> datetime:
    return datetime(2024, 5, day, hour, minute, tzinfo=UTC)


def said(turns: list[Turn]) -> list[tuple[str | None, datetime | None, str]]:
    return [(turn.speaker, turn.happened, turn.text) for turn in turns]


HELLO = [("Ada", at(10), "hello: you"), ("Bob", at(10, 5), "hi\nthere")]


@pytest.mark.parametrize(
    "text",
    [
        "[2024-05-01 10:00] Ada: hello: you\n[2024-05-01 10:05] Bob: hi\nthere",
        "[1 May 2024, 10:00] **Ada:** hello: you\n[1 May 2024, 10:05] **Bob:** hi\nthere\n",
        "# 2024-05-01\n[10:00] <Ada> hello: you\n[10:05] <Bob> hi\nthere",
        "2024-05-01 10:00 Ada: hello: you\n2024-05-01 10:05:00 Bob: hi\nthere",
        "2024-05-01T10:00:00Z Ada: hello: you\n2024-05-01T12:05:00+02:00 Bob: hi\nthere",
        "5/1/24, 10:00 AM - Messages are encrypted\n5/1/24, 10:00 AM - Ada: hello: you\n"
        "5/1/24, 10:05\u202fAM - Bob: hi\nthere",
        "Wednesday, 1 May 2024\n\nAda (10:00): hello: you\nBob (10:05): hi\nthere",
        "Date: 2024-05-01\n**Ada** (10:00): hello: you\n**Bob** [2024-05-01 10:05]: hi\nthere",
    ],
)
def test_every_form_gives_speakers_times_and_words(text: str) -> None:
    assert said(read_transcript(text)) == HELLO


def test_names_alone_are_speakers_where_they_come_back() -> None:
    text = "Ada: one\nNote: not a speaker\n\nBob: two\nAda: three\nBob:\nfour"
    assert said(read_transcript(text, day=date(2024, 5, 1))) == [
        ("Ada", at(0), "one\nNote: not a speaker"),
        ("Bob", at(0), "two"),
        ("Ada", at(0), "three"),
        ("Bob", at(0), "four"),
    ]


def test_headings_that_are_roles_begin_turns_and_others_are_words() -> None:
    text = "# Chat\n\n## User\nwhy?\n\n## Assistant\n# Because\nNote: so\n\n## User\nah"
    assert [(one.speaker, one.text) for one in read_transcript(text)] == [
        ("User", "why?"),
        ("Assistant", "# Because\nNote: so"),
        ("User", "ah"),
    ]


def test_a_line_that_is_a_date_begins_a_session_and_dates_the_clock() -> None:
    text = (
        "## Session 1: 1 May 2024\nAda (9:00): a\nOn 2 May 2024 we meet.\n"
        "--- 2 May 2024 ---\nBob (9:00): b\nAda (3 May 2024 9:00): c"
    )
    turns = read_transcript(text)
    assert [(one.session, one.happened, one.place) for one in turns] == [
        ("Session 1: 1 May 2024", at(9), "lines 2-3"),
        ("2 May 2024", at(9, day=2), "line 5"),
        ("2 May 2024", at(9, day=3), "line 6"),
    ]


def test_a_day_above_twelve_says_how_all_of_a_files_dates_are_read() -> None:
    text = "1/5/24, 10:00 - Ada: a\n13/5/24, 10:00 - Ada: b"
    assert [one.happened for one in read_transcript(text)] == [at(10), at(10, day=13)]


def test_clock_times_without_a_day_leave_the_time_open() -> None:
    assert said(read_transcript("Ada (10:00): a\nBob (10:01): b"))[0] == ("Ada", None, "a")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("just prose\nwithout anybody", "line 1: no line begins a turn"),
        ("[2024-05-01 10:00] Ada: a\n[2024-13-45 10:00] Ada: b", "line 2: .* is not a time"),
        ("Ada (10:00): a\nAda (25:61): b", "line 2: '25:61' is not a time"),
    ],
)
def test_a_wrong_transcript_names_its_line(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_transcript(text)


@given(st.text("[]()<>:#*- 0123/,.AaPpMm\n", max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (read_transcript, read_subtitles):
        with suppress(ValueError):
            assert all(turn.text.strip() for turn in read(text))


@pytest.mark.parametrize(
    "piece", ["1", "[1", "# ", " ", "*", "<", "<v ", '."', "(1", "a:", "|", "> "]
)
def test_a_line_of_anything_takes_no_time_to_speak_of(piece: str) -> None:
    line = piece * (100_000 // len(piece)) + "x"
    for text in (line, f"2024-05-01 10:00{line}", f"WEBVTT\n\n00:01.000 --> 00:02.000\n{line}"):
        for read in (read_transcript, read_subtitles):
            with suppress(ValueError):
                read(text)


VTT = """WEBVTT - minutes

NOTE made by hand

1
00:01.000 --> 00:04.000 align:start
<v Ada>Hello &amp; <i>welcome</i>

00:05.000 --> 00:06.500
to the meeting.

00:00:20.000 --> 00:00:26.000
Bob: Thanks.
"""
SRT = "1\n00:00:01,000 --> 00:00:06,500\nAda: Hello & welcome to the meeting.\n\n2\n"
SRT += "00:00:20,000 --> 00:00:26,000\nBob: Thanks.\n"


@pytest.mark.parametrize("text", [VTT, SRT])
def test_cues_are_joined_into_turns(text: str) -> None:
    assert is_subtitles(text)
    ada, bob = read_subtitles(text, begins=at(10))
    assert (ada.speaker, ada.text) == ("Ada", "Hello & welcome to the meeting.")
    assert (ada.place, ada.happened) == ("0:00:01-0:00:06", at(10).replace(second=1))
    assert (bob.speaker, bob.text, bob.place) == ("Bob", "Thanks.", "0:00:20-0:00:26")


def test_cues_of_one_long_speech_are_parted_at_the_end_of_a_sentence() -> None:
    words = "These are ten words of a speech that goes on"
    cues = [
        f"00:00:{n:02}.000 --> 00:00:{n:02}.900\n{words}{'.' if n % 4 == 3 else ''}\n"
        for n in range(30)
    ]
    turns = read_subtitles("WEBVTT\n\n" + "\n".join(cues))
    assert len(turns) == 4 and all(turn.text.endswith(".") for turn in turns[:-1])
    assert turns[0].happened is None and turns[0].speaker is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("WEBVTT\n\nNOTE nothing\n", "line 1: there is no cue"),
        ("WEBVTT\n\n00:01 --> soon\nhi\n", "line 3: .* is not a cue's times"),
    ],
)
def test_wrong_subtitles_name_their_line(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_subtitles(text)
