from __future__ import annotations

import json

import pytest

from sftdemo.data import json_records
from sftdemo.data.json_records import json_array, json_lines, lines_of, parse_json
from sftdemo.data.records import MAX_BYTES, Refused

A, B = {"instruction": "a", "output": "b"}, {"prompt": "c", "completion": "d"}
CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


def told(records) -> list:
    """(row, line, record), a refused record as its sentence."""
    return [(row, line, str(record) if isinstance(record, Refused) else record) for row, line, record in records]


def array(text: str, notes: list[str] | None = None) -> list:
    return told(json_array(text, [] if notes is None else notes))


def lines(text: str) -> list:
    return told(json_lines(lines_of(text)))


class TestArray:
    def test_rows_are_counted_from_0_and_lines_from_1(self):
        assert array(f"\n[\n{json.dumps(A)},\n\n{json.dumps(B, indent=2)}\n]") == [(0, 3, A), (1, 5, B)]

    def test_in_a_single_line_no_line_is_named(self):
        assert array(json.dumps([A, B]) + "\n") == [(0, None, A), (1, None, B)]

    @pytest.mark.parametrize("text", ["[]", " [ ] "])
    def test_empty(self, text):
        notes = []
        assert array(text, notes) == []
        assert notes == []

    def test_whatever_stands_in_it_is_a_record(self):
        assert [record for _, _, record in array('[1, null, "a", [2], {}]')] == [1, None, "a", [2], {}]

    def test_a_comma_at_the_end_is_let_through(self):
        assert array(json.dumps([A])[:-1] + ",]") == [(0, None, A)]

    def test_a_slip_leaves_the_rows_after_it(self):
        rows = array(f"[{json.dumps(A)},\n{{a: 1}},\n{json.dumps(B)}]")
        assert [rows[0], rows[2]] == [(0, 1, A), (2, 3, B)]
        assert rows[1][:2] == (1, 2)
        assert rows[1][2].startswith("not valid JSON at line 2, column 2: Expecting property name")

    def test_of_a_row_over_several_lines_what_is_within_is_no_row(self):
        rows = array(json.dumps([A, CHAT, B], indent=2).replace('"messages":', '"messages"'))
        assert [rows[0], rows[2]] == [(0, 2, A), (2, 18, B)]
        assert rows[1][:2] == (1, 6)
        assert rows[1][2].startswith("not valid JSON at line 7, column 16: Expecting ':'")
        assert len(rows) == 3

    @pytest.mark.parametrize("between", [" ", "\n", "\n\n  "])
    def test_a_missing_comma_costs_the_row_before_it_alone(self, between):
        rows = array(f"[{json.dumps(A)}{between}{json.dumps(B)}]")
        assert "Expecting ',' delimiter" in rows[0][2]
        assert [record for _, _, record in rows[1:]] == [B]

    @pytest.mark.parametrize("end", ["", "\n", ",", "\n,\n"])
    def test_one_that_is_not_closed_is_told(self, end):
        notes = []
        assert [record for _, _, record in array(json.dumps([A, B])[:-1] + end, notes)] == [A, B]
        assert notes == ["the JSON array is not closed: the text ends behind 2 rows without a ]. It may be cut short."]

    @pytest.mark.parametrize("cut", ['{"a": 1', '{"a": ', '{"a"'])
    def test_one_that_is_cut_in_a_row_is_told_once(self, cut):
        notes = []
        rows = array(f"[{json.dumps(A)},\n{cut}", notes)
        assert rows[0] == (0, 1, A)
        assert rows[1][2].startswith("not valid JSON at line 2")
        assert "and the array is not closed; the text may be cut short" in rows[1][2]
        assert (len(rows), notes) == (2, [])

    def test_text_after_it(self):
        says = "stands after the closing ]. Put every row inside one array."
        assert array("[1] [2]") == [(0, None, 1), (1, None, says)]

    def test_a_text_is_read_once_whatever_stands_in_it(self, monkeypatch):
        read = []
        decode = json_records._decode
        monkeypatch.setattr(json_records, "_decode", lambda *at: (read.append(len(at[0]) - at[1]), decode(*at))[1])
        assert len(array("[x" + "\n" * 60_000)) == 1
        assert sum(read) <= 60_002
        read.clear()
        assert len(array("[" + '{"a":1} ' * 1000 + "]")) == 1000

    def test_beginnings_without_an_end_are_read_only_so_often(self, monkeypatch):
        monkeypatch.setattr(json_records, "PATIENCE", 10**6)
        text = ('{"a": [1,\n' + "1,\n" * 1000) * 100
        for rows in (array("[" + text), lines(text)):
            assert 2 < len(rows) < 50
            assert "The rows below are not read" in rows[-1][2]

    @pytest.mark.parametrize("begin", ['{"a": ', f'{{"x": {"9" * 5000}, "a": '], ids=["deep", "deep and huge"])
    def test_a_row_that_is_too_deep_costs_itself_alone(self, begin):
        deep = begin + '["]", ' * 5000 + "1" + "]" * 5000 + "}"
        rows = array(f"[{json.dumps(A)}, {deep}, {json.dumps(B)}]")
        assert rows == [(0, None, A), (1, None, "the JSON is nested too deeply; a row is a flat object."), (2, None, B)]


