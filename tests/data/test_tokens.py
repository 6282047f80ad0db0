from __future__ import annotations

import json

import pytest

from sftdemo.data.examples import parse_examples, to_record
from sftdemo.data.tokens import Tokens

IDS = [5, 6, 7, 8]


def only(**row) -> Tokens:
    (example,) = parse_examples(json.dumps([{"input_ids": IDS} | row])).train
    assert parse_examples(json.dumps([to_record(example)])).train == (example,)
    return example.tokens


class TestTrained:
    def test_labels(self):
        tokens = only(labels=[-100, -100, 7, 8])
        assert tokens == Tokens((5, 6, 7, 8), (-100, -100, 7, 8))
        assert tokens.trained == [False, False, True, True]

    @pytest.mark.parametrize("name", ["completion_mask", "assistant_masks"])
    @pytest.mark.parametrize("bits", [[0, 0, 1, 1], [False, False, True, True]])
    def test_trls_masks(self, name, bits):
        assert only(**{name: bits}).trained == [False, False, True, True]

    def test_two_masks_are_both_to_be_1_as_in_trl(self):
        assert only(completion_mask=[0, 1, 1, 1], assistant_masks=[1, 1, 0, 1]).trained == [False, True, False, True]

    def test_neither_trains_all(self):
        assert only().trained == [True] * 4

    def test_padding_is_not_trained_where_nothing_says_so(self):
        assert only(attention_mask=[1, 1, 1, 0]).trained == [True, True, True, False]

    def test_masks_beside_labels_are_told_of(self):
        row = {"input_ids": IDS, "labels": IDS, "completion_mask": [0, 0, 1, 1], "length": 4}
        notes = parse_examples(json.dumps([row])).notes
        assert notes == ("columns not used: 'completion_mask' (1 row), 'length' (1 row).",)


class TestPacked:
    def test_by_positions_and_by_lengths(self):
        assert only(position_ids=[0, 1, 0, 1]).lengths == only(seq_lengths=[2, 2]).lengths == (2, 2)
        assert only(position_ids=[0, 1, 0, 1], seq_lengths=[2, 2]).lengths == (2, 2)

    def test_one_example_is_not_packed(self):
        assert only(position_ids=[0, 1, 2, 3]) == only(seq_lengths=[4]) == only()

    @pytest.mark.parametrize("attention", [[1, 1, 1, 0], [0, 1, 1, 1]])
    def test_padding_has_no_position(self, attention):
        places = [0, 0, 1, 0] if attention[0] == 0 else [0, 1, 0, 1]
        assert only(position_ids=places, attention_mask=attention).lengths == (2, 1)

    def test_prompt_ids(self):
        assert only(labels=[-100, -100, 7, 8]).prompt_ids == (5, 6)
        assert only().prompt_ids == (5,)
        assert only(labels=[-100, -100, 7, 8], attention_mask=[0, 1, 1, 1]).prompt_ids == (6,)


def test_csv():
    (example,) = parse_examples('input_ids,labels\n"[5, 6]","[-100, 6]"\n').train
    assert example.tokens == Tokens((5, 6), (-100, 6))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"input_ids": []}, '"input_ids" is an empty list; write'),
        ({"input_ids": "hello"}, '"input_ids" is the text "hello"; write a list of whole numbers.'),
        ({"input_ids": [1, 2.5]}, '"input_ids"[1] is the number 2.5; write a whole number.'),
        ({"input_ids": [[1]]}, '"input_ids"[0] is a list; write a whole number.'),
        ({"input_ids": [True]}, '"input_ids"[0] is the true; write a whole number.'),
        ({"labels": [1]}, '"labels" has 1 numbers and "input_ids" 4; write one for each token.'),
        ({"labels": {}}, '"labels" is an object; write a list of whole numbers.'),
        ({"completion_mask": [0, 0, 2, 1]}, '"completion_mask"[2] is 2; write 0 or 1.'),
        ({"attention_mask": [0, 0, 0, 0]}, '"attention_mask" is 0 everywhere'),
        ({"position_ids": [0, 1, 3, 4]}, '"position_ids"[2] is 3; positions begin at 0'),
        ({"position_ids": [1, 2, 3, 4]}, '"position_ids"[0] is 1; positions begin at 0'),
        ({"seq_lengths": [2, 3]}, '"seq_lengths" adds up to 5, and the row has 4 tokens'),
        ({"seq_lengths": [4, 0]}, '"seq_lengths"[1] is 0; write'),
        ({"seq_lengths": [1, 3], "position_ids": [0, 1, 0, 1]}, "cut the row into different examples"),
    ],
)
def test_refusals(row, says):
    (problem,) = parse_examples(json.dumps([{"input_ids": IDS} | row])).problems
    assert says in str(problem)
