from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import expected
from strategies import SENTENCEPIECE, SPECIAL_TEXT, cases, in_words, templates, texts, tokenize
from tiny import MAKERS, tokenizer_named

from sftdemo.data.chat import render_prompt
from sftdemo.data.examples import Example, Message
from sftdemo.data.templates import get_template
from sftdemo.mask.checks import CHECKS
from sftdemo.mask.encoding import encoder_for
from sftdemo.mask.labels import Masker

every_tokenizer = pytest.mark.parametrize("name", MAKERS)
# one tokenizer of each kind, where the oracle has been asked about every one of them
KINDS = ("chatml", "llama", "appends_eos", "unigram")
EACH_KIND = [*KINDS, *(pytest.param(name, marks=pytest.mark.thorough) for name in MAKERS if name not in KINDS)]
each_kind = pytest.mark.parametrize("name", EACH_KIND)


def ords(text: str) -> list[int]:
    return [ord(character) for character in text]


class TestByEye:
    """One token a character, the id its ASCII code; `<s>` is 128, `</s>` is 129."""

    def test_row(self):
        row = tokenize("characters", Example(0, "Hi", instruction="Go"), "{instruction}\n")
        assert row.input_ids == (128, 71, 111, 10, 72, 105, 129)
        assert row.labels == (-100, -100, -100, -100, 72, 105, 129)
        assert row.tokens == ["", "G", "o", "\n", "H", "i", ""]
        assert row.kinds == ("special", "instruction", "instruction", "template", "completion", "completion", "eos")
        assert (row.trained, row.cut, row.flags, row.joint_ids) == (3, 0, (), ())

    def test_instruction_template(self):
        row = tokenize("characters", Example(0, "Hello", instruction="Say hello"), "instruction")
        prompt = ords("### Instruction:\nSay hello\n\n### Response:\n")
        assert list(row.input_ids) == [128, *prompt, *ords("Hello"), 129]
        assert list(row.labels) == [-100] * (1 + len(prompt)) + [*ords("Hello"), 129]

    def test_verbatim_prompt(self):
        row = tokenize("characters", Example(0, "b", prompt="a"), "instruction")
        assert (row.input_ids, row.labels) == ((128, 97, 98, 129), (-100, -100, 98, 129))

    def test_messages_go_through_the_chat_template(self):
        turns = (Message("user", "a"),)
        row = tokenize("characters", Example(0, "b", messages=turns), "instruction")
        assert list(row.input_ids) == [128, *ords("[INST] a [/INST] b "), 129]  # the template's own spaces
        assert row.trained == 4

    @pytest.mark.parametrize(
        ("max_length", "labels", "flags"),
        [
            (7, (-100, -100, -100, -100, 72, 105, 129), ()),
            (6, (-100, -100, -100, -100, 72, 105), ("eos_cut",)),
            (5, (-100, -100, -100, -100, 72), ("answer_cut", "eos_cut")),
            (4, (-100, -100, -100, -100), ("nothing_trained", "prompt_too_long", "answer_cut", "eos_cut")),
            (2, (-100, -100), ("nothing_trained", "prompt_too_long", "answer_cut", "eos_cut")),
        ],
    )
    def test_max_length(self, max_length, labels, flags):
        row = tokenize("characters", Example(0, "Hi", instruction="Go"), "{instruction}\n", max_length)
        assert (row.labels, row.flags, row.cut) == (labels, flags, 7 - max_length)
        assert row.input_ids == (128, 71, 111, 10, 72, 105, 129)[:max_length]
        assert row.cut_ids == (128, 71, 111, 10, 72, 105, 129)[max_length:]
        assert row.text == "Go\nHi"

    def test_empty_completion_trains_only_eos(self):
        row = tokenize("characters", Example(0, "", instruction="Go"), "{instruction}\n")
        assert row.labels == (-100, -100, -100, -100, 129)
        assert row.flags == ("empty_completion",)

    def test_special_text_is_text(self):
        row = tokenize("characters", Example(0, "</s>", instruction="<s>"), "{instruction}\n")
        assert list(row.input_ids) == [128, *ords("<s>\n</s>"), 129]
        assert row.flags == ("eos_typed", "special_text")

    def test_special_text_in_a_chat_is_text(self):
        row = tokenize("characters", Example(0, "</s>", instruction="<s>x"), "chat")
        assert list(row.input_ids) == [128, *ords("[INST] <s>x [/INST] </s> "), 129]
        assert row.flags == ("eos_typed", "special_text")
        assert row.trained == 7

    def test_position_zero_is_never_trained(self):
        row = tokenize("gpt2", Example(0, "Hello", instruction=""), "{instruction}")
        assert row.labels[0] == -100
        assert "empty_prompt" in row.flags


