"""The comparison of one prompt, and the sums of several."""

from __future__ import annotations

import json

import pytest
from tiny import byte_level, tokenizer_named

from sftdemo.core.errors import DataError
from sftdemo.data.examples import Example
from sftdemo.data.questions import Question
from sftdemo.export.certificate import CERTIFICATE, Certificate, Check, read_certificate
from sftdemo.export.certify import Asked, compare
from sftdemo.export.engines import Served

TOKENIZER = byte_level("</s>", "<s>", corpus=[""])  # one token a character
TOKENIZER.bos_token = "<s>"
BOS, END = TOKENIZER.bos_token_id, TOKENIZER.eos_token_id


def ids(text: str, *end: int) -> tuple[int, ...]:
    return (*(index for letter in text for index in TOKENIZER(letter).input_ids), *end)


def asked(prompt: str = "a?\n", answer: str = "yes", ended: bool = True) -> Asked:
    question = Question(prompt, Example(0, "", prompt=prompt), "typed")
    messages = [{"role": "user", "content": prompt}]
    return Asked(question, messages, (BOS, *ids(prompt)), ids(answer, *[END] * ended), ended)


def served(prompt: str = "a?\n", answer: str = "yes", ended: bool = True, bos: bool = True, **more) -> Served:
    told = {"prompt_ids": (*[BOS] * bos, *ids(prompt)), "answer_ids": ids(answer, *[END] * ended)}
    return Served(**(told | {"answer": answer, "ended": ended} | more))


def seen(check: Check) -> tuple:
    return check.same_ids, check.same_end, check.same_tokens, check.tokens, check.cause


class TestOnePrompt:
    def test_all_the_same(self):
        check = compare(TOKENIZER, asked(), served())
        assert seen(check) == (True, True, 4, 4, "")
        assert (check.holds, check.difference) == (True, "")

    def test_both_cut(self):
        assert seen(compare(TOKENIZER, asked(ended=False), served(ended=False))) == (True, True, 3, 3, "")

    def test_one_newline_more_in_the_template(self):
        check = compare(TOKENIZER, asked(), served("a?\n\n"))
        assert seen(check)[0] is False
        assert check.cause == "template"
        assert check.difference == 'id 4 of the prompt: here nothing, there "\\n"'
        assert not check.holds

    @pytest.mark.parametrize("times", [0, 2])
    def test_bos(self, times):
        check = compare(TOKENIZER, asked(), served(prompt_ids=(*[BOS] * times, *ids("a?\n"))))
        assert (check.same_ids, check.cause) == (False, "BOS")

    def test_a_special_token_that_was_typed(self):
        check = compare(TOKENIZER, asked("a</s>\n"), served(prompt_ids=(BOS, *ids("a"), END, *ids("\n"))))
        assert (check.same_ids, check.cause) == (False, "special text")

    def test_the_same_text_in_other_tokens(self):
        tokenizer = tokenizer_named("gpt2")
        one = tokenizer.encode("Hello world!\n")
        other = [index for letter in "Hello world!\n" for index in tokenizer.encode(letter)]
        assert one != other
        question = Question("", Example(0, "", prompt=""), "typed")
        here = Asked(question, [{"role": "user", "content": "Hello"}], tuple(one), (5,), False)
        check = compare(tokenizer, here, Served(tuple(other), (5,), "", False))
        assert (check.same_ids, check.cause) == (False, "tokenizer")

    def test_answers_that_part(self):
        check = compare(TOKENIZER, asked(answer="yes"), served(answer="yoke", ended=False))
        assert seen(check) == (True, None, 1, 4, "weights")
        assert check.difference == 'after 1: here "es</s>", there "oke"'
        assert check.holds

    def test_one_that_does_not_stop_there(self):
        check = compare(TOKENIZER, asked(), served(ended=False, answer="yes"))
        assert (check.same_end, check.cause, check.holds) == (False, "end", False)
        assert check.difference == 'after 3: here "</s>", there nothing'

    def test_one_that_stops_there_alone(self):
        check = compare(TOKENIZER, asked(answer="yes, I", ended=False), served(answer="yes"))
        assert (check.same_end, check.same_tokens, check.cause) == (None, 3, "weights")

    def test_a_modelfile_that_differs(self):
        check = compare(TOKENIZER, asked(), served(), modelfile_same_ids=False)
        assert (check.cause, check.holds, check.same_ids) == ("template", False, True)

    def test_a_server_that_tells_no_ids(self):
        unknown = {"prompt_ids": None, "answer_ids": None}
        assert seen(compare(TOKENIZER, asked(), served(answer=" yes\n", **unknown))) == (None, True, 3, 3, "")
        check = compare(TOKENIZER, asked(), served(answer="yes, I", **unknown, ended=False))
        assert seen(check) == (None, False, 3, 3, "end")
        assert check.difference == 'after 3: here nothing, there ", I"'


class TestSums:
    SAME = Check("a", True, True, 4, 4)
    PARTS = Check("b|`\n", True, None, 2, 4, "after 2: x", "weights")
    OTHER = Check("c", False, None, 0, 4, "id 3", "template")

    def certificate(self, *checks: Check) -> Certificate:
        return Certificate("llama.cpp", "f16", 32, checks)

    def test_a_sentence(self):
        assert str(self.certificate(self.SAME, self.PARTS)) == (
            "2 prompts: 2 of 2 the same ids; 1 of 1 the same end; 1 of 2 the same answer, up to 32 tokens "
            "(llama.cpp, f16)."
        )
        untold = Check("a", None, None, 1, 2)
        assert "1 prompt: ids that the server does not tell; an end that cannot be compared" in str(
            self.certificate(untold)
        )

    def test_json(self):
        told = self.certificate(self.SAME, self.PARTS, self.OTHER).to_dict()
        assert (told["same_ids"], told["same_end"], told["same_tokens"], told["prompts"]) == (False, True, False, 3)
        assert told["modelfile_same_ids"] is None
        assert [check["cause"] for check in told["checks"]] == ["", "weights", "template"]

    def test_rounding_alone_does_not_break_it(self):
        assert self.certificate(self.SAME, self.PARTS).holds
        assert not self.certificate(self.SAME, self.OTHER).holds

    def test_a_table_that_no_prompt_breaks(self):
        lines = self.certificate(self.PARTS).table().splitlines()
        assert lines[2] == "| b\\|' | same | 2 of 4 | - | after 2: x (weights) |"


ODD = {"prompt": "Say hello", "same_ids": True, "same_end": 1, "same_tokens": 5, "tokens": 5}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("engine", None),
        ("weights", 7),
        ("max_new_tokens", "4"),
        ("checks", [[]]),
        ("checks", [ODD]),
        ("engine", "\ud800"),
    ],
)
def test_one_with_a_value_of_another_kind_is_refused(tmp_path, field, value):
    whole = Certificate("llama.cpp", "f16", 32, (Check("Say hello", True, True, 5, 5),))
    (tmp_path / CERTIFICATE).write_text(json.dumps(whole.to_dict()))
    assert read_certificate(tmp_path) == whole
    (tmp_path / CERTIFICATE).write_text(json.dumps(whole.to_dict() | {field: value}))
    with pytest.raises(DataError, match="Write it anew with `sftdemo certify"):
        read_certificate(tmp_path)
