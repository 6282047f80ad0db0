"""No value breaks it: any JSON value in any place of any shape is read, or refused in a sentence of ours."""

from __future__ import annotations

import csv
import io
import json

from hypothesis import given
from hypothesis import strategies as st

from sftdemo.core.errors import DataError
from sftdemo.data.examples import COLUMNS, parse_examples

HUGE, DEEP, NAN = "huge!", "deep!", "1e999!"  # what json.dumps cannot write, put in afterwards
ROW = {"instruction": "a", "output": "b"}
WRITTEN = {HUGE: "9" * 5000, DEEP: "[" * 5000 + "]" * 5000, NAN: "1e999"}
STRINGS = st.sampled_from(
    ["", " ", "\0", "\ud83d", "a\udc00", "😀", "[", '{"a": 1}', "[" * 5000, "9" * 5000, "a" * 300]
)
NAMES = st.sampled_from([*sorted(COLUMNS), "held_out", "mask", "role", "content", "tool_calls", "weight", "x"])
KEYS = NAMES | STRINGS | st.text(max_size=4)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | STRINGS
    | st.text(max_size=6)
    | st.sampled_from([HUGE, DEEP, NAN, int("9" * 4000), 0, 1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=6,
)


def turns():
    """Messages that are nearly right, so that what stands in them is looked at."""
    turn = st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant"]) | ANYTHING, "content": st.just("a") | ANYTHING},
        optional=dict.fromkeys(("tool_calls", "name", "weight", "train", "reasoning_content"), ANYTHING),
    )
    return st.lists(turn, min_size=1, max_size=3)


def any_rows():
    """Rows of any shape, with anything in any of their places."""
    columns = {name: st.just("a") | turns() | ANYTHING for name in sorted(COLUMNS)}
    return st.dictionaries(KEYS, ANYTHING, max_size=3) | st.fixed_dictionaries(
        {}, optional=columns | {"held_out": ANYTHING, "mask": ANYTHING, "x": ANYTHING}
    )


def text_of(rows: list, indent: int | None = None) -> str:
    """An array of these rows as JSON."""
    text = json.dumps(rows, indent=indent)
    for name, written in WRITTEN.items():
        text = text.replace(json.dumps(name), written)
    return text


def all_rows_told(text: str, count: int) -> None:
    parsed = parse_examples(text)
    told = [str(each) for each in (*parsed.problems, *parsed.notes)]
    seen = [each.row for each in (*parsed.train, *parsed.held_out, *parsed.problems)]
    assert sorted(seen) == list(range(count))
    "\n".join(told).encode()  # it can be printed


@given(st.lists(any_rows() | ANYTHING, min_size=1, max_size=3), st.sampled_from([None, 1]))
def test_json(rows, indent):
    all_rows_told(text_of([ROW, *rows, ROW], indent), len(rows) + 2)


@given(st.lists(any_rows(), min_size=1, max_size=3), st.sampled_from([None, 2]))
def test_json_lines(rows, indent):
    written = "\n".join(text_of([row], indent)[1:-1].strip() for row in [ROW, *rows, ROW])
    all_rows_told(written, len(rows) + 2)


@given(st.lists(st.lists(ANYTHING, min_size=3, max_size=3), min_size=1, max_size=3), NAMES)
def test_csv(rows, column):
    table = io.StringIO()
    writer = csv.writer(table, quoting=csv.QUOTE_ALL)
    writer.writerow(["prompt", "completion", column if column not in ("prompt", "completion") else "x"])
    for row in rows:
        writer.writerow([each if isinstance(each, str) else text_of([each])[1:-1] for each in row])
    all_rows_told(table.getvalue(), len(rows))


@given(st.text(), st.sampled_from(["[", "{", '{"a": ', "prompt,completion\n", 'prompt,completion\n"', ""]))
def test_any_text_at_all(text, begin):
    try:
        parse_examples(begin + text)
    except DataError as error:
        str(error).encode()
