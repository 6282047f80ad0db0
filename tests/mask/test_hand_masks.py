"""Masks made by hand: which characters of a row are trained, instead of the answer."""

from __future__ import annotations

import csv
import io
import json
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import PIECES, cases, in_words, tokenize
from tiny import CHATML, MAKERS, byte_level, tokenizer_named

from sftdemo.data.examples import Example, HandMask, Message, parse_examples, to_record
from sftdemo.data.templates import get_template
from sftdemo.mask.labels import Masker

ROW = Example(0, "Hi", instruction="Go")  # by "characters": <s> G o \n H i </s>
TEXT = "Go\nHi"


def by_hand(*trained: tuple[int, int], eos: bool = True, text: str = TEXT) -> Example:
    return replace(ROW, masks=(HandMask(text, trained, eos),))


def labels(example: Example, max_length: int = 64) -> tuple[int, ...]:
    return tokenize("characters", example, "{instruction}\n", max_length).labels


def flags(example: Example, max_length: int = 64) -> tuple[str, ...]:
    return tokenize("characters", example, "{instruction}\n", max_length).flags


def read_back(example: Example) -> Example:
    parsed = parse_examples(json.dumps([to_record(example)]))
    assert not parsed.problems
    assert not parsed.notes
    return (*parsed.train, *parsed.held_out)[0]


class TestByEye:
    """One token a character, the id its ASCII code; `<s>` is 128, `</s>` is 129."""

    @pytest.mark.parametrize(
        ("example", "wanted"),
        [
            (by_hand((3, 5)), (-100, -100, -100, -100, 72, 105, 129)),  # the usual mask
            (by_hand((4, 5)), (-100, -100, -100, -100, -100, 105, 129)),
            (by_hand((0, 1), (4, 5)), (-100, 71, -100, -100, -100, 105, 129)),
            (by_hand((0, 5)), (-100, 71, 111, 10, 72, 105, 129)),  # the template's newline as well
            (by_hand((0, 2), eos=False), (-100, 71, 111, -100, -100, -100, -100)),
            (by_hand(), (-100,) * 6 + (129,)),
            (by_hand(eos=False), (-100,) * 7),
            (by_hand((4, 99)), (-100, -100, -100, -100, -100, 105, 129)),
        ],
    )
    def test_trains_what_was_chosen(self, example, wanted):
        assert labels(example) == wanted
        assert "made_by_hand" in flags(example)

    def test_flags(self):
        assert flags(by_hand((3, 5))) == ("made_by_hand",)
        assert flags(by_hand((3, 5), eos=False)) == ("eos_untrained", "made_by_hand")
        assert flags(by_hand(eos=False)) == ("nothing_trained", "eos_untrained", "made_by_hand")

    def test_of_another_text_it_is_not_used(self):
        example = by_hand((0, 1), eos=False, text="Go\nHo")
        assert labels(example) == labels(ROW)
        assert flags(example) == ("mask_not_used",)

    def test_of_another_template_it_is_not_used(self):
        row = tokenize("characters", by_hand((0, 1)), "{instruction}\t")
        assert row.labels == (-100, -100, -100, -100, 72, 105, 129)
        assert row.flags == ("mask_not_used",)

    @pytest.mark.parametrize("max_length", range(1, 8))
    def test_max_length_cuts_it_from_the_right(self, max_length):
        example = by_hand((0, 1), (4, 5))
        assert labels(example, max_length) == (-100, 71, -100, -100, -100, 105, 129)[:max_length]

    def test_position_zero_is_never_trained(self):
        example = Example(0, "Hi", prompt="Go", masks=(HandMask("GoHi", ((0, 4),), True),))
        row = tokenize("gpt2", example, "instruction")
        assert row.labels == (-100, *row.input_ids[1:])

    def test_the_ids_stay(self):
        assert tokenize("gpt2", by_hand((0, 3)), "{instruction}\n").input_ids == (
            tokenize("gpt2", ROW, "{instruction}\n").input_ids
        )

    @pytest.mark.parametrize("name", ["gpt2", "llama", "llama3"])
    @pytest.mark.parametrize("character", ["🦜", "日", "é"])
    def test_the_tokens_of_one_character_go_together(self, name, character):
        text = f"a\n{character}{character}b"
        example = Example(0, text[2:], prompt="a\n", masks=(HandMask(text, ((3, 4),), False),))
        tokenizer, row = tokenizer_named(name), tokenize(name, example, "instruction")
        chosen = [label for label in row.labels if label != -100]
        assert len(chosen) > 1
        assert tokenizer.decode(chosen) == character
        assert tokenizer.decode(row.input_ids[: row.labels.index(chosen[0])], skip_special_tokens=True) == text[:3]

    def test_no_eos_to_train(self):
        tokenizer = MAKERS["gpt2"]()
        tokenizer.eos_token = None
        ((row,), _) = Masker(tokenizer, get_template("{instruction}\n"), 64).tokenize([by_hand((4, 5))])
        assert [label != -100 for label in row.labels][-2:] == [False, True]
        assert "eos_untrained" not in row.flags

    def test_in_a_conversation_it_takes_the_place_of_every_turns_mask(self):
        tokenizer = byte_level("<|im_end|>", "<|im_start|>", chat_template=CHATML)
        turns = tuple(Message(*turn) for turn in (("user", "a"), ("assistant", "bcd"), ("user", "e")))
        text = (
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nbcd<|im_end|>\n<|im_start|>user\ne<|im_end|>\n"
            "<|im_start|>assistant\nfg"
        )
        chosen = {text.index("bcd") + 1, *range(text.index("e<|im_end"), text.index("e<|im_end") + 5)}
        example = Example(0, "fg", messages=turns, masks=(HandMask.of(text, chosen, False),))
        ((row,), _) = Masker(tokenizer, get_template("chat"), 200).tokenize([example])
        trained = [text for text, label in zip(row.tokens, row.labels, strict=True) if label != -100]
        assert trained == ["c", "e", "<|im_end|>"]  # a special token may be trained, and with some of its characters


