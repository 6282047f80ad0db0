"""Conversations with several assistant turns, through chat templates in the style of known models."""

from __future__ import annotations

import pytest
from chats import KINDS, ODD, STYLES, SYSTEM, TOOLS, chat_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from law import Refused, law, trimmed
from strategies import PIECES

from sftdemo.data.examples import Example, Message, Problem
from sftdemo.data.templates import RenderedPrompt, Segment, get_template
from sftdemo.mask.encoding import encoder_for
from sftdemo.mask.labels import Masker, TokenizedExample
from sftdemo.mask.renderings import encode_renderings

SPECIAL = sorted({token for _, special in (*STYLES.values(), *ODD.values()) for token in special})
TALK = (("user", "Ask one"), ("assistant", "hello one."), ("user", "Ask two"), ("assistant", "Say two."))
PAIRS = [*zip(sorted(STYLES)[::2], sorted(STYLES)[1::2], strict=False), (sorted(STYLES)[-1],)]


def mask(tokenizer, talk, turns: str = "all", max_length: int = 10_000) -> list[TokenizedExample] | Problem:
    """The sequences or the problem that come of a conversation, of which the stream gives the same."""
    example = Example(0, answer=Message(*talk[-1]), messages=tuple(Message(*turn) for turn in talk[:-1]))
    template = get_template("instruction", turns)
    rows, problems = Masker(tokenizer, template, max_length).tokenize([example])
    (streamed,) = Masker(tokenizer, template, max_length).mask([example])
    if problems:
        assert [streamed] == problems
        return problems[0]
    names = ("row", "part", "input_ids", "labels", "cut_labels", "flags", "notes", "ends")
    assert [[getattr(row, name) for name in names] for row in streamed] == [
        [getattr(row, name) for name in names] for row in rows
    ]
    return rows


def trained_text(row) -> list[str]:
    """What is trained, one string for each stretch of tokens."""
    stretches, previous = [], False
    for token, label, kind in zip(row.tokens, row.labels, row.kinds, strict=True):
        if label != -100:
            text = f"[{token}]" if kind == "eos" else token
            stretches[-1:] = [stretches[-1] + text] if previous else [*stretches[-1:], text]
        previous = label != -100
    return stretches


every_style = pytest.mark.parametrize("style", STYLES)
every_kind = pytest.mark.parametrize("kind", KINDS)
IM_END, NOTHING = "[<|im_end|>]", "[]"  # the end inside a text, and at its end, where it is no character of the text
ONE, TWO = f"hello one.{IM_END}", f"Say two.{NOTHING}"

# what each style trains of TALK, in one sequence
ENDS = {
    **{style: [ONE, TWO] for style in ("smollm2", "qwen2.5", "qwen3")},
    **{style: ["hello one.[</s>]", TWO] for style in ("mistral", "zephyr")},
    "llama2": [" hello one. [</s>]", f" Say two. {NOTHING}"],  # the template's own spaces are the model's to write
    "llama3": ["hello one.[<|eot_id|>]", TWO],
    "gemma": ["hello one.[<end_of_turn>]", TWO],
    "numbered": ["hello one.[<|sep|>]", TWO],
}


