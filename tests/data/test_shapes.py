from __future__ import annotations

import json

import pytest

from sftdemo.core.config import RunConfig
from sftdemo.data.examples import Example, Message, parse_examples, to_record
from sftdemo.data.questions import questions_of
from sftdemo.data.shapes import SHAPES, shape_in

USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
TALK = (Message("user", "a"),)


def only(row: dict) -> Example:
    parsed = parse_examples(json.dumps([row]))
    assert not parsed.problems
    (example,) = (*parsed.train, *parsed.held_out)
    (again,) = (*(back := parse_examples(json.dumps([to_record(example)]))).train, *back.held_out)
    assert again == example
    assert not back.notes
    return example


def notes(row: dict) -> tuple[str, ...]:
    return parse_examples(json.dumps([row])).notes


ASKED = Example(0, "b", instruction="a")
SAME = [
    ({"question": "a", "answer": "b"}, ASKED),
    ({"question": "a", "context": "c", "answer": "b"}, Example(0, "b", instruction="a", input="c")),
    ({"query": "a", "response": "b"}, ASKED),
    ({"input": "a", "output": "b"}, ASKED),
    ({"instruction": "a", "context": "c", "response": "b"}, Example(0, "b", instruction="a", input="c")),
    ({"instruction": "a", "context": "", "response": "b"}, ASKED),
    ({"question": "a", "chosen": "b", "rejected": "c"}, ASKED),
    ({"prompt": "a", "response": "b"}, Example(0, "b", prompt="a")),
    ({"prompt": "a", "chosen": "b", "rejected": "c"}, Example(0, "b", prompt="a")),
    ({"prompt": "a", "chosen": [ANSWER], "rejected": [USER]}, Example(0, "b", messages=TALK)),
    ({"prompt": "a", "chosen": [USER, ANSWER], "rejected": [USER]}, Example(0, "b", messages=TALK)),
    ({"prompt": [USER], "chosen": [ANSWER]}, Example(0, "b", messages=TALK)),
    ({"prompt": [USER], "chosen": [USER, ANSWER]}, Example(0, "b", messages=TALK)),
    ({"chosen": [USER, ANSWER], "rejected": [USER, ANSWER]}, Example(0, "b", messages=TALK)),
    ({"chosen": "b", "rejected": "c"}, Example(0, "b", prompt="", whole=True)),
    ({"text": "b"}, Example(0, "b", prompt="", whole=True)),
]


class TestShapes:
    @pytest.mark.parametrize(("row", "example"), SAME, ids=[" ".join(row) for row, _ in SAME])
    def test_is_read_and_written_back(self, row, example):
        assert only(row) == example

    def test_the_other_answer_is_told_of(self):
        assert notes({"prompt": "a", "chosen": "b", "rejected": "c"}) == ("columns not used: 'rejected' (1 row).",)
        assert "'rejected'" in notes({"chosen": [USER, ANSWER], "rejected": [USER, ANSWER]})[0]

    def test_a_prompt_that_the_conversation_does_not_hold_is_told_of(self):
        assert notes({"prompt": "x", "chosen": [USER, ANSWER]}) == ("columns not used: 'prompt' (1 row).",)

    def test_a_held_out_question_needs_no_answer(self):
        assert only({"question": "a", "held_out": True}) == Example(0, "", instruction="a", held_out=True)


class TestWhichShape:
    """A row that could be of two shapes has the one whose columns are all there, then the first in the table."""

    @pytest.mark.parametrize(
        ("columns", "first", "answer"),
        [
            ("messages prompt completion", "messages", "messages"),
            ("prompt completion instruction output", "prompt", "completion"),
            ("prompt instruction input output", "instruction", "output"),
            ("prompt completion chosen rejected", "prompt", "completion"),
            ("instruction input output text", "instruction", "output"),
            ("instruction text", "instruction", "output"),
            ("prompt text", "prompt", "completion"),
            ("input_ids messages labels", "input_ids", "input_ids"),
            ("conversations text", "conversations", "conversations"),
            ("question chosen rejected", "question", "chosen"),
            ("instruction chosen", "instruction", "output"),
        ],
    )
    def test_by_its_columns(self, columns, first, answer):
        shape = shape_in(dict.fromkeys(columns.split(), "a"))
        assert shape is not None
        assert (shape.columns[0], shape.needed[-1]) == (first, answer)

    def test_null_is_as_good_as_missing(self):
        record = dict.fromkeys((column for shape in SHAPES for column in shape.columns), None)
        record |= {"instruction": "a", "output": "b"}
        assert only(record) == ASKED
        assert notes(record) == ()
        assert only({"text": "b", "prompt": None, "messages": None}).whole


OLDER = {
    "messages": [
        USER,
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "4"},
        ANSWER,
    ],
    "functions": [{"name": "f", "parameters": {}}],
}


class TestOpenAI:
    def test_the_first_form_of_calls_is_read_as_todays(self):
        example = only(OLDER)
        assert json.loads(example.context) == {
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]
        }
        call, result = example.messages[1:]
        assert call.fields == {"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]}
        assert (result.role, result.fields) == ("tool", {"name": "f"})

    def test_what_is_for_the_api_is_told_of(self):
        told = notes({"messages": [USER, ANSWER], "parallel_tool_calls": False, "function_call": "auto"})
        assert told == ("columns not used: 'parallel_tool_calls' (1 row), 'function_call' (1 row).",)

    def test_functions_beside_tools_are_told_of(self):
        tools = [{"type": "function", "function": {"name": "g"}}]
        assert notes(OLDER | {"tools": tools}) == ("columns not used: 'functions' (1 row).",)


class TestWhatIsAsked:
    def test_a_text_is_asked_for_by_its_first_words(self):
        data = parse_examples(json.dumps([{"text": " Once upon a\ttime there was a model."}, {"text": "Hi"}]))
        questions = questions_of(RunConfig(), data)
        assert [question.text for question in questions] == [" Once upon a\ttime there", "Hi"]
        assert [question.example.prompt for question in questions] == [question.text for question in questions]
        assert {question.source for question in questions} == {"training"}

    def test_tokens_are_asked_for_by_their_row(self):
        data = parse_examples(json.dumps([{"input_ids": [1, 2]}]))
        (question,) = questions_of(RunConfig(), data)
        assert question.text == "row 0, up to its first trained token"
