"""`ryzanstein memory`: what is stored can be read, explained, corrected, moved and deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_a_memory_says_where_it_is_from_and_what_comes_next(run: Run) -> None:
    kept = run("memory", "add", "The port is 5432.", "--source", "runbook.md", "--json").json
    assert kept["tier"] == "short_term"
    shown = run("memory", "show", kept["id"], "--json").json
    assert shown["source"] == "runbook.md" and 0 < shown["strength"] <= 1
    assert shown["reasons"] and shown["next"]
    assert "runbook.md" in run("memory", "show", kept["id"]).out
    assert [one["id"] for one in run("memory", "next", "--json").json] == [kept["id"]]
    assert run("memory", "mark", kept["id"], "1", "--json").json["importance"] == 1
    assert run("memory", "next", "--json").json == []
    assert "Nothing would leave" in run("memory", "next").out


def test_a_correction_keeps_the_old_version_readable(run: Run) -> None:
    old = run("memory", "add", "The port is 5432.", "--json").json
    new = run("memory", "correct", old["id"], "The port is 6543.", "--json").json
    found = run("memory", "search", "which port", "--json").json
    assert [one["id"] for one in found] == [new["id"]]
    history = run("memory", "show", new["id"], "--json").json["history"]
    assert [one["text"] for one in history] == ["The port is 5432."]
    assert "took the place of" in run("memory", "search", "which port", "--why").out


def test_a_list_is_filtered_and_goes_on_at_its_cursor(run: Run) -> None:
    for number in range(3):
        run("memory", "add", f"Fact number {number}", "--kind", "note")
    run("memory", "add", "A working thought", "--tier", "working", "--task", "run_1")
    first = run("memory", "list", "--kind", "note", "--limit", "2", "--json").json
    rest = run("memory", "list", "--kind", "note", "--after", first["cursor"], "--json").json
    texts = [one["text"] for one in first["memories"] + rest["memories"]]
    assert texts == ["Fact number 2", "Fact number 1", "Fact number 0"]
    assert rest["cursor"] is None
    assert run("memory", "list", "--tier", "long_term", "--json").json["memories"] == []
    assert "A working thought" in run("memory", "list", "--tier", "working").out


def test_validity_and_time_are_filters(run: Run) -> None:
    text = "The build server is down."
    run("memory", "add", text, "--valid-until", "2020-01-01", "--happened", "2019-12-30")
    assert run("memory", "search", "build server", "--json").json == []
    then = run("memory", "search", "build server", "--at", "2019-12-31", "--json").json
    assert [one["text"] for one in then] == [text]
    done = run("memory", "search", "build server", "--since", "yesterdayish")
    assert done.code == 1 and "since: 'yesterdayish' is not a time" in done.err


def test_what_was_replaced_is_searched_and_listed_where_it_held(run: Run) -> None:
    old = run("memory", "add", "The office is in Berlin.", "--json").json
    at = datetime.now(UTC).isoformat()
    new = run("memory", "correct", old["id"], "The office is in Munich.", "--json").json
    found = run("memory", "search", "where is the office", "--at", at, "--json").json
    assert [one["id"] for one in found] == [old["id"]]
    assert f"replaced by {new['id']} since" in "".join(found[0]["reasons"])
    for chosen, expected in ((("--at", at), old), ((), new)):
        listed = run("memory", "list", *chosen, "--json").json["memories"]
        assert [one["id"] for one in listed] == [expected["id"]]
    done = run("memory", "list", "--at", "yesterdayish")
    assert done.code == 1 and "--at: 'yesterdayish' is not a time" in done.err


def test_conversations_and_documents_are_imported_once(run: Run, tmp_path: Path) -> None:
    chat = tmp_path / "standup.vtt"
    chat.write_text(
        "WEBVTT\n\n00:00:01.000 --> 00:00:04.000\n<v Ada>The heron nests in March.\n\n"
        "00:00:05.000 --> 00:00:08.000\n<v Bo>Then we close the path.\n",
        encoding="utf-8",
    )
    notes = tmp_path / "notes.md"
    notes.write_text("# Paths\n\n## Closing\n\nThe path is closed by the warden.\n", "utf-8")
    done = run("memory", "import", str(chat), str(notes), "--tag", "birds", "--json").json
    assert [(one["kind"], one["added"]) for one in done] == [("conversation", 2), ("document", 1)]
    again = run("memory", "import", str(chat), str(notes)).out
    assert "0 turns are added, 2 were there" in again and "0 passages are added" in again
    found = run("memory", "search", "who closes the path?", "--tier", "semantic", "--json").json
    assert "Paths > Closing" in found[0]["place"] and found[0]["tags"] == ["birds"]
    said = run("memory", "search", "when does it nest?", "--tier", "episodic", "--json").json
    assert said[0]["speaker"] == "Ada"


def test_same_facts_are_merged_and_the_merge_can_be_undone(run: Run) -> None:
    texts = ("The staging database is called heron.", "the staging database is called: heron")
    kept = [run("memory", "add", text, "--json").json["id"] for text in texts]
    dry = run("memory", "consolidate", "--dry-run", "--json").json
    assert (dry["merged"], dry["dry_run"]) == (1, True)
    assert "would be merged" in run("memory", "consolidate", "--dry-run").out
    done = run("memory", "consolidate", "--seconds", "30", "--json").json
    assert (done["merged"], done["done"]) == (1, True)
    (merged,) = run("memory", "search", "staging database", "--json").json
    links = run("memory", "show", merged["id"], "--json").json["links"]
    assert {one["id"] for one in links if one["kind"] == "merged_from"} == set(kept)
    back = run("memory", "unmerge", merged["id"], "--json").json
    assert {one["id"] for one in back} == set(kept)


def test_what_is_near_and_does_not_say_the_same_is_proposed_with_the_reason(run: Run) -> None:
    for port in (5432, 6543):
        run("memory", "add", f"The port of the staging database heron is {port}.")
    assert run("memory", "consolidate", "--json").json["merged"] == 0
    (one,) = run("memory", "proposals", "--json").json
    assert one["verdict"] != "same" and any("5432" in reason for reason in one["reasons"])
    assert one["verdict"] in run("memory", "proposals").out


def test_thresholds_are_calibrated_on_labelled_pairs(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"a": "x", "b": "y", "same": "perhaps"}\n', encoding="utf-8")
    done = run("memory", "calibrate", str(file))
    assert done.code == 1 and "Pair 1: same is" in done.err


def test_experiences_are_found_with_reasons(run: Run) -> None:
    assert run("memory", "experiences", "sort a list", "--json").json == []
    assert "No experience" in run("memory", "experiences", "sort a list").out
    assert run("memory", "breakthroughs", "--json").json == []


def test_what_is_archived_is_deleted_only_when_asked(run: Run) -> None:
    assert run("memory", "forget-archived", "--before", "2020-01-01", "--json").json == {
        "forgotten": 0
    }


@pytest.mark.parametrize("suite", ["locomo", "vectors", "imports", "merging", "scale"])
def test_a_suite_without_its_file_says_so(run: Run, suite: str) -> None:
    done = run("bench", "memory", "--suite", suite)
    assert done.code == 1 and "--data FILE" in done.err
    wrong = run("bench", "memory", "--suite", suite, "--sizes", "ten")
    assert wrong.code == 1 and "'ten' is no list of numbers" in wrong.err


def test_the_recall_of_evidence_is_measured_on_any_file_of_the_format(
    run: Run, tmp_path: Path
) -> None:
    turns = [
        {"speaker": "Ada", "dia_id": "D1:1", "text": "I moved to Lisbon in spring."},
        {"speaker": "Bo", "dia_id": "D1:2", "text": "How do you like the new place?"},
    ]
    sample = {
        "sample_id": "conv-1",
        "conversation": {
            "speaker_a": "Ada",
            "speaker_b": "Bo",
            "session_1": turns,
            "session_1_date_time": "1:56 pm on 8 May, 2023",
        },
        "qa": [
            {
                "question": "Where did Ada move?",
                "answer": "Lisbon",
                "evidence": ["D1:1"],
                "category": 4,
            }
        ],
    }
    file = tmp_path / "sample.json"
    file.write_text(json.dumps([sample]), encoding="utf-8")
    printed = run("bench", "memory", "--suite", "locomo", "--data", str(file)).out
    found = json.loads(printed.splitlines()[-1])
    assert found["turn_recall_at_10"] == found["session_recall_at_5"] == 100
    assert found["questions"] == 1


def test_a_missing_file_is_one_clear_error(run: Run, tmp_path: Path) -> None:
    for name in ("none.jsonl", "none.md", "none.vtt"):
        done = run("memory", "import", str(tmp_path / name))
        assert done.code == 1 and "cannot be read" in done.err


def test_what_was_imported_before_a_fault_is_told(run: Run, tmp_path: Path) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("# Paths\n\nThe path is closed by the warden.\n", "utf-8")
    done = run("memory", "import", str(notes), str(tmp_path / "none.md"))
    assert done.code == 1 and "1 passages are added" in done.out and "cannot be read" in done.err


def test_a_fault_of_stdin_names_stdin(run: Run) -> None:
    done = run("memory", "import", "-", stdin=b"")
    assert done.code == 1 and "stdin" in done.err and "/stdin.jsonl" not in done.err
