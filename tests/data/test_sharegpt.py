from __future__ import annotations

import json

import pytest

from sftdemo.data.examples import Example, Message, parse_examples, to_record

CASE = {
    "id": "a1",
    "conversations": [{"from": "human", "value": "Name a red fruit."}, {"from": "gpt", "value": "A cherry."}],
}


def only(row: dict) -> Example:
    (example,) = parse_examples(json.dumps([row])).train
    assert parse_examples(json.dumps([to_record(example)])).train == (example,)
    return example


def turns(*pairs, **more) -> dict:
    return {"conversations": [{"from": sender, "value": value} for sender, value in pairs]} | more


def refusal(row: dict) -> str:
    (problem,) = parse_examples(json.dumps([row])).problems
    return problem.message


def test_a_conversation():
    assert only(CASE) == Example(0, "A cherry.", messages=(Message("user", "Name a red fruit."),))
    assert parse_examples(json.dumps([CASE])).notes == ("columns not used: 'id' (1 row).",)


def test_in_csv_its_cells_hold_json():
    cell = json.dumps(CASE["conversations"]).replace('"', '""')
    assert parse_examples(f'conversations\n"{cell}"\n').train[0].completion == "A cherry."


@pytest.mark.parametrize(
    ("sender", "role"),
    [
        ("system", "system"),
        ("human", "user"),
        ("user", "user"),
        ("Human", "user"),
        ("observation", "tool"),
        ("tool", "tool"),
    ],
)
def test_senders(sender, role):
    assert only(turns((sender, "a"), ("gpt", "b"))).messages[0].role == role


@pytest.mark.parametrize("sender", ["gpt", "assistant", "chatgpt"])
def test_answers(sender):
    assert only(turns(("human", "a"), (sender, "b"))).completion == "b"


def test_turns_of_role_and_content_are_messages():
    row = {"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    assert only(row) == Example(0, "b", messages=(Message("user", "a"),))


ARGUMENTS = {"city": "Oslo"}


class TestCalls:
    @pytest.mark.parametrize("value", [{"name": "f", "arguments": ARGUMENTS}, [{"name": "f", "parameters": ARGUMENTS}]])
    def test_a_call_is_a_turn_with_tool_calls(self, value):
        row = turns(("human", "a"), ("function_call", json.dumps(value)), ("observation", "4 C"), ("gpt", "Cold."))
        _, call, result = only(row).messages
        assert call == Message(
            "assistant",
            None,
            json.dumps({"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": ARGUMENTS}}]}),
        )
        assert result == Message("tool", "4 C")

    @pytest.mark.parametrize("value", ["look it up", "5", '{"function": "f"}', "[" * 100_000])
    def test_what_is_no_call_is_text(self, value):
        assert only(turns(("human", "a"), ("function_call", value))).completion == value

    @pytest.mark.parametrize("wrap", [json.dumps, list])
    def test_bare_tools_are_wrapped(self, wrap):
        tool = {"name": "f", "parameters": {}}
        example = only(turns(("human", "a"), ("gpt", "b"), tools=wrap([tool])))
        assert json.loads(example.context) == {"tools": [{"type": "function", "function": tool}]}


class TestSystem:
    def test_the_column_goes_first(self):
        assert only(turns(("human", "a"), ("gpt", "b"), system="s")).messages[0] == Message("system", "s")

    def test_a_turn_goes_before_the_column_which_is_told_of(self):
        row = turns(("system", "t"), ("human", "a"), ("gpt", "b"), system="s")
        assert only(row).messages[0] == Message("system", "t")
        assert parse_examples(json.dumps([row])).notes == ("columns not used: 'system' (1 row).",)


def test_weights_are_honoured():
    row = turns(("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d"))
    row["conversations"][1]["weight"] = 0
    assert only(row).messages[1] == Message("assistant", "b", trained=False)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"conversations": "hello"}, '"conversations" is the text "hello"; write a list'),
        ({"conversations": []}, '"conversations" is an empty list; write a list'),
        ({"conversations": ["a"]}, '"conversations"[0] is the text "a"; write {"from": "human"'),
        (turns(("narrator", "a")), '"conversations"[0] is from "narrator"; write one of system, human, '),
        (turns((None, "a")), '"conversations"[0] is from "None"; write one of'),
        (turns(("human", None)), '"conversations"[0] has a "value" that is null; write a string'),
        (turns(("human", "a")), '"conversations" has no turn of the assistant, so there is nothing to learn'),
        (turns(("human", "a"), ("gpt", "b"), system=5), '"system" is the number 5; write a string'),
        (turns(("human", "a"), ("gpt", "b"), tools="[{"), '"tools" is a string that is not JSON'),
    ],
)
def test_refusals(row, says):
    assert says in refusal(row)
