"""Conversations in which something once went wrong, or went by without a word."""

from __future__ import annotations

import json
from dataclasses import replace
from unittest.mock import patch

import pytest
from marked import marked_tokenizer, stops_of
from masked import made_of
from talks import TOOLS, call, says, system, user
from tiny import CHATML, byte_level

from sftdemo.data import chat
from sftdemo.data.examples import parse_examples
from sftdemo.data.templates import get_template
from sftdemo.mask.audit import Audit
from sftdemo.mask.labels import Masker, mark_by_hand

THOUGHTS = [user("a?"), says("One.", reasoning_content="x"), user("b?"), says("Two.", reasoning_content="y")]


def masker(template: str = "qwen2_5", max_length: int = 1000) -> Masker:
    return Masker(marked_tokenizer(template), get_template("instruction"), max_length, stops_of(template))


def parsed(row: dict | list):
    row = {"messages": row} if isinstance(row, list) else row
    (example,) = parse_examples(json.dumps([row])).train
    return example


def made(template: str, row: dict | list):
    row = {"messages": row} if isinstance(row, list) else row
    return made_of(marked_tokenizer(template), row, stops_of(template))


@pytest.mark.parametrize("answer", ["ok", "{'city': 'Oslo'}"])
@pytest.mark.parametrize("template", ["qwen2_5", "llama3_1", "gptoss", "glm4moe"])
def test_a_tools_answer_that_looks_like_python_changes_no_call(template, answer):
    """A template that prints arguments as Python does wants a string, but only what it prints itself counts."""
    talk = [
        user("Hi"),
        says(None, tool_calls=[call('{"city": "Oslo"}')]),
        {"role": "tool", "content": answer},
        says("x"),
    ]
    trained = made(template, {"messages": talk, "tools": TOOLS}).trained
    assert '\\"city\\"' not in trained[0][0]
    assert "Oslo" in trained[0][0]


def test_editing_a_token_leaves_the_end_of_a_turn_that_is_switched_off():
    example = parsed([user("a?"), says("One."), user("b?"), says("Two.", weight=0)])
    (row,), _ = masker().tokenize([example])
    before = [index for index, label in enumerate(row.labels) if label != -100]
    edited = mark_by_hand(row, None, before[:1], trained=False)
    (again,), _ = masker().tokenize(
        [
            parsed(
                {"messages": [m.to_record() for m in (*example.messages, example.answer)]}
                | {"mask": edited.to_record()}
            )
        ]
    )
    assert [index for index, label in enumerate(again.labels) if label != -100] == before[1:]
    assert "eos_untrained" not in again.flags


class TestMasksOnParts:
    def findings(self, *masks) -> set[str]:
        example = parsed({"messages": THOUGHTS, "mask": [mask.to_record() for mask in masks]})
        audit = Audit(8, 1000)
        list(audit.review([example], masker("qwen3")))
        return {finding.check for finding in audit.findings()}

    def made(self):
        rows, _ = masker("qwen3").tokenize([parsed(THOUGHTS)])
        assert len(rows) == 2
        return [mark_by_hand(row, None, [len(row.input_ids) - 2], trained=False) for row in rows]

    @pytest.mark.parametrize("which", [[0], [1], [0, 1]])
    def test_any_of_them_may_have_one(self, which):
        masks = self.made()
        assert "mask_not_used" not in self.findings(*[masks[index] for index in which])

    def test_one_for_another_text_is_an_error(self):
        first, second = self.made()
        assert "mask_not_used" in self.findings(first, replace(second, text=second.text + "x"))


@pytest.mark.parametrize("template", ["qwen3", "qwen3_6", "nemotron_3_nano"])
def test_arguments_that_change_the_prompt_alone_are_used(template):
    row = {"messages": [user("Name a fruit."), says("A cherry.")], "chat_template_kwargs": {"enable_thinking": False}}
    assert "text_not_shown" not in made(template, row).flags
    unknown = row | {"chat_template_kwargs": {"no_such_argument": 1}}
    (note,) = [note for each in made(template, unknown).sequences for note in each.notes if note[0] == "text_not_shown"]
    assert note == ("text_not_shown", "the row's chat_template_kwargs")


@pytest.mark.parametrize("weight", [0, 1])
def test_only_a_trained_answer_counts_as_cut(weight):
    example = parsed([user("a?"), says("One."), user("b?"), says("Two. " * 30, weight=weight)])
    (row,), _ = masker(max_length=60).tokenize([example])
    assert row.cut
    assert ("answer_cut" in row.flags) == bool(weight)


def test_a_first_turn_that_nothing_asks_for_is_told():
    found = made("qwen2_5", [says("Welcome!"), user("a?"), says("One.")])
    assert found.trained == [["One.<|im_end|>"]]
    assert "begins_with_answer" in found.flags


def test_a_dropped_text_is_told_where_the_same_words_stand_elsewhere():
    tokenizer = byte_level(
        "<|im_end|>",
        "<|im_start|>",
        chat_template=CHATML.replace("in messages %}", "in messages if m.role != 'system' %}", 1),
    )
    found = made_of(tokenizer, {"messages": [system("Hi"), user("Hi there"), says("Yes.")]})
    (sequence,) = found.sequences
    assert sequence.notes == (("text_not_shown", "content of turn 0"),)


@pytest.mark.parametrize(
    ("message", "says_so"),
    [
        ({"tool_calls": 5}, '"messages"[1] has "tool_calls" that is the number 5; write a list of objects.'),
        ({"tool_calls": True}, '"tool_calls" that is the true; write a list'),
    ],
)
def test_what_no_template_could_read_is_refused(message, says_so):
    row = {"messages": [user("Hi"), says("x") | message]}
    (problem,) = parse_examples(json.dumps([row, {"prompt": "a", "completion": "b"}])).problems
    assert says_so in problem.message


def test_arguments_that_are_no_json_reach_the_template_as_they_are():
    talk = [user("Hi"), says(None, tool_calls=[call("[" * 100_000)]), {"role": "tool", "content": "x"}, says("y")]
    assert made("qwen2_5", talk).sequences


def test_an_answer_without_a_token_can_be_drawn():
    tokenizer = byte_level("<|x|>", chat_template="{% for m in messages %}{{ m.content }}{% endfor %}")
    tokenizer.eos_token = None
    (row,), _ = Masker(tokenizer, get_template("instruction"), 100).tokenize([parsed([user("Hi"), says("")])])
    assert row.trained == 0


def test_metadata_in_every_message_costs_little():
    """Each key is found to be missing in one rendering a turn, not in one a message."""
    talk = [turn | {"id": str(i), "time": i} for i in range(20) for turn in (user(f"a{i}"), says(f"b{i}"))]
    real, calls = chat.apply_chat_template, []
    with patch.object(chat, "apply_chat_template", lambda *words: calls.append(1) or real(*words)):
        found = made("qwen2_5", talk)
    assert found.flags == {"field_not_shown", "text_not_shown"}
    assert len(calls) <= 30