class TestByEye:
    @pytest.mark.parametrize("style", ENDS)
    def test_every_assistant_turn_and_what_ends_it(self, style):
        (row,) = mask(chat_tokenizer(style, "gpt2"), TALK)
        assert trained_text(row) == ENDS[style]
        assert set(row.flags) <= {"stop_differs"}

    @every_kind
    @every_style
    def test_the_last_turn_alone(self, style, kind):
        (row,) = mask(chat_tokenizer(style, kind), TALK, "last")
        (text,) = trained_text(row)
        assert text.strip().startswith("Say two.")
        assert text.endswith(NOTHING)

    def test_a_template_that_ends_the_conversation_otherwise(self):
        """Generation stops at EOS, which this template puts after the last turn only: two sequences."""
        first, second = mask(chat_tokenizer("phi3", "gpt2"), TALK)
        assert [trained_text(row) for row in (first, second)] == [
            [f"hello one.<|end|>\n{NOTHING}"],
            [f"Say two.<|end|>\n{NOTHING}"],
        ]
        assert ("history_rewritten" in first.flags, "history_rewritten" in second.flags) == (True, False)
        assert [(row.row, row.part) for row in (first, second)] == [(0, 0), (0, 1)]

    def test_a_template_that_puts_no_end(self):
        rows = mask(chat_tokenizer("plain", "gpt2"), TALK)
        assert [trained_text(row) for row in rows] == [[f" hello one.\n{NOTHING}"], [f" Say two.\n{NOTHING}"]]
        assert all("eos_added" in row.flags for row in rows)

    def test_the_system_and_the_tool_are_not_trained(self):
        talk = [("system", "Be brief"), *TALK[:2], ("tool", "3 results"), ("assistant", "Say three."), *TALK[2:]]
        (row,) = mask(chat_tokenizer("qwen2.5", "gpt2"), talk)
        assert trained_text(row) == [ONE, f"Say three.{IM_END}", TWO]
        assert {"system", "user", "tool"} <= set(row.kinds)

    def test_thoughts_that_the_template_keeps_are_trained(self):
        talk = [("user", "a"), ("assistant", "<think>\nb\n</think>\n\nc"), *TALK[2:]]
        (row,) = mask(chat_tokenizer("smollm2", "gpt2"), talk)
        assert trained_text(row) == [f"<think>\nb\n</think>\n\nc{IM_END}", TWO]

    @pytest.mark.parametrize("max_length", range(1, 60))
    def test_max_length_cuts_the_end_alone(self, max_length):
        tokenizer = chat_tokenizer("llama3", "gpt2")
        (whole,), (cut,) = mask(tokenizer, TALK), mask(tokenizer, TALK, max_length=max_length)
        assert cut.input_ids == whole.input_ids[:max_length]
        assert cut.labels == whole.labels[:max_length]
        assert ("nothing_trained" in cut.flags) == (cut.trained == 0)


class TestOddTemplates:
    def test_a_prompt_that_opens_a_thought(self):
        (row,) = mask(chat_tokenizer("thinks_first", "gpt2"), TALK)
        assert trained_text(row) == [ONE, TWO]
        assert "prompt_not_continued" in row.flags
        (check, details), _ = row.notes
        assert check == "prompt_not_continued"
        assert r'<|im_start|>assistant\n<think>\n", the template writes "' in details
        assert details.endswith(r'<|im_start|>assistant\nhello one.<|im_end|>\n"')

    def test_a_head_that_counts(self):
        rows = mask(chat_tokenizer("counts", "gpt2"), TALK)
        assert all("prompt_not_continued" in row.flags for row in rows)

    def test_an_answer_that_is_changed_is_trained_as_it_is_written(self):
        (row,) = mask(chat_tokenizer("shouts", "gpt2"), TALK)
        assert trained_text(row) == [f"HELLO ONE.{IM_END}", "SAY TWO.[]"]

    def test_an_answer_that_is_dropped_is_told(self):
        rows = mask(chat_tokenizer("drops", "gpt2"), TALK)
        assert rows[0].notes[:2] == (
            ("text_not_shown", "content of turn 1"),
            ("text_not_shown", "content of turn 3"),
        )

    def test_a_prompt_whose_last_tokens_depend_on_what_follows(self):
        """By GPT-2's pattern two newlines are one token at a text's end and two before a word."""
        rows = mask(chat_tokenizer("llama3", "digits"), TALK)
        assert len(rows) == 2
        assert all("merged_boundary" in row.flags for row in rows)

    def test_an_earlier_turns_thoughts(self):
        talk = [("user", "a"), ("assistant", "<think>\nb\n</think>\n\nc"), *TALK[2:]]
        (row,) = mask(chat_tokenizer("qwen3", "gpt2"), talk)
        assert trained_text(row) == [f"c{IM_END}", TWO]  # this style takes them out of every turn

    def test_a_first_turn_of_the_assistants_is_not_trained(self):
        (row,) = mask(chat_tokenizer("smollm2", "gpt2"), TALK[1:])
        assert trained_text(row) == [TWO]

    @pytest.mark.parametrize(
        ("style", "talk", "says"),
        [
            ("gemma", (("system", "s"), *TALK), "System role not supported"),
            ("gemma", (TALK[0], *TALK), "Conversation roles must alternate"),
            ("llama2", (TALK[0], *TALK), "Conversation roles must alternate"),
        ],
    )
    @pytest.mark.parametrize("turns", ["all", "last"])
    def test_what_the_template_itself_refuses(self, style, talk, says, turns):
        problem = mask(chat_tokenizer(style, "gpt2"), talk, turns)
        assert f"the model's chat template refuses this conversation: {says}" in problem.message
        assert problem.message.endswith("or choose a model with another chat template.")

    def test_the_other_rows_survive(self):
        talk = [Message(*turn) for turn in TALK]
        examples = [Example(0, "b", messages=(talk[0],)), Example(1, "b", messages=(talk[0], talk[0]), line=5)]
        rows, problems = Masker(chat_tokenizer("gemma", "gpt2"), get_template("instruction"), 10_000).tokenize(examples)
        assert ([row.row for row in rows], [(problem.row, problem.line) for problem in problems]) == ([0], [(1, 5)])


