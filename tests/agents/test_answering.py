from __future__ import annotations

import pytest

from ryzanstein.agents.running.answering import cut_repeats
from ryzanstein.agents.running.language import foreign

ENGLISH = "How many rows are in the table of the orders?"


@pytest.mark.parametrize(
    ("task", "answer", "expected"),
    [
        (ENGLISH, "表中有一百二十行，其中三十行是重复的。", "Chinese or Japanese"),
        (ENGLISH, "В этой таблице сто двадцать строк.", "Cyrillic"),
        (ENGLISH, "Die Tabelle hat 120 Zeilen, und das ist nicht die Zahl der Kunden.", "German"),
        (ENGLISH, "The table has 120 rows.", ""),
        (ENGLISH, "120", ""),
        (ENGLISH, "The customer is 山田太郎, as the table says of the first order.", ""),
        (ENGLISH, "```python\nfür = 'der die das und ist nicht ein eine'\n```", ""),
        ("Wie viele Zeilen hat die Tabelle der Bestellungen?", "Die Tabelle hat 120 Zeilen.", ""),
        ("表中有多少行？请告诉我准确的数字。", "表中有一百二十行。", ""),
        ("Translate 'the table has rows' to Russian.", "В этой таблице есть строки.", ""),
        ("17 * 3", "Das Ergebnis ist 51, und das ist auch die Zahl der Tage.", ""),
    ],
)
def test_an_answer_in_another_language_than_the_task_is_told(
    task: str, answer: str, expected: str
) -> None:
    assert foreign(task, answer) == expected


def test_what_is_quoted_from_a_file_is_no_foreign_answer() -> None:
    line = "В этой таблице сто двадцать строк."
    assert foreign("What is in notes.txt?", line, quoted=line) == ""


def test_what_is_said_over_and_over_is_said_once() -> None:
    text = "The sum is 4. " + "I hope this helps you today! " * 30
    cut = cut_repeats(text.strip())
    assert cut.startswith("The sum is 4. I hope this helps you today!")
    assert cut.count("I hope") == 1
    assert "times more" in cut


@pytest.mark.parametrize(
    "text",
    ["", "=" * 300, "1, 2, 3, 4", "a b a b a b", "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 3],
)
def test_what_only_looks_alike_stays(text: str) -> None:
    assert cut_repeats(text) == text