class TestBoundary:
    def test_a_merge_keeps_the_prompt_and_the_whole_answer(self):
        tokenizer = tokenizer_named("gpt2")
        row = tokenize("gpt2", Example(0, "hello", instruction="Go"), "{instruction} ")
        assert tokenizer.convert_ids_to_tokens(row.joint_ids)[-1] == "Ġhello"
        assert tokenizer.convert_ids_to_tokens(row.input_ids[:3]) == ["G", "o", "Ġ"]
        assert tokenizer.decode([label for label in row.labels if label != -100]) == "hello<|endoftext|>"
        assert "merged_boundary" in row.flags

    def test_the_cut_of_the_seed_would_lose_the_first_token(self):
        """Labels cut at `len(tokenize(prompt))` from the joint ids begin after the merged token."""
        tokenizer = tokenizer_named("gpt2")
        row = tokenize("gpt2", Example(0, "hello", instruction="Go"), "{instruction} ")
        lost = row.joint_ids[len(tokenizer("Go ")["input_ids"]) :]
        assert tokenizer.decode(lost) == ""

    @pytest.mark.parametrize("name", SENTENCEPIECE)
    def test_a_merge_with_sentencepiece_adds_no_second_space(self, name):
        tokenizer = tokenizer_named(name)
        row = tokenize(name, Example(0, "hello", instruction="Say"), "{instruction} ")
        assert "merged_boundary" in row.flags
        assert tokenizer.convert_ids_to_tokens(row.input_ids)[:3] == ["<s>", "▁Say", "▁"]
        assert tokenizer.decode(row.input_ids, skip_special_tokens=True) == "Say hello"

    def test_an_unknown_token_fused_across_the_boundary_is_a_merge(self):
        """Unigram makes one <unk> of "→" and of "→é" alike: the ids agree, but the answer has lost its first letter."""
        row = tokenize("unigram", Example(0, "é answer", instruction="Say →"), "{instruction}")
        unknown = tokenizer_named("unigram").unk_token_id
        assert "merged_boundary" in row.flags
        assert "".join(row.tokens) == "Say →é answer"
        assert unknown in row.labels

    def test_a_newline_ends_the_prompt_without_a_merge(self):
        for name in MAKERS:
            row = tokenize(name, Example(0, "Hello world!", instruction="Say hello"), "instruction")
            assert "merged_boundary" not in row.flags, name


