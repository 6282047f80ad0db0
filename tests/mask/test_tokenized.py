from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import texts
from tiny import MAKERS, tokenizer_named

from sftdemo.core.errors import DataError
from sftdemo.data.chat import render_prompt
from sftdemo.data.examples import Example, HandMask, parse_examples
from sftdemo.data.templates import get_template
from sftdemo.data.tokens import Tokens
from sftdemo.mask.boundary import inspect_boundary
from sftdemo.mask.encoding import encoder_for
from sftdemo.mask.labels import Masker
from sftdemo.mask.tokenized import TokenTexts
from sftdemo.mask.view import view_tokens

TALK = "<|im_start|>user\nName a fruit.<|im_end|>\n<|im_start|>assistant\n"
ANSWER = "A cherry.<|im_end|>"


def ids_of(text: str) -> list[int]:
    return tokenizer_named("chatml")(text, add_special_tokens=False)["input_ids"]


IDS, ANSWER_IDS = ids_of(TALK), ids_of(ANSWER)
ROW = {"input_ids": IDS + ANSWER_IDS, "labels": [-100] * len(IDS) + ANSWER_IDS}


def masker(name: str = "chatml", template: str = "instruction", length: int = 10_000) -> Masker:
    return Masker(tokenizer_named(name), get_template(template), length)


def shown(*rows, **settings):
    """The sequences and problems of some rows, which are the same where they are shown and where they are trained."""
    train = parse_examples(json.dumps(rows)).train
    found, problems = masker(**settings).tokenize(train)
    trained = [row for item in masker(**settings).mask(train) if isinstance(item, tuple) for row in item]
    assert [(row.input_ids, row.labels, row.flags, row.notes, row.ends, row.part) for row in trained] == [
        (row.input_ids, row.labels, row.flags, row.notes, row.ends, row.part) for row in found
    ]
    return found, list(map(str, problems))


class TestAsTheyCame:
    @pytest.mark.parametrize("template", ["instruction", "chat"])
    def test_ids_and_labels(self, template):
        ((row,), _) = shown(ROW, template=template)
        assert (list(row.input_ids), list(row.labels)) == (ROW["input_ids"], ROW["labels"])
        assert (row.flags, row.ends) == ((), (ANSWER_IDS[-1],))

    def test_what_each_token_is(self):
        ((row,), _) = shown(ROW)
        assert "".join(row.tokens) == TALK + "A cherry."
        assert row.kinds[0] == "special"
        assert row.kinds[len(IDS) - 1] == "prompt"
        assert row.kinds[len(IDS) :] == ("completion",) * (len(ANSWER_IDS) - 1) + ("eos",)
        assert view_tokens(row, tokenizer_named("chatml"))[-1].text == "<|im_end|>"

    def test_an_end_that_is_not_trained_is_no_end(self):
        labels = [*ROW["labels"][:-1], -100]
        ((row,), _) = shown(ROW | {"labels": labels})
        assert (list(row.labels), row.kinds[-1]) == (labels, "special")
        assert (row.flags, row.ends) == (("end_untrained",), ())

    def test_the_same_token_as_padding_behind_a_trained_end_is_no_fault(self):
        end = ROW["input_ids"][-1]
        ((row,), _) = shown({"input_ids": [*ROW["input_ids"], end], "labels": [*ROW["labels"], -100]})
        assert "end_untrained" not in row.flags

    def test_only_ends_are_where_the_model_stops(self):
        labels = [-100] * len(IDS) + ANSWER_IDS[:3] + [-100] * (len(ANSWER_IDS) - 3)
        ((row,), _) = shown(ROW | {"labels": labels})
        assert (row.ends, row.flags) == ((), ("end_missing",))

    def test_max_length_cuts_them_like_any_row(self):
        ((row,), _) = shown(ROW, length=len(IDS) + 3)
        assert list(row.labels) == ROW["labels"][: len(IDS) + 3]
        assert "answer_cut" in row.flags

    def test_packed_rows_are_cut_into_their_examples(self):
        count = len(ROW["labels"])
        twice = {name: numbers * 2 for name, numbers in ROW.items()}
        first, _ = shown(twice | {"position_ids": [*range(count), *range(count)]})
        second, _ = shown(twice | {"seq_lengths": [count, count]})
        assert first == second
        assert [(row.row, row.part, list(row.labels)) for row in first] == [
            (0, 0, ROW["labels"]),
            (0, 1, ROW["labels"]),
        ]

    @pytest.mark.parametrize("left", [True, False])
    def test_padding_is_dropped(self, left):
        def padded(numbers, padding):
            return [padding] * 3 + numbers if left else numbers + [padding] * 3

        row = {name: padded(numbers, -100 if name == "labels" else 0) for name, numbers in ROW.items()}
        ((found,), _) = shown(row | {"attention_mask": padded([1] * len(ROW["labels"]), 0)})
        assert (list(found.labels), found.flags) == (ROW["labels"], ("padding_left_out",))

    def test_a_label_before_which_nothing_stands_trains_nothing(self):
        ((row,), _) = shown({"input_ids": ANSWER_IDS})
        assert list(row.labels) == [-100, *ANSWER_IDS[1:]]
        assert row.flags == ("all_trained", "first_labelled")

    def test_shapes_mix(self):
        rows, _ = shown(ROW, {"instruction": "a", "output": "b"}, ROW, {"messages": [
            {"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": "A cherry."}
        ]})  # fmt: skip
        assert [row.row for row in rows] == [0, 1, 2, 3]
        assert rows[0].labels == rows[2].labels == rows[3].labels


