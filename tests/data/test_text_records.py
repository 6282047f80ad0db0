from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import texts

from sftdemo.core.errors import DataError
from sftdemo.data import text_records
from sftdemo.data.examples import COLUMNS, JSON_COLUMNS
from sftdemo.data.records import Refused
from sftdemo.data.text_records import split_records

A, B = {"instruction": "a", "output": "b"}, {"prompt": "c", "completion": "d"}
HEAD = "prompt,completion\n"


def split(text: str, notes: list[str] | None = None) -> list:
    """(row, line, record), a refused record as its sentence."""
    records = split_records(text, COLUMNS, JSON_COLUMNS, notes)
    return [(row, line, str(record) if isinstance(record, Refused) else record) for row, line, record in records]


class TestCsv:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    def test_delimiters(self, delimiter):
        assert split(f"prompt{delimiter}completion\n\nc{delimiter}d\n") == [(0, 3, B)]

    def test_lines_are_those_of_the_text(self):
        rows = split(f'\n\n{HEAD}c,"d\n\ne"\n\nc,d\r\nc,d,e\n')
        assert [(row, line) for row, line, _ in rows] == [(0, 4), (1, 8), (2, 9)]

    def test_cells_left_out_are_left_out(self):
        assert split("prompt,completion\nc\n") == [(0, 2, {"prompt": "c"})]

    def test_too_many_cells(self):
        rows = split(f"{HEAD}c,d,e,f\nc,d\n")
        assert rows == [(0, 2, 'has 4 cells, the header 2. Quote cells with ".'), (1, 3, B)]

    @pytest.mark.parametrize("slip", ['"5" tall,d', 'c,"5" tall', 'c,"d', '"c,d', 'c,"d""', 'c,"d,"e","f"'])
    def test_a_quoting_slip_costs_its_own_row_alone(self, slip):
        rows = split(f"{HEAD}c,d\n{slip}\nc,d\nc,d\n")
        assert [rows[0], *rows[2:]] == [(0, 2, B), (2, 4, B), (3, 5, B)]
        assert rows[1][:2] == (1, 3)
        assert rows[1][2].startswith(("not valid CSV near line 3: ", "has "))

    def test_quotes_within_a_cell_that_does_not_begin_with_one_are_text(self):
        assert split(f'{HEAD}c,say "hi" there\n') == [(0, 2, {"prompt": "c", "completion": 'say "hi" there'})]

    def test_quotes_that_are_never_closed_are_read_in_vain_only_so_often(self, monkeypatch):
        monkeypatch.setattr(text_records, "PATIENCE", 10_000)
        rows = split(HEAD + 'z","""\n' * 500)
        assert 2 < len(rows) < 20
        assert rows[-1][2].endswith("The rows below are not read, because too many quotes before them are not closed.")

    @pytest.mark.parametrize("column", ["messages", "mask"])
    def test_what_is_nested_is_json(self, column):
        rows = split(f'prompt,{column}\na,"[{{""x"": 1}}]"\na,\na,nonsense\na,1 2\n')
        assert rows[:2] == [(0, 2, {"prompt": "a", column: [{"x": 1}]}), (1, 3, {"prompt": "a", column: ""})]
        assert rows[2][2].startswith("not valid JSON at line 1, column 1")
        assert rows[3][2].startswith("not valid JSON at line 1, column 3: Extra data")

    @pytest.mark.parametrize("cell", ["9" * 5000, "[" * 200 + "]" * 200, '"\\ud83d"', '{"a":1,"a":2}'])
    def test_what_is_nested_may_break_nothing(self, cell):
        quoted = cell.replace('"', '""')
        rows = split(f'prompt,mask\na,"{quoted}"\na,\n')
        assert isinstance(rows[0][2], str)
        assert rows[1] == (1, 3, {"prompt": "a", "mask": ""})

    def test_a_header_without_known_columns(self):
        with pytest.raises(DataError, match=r'its first line is "colour,size"\. Begin with \[ or \{, or with a header'):
            split("colour,size\na,b")

    @pytest.mark.parametrize("header", ["prompt,completion,completion", "prompt,completion, completion"])
    def test_a_column_twice_is_refused(self, header):
        with pytest.raises(DataError, match='the header has the column "completion" twice; rename or remove one'):
            split(f"{header}\na,b,c\n")

    def test_columns_without_a_name_may_be_several(self):
        assert split("prompt,completion,,\nc,d,,\n")[0][2] == B | {"": ""}

    def test_a_header_that_is_no_csv(self):
        with pytest.raises(DataError, match="the header is not valid CSV"):
            split('"prompt" x,completion\na,b\n')

    def test_spaces_around_names_are_told(self):
        notes = []
        assert split("prompt, completion ,x\nc,d\n", notes) == [(0, 2, B)]
        assert notes == ['column read without the spaces of the name: " completion ".']

    def test_control_characters_and_long_cells(self):
        assert split(f"{HEAD}\0,{'d' * 200_000}\n")[0][2] == {"prompt": "\0", "completion": "d" * 200_000}


@given(st.lists(st.fixed_dictionaries({"prompt": texts(), "completion": texts()}), min_size=1, max_size=4))
def test_the_same_rows_three_ways(rows):
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    table = io.StringIO()
    writer = csv.DictWriter(table, ["prompt", "completion"], quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    objects = "\n".join(json.dumps(row, indent=2) for row in rows)
    for text in (json.dumps(rows), json.dumps(rows, ensure_ascii=False, indent=1), lines, objects, table.getvalue()):
        assert [record for _, _, record in split(text)] == rows
    assert [(row, line) for row, line, _ in split(lines)] == [(i, i + 1) for i in range(len(rows))]
