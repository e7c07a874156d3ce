from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzanstein.memory.sources.chats import read_chats
from ryzanstein.memory.sources.turns import Conversation, drafts

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)

LOCOMO: dict[str, Any] = {
    "sample_id": "conv-1",
    "qa": [],
    "conversation": {
        "speaker_a": "Ada",
        "speaker_b": "Bob",
        "session_10_date_time": "12:00 pm on 1 May, 2024",
        "session_10": [{"speaker": "Bob", "dia_id": "D10:1", "text": "Last."}],
        "session_2_date_time": "1:56 pm on 8 May, 2023",
        "session_2": [
            {"speaker": "Ada", "dia_id": "D2:1", "text": "Look!", "blip_caption": "a red boat"}
            | {"query": "red boat", "img_url": ["x"]},
            {"speaker": "Bob", "dia_id": "D2:2", "text": " ", "blip_caption": "a dog"},
            {"speaker": "Bob", "dia_id": "D2:3", "text": ""},
        ],
        "session_3_date_time": "never",
    },
}
CHATGPT = {
    "title": "On tea",
    "id": "chat-1",
    "create_time": 1714564800.0,
    "current_node": "c",
    "mapping": {
        "root": {"id": "root", "message": None, "parent": None, "children": ["s"]},
        "s": {"parent": "root", "message": {"author": {"role": "system"}, "weight": 0}},
        "a": {"parent": "s", "message": {"author": {"role": "user"}, "create_time": 1714564800.0}
              | {"content": {"content_type": "text", "parts": ["Tea?"]}}},
        "old": {"parent": "a", "message": {"author": {"role": "assistant"}}
                | {"content": {"content_type": "text", "parts": ["No."]}}},
        "t": {"parent": "a", "message": {"author": {"role": "tool", "name": "browser"}}
              | {"content": {"content_type": "text", "parts": ["<html>"]}}},
        "c": {"parent": "t", "message": {"author": {"role": "assistant"}, "create_time": None}
              | {"content": {"content_type": "multimodal_text"}
                 | {"parts": [{"asset_pointer": "x"}, "Yes."]}}},
    },
}  # fmt: skip
CLAUDE = {
    "uuid": "u-1",
    "name": "On tea",
    "chat_messages": [
        {"uuid": "m", "sender": "human", "text": "Tea?", "created_at": "2024-05-01T12:00:00Z"},
        {"sender": "assistant", "text": "", "created_at": "2024-05-01T12:00:00.5+00:00"}
        | {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Yes."}]},
    ],
}
OPENAI = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "name": "Ada", "content": [{"type": "text", "text": "Tea?"}]},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
    {"role": "tool", "content": "tea: yes"},
    {"role": "assistant", "content": "Yes."},
]


def read(value: object) -> list[Conversation]:
    return list(read_chats(value, name="file"))


def said(conversation: Conversation) -> list[tuple[str | None, str]]:
    return [(turn.speaker, turn.text) for turn in conversation.turns]


def test_locomo_keeps_sessions_times_citations_and_captions() -> None:
    (found,) = read([LOCOMO])
    look, dog, last = list(drafts(found, source="x.json", tags=["t"]))
    assert found.id == look.conversation == "conv-1"
    assert (look.text, look.place, look.speaker, look.session) == (
        "Look!",
        "D2:1",
        "Ada",
        "session_2",
    )
    assert look.happened == datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
    assert look.context == "Ada, Monday 8 May 2023, photo of a red boat, red boat"
    assert (look.tier, look.kind, look.source, look.tags) == ("episodic", "turn", "x.json", ("t",))
    assert dog.text == "photo of a dog"
    assert (last.place, last.happened, last.turn) == ("D10:1", NOON, 2)


def test_chatgpt_gives_the_branch_that_was_the_conversation() -> None:
    (found,) = read([CHATGPT])
    assert found.id == "chat-1" and found.left_out == 1
    assert said(found) == [("user", "Tea?"), ("assistant", "Yes.")]
    assert found.turns[0].happened == NOON and found.turns[0].about == ("On tea",)


