from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import texts

from sftdemo.core.errors import DataError
from sftdemo.data import examples
from sftdemo.data.examples import (
    Example,
    Message,
    StreamedExamples,
    open_examples,
    parse_examples,
    read_examples,
    to_record,
)
from sftdemo.data.tokens import Tokens

ROW = {"instruction": "Say hello", "output": "Hello"}
USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
EXAMPLE = Example(0, "Hello", instruction="Say hello")


def parse(*rows, lines: bool = False):
    return parse_examples("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows))


def only_problem(parsed) -> str:
    (problem,) = parsed.problems
    return str(problem)


class TestFormats:
    def test_json_array(self):
        assert parse(ROW).train == (EXAMPLE,)

    def test_json_lines_know_their_line(self):
        parsed = parse_examples(f"{json.dumps(ROW)}\n\n  {json.dumps(ROW)}\r\n")
        assert [(example.row, example.line) for example in parsed.train] == [(0, 1), (1, 3)]

    def test_one_object_over_several_lines_is_one_row(self):
        assert len(parse_examples(json.dumps(ROW, indent=2)).train) == 1

    def test_line_separators_inside_a_string_do_not_end_a_line(self):
        row = json.dumps({"prompt": "a\u2028b\x85c", "completion": "d"}, ensure_ascii=False)
        parsed = parse_examples(f"{row}\n{row}")
        assert [example.prompt for example in parsed.train] == ["a\u2028b\x85c"] * 2

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    def test_csv(self, delimiter):
        text = f'instruction{delimiter}output\nSay hello{delimiter}"Hello{delimiter}\nyou ""there"""\n'
        assert parse_examples(text).train == (Example(0, f'Hello{delimiter}\nyou "there"', instruction="Say hello"),)

    def test_csv_keeps_carriage_returns_inside_quotes(self):
        assert parse_examples('prompt,completion\r\na,"b\r\nc"\r\n').train[0].completion == "b\r\nc"

    def test_csv_with_messages_as_json(self):
        cell = json.dumps([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]).replace('"', '""')
        assert parse_examples(f'messages\n"{cell}"\n').train[0].completion == "b"

    @pytest.mark.parametrize("text", [json.dumps([ROW]), json.dumps(ROW), "instruction,output\nSay hello,Hello\n"])
    def test_byte_order_mark(self, text, tmp_path):
        file = tmp_path / "examples"
        file.write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert [example.completion for example in read_examples(file).train] == ["Hello"]
        assert [example.completion for example in parse_examples("\ufeff" + text).train] == ["Hello"]

    def test_unicode_survives(self):
        text = "🏴\u200d☠️ e\u0301 שלום \0"
        assert parse({"prompt": text, "completion": text}).train == (Example(0, text, prompt=text),)


class TestShapes:
    def test_input(self):
        parsed = parse(ROW | {"input": "in French"}, ROW | {"input": ""}, ROW | {"input": None})
        assert [example.input for example in parsed.train] == ["in French", "", ""]

    def test_prompt_and_completion_are_verbatim(self):
        assert parse({"prompt": " a ", "completion": " b\n"}).train == (Example(0, " b\n", prompt=" a "),)

    def test_output_is_a_string_or_a_list(self):
        parsed = parse(ROW | {"output": ["a"]}, ROW | {"output": ["a", "b"]}, ROW | {"output": "ab"})
        assert [example.completion for example in parsed.train] == ["a", "a\n\nb", "ab"]

    def test_the_last_assistant_turn_is_the_completion(self):
        turns = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")]
        parsed = parse({"messages": [{"role": role, "content": content} for role, content in turns]})
        messages = tuple(Message(*turn) for turn in turns)
        assert parsed.train == (Example(0, "d", messages=messages[:4], answer=messages[4], left_out=1),)

    def test_trl_conversational_prompt_and_completion(self):
        parsed = parse(
            {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}
        )
        assert parsed.train == (Example(0, "b", messages=(Message("user", "a"),)),)

    def test_turns_after_the_last_answer_are_counted_in_trls_form_as_well(self):
        parsed = parse(
            {
                "prompt": [{"role": "user", "content": "a"}],
                "completion": [{"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
            }
        )
        assert parsed.train[0].left_out == 1

    def test_the_first_shape_of_the_table_counts(self):
        parsed = parse(ROW | {"prompt": "a", "completion": "b"})
        assert parsed.train == (Example(0, "b", prompt="a"),)
        assert parsed.notes == ("columns not used: 'instruction' (1 row), 'output' (1 row).",)

    def test_shapes_mix(self):
        parsed = parse(ROW, {"prompt": "a", "completion": "b"})
        assert [example.prompt for example in parsed.train] == [None, "a"]

    def test_unused_columns_are_named(self):
        parsed = parse(ROW | {"source": "x"}, ROW | {"source": "y"}, ROW)
        assert parsed.notes == ("columns not used: 'source' (2 rows).",)

    def test_of_many_unused_columns_the_first_are_named(self):
        (note,) = parse(ROW | {f"c{number}": "x" for number in range(1022)}).notes
        assert note.startswith("columns not used: 'c0' (1 row), 'c1' (1 row), ")
        assert note.endswith(", 'c19' (1 row) and 1,002 more.")


class TestHeldOut:
    @pytest.mark.parametrize("value", [True, "true", " TRUE ", "1"])
    def test_is_set_apart(self, value):
        parsed = parse(ROW, ROW | {"held_out": value})
        assert parsed.train == (EXAMPLE,)
        assert parsed.held_out == (Example(1, "Hello", instruction="Say hello", held_out=True),)

    @pytest.mark.parametrize("value", [False, None, "false", "0", ""])
    def test_is_not(self, value):
        assert len(parse(ROW | {"held_out": value}).train) == 1

    def test_csv(self):
        parsed = parse_examples("instruction,output,held_out\na,b,false\nc,,true\n")
        assert [example.instruction for example in parsed.held_out] == ["c"]
        assert [example.instruction for example in parsed.train] == ["a"]

    def test_needs_no_answer(self):
        question = [{"role": "user", "content": "a"}]
        parsed = parse(
            {"instruction": "a", "held_out": True},
            {"prompt": "a", "held_out": True},
            {"messages": question, "held_out": True},
        )
        assert [example.completion for example in parsed.held_out] == ["", "", ""]

    def test_other_values_are_refused(self):
        assert '"held_out" is "maybe"; write true or false.' in only_problem(parse(ROW | {"held_out": "maybe"}))


REFUSED = [
    (5, "is the number 5, not an object"),
    (None, "is null, not an object"),
    ([], "is an empty list, not an object"),
    ("text", 'is the text "text", not an object'),
    ({}, "has no column; expected"),
    ({"subject": "a"}, 'has "subject"; expected "instruction" and "output"'),
    ({"question": "a"}, 'has no "answer"; write the answer to learn'),
    ({"instruction": "a"}, 'has no "output"; write the answer to learn'),
    ({"instruction": "a", "output": None}, 'has no "output"'),
    ({"instruction": 3, "output": "b"}, '"instruction" is the number 3; write a string'),
    ({"instruction": True, "output": "b"}, '"instruction" is the true; write a string'),
    ({"instruction": "a", "output": {"x": 1}}, '"output" is an object; write a string'),
    ({"instruction": "a", "output": []}, '"output" is an empty list; write at least one string'),
    ({"instruction": "a", "output": ["b", 7]}, '"output"[1] is the number 7; write a string'),
    ({"instruction": "a", "input": 1, "output": "b"}, '"input" is the number 1; write a string'),
    ({"prompt": "a", "completion": "half \ud83d"}, "has half of a character at position 5 (\\ud83d); write"),
    ({"prompt": "a", "completion": ["half \ud83d"]}, "has half of a character"),
    ({"messages": []}, '"messages" is an empty list; write a list'),
    ({"messages": "hello"}, '"messages" is the text "hello"; write a list'),
    ({"messages": [{"role": "user"}]}, '"messages"[0] has no text; write'),
    ({"messages": [{"role": "user", "content": None}]}, '"messages"[0] has no text; write'),
    ({"messages": [{"role": 5, "content": "a"}]}, 'has the role "5"; use system, user, assistant or tool'),
    ({"messages": ["hello"]}, '"messages"[0] is the text "hello"; write'),
    ({"messages": [USER, ANSWER | {"weight": 0.5}]}, '"messages"[1] has "weight" "0.5"; write 1 or 0.'),
    ({"messages": [USER, ANSWER | {"train": "no"}]}, '"messages"[1] has "train" "no"; write true or false.'),
    ({"messages": [USER, ANSWER | {"loss": 1}]}, '"messages"[1] has "loss" "1"; write true or false.'),
    ({"messages": [USER, ANSWER | {"loss": True, "weight": 0}]}, "by one of weight, loss and not by another"),
    ({"messages": [USER | {"weight": 1}, ANSWER]}, "only assistant turns are trained, so leave it out"),
    ({"messages": [USER | {"content": [{"type": "image_url"}]}, ANSWER]}, 'a content part of the type "image_url"'),
    ({"messages": [USER | {"content": 5}, ANSWER]}, '"messages"[0] has content that is the number 5'),
    ({"messages": [USER, ANSWER], "tools": "[{"}, '"tools" is a string that is not JSON; write a list of objects'),
    ({"messages": [USER, ANSWER], "tools": [1]}, '"tools" is a list; write a list of objects.'),
    ({"messages": [USER, ANSWER], "chat_template_kwargs": []}, '"chat_template_kwargs" is an empty list; write an'),
    ({"messages": [USER, ANSWER], "chat_template_kwargs": {"tokenize": 1}}, "names 'tokenize', which is set in"),
    ({"prompt": [USER], "completion": []}, '"completion" is an empty list, so there is nothing to learn'),
    ({"prompt": [USER, ANSWER], "completion": [USER]}, '"completion" has no turn with "role": "assistant"'),
    ({"prompt": "plain", "completion": [ANSWER]}, '"completion"[0] is an object; write a string.'),
    ({"messages": [USER]}, "there is nothing to learn; add the answer"),
    ({"messages": [ANSWER]}, "put the user's turn before it"),
    (
        {"prompt": [{"role": "user", "content": "a"}], "completion": "b"},
        '"completion" is the text "b"; write both as lists',
    ),
]


class TestRefusedRows:
    @pytest.mark.parametrize(("row", "says"), REFUSED, ids=[says[:40] for _, says in REFUSED])
    def test_names_the_row_the_value_and_the_remedy(self, row, says):
        parsed = parse(ROW, row, ROW)
        assert [example.row for example in parsed.train] == [0, 2]
        assert only_problem(parsed).startswith("row 1: ")
        assert says in only_problem(parsed)

    @pytest.mark.parametrize(("row", "says"), REFUSED, ids=[says[:40] for _, says in REFUSED])
    def test_names_the_line_in_json_lines(self, row, says):
        parsed = parse(ROW, row, ROW, lines=True)
        assert [example.row for example in parsed.train] == [0, 2]
        assert only_problem(parsed).startswith("row 1 (line 2): ")
        assert says in only_problem(parsed)

    def test_a_long_value_is_shortened(self):
        assert len(only_problem(parse("x" * 1000))) < 450

    def test_json_lines_with_a_bad_line(self):
        parsed = parse_examples(f'{json.dumps(ROW)}\n{{"instruction": "a", output: 1}}\n{json.dumps(ROW)}')
        assert [example.row for example in parsed.train] == [0, 2]
        assert only_problem(parsed).startswith("row 1 (line 2): not valid JSON at column 22")

    def test_json_array_with_a_bad_row_keeps_the_rows_after_it(self):
        good = json.dumps(ROW)
        parsed = parse_examples(f'[\n{good},\n{{"instruction": "a" "output": "b"}},\n{good}\n]')
        assert len(parsed.train) == 2
        assert only_problem(parsed).startswith("row 1 (line 3): not valid JSON at line 3, column 21")

    def test_json_array_without_a_comma(self):
        good = json.dumps(ROW)
        parsed = parse_examples(f"[{good}\n{good}]")
        assert parsed.problems
        assert "Expecting ',' delimiter" in str(parsed.problems[0])

    def test_json_array_cut_short_is_told(self):
        parsed = parse_examples(json.dumps([ROW, ROW])[:-15])
        assert len(parsed.train) == 1
        assert parsed.problems

    def test_text_after_the_array(self):
        parsed = parse_examples(json.dumps([ROW]) + json.dumps([ROW]))
        assert len(parsed.train) == 1
        assert "after the closing ]" in only_problem(parsed)

    @pytest.mark.parametrize("lines", [False, True])
    def test_deep_nesting(self, lines):
        deep = "[" * 100_000 + "]" * 100_000
        row = f'{{"instruction": {deep}}}'
        good = json.dumps(ROW)
        parsed = parse_examples(f"{good}\n{row}\n{good}" if lines else f"[\n{good},\n{row},\n{good}\n]")
        assert len(parsed.train) == 2
        assert "nested too deeply" in only_problem(parsed)

    def test_csv_with_too_many_cells(self):
        parsed = parse_examples("instruction,output\na,b,c\nd,e\n")
        assert [example.completion for example in parsed.train] == ["e"]
        assert 'row 0 (line 2): has 3 cells, the header 2. Quote cells with ".' in only_problem(parsed)

    def test_csv_with_a_missing_cell(self):
        parsed = parse_examples("instruction,output\na\nd,e\n")
        assert [example.row for example in parsed.train] == [1]
        assert 'has no "output"' in only_problem(parsed)

    def test_csv_with_an_open_quote(self):
        parsed = parse_examples('instruction,output\na,b\nc,"d\n')
        assert [example.completion for example in parsed.train] == ["b"]
        assert "not valid CSV near line" in only_problem(parsed)

    def test_every_row_is_accounted_for(self):
        rows = [ROW, *(row for row, _ in REFUSED), ROW | {"held_out": True}]
        parsed = parse(*rows)
        seen = [item.row for item in (*parsed.train, *parsed.held_out, *parsed.problems)]
        assert sorted(seen) == list(range(len(rows)))


class TestSources:
    @pytest.mark.parametrize("text", ["", " \n\t", "\ufeff"])
    def test_nothing(self, text):
        with pytest.raises(DataError, match="no examples yet"):
            parse_examples(text)

    def test_neither_json_nor_csv(self):
        with pytest.raises(DataError, match=r'first line is "hello there".*Begin with \['):
            parse_examples("hello there\nyou")

    def test_a_large_file_is_refused_before_it_is_read(self, tmp_path, monkeypatch):
        file = tmp_path / "large.json"
        file.write_text(json.dumps([ROW] * 10))
        monkeypatch.setattr(examples, "MAX_BYTES", 100)
        monkeypatch.setattr("pathlib.Path.open", lambda *_, **__: pytest.fail("it was opened"))
        with pytest.raises(DataError, match=r"the limit is 100\. Split the file"):
            read_examples(file)

    def test_a_large_text_is_refused(self, monkeypatch):
        monkeypatch.setattr(examples, "MAX_BYTES", 100)
        with pytest.raises(DataError, match="the limit is 100"):
            parse(*[ROW] * 10)

    def test_a_row_of_too_many_characters_is_refused_alone(self, monkeypatch):
        monkeypatch.setattr(examples, "MAX_CHARACTERS", 40)
        long = [
            {"instruction": "a" * 20, "input": "b" * 10, "output": "c" * 11},
            {"messages": [{"role": "user", "content": "a" * 20}, {"role": "assistant", "content": "b" * 21}]},
            {"prompt": "a", "completion": "b" * 40, "held_out": True},
            {"input_ids": [1] * 11},
        ]
        data = parse(ROW, *long, ROW)
        assert [example.row for example in data.train] == [0, 5]
        assert [problem.row for problem in data.problems] == [1, 2, 3, 4]
        assert "has 41 characters; the limit is 40. Split it into rows." in data.problems[0].message

    def test_roles_count_and_are_short(self, monkeypatch):
        monkeypatch.setattr(examples, "MAX_CHARACTERS", 40)
        answer = {"role": "assistant", "content": "b"}
        named, long = ([{"role": "r" * count, "content": "a"}, answer] for count in (30, 65))
        data = parse(ROW, {"messages": named}, {"messages": long})
        assert [problem.message for problem in data.problems] == [
            "has 41 characters; the limit is 40. Split it into rows.",
            '"messages"[0] has a role of 65 characters; the limit is 64. Use system, user, assistant or tool.',
        ]

    def test_invalid_utf8_names_the_byte_and_the_line(self, tmp_path):
        file = tmp_path / "latin.csv"
        file.write_bytes("instruction,output\na,b\nc,café\n".encode("latin-1"))
        with pytest.raises(DataError, match=r"latin\.csv is not UTF-8: byte 0xe9 in line 3\. Save the file as UTF-8"):
            read_examples(file)

    @pytest.mark.parametrize("name", ["missing.json", "."])
    def test_unreadable(self, name, tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_examples(tmp_path / name)


@st.composite
def messages(draw, role: str) -> Message:
    """A message with a text, parts, or only other keys."""
    content = draw(texts() | st.lists(texts(), min_size=1, max_size=2).map(tuple) | st.none())
    extra = {"reasoning_content": draw(texts())} if content is None or draw(st.booleans()) else {}
    trained = role != "assistant" or draw(st.booleans())
    return Message(role, content, json.dumps(extra, ensure_ascii=False) if extra else "", trained)


@st.composite
def tokens(draw) -> Tokens:
    """Tokens with labels, with a mask or with neither, padded, packed or both."""
    kept = draw(st.integers(1, 6))
    padding = draw(st.integers(0, 2))
    ids = draw(st.lists(st.integers(0, 99), min_size=kept + padding, max_size=kept + padding))
    bits = draw(st.lists(st.integers(0, 1), min_size=len(ids), max_size=len(ids)))
    labels, mask = draw(st.sampled_from([((), ()), ((), tuple(bits)), (tuple(-100 if bit else 5 for bit in bits), ())]))
    attention = (1,) * kept + (0,) * padding if padding else ()
    first = draw(st.integers(0, kept - 1))
    return Tokens(tuple(ids), labels, mask, attention, (first, kept - first) if first else ())


@st.composite
def rows(draw) -> Example:
    """An example of any shape, with unusual text in it."""
    held_out, completion, row = draw(st.booleans()), draw(texts()), 0
    shape = draw(st.sampled_from(["instruction", "prompt", "messages", "text", "tokens"]))
    if shape == "text":
        return Example(row, completion, prompt="", whole=True, held_out=held_out)
    if shape == "tokens":
        return Example(row, tokens=draw(tokens()), held_out=held_out)
    if shape == "instruction":
        return Example(row, completion, instruction=draw(texts()), input=draw(texts() | st.just("")), held_out=held_out)
    if shape == "prompt":
        return Example(row, completion, prompt=draw(texts()), held_out=held_out)
    turns = [draw(messages("user"))]
    if draw(st.booleans()):
        turns = [draw(messages("system")), *turns, draw(messages("assistant")), Message("tool", "1")]
    answer = None if held_out and draw(st.booleans()) else draw(messages("assistant"))
    context = draw(st.sampled_from(["", '{"tools": [{"name": "é"}], "chat_template_kwargs": {"a": null}}']))
    return Example(row, messages=tuple(turns), answer=answer, context=context, held_out=held_out)


@given(st.lists(rows(), min_size=1, max_size=4), st.booleans())
def test_what_is_exported_is_read_back(written, lines):
    written = [replace(example, row=row, line=row + 1 if lines else None) for row, example in enumerate(written)]
    parsed = parse(*map(to_record, written), lines=lines)
    assert sorted((*parsed.train, *parsed.held_out), key=lambda example: example.row) == written
    assert (parsed.problems, parsed.notes) == ((), ())


class TestRows:
    """A small file may hold millions of rows."""

    def test_more_rows_than_may_be_held_are_refused(self, tmp_path):
        text = "prompt,completion\n" + "a,b\n" * 3
        assert len(parse_examples(text, most=3).train) == 3
        with pytest.raises(DataError, match=r"^the text has more than 2 rows, the limit\. Split it, or take fewer"):
            parse_examples(text, most=2)
        path = tmp_path / "null.parquet"
        pq.write_table(pa.table({"text": pa.nulls(5_000_000, pa.string())}), path)
        with pytest.raises(DataError, match=r"null\.parquet has more than 1,000 rows, the limit\."):
            read_examples(path, most=1_000)
        assert path.stat().st_size < 10_000

    def test_lines_beyond_it_stay_on_the_disk(self, tmp_path, monkeypatch):
        path = tmp_path / "rows.jsonl"
        path.write_text('{"prompt": "a", "completion": "b"}\n' * 4)
        monkeypatch.setattr(examples.read_examples, "__defaults__", (None, None, 3))
        assert isinstance(open_examples(path).train, StreamedExamples)