class TestLines:
    def test_blank_lines_count_as_lines_and_not_as_rows(self):
        assert lines(f"\n{json.dumps(A)}\r\n   \n{json.dumps(B)}\n") == [(0, 2, A), (1, 4, B)]

    @pytest.mark.parametrize("indent", [0, 1, 2, "\t"])
    @pytest.mark.parametrize("between", ["\n", "\n\n", "", " "])
    def test_objects_over_several_lines_one_after_another(self, indent, between):
        text = between.join(json.dumps(row, indent=indent) for row in (A, CHAT, B))
        rows = lines(text)
        assert [record for _, _, record in rows] == [A, CHAT, B]
        heights = [json.dumps(row, indent=indent).count("\n") + between.count("\n") for row in (A, CHAT)]
        assert [line for _, line, _ in rows] == [1, 1 + heights[0], 1 + sum(heights)]

    def test_a_slip_leaves_the_rows_after_it(self):
        rows = lines(f"{json.dumps(A)}\n{{a}}\n{json.dumps(B)}")
        assert [rows[0], rows[2]] == [(0, 1, A), (2, 3, B)]
        assert rows[1][:2] == (1, 2)
        assert rows[1][2].startswith("not valid JSON at column 2")

    @pytest.mark.parametrize("cut", ['{"a": 1', '{"a": 1,', '{"a":', "{", '{"a": [', '{"a": "b'])
    def test_a_line_that_is_cut_costs_itself_alone(self, cut):
        rows = lines(f"{json.dumps(A)}\n{cut}\n{json.dumps(B)}\n{json.dumps(B)}")
        assert [rows[0], *rows[2:]] == [(0, 1, A), (2, 3, B), (3, 4, B)]
        assert rows[1][:2] == (1, 2)
        assert rows[1][2].startswith("not valid JSON at column")

    def test_a_slip_in_an_object_over_several_lines(self):
        rows = lines("\n".join([json.dumps(CHAT, indent=2).replace('"role":', '"role"', 1), json.dumps(A, indent=2)]))
        assert rows[0][:2] == (0, 1)
        assert rows[0][2].startswith("not valid JSON at line 4, column 14: Expecting ':'")
        assert rows[1:] == [(1, 13, A)]

    def test_a_comma_behind_a_row_is_named(self):
        rows = lines(f"{json.dumps(A)},\n{json.dumps(B)}")
        assert rows == [(0, 1, "ends in a comma. Leave it out, or put all rows in one array: [ … ]."), (1, 2, B)]

    def test_something_behind_a_row(self):
        rows = lines(f"{json.dumps(A)} x\n{json.dumps(B)}")
        assert rows[0][2].startswith(f"not valid JSON at column {len(json.dumps(A)) + 2}: Extra data")
        assert rows[1] == (1, 2, B)

    def test_values_that_are_no_objects_are_records_too(self):
        assert [record for _, _, record in lines(f'{json.dumps(A)}\n5\n"a"\n[1]\n')] == [A, 5, "a", [1]]

    def test_too_deep(self):
        rows = lines(f"{json.dumps(A)}\n" + '{"a": ' + "[" * 100_000 + f"\n{json.dumps(B)}")
        assert rows[1] == (1, 2, "the JSON is nested too deeply; a row is a flat object.")
        assert rows[2] == (2, 3, B)

    def test_a_huge_integer_and_a_key_twice(self):
        rows = lines(f'{{"a": {"9" * 5000}}}\n{{"a": -{"9" * 5000}, "b": 1}}\n{{"a": 1, "a": 2}}\n{json.dumps(B)}')
        assert [record for _, _, record in rows[:3]] == [
            '"a" is a number of 5,000 digits; write a shorter one, or the digits as a string.',
            '"a" is a number of 5,000 digits; write a shorter one, or the digits as a string.',
            'has "a" twice; keep one of them.',
        ]
        assert rows[3] == (3, 4, B)

    def test_no_more_lines_are_taken_than_a_row_needs(self):
        taken = []

        def stream():
            for line in [f"{json.dumps(A)}\n"] * 100:
                taken.append(line)
                yield line

        next(json_lines(stream()))
        assert len(taken) == 1


def test_parse_json():
    assert parse_json(' {"a":\n [1]} \n') == {"a": [1]}
    for text in ("", " ", "{", "1 2", "9" * 5000, "[" * 200 + "]" * 200, '"\\ud83d"'):
        with pytest.raises(Refused):
            parse_json(text)


def test_a_long_row_is_decoded_at_once():
    row = {"instruction": "a", "output": "b" * (MAX_BYTES // 16)}
    assert lines(json.dumps(row)) == [(0, 1, row)]
