"""Members of objects in JSON text are put and taken out; the rest of the text stays."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzanstein.cli import _jsonc

KEYS = st.text(max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=3)
WRITTEN = st.builds(
    lambda document, indent, ascii_only: json.dumps(
        document, indent=indent, ensure_ascii=ascii_only
    ),
    DOCUMENTS,
    st.sampled_from([None, 0, 2, "\t"]),
    st.booleans(),
)


@settings(max_examples=40)
@given(WRITTEN, KEYS, KEYS, VALUES)
def test_what_is_put_is_there_and_nothing_else_changes(
    text: str, section: str, key: str, value: object
) -> None:
    wanted = json.loads(text)
    wanted.setdefault(section, {})[key] = value
    assert json.loads(_jsonc.put(text, [section], key, value)) == wanted


@settings(max_examples=40)
@given(WRITTEN, KEYS, KEYS, VALUES)
def test_what_was_put_can_be_taken_out(text: str, section: str, key: str, value: object) -> None:
    wanted = json.loads(text)
    wanted.setdefault(section, {}).pop(key, None)
    put = _jsonc.put(text, [section], key, value)
    assert json.loads(_jsonc.take_out(put, [section], key)) == wanted


COMMENTED = """{ // first
  /* { "no": 1, } */
  "a": {"x": "// no comment", "y": ["/*", ",}"],}, // behind
  "b": { // empty
  },
}
"""


@pytest.mark.parametrize("section", ["a", "b", "c"])
def test_comments_and_trailing_commas_stay(section: str) -> None:
    wanted = _jsonc.parse(COMMENTED)
    assert wanted == {"a": {"x": "// no comment", "y": ["/*", ",}"]}, "b": {}}
    text = _jsonc.put(COMMENTED, [section], "new", {"k": [1]})
    wanted.setdefault(section, {})["new"] = {"k": [1]}
    assert _jsonc.parse(text) == wanted
    for comment in ("// first", '/* { "no": 1, } */', "// behind", "// empty"):
        assert comment in text
    del wanted[section]["new"]
    assert _jsonc.parse(_jsonc.take_out(text, [section], "new")) == wanted


def test_of_members_of_one_name_the_last_counts_and_all_are_taken_out() -> None:
    text = '{"s": {"a": 1, "b": 2, "a": 3}}'
    assert _jsonc.put(text, ["s"], "a", 4) == '{"s": {"a": 1, "b": 2, "a": 4}}'
    assert _jsonc.parse(_jsonc.take_out(text, ["s"], "a")) == {"s": {"b": 2}}


@pytest.mark.parametrize("text", ["", "{", '{"a" 1}', "{/* }", "{'a': 1}", '{"a": 1,, }', "{,}x"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        _jsonc.parse(text)


def test_deep_nesting_is_refused_as_no_json() -> None:
    with pytest.raises((ValueError, RecursionError)):
        _jsonc.parse('{"a":' * 100_000)


@pytest.mark.parametrize("text", ["{,}", '{"a": [ , ]}', '{"a": {\n, }}', '{"a": 1,,}'])
def test_a_comma_that_follows_nothing_is_no_trailing_one(text: str) -> None:
    with pytest.raises(ValueError, match="Expecting"):
        _jsonc.parse(text)
