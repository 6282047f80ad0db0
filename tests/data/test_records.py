from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import texts

from sftdemo.core.errors import DataError
from sftdemo.data.examples import COLUMNS, JSON_COLUMNS
from sftdemo.data.records import Refused, kind_of, short, split_records

A, B = {"instruction": "a", "output": "b"}, {"prompt": "c", "completion": "d"}


def split(text: str) -> list:
    """(row, line, record), a refused record as its sentence."""
    records = split_records(text, COLUMNS, JSON_COLUMNS)
    return [(row, line, str(record) if isinstance(record, Refused) else record) for row, line, record in records]


class TestJsonArray:
    @pytest.mark.parametrize("indent", [None, 2])
    def test_rows_are_counted_from_0_and_have_no_line(self, indent):
        assert split(json.dumps([A, B], indent=indent)) == [(0, None, A), (1, None, B)]

    @pytest.mark.parametrize("text", ["[]", " [ ] ", "["])
    def test_empty(self, text):
        assert split(text) == []

    def test_whatever_stands_in_it_is_a_record(self):
        assert [record for _, _, record in split('[1, null, "a", [2], {}]')] == [1, None, "a", [2], {}]

    def test_a_comma_at_the_end_is_let_through(self):
        assert split(json.dumps([A])[:-1] + ",]") == [(0, None, A)]

    def test_a_slip_leaves_the_rows_after_it(self):
        rows = split(f"[{json.dumps(A)},\n{{a: 1}},\n{json.dumps(B)}]")
        assert [rows[0], rows[2]] == [(0, None, A), (2, None, B)]
        assert rows[1][2].startswith("not valid JSON at line 2, column 2: Expecting property name")

    def test_a_slip_in_the_last_row(self):
        rows = split(f'[{json.dumps(A)},\n{{"a": 1')
        assert rows[0] == (0, None, A)
        assert rows[1][2].startswith("not valid JSON at line 2")
        assert len(rows) == 2

    def test_text_after_it(self):
        assert split("[1] [2]") == [
            (0, None, 1),
            (1, None, "stands after the closing ]. Put every row inside one array."),
        ]


class TestJsonLines:
    def test_blank_lines_count_as_lines_and_not_as_rows(self):
        text = f"\n{json.dumps(A)}\r\n   \n{json.dumps(B)}\n"
        assert split(text) == [(0, 2, A), (1, 4, B)]

    def test_one_object_over_several_lines(self):
        assert split(json.dumps(A, indent=2)) == [(0, 1, A)]

    def test_a_slip_leaves_the_rows_after_it(self):
        rows = split(f"{json.dumps(A)}\n{{a}}\n{json.dumps(B)}")
        assert [rows[0], rows[2]] == [(0, 1, A), (2, 3, B)]
        assert rows[1][:2] == (1, 2)
        assert rows[1][2].startswith("not valid JSON at column 2")

    def test_too_deep(self):
        text = f"{json.dumps(A)}\n" + '{"a": ' + "[" * 100_000
        assert split(text)[1] == (1, 2, "the JSON is nested too deeply; a row is a flat object.")


class TestCsv:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    def test_delimiters(self, delimiter):
        assert split(f"prompt{delimiter}completion\n\nc{delimiter}d\n") == [(0, None, B)]

    def test_cells_left_out_are_left_out(self):
        assert split("prompt,completion\nc\n") == [(0, None, {"prompt": "c"})]

    def test_too_many_cells(self):
        rows = split("prompt,completion\nc,d,e,f\nc,d\n")
        assert rows == [(0, None, 'has 4 cells, the header 2. Quote cells with ".'), (1, None, B)]

    def test_an_open_quote_ends_it(self):
        rows = split('prompt,completion\nc,d\nc,"d\nc,d\n')
        assert rows[0] == (0, None, B)
        assert rows[1][2].startswith("not valid CSV near line")
        assert len(rows) == 2

    @pytest.mark.parametrize("column", ["messages", "mask"])
    def test_what_is_nested_is_json(self, column):
        rows = split(f'prompt,{column}\na,"[{{""x"": 1}}]"\na,\na,nonsense\n')
        assert rows[:2] == [(0, None, {"prompt": "a", column: [{"x": 1}]}), (1, None, {"prompt": "a", column: ""})]
        assert rows[2][2].startswith("not valid JSON at line 1, column 1")

    def test_a_header_without_known_columns(self):
        with pytest.raises(
            DataError, match=r'its first line is "subject,reply"\. Begin with \[ or \{, or with a header'
        ):
            split("subject,reply\na,b")


@given(st.lists(st.fixed_dictionaries({"prompt": texts(), "completion": texts()}), min_size=1, max_size=4))
def test_the_same_rows_three_ways(rows):
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    table = io.StringIO()
    writer = csv.DictWriter(table, ["prompt", "completion"], quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    for text in (json.dumps(rows), json.dumps(rows, ensure_ascii=False, indent=1), lines, table.getvalue()):
        assert [record for _, _, record in split(text)] == rows
    assert [(row, line) for row, line, _ in split(lines)] == [(i, i + 1) for i in range(len(rows))]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "null"),
        (True, "the true"),
        (1.5, "the number 1.5"),
        ("a", 'the text "a"'),
        ([], "an empty list"),
        ([1], "a list"),
        ({}, "an object"),
    ],
)
def test_kind_of(value, kind):
    assert kind_of(value) == kind


def test_short():
    assert short("a" * 60) == '"' + "a" * 60 + '"'
    assert short("a" * 61) == '"' + "a" * 59 + '…"'
    assert short("é\n") == '"é\\n"'
    assert short([1]) == '"[1]"'