def test_claude_gives_its_messages_and_their_parts() -> None:
    (found,) = read([CLAUDE])
    assert found.id == "u-1"
    assert said(found) == [("human", "Tea?"), ("assistant", "Yes.")]
    assert found.turns[0].happened == NOON


def test_messages_of_an_api_leave_out_what_nobody_said() -> None:
    (found,) = read(OPENAI)
    assert said(found) == [("Ada", "Tea?"), ("assistant", "Yes.")]
    assert found.left_out == 3 and found.turns[1].place == "message 5"


def test_several_conversations_of_several_shapes_keep_their_ids() -> None:
    given = [LOCOMO, CHATGPT, CLAUDE, {"id": "four", "messages": OPENAI}]
    assert [one.id for one in read(given)] == ["conv-1", "chat-1", "u-1", "four"]


def test_an_id_is_made_of_the_first_turn_where_there_is_none() -> None:
    first, grown = read(OPENAI)[0].id, read([*OPENAI, {"role": "user", "content": "Ah."}])[0].id
    assert first == grown != read(OPENAI[4:])[0].id
    (odd,) = read({"id": "an id / with ümläuts and " + "x" * 99, "messages": OPENAI})
    assert len(odd.id) <= 80 and " " not in odd.id


def test_other_names_of_the_same_things_are_known() -> None:
    (found,) = read(
        [
            {"from": "human", "value": "Tea?", "timestamp": 1714564800},
            {"user": "U1", "text": "Yes.", "ts": "1714564800.000200"},
            {"author": {"name": "Eve"}, "message": "No.", "date": "12:00 pm on 1 May, 2024"},
        ]
    )
    assert said(found) == [("human", "Tea?"), ("U1", "Yes."), ("Eve", "No.")]
    assert [turn.happened and turn.happened.hour for turn in found.turns] == [12, 12, 12]


def test_a_long_turn_becomes_several_records_of_one_turn() -> None:
    answer = "\n\n".join(f"## Part {n}\n\n{'Some words of an answer. ' * 24}" for n in range(3))
    (found,) = read([{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}])
    question, *parts = list(drafts(found))
    assert question.place == "message 1" and question.turn == 0
    assert [part.place for part in parts] == [f"message 2 part {n}" for n in (1, 2, 3)]
    assert {part.turn for part in parts} == {1} and {part.speaker for part in parts} == {
        "assistant"
    }


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("text", "it holds no list of messages"),
        ({}, "it holds no list of messages"),
        ({"messages": [{"role": "user"}]}, "message 1: it has no text"),
        ([{"role": "user", "content": "x"}, 5], "message 2: it is not an object"),
        ([{"content": "x", "time": "soon"}], "message 1: 'soon' is not a time"),
        ([CLAUDE, {"messages": ["x"]}], "conversation 2: message 1: it is not an object"),
        ({"session_1": [{"speaker": "A"}]}, "session_1, turn 1: it has no text"),
        ({"session_1": [], "session_1_date_time": "soon"}, "session_1_date_time: 'soon' is not a"),
    ],
)
def test_what_is_wrong_is_named(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read(value)


NAMES = st.sampled_from(
    "messages mapping current_node parent message author role content parts text type time "
    "session_1 session_1_date_time conversation id".split()
)
LEAVES = st.none() | st.booleans() | st.integers() | st.text("user tool", max_size=6)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5)
)


@given(JSON)
def test_any_json_is_read_or_refused(value: Any) -> None:
    with suppress(ValueError):
        for conversation in read(value):
            assert all(draft.text for draft in drafts(conversation))


def test_a_tree_that_bites_its_tail_ends() -> None:
    tree = {"current_node": "a", "mapping": {"a": {"parent": "a", "message": None}}}
    assert read(tree)[0].turns == []