def test_characters_become_spans():
    assert HandMask.of("abcdef", {0, 1, 3, 5}, True).trained == ((0, 2), (3, 4), (5, 6))
    assert HandMask.of("abc", {0, 1, 2}, True).trained == ((0, 3),)
    assert HandMask.of("", set(), False) == HandMask("", (), False)


@given(text=st.text(max_size=12), chosen=st.sets(st.integers(0, 11)))
def test_spans_hold_the_characters_again(text, chosen):
    chosen &= set(range(len(text)))
    mask = HandMask.of(text, chosen, True)
    assert {i for begin, end in mask.trained for i in range(begin, end)} == chosen
    edges = [edge for span in mask.trained for edge in span]
    assert edges == sorted(set(edges))  # in order and not touching


class TestInARow:
    MASK = HandMask(TEXT, ((0, 1), (3, 5)), False)
    WRITTEN = '{"text": "Go\\nHi", "trained": [[0, 1], [3, 5]], "eos": false}'

    def test_is_written_and_read(self):
        row = f'{{"instruction": "Go", "output": "Hi", "mask": {self.WRITTEN}}}'
        parsed = parse_examples(row)
        assert parsed.train == (replace(ROW, line=1, masks=(self.MASK,)),)
        assert parsed.notes == ()
        assert json.loads(row) == to_record(parsed.train[0])

    @pytest.mark.parametrize(
        "example",
        [
            replace(ROW, masks=(MASK,)),
            Example(0, " b", prompt="a ", masks=(MASK,)),
            Example(0, "b", messages=(Message("user", "a"),), masks=(MASK,)),
            Example(0, "", instruction="a", held_out=True, masks=(MASK,)),
        ],
    )
    def test_of_every_shape(self, example):
        assert read_back(example) == example

    def test_in_csv(self):
        file = io.StringIO()
        writer = csv.DictWriter(file, ["instruction", "output", "mask"])
        writer.writeheader()
        writer.writerows([{"instruction": "Go", "output": "Hi", "mask": self.WRITTEN}, {"instruction": "a"}])
        parsed = parse_examples(file.getvalue())
        assert [example.masks for example in parsed.train] == [(self.MASK,), ()]

    @pytest.mark.parametrize("value", [None, ""])
    def test_none(self, value):
        (example,) = parse_examples(json.dumps([{"prompt": "a", "completion": "b", "mask": value}])).train
        assert example.masks == ()
        assert "mask" not in to_record(example)

    @pytest.mark.parametrize(
        ("trained", "read"),
        [([[3, 5], [0, 1]], ((0, 1), (3, 5))), ([[0, 2], [1, 3]], ((0, 3),)), ([[0, 1], [1, 2]], ((0, 2),)), ([], ())],
    )
    def test_spans_are_put_in_order(self, trained, read):
        (example,) = parse_examples(json.dumps([to_record(ROW) | {"mask": {"text": TEXT, "trained": trained}}])).train
        assert example.masks == (HandMask(TEXT, read, True),)

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            (3, '"mask" is the number 3; write {"text": …, "trained": [[begin, end], …], "eos": true}'),
            ("all", '"mask" is the text "all"; write {"text"'),
            ([[0, 1]], '"mask" is a list; write {"text"'),
            ({}, '"mask" is an object; write {"text"'),
            ({"text": TEXT}, '"mask" is an object; write {"text"'),
            ({"text": 5, "trained": []}, '"mask" is an object; write {"text"'),
            (
                {"text": TEXT, "trained": [[2, 6]]},
                '"mask" trains "[2, 6]"; write [begin, end] with 0 ≤ begin < end ≤ 5',
            ),
            ({"text": TEXT, "trained": [[2, 2]]}, '"mask" trains "[2, 2]"; write [begin, end]'),
            ({"text": TEXT, "trained": [[-1, 2]]}, '"mask" trains "[-1, 2]"; write [begin, end]'),
            ({"text": TEXT, "trained": [[0, 1, 2]]}, '"mask" trains "[0, 1, 2]"; write [begin, end]'),
            ({"text": TEXT, "trained": [[0, 1.0]]}, '"mask" trains "[0, 1.0]"; write [begin, end]'),
            ({"text": TEXT, "trained": [[True, 2]]}, '"mask" trains "[True, 2]"; write [begin, end]'),
            ({"text": TEXT, "trained": [1]}, '"mask" trains "1"; write [begin, end]'),
            ({"text": TEXT, "trained": "all"}, '"mask" trains "all"; write [begin, end]'),
            ({"text": TEXT, "trained": None}, '"mask" trains "None"; write [begin, end]'),
            ({"text": TEXT, "trained": [], "eos": 1}, '"mask" has "eos" "1"; write true or false'),
            ({"text": "half \ud83d", "trained": []}, '"mask.text" has half of a character at position 5'),
        ],
    )
    def test_refusals_name_what_is_wrong(self, value, says):
        row = to_record(ROW)
        parsed = parse_examples(json.dumps([row, row | {"mask": value}, row]))
        assert [example.row for example in parsed.train] == [0, 2]
        (problem,) = parsed.problems
        assert str(problem).startswith("row 1: ")
        assert says in str(problem)