class TestEveryRow:
    @every_tokenizer
    @given(data=st.data())
    def test_equals_the_oracle(self, name, data):
        case = data.draw(cases(name))
        example, template, max_length = in_words(case)
        row = tokenize(name, example, template, max_length)
        assert (row.input_ids, row.labels) == expected(tokenizer_named(name), *case)

    @each_kind
    @given(data=st.data())
    def test_prompt_answer_and_eos(self, name, data):
        example, template, max_length = in_words(data.draw(cases(name)))
        assume(template != "chat")  # see test_conversations
        tokenizer = tokenizer_named(name)
        row = tokenize(name, example, template, max_length)
        prompt = render_prompt(example, get_template(template), tokenizer)
        (prompt_encoded,) = encoder_for(tokenizer).encode_prompts([prompt])
        length = len(prompt_encoded.ids)
        eos = tokenizer.eos_token_id

        assert list(row.input_ids[:length]) == prompt_encoded.ids[:max_length]
        assert set(row.labels[:length]) <= {-100}
        assert all(label in (-100, token) for label, token in zip(row.labels, row.input_ids, strict=True))
        assert len(row.input_ids) == len(row.labels) <= max_length
        assert len(row.spans) == len(row.kinds) == len(row.input_ids) + len(row.cut_ids)
        assert "".join(row.text[begin:end] for begin, end in row.spans) == row.text
        assert row.cut == len(row.cut_ids)
        assert row.row == 3
        assert row.text == prompt.text + example.completion
        if row.cut:
            assert row.text.startswith("".join(row.tokens))
            assert "eos_cut" in row.flags
        else:
            assert "".join(row.tokens) == row.text
            assert "".join(row.tokens[length:]) == example.completion
            assert row.input_ids[-1] == eos
            assert row.kinds[-1] == "eos"
        alone = len(row.input_ids) == 1 and not row.cut  # neither prompt nor answer: nothing predicts EOS
        assert row.labels.count(eos) == (0 if row.cut or alone else 1)
        assert row.cut or alone or row.labels[-1] == eos
        assert row.kinds.count("eos") == 1
        assert ("nothing_trained" in row.flags) == (row.trained == 0)
        assert row.trained == sum(label != -100 for label in row.labels)
        assert set(row.flags) <= set(CHECKS)

    @pytest.mark.parametrize("name", [each for each in EACH_KIND if each != "unigram"])
    @given(data=st.data())
    def test_what_is_trained_decodes_to_the_answer(self, name, data):
        """By the tokenizer's own decoder rather than the spans."""
        example, template, _ = in_words(data.draw(cases(name)))
        assume(template != "chat" and "▁" not in example.instruction + example.input + example.completion)
        tokenizer = tokenizer_named(name)
        row = tokenize(name, example, template)
        assume("empty_prompt" not in row.flags)
        prompt_ids = [token for token, label in zip(row.input_ids, row.labels, strict=True) if label == -100]
        trained = [label for label in row.labels if label != -100]
        prompt = render_prompt(example, get_template(template), tokenizer).text
        if name in SENTENCEPIECE:
            assume(not (prompt + example.completion).startswith(" "))  # its own space and this one are the same
            decoded = tokenizer.decode([*prompt_ids, *trained], skip_special_tokens=True)
            assert decoded == prompt + example.completion
        else:
            assert tokenizer.decode(trained[:-1]) == example.completion
            assert tokenizer.decode(prompt_ids) == (tokenizer.bos_token or "") + prompt

    @each_kind
    @given(data=st.data())
    def test_user_text_never_becomes_a_special_token(self, name, data):
        template, lookalike = data.draw(templates(name)), data.draw(st.sampled_from(SPECIAL_TEXT))
        before, after = data.draw(texts()), data.draw(texts())
        tokenizer = tokenizer_named(name)
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}

        def specials(text: str, answer: str) -> list[int]:
            row = tokenize(name, Example(0, answer, instruction=text, input=text), template)
            return [token for token in row.input_ids if token in special]

        typed = before + lookalike + after
        assert specials(typed, typed) == specials("x", "y")

    def test_special_text_is_flagged_where_it_is(self):
        rows, _ = Masker(tokenizer_named("gpt2"), get_template("instruction"), 64).tokenize(
            [Example(0, "x", instruction="a <|endoftext|>"), Example(1, "y", instruction="a")]
        )
        assert ["special_text" in row.flags for row in rows] == [True, False]

    @pytest.mark.parametrize("name", ["chatml", "digits", *SENTENCEPIECE])
    def test_special_text_leaves_the_chat_templates_own_tokens_as_they_are(self, name):
        tokenizer = tokenizer_named(name)
        looks = tokenize(name, Example(0, "y", instruction="hello <s></s><|im_end|>"), "chat")
        other = tokenize(name, Example(0, "y", instruction="hello"), "chat")
        assert "special_text" in looks.flags
        count = sum(end < other.text.index("hello") for _, end in other.spans[:-1])
        assert tokenizer.convert_ids_to_tokens(looks.input_ids[:count]) == tokenizer.convert_ids_to_tokens(
            other.input_ids[:count]
        )

    @pytest.mark.parametrize(("name", "template"), [("gpt2", "Q: {instruction}\n"), ("llama", "chat")])
    def test_a_token_that_holds_the_users_text_is_of_the_prompt(self, name, template):
        """Also where it begins with the template's space."""
        row = tokenize(name, Example(0, "y", instruction="hello"), template)
        assert [kind for kind, text in zip(row.kinds, row.tokens, strict=True) if "hello" in text] == ["instruction"]

    def test_rows_do_not_depend_on_their_neighbours(self):
        examples = [Example(i, "answer " * i, instruction="word " * (9 - i)) for i in range(9)]
        tokenizer, template = tokenizer_named("chatml"), get_template("chat")
        together, _ = Masker(tokenizer, template, 64).tokenize(examples)
        assert together == [tokenize("chatml", example, "chat", 64) for example in examples]

    def test_the_tokenizers_own_settings_change_nothing_and_stay(self):
        tokenizer = MAKERS["llama"]()
        before = tokenize("llama", Example(0, "Hello", instruction="Say </s>"), "instruction")
        tokenizer.backend_tokenizer.enable_padding(length=99)
        tokenizer.backend_tokenizer.enable_truncation(5)
        (row,), _ = Masker(tokenizer, get_template("instruction"), 10_000).tokenize(
            [Example(0, "Hello", instruction="Say </s>")]
        )
        assert (row.input_ids, row.labels) == (before.input_ids, before.labels)
        assert tokenizer.backend_tokenizer.truncation["max_length"] == 5
        assert tokenizer.backend_tokenizer.padding["length"] == 99


def test_a_row_without_chat_template_is_a_problem_and_the_others_survive():
    rows, problems = Masker(tokenizer_named("gpt2"), get_template("instruction"), 64).tokenize(
        [Example(0, "b", messages=(Message("user", "a"),), line=7), Example(1, "b", instruction="a")]
    )
    assert [row.row for row in rows] == [1]
    assert [(problem.row, problem.line) for problem in problems] == [(0, 7)]
    assert "chat template" in problems[0].message


def test_no_eos_is_flagged():
    tokenizer = MAKERS["gpt2"]()
    tokenizer.eos_token = None
    (row,), _ = Masker(tokenizer, get_template("instruction"), 64).tokenize([Example(0, "b", instruction="a")])
    assert "no_eos" in row.flags
    assert row.kinds[-1] == "completion"
