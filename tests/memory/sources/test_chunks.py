from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ryzanstein.memory.sources.chunks import Block, passages, size
from ryzanstein.memory.sources.markdown import front_matter, markdown_passages

WORDS = st.text("abc.?! ,\n-#|`*>1é。", max_size=3000)
SENTENCE = "The quick brown fox jumps over the lazy dog near the river bank. "


def paragraph(words: int) -> str:
    return (SENTENCE * (words // 12)).strip()


@given(WORDS)
def test_every_passage_is_a_part_of_the_lines_that_it_cites(text: str) -> None:
    lines = text.split("\n")
    for passage in markdown_passages(text):
        cited = "\n".join(lines[passage.first - 1 : passage.last])
        assert passage.text.split("\n")[-1] in cited
        assert passage.text.strip()
        assert 1 <= passage.first <= passage.last <= len(lines)


@given(st.lists(st.integers(0, 900), max_size=8))
def test_no_word_of_prose_is_lost_and_none_comes_in_another_order(sizes: list[int]) -> None:
    text = "\n\n".join(
        " ".join(f"w{n}-{at}" for at in range(count)) for n, count in enumerate(sizes)
    )
    lines = text.split("\n")
    blocks = [Block(at, at) for at, line in enumerate(lines, start=1) if line.strip()]
    found = [word for passage in passages(lines, blocks) for word in passage.text.split()]
    assert list(dict.fromkeys(found)) == text.split()


def test_paragraphs_are_packed_but_never_across_a_heading() -> None:
    text = f"# One\n\n{paragraph(36)}\n\n{paragraph(36)}\n\n## Two\n\n{paragraph(24)}\n"
    first, second = markdown_passages(text)
    assert first.headings == ("One",) and first.text.count("river") == 6
    assert second.headings == ("One", "Two") and (second.first, second.last) == (9, 9)


def test_a_long_paragraph_is_cut_between_sentences_with_one_repeated() -> None:
    sentences = [f"Sentence number {n} says something about the matter at hand." for n in range(60)]
    found = markdown_passages(" ".join(sentences))
    assert len(found) == 3 and all(size(one.text) <= 220 for one in found)
    assert all(one.text.startswith("Sentence") and one.text.endswith(".") for one in found)
    for before, after in pairwise(found):
        assert before.text.split(". ")[-1] == after.text.split(". ")[0] + "."


def test_code_and_tables_stay_whole_where_they_fit_and_a_table_keeps_its_head() -> None:
    code = "```python\n" + "x = 1  # a comment of some words\n" * 30 + "```"
    assert [one.text for one in markdown_passages(code)] == [code]
    rows = [f"| row {n} of the table | with some words in it | and more |" for n in range(60)]
    table = "\n".join(["| a | b | c |", "|---|---|---|", *rows])
    found = markdown_passages(table)
    assert len(found) == 3
    assert all(one.text.startswith("| a | b | c |\n|---|---|---|\n| row ") for one in found)
    assert found[1].text.split("\n")[2] == rows[found[1].first - 3]


def test_a_list_is_cut_between_its_items() -> None:
    items = [f"- item {n}: {paragraph(24)}" for n in range(20)]
    found = markdown_passages("\n".join(items))
    assert len(found) > 3
    assert all(one.text.startswith("- item ") for one in found)


def test_text_without_sentences_or_spaces_is_cut_all_the_same() -> None:
    assert all(size(one.text) <= 201 for one in markdown_passages("word " * 5000))
    assert all(len(one.text) <= 1600 for one in markdown_passages("x" * 50_000))
    assert all(len(one.text) <= 450 for one in markdown_passages("数据库里有很多记忆。" * 2000))


def test_a_yaml_head_names_the_document_and_lines_keep_their_numbers() -> None:
    text = "---\ntitle: 'Tea'\nauthor: Ada\n---\n\nHow to make it.\n"
    assert front_matter(text.split("\n")) == (4, "Tea")
    head, body = markdown_passages(text)
    assert "author: Ada" in head.text
    assert (body.text, body.first, body.headings) == ("How to make it.", 6, ("Tea",))


def test_headings_lose_their_markup_and_nested_lists_and_quotes_stay_together() -> None:
    text = "# A *b* `c` [d](http://x)\n\n> quoted\n> words\n\n1. one\n   - inner\n2. two\n"
    (only,) = markdown_passages(text)
    assert only.headings == ("A b c d",)
    assert only.text == "> quoted\n> words\n\n1. one\n   - inner\n2. two"