class TestRefusals:
    def test_an_id_that_the_tokenizer_does_not_have(self):
        for index in (99_999, -1, 10**30):
            _, (problem,) = shown(ROW | {"input_ids": [index, *ROW["input_ids"][1:]]})
            assert problem.startswith(
                f'row 0: "input_ids"[0] is {index}, which is no id of the tokenizer, whose highest is'
            )

    def test_a_label_that_is_another_token(self):
        shifted = [*ROW["labels"][1:], -100]
        (row,), (problem,) = shown(ROW | {"labels": shifted}, ROW)
        at = len(IDS) - 1
        assert problem.startswith(
            f'row 0: "labels"[{at}] is {ANSWER_IDS[0]}; write -100 or the token\'s own id, here {IDS[-1]}'
        )
        assert row.row == 1

    def test_there_is_no_boundary_to_look_at(self):
        (example,) = parse_examples(json.dumps([ROW])).train
        with pytest.raises(DataError, match="row 0: it came tokenised"):
            inspect_boundary(example, masker())


def test_a_hand_made_mask_is_not_used():
    tokens = Tokens(tuple(ROW["input_ids"]), tuple(ROW["labels"]))
    example = Example(0, tokens=tokens, masks=(HandMask(TALK + "A cherry.", ((0, 40),), False),))
    ((row,), _) = masker().tokenize([example])
    assert (row.text, list(row.labels)) == (example.masks[0].text, ROW["labels"])
    assert "mask_on_tokens" in row.flags
    assert not {"made_by_hand", "mask_not_used"} & set(row.flags)


def test_the_prompt_is_what_stands_before_the_first_trained_token():
    (example,) = parse_examples(json.dumps([ROW])).train
    prompt = render_prompt(example, get_template("instruction"), tokenizer_named("chatml"))
    assert prompt.text == TALK
    assert encoder_for(tokenizer_named("chatml")).encode_prompts([prompt])[0].ids == IDS


@pytest.mark.parametrize("name", MAKERS)
@given(text=texts(special=False))
def test_the_texts_of_tokens_are_the_text(name, text):
    tokenizer = encoder_for(tokenizer_named(name)).with_special
    ids = tokenizer.encode("a" + text, add_special_tokens=False).ids
    assert "".join(TokenTexts(tokenizer).of(ids)).lstrip() == tokenizer.decode(ids, skip_special_tokens=False).lstrip()


@given(data=st.data())
def test_no_numbers_break_it(data):
    count = data.draw(st.integers(1, 12))

    def numbers(low: int, high: int) -> list[int]:
        return data.draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    row: dict = {"input_ids": numbers(0, 400)}
    if data.draw(st.booleans()):
        row["labels"] = [-100 if bit else index for bit, index in zip(numbers(0, 1), row["input_ids"], strict=True)]
    for name in ("completion_mask", "attention_mask"):
        if data.draw(st.booleans()):
            row[name] = numbers(0, 1)
    parsed = parse_examples(json.dumps([row]))
    found, problems = shown(row) if parsed.train else ([], ["refused"])
    for sequence in found:
        assert all(label in (-100, index) for label, index in zip(sequence.labels, sequence.input_ids, strict=True))
        assert len(sequence.spans) == len(sequence.kinds) == len(sequence.input_ids)
        assert "".join(sequence.tokens) == sequence.text
    assert found or problems
