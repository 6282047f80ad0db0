from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftdemo.core.errors import ConfigError
from sftdemo.core.yaml_text import MAX_CHARACTERS, read_yaml, write_value, write_yaml

TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.text(" \n\t:#'\"|>&*-1e.\x85\u2028\ufeff\0")
LEAVES = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(LEAVES, lambda each: st.lists(each, max_size=3) | st.dictionaries(TEXT, each, max_size=3))


@given(VALUES)
def test_any_value_is_read_back(value):
    written = write_value(value)
    assert "\n" not in written
    assert read_yaml(written, "x") == value
    assert read_yaml(write_yaml({"a": value, "b": [value, value]}), "x") == {"a": value, "b": [value, value]}


def test_it_is_written_to_be_read():
    text = write_yaml({"rate": 2e-3, "word": "1e-3", "template": "Q: {x}\nA:\n", "names": ["a"]})
    assert text == "rate: 0.002\nword: '1e-3'\ntemplate: |\n  Q: {x}\n  A:\nnames:\n- a\n"


@pytest.mark.parametrize(
    ("text", "value"), [("2e-3", 0.002), ("1E5", 1e5), ("-.5e1", -5.0), ("1e", "1e"), ("'2e-3'", "2e-3")]
)
def test_numbers_as_people_write_them(text, value):
    found = read_yaml(text, "x")
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3", "f, line 3 cannot be read as YAML: 'a' stands twice."),
        ("s: {a: 1, a: 1}", "f cannot be read as YAML: 'a' stands twice."),
        ("[1", "f cannot be read as YAML: expected ',' or ']', but got '<stream end>'."),
        ("a: &x [1]\nb: *x", "f, line 2 cannot be read as YAML: aliases (*) are not read."),
        ("a: &x [*x]", "f cannot be read as YAML: aliases (*) are not read."),
        ("1: 2", "f cannot be read as YAML: the key 1 is no text."),
        ("a: 2020-01-01", 'f has 2020-01-01, which YAML reads as a date; put text in "quotes".'),
        ("a: 2020-13-01", "f cannot be read as YAML: month must be in 1..12."),
        ("[" * 50_000, "f has too many lists in each other."),
        ("a" * (MAX_CHARACTERS + 1), "f has 200,001 characters; the limit is 200,000."),
    ],
    ids=lambda part: part[:12],
)
def test_refused(text, says):
    with pytest.raises(ConfigError) as error:
        read_yaml(text, "f")
    assert str(error.value) == says


def test_no_code_is_run():
    with pytest.raises(ConfigError, match="could not determine a constructor for the tag"):
        read_yaml("!!python/object/apply:os.system [true]", "f")


@given(st.text())
def test_any_text_is_read_or_refused(text):
    with suppress(ConfigError):
        read_yaml(text, "f")