class TestEveryMask:
    @pytest.mark.parametrize(
        "names", [["gpt2", "llama3"], ["chatml", "digits"], ["llama", "llama_legacy"], ["unigram"]]
    )
    @given(data=st.data())
    def test_trains_exactly_the_tokens_that_were_chosen(self, names, data):
        """Except for position 0; and the later tokens of a multi-byte character, which have no text of their own, go
        with its first."""
        name = data.draw(st.sampled_from(names))
        example, spec, max_length = in_words(data.draw(cases(name)))
        row = tokenize(name, example, spec)
        count = len(row.input_ids) - 1  # without EOS
        chosen = data.draw(st.sets(st.integers(0, count - 1))) if count else set()
        eos = data.draw(st.booleans())
        characters = {i for token in chosen for i in range(*row.spans[token])}
        example = replace(example, masks=(HandMask.of(row.text, characters, eos),))

        wanted: list[bool] = []
        for token, (begin, end) in enumerate(row.spans[:count]):
            wanted.append(token in chosen if begin < end else bool(wanted) and wanted[-1])
        wanted = [False, *wanted[1:], eos][: count + 1] if count else [False]
        masked = tokenize(name, example, spec)
        assert masked.input_ids == row.input_ids
        assert [label != -100 for label in masked.labels] == wanted
        assert all(label in (-100, token) for label, token in zip(masked.labels, masked.input_ids, strict=True))
        assert "made_by_hand" in masked.flags

        again = replace(read_back(example), row=example.row)
        assert again == example
        cut = tokenize(name, again, spec, max_length)
        assert cut.labels == masked.labels[:max_length]
        ((streamed,),) = Masker(tokenizer_named(name), get_template(spec), max_length).mask([again])
        assert (streamed.input_ids, streamed.labels, streamed.cut, streamed.flags) == (
            (cut.input_ids, cut.labels, cut.cut, cut.flags)
        )

    @given(data=st.data(), name=st.sampled_from(sorted(MAKERS)), other=st.sampled_from(PIECES))
    def test_of_another_text_is_as_good_as_none(self, data, name, other):
        example, spec, max_length = in_words(data.draw(cases(name)))
        usual = tokenize(name, example, spec, max_length)
        mask = HandMask.of(usual.text + other, set(range(len(usual.text))), False)
        row = tokenize(name, replace(example, masks=(mask,)), spec, max_length)
        assert (row.input_ids, row.labels) == (usual.input_ids, usual.labels)
        assert set(row.flags) ^ set(usual.flags) == {"mask_not_used"}


def test_many_stretches_over_a_long_text_take_no_longer_than_its_tokens():
    """Each token used to look at each stretch, and each stretch at each of its characters: 3,000 took 9 s."""
    text = "a b " * 5000
    stretches = [[begin, begin + 1] for begin in range(0, 12_000, 4)] + [[12_001, len(text)]] * 3000
    row = {"prompt": text[:8], "completion": text[8:], "mask": {"text": text, "trained": stretches}}
    begin = time.process_time()
    (example,) = parse_examples(json.dumps([row])).train
    (masked,) = Masker(tokenizer_named("gpt2"), get_template("instruction"), 50_000).tokenize([example])[0]
    assert time.process_time() - begin < 2
    assert example.masks[0].trained[-1] == (12_001, len(text))
    assert "made_by_hand" in masked.flags