def contents():
    pieces = st.sampled_from([*PIECES, *SPECIAL]) | st.characters(exclude_categories=["Cs", "Co"])
    strange = st.lists(pieces, max_size=4).map("".join)
    return strange | st.sampled_from(["", " ", "\n", " \n\t", "Yes.", "It be Rome", "12 or 3", " both ends ", "a\n"])


@st.composite
def talks(draw, style: str):
    talk = [("system", draw(contents()))] if style in SYSTEM and draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        talk += [("user", draw(contents())), ("assistant", draw(contents()))]
        if style in TOOLS and draw(st.booleans()):
            talk += [("tool", draw(contents())), ("assistant", draw(contents()))]
    return talk


class TestEveryConversation:
    @pytest.mark.parametrize("styles", PAIRS, ids="-".join)
    @given(data=st.data(), turns=st.sampled_from(["all", "all", "last"]))
    def test_equals_the_oracle(self, styles, data, turns):
        style, kind = data.draw(st.sampled_from(styles)), data.draw(st.sampled_from(sorted(KINDS)))
        tokenizer, talk = chat_tokenizer(style, kind), data.draw(talks(style))
        rows = mask(tokenizer, talk, turns)
        try:
            verdict = law(tokenizer, [{"role": role, "content": content} for role, content in talk], turns, frozenset())
        except Refused:
            assert isinstance(rows, Problem)
        else:
            assert trimmed(rows) == trimmed(verdict.sequences)

    @given(data=st.data(), style=st.sampled_from(sorted(STYLES | ODD)), kind=st.sampled_from(sorted(KINDS)))
    def test_what_was_typed_never_becomes_a_special_token(self, data, style, kind):
        """Of the same conversation in harmless words there are as many."""
        tokenizer = chat_tokenizer(style, kind)
        talk = data.draw(talks(style if style in STYLES else "smollm2"))
        typed = [(role, content + data.draw(st.sampled_from(SPECIAL))) for role, content in talk]
        rows, harmless = mask(tokenizer, typed, "last"), mask(tokenizer, [(role, "x") for role, _ in talk], "last")
        special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        found = [[index for index in row.input_ids if index in special] for each in (rows, harmless) for row in each]
        assert found[0] == found[-1]

    @given(data=st.data(), style=st.sampled_from(sorted(STYLES)), kind=st.sampled_from(sorted(KINDS)))
    def test_a_beginning_is_encoded_as_if_it_were_alone(self, data, style, kind):
        tokenizer = chat_tokenizer(style, kind)
        encoder, pieces = encoder_for(tokenizer), st.sampled_from([*PIECES, *SPECIAL, " a", "b ", "c\n"])
        text = "".join(data.draw(st.lists(pieces, min_size=1, max_size=12)))
        cuts = sorted({*data.draw(st.lists(st.integers(1, len(text)), max_size=4)), len(text)})
        texts = [RenderedPrompt((Segment(text[:cut], "template"),), chat=True) for cut in cuts]
        (encoded,) = encode_renderings([texts], encoder)
        for each, found in zip(texts, encoded, strict=True):
            (alone,) = encoder.encode_chat([each.segments])
            assert found.ids == alone.ids
            assert found.offsets == alone.offsets


def test_a_conversation_of_very_many_answers_is_refused_and_its_last_answer_trained():
    """Each answer is rendered with all before it: 400 took 18 s."""
    turns = [Message(role, f"say {number}") for number in range(400) for role in ("user", "assistant")]
    example = Example(0, "", messages=tuple(turns[:-1]), answer=turns[-1])
    tokenizer = chat_tokenizer("smollm2", "gpt2")
    _, (problem,) = Masker(tokenizer, get_template("chat"), 512).tokenize([example])
    assert problem.message.startswith("the conversation has 400 answers to train, each of which is rendered with all ")
    assert "Split it, or train only the last answer (--turns last)." in problem.message
    (row,), _ = Masker(tokenizer, get_template("chat", "last"), 512).tokenize([example])
    assert row.text.count("say") == 800
