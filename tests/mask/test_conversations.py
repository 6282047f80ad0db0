"""Conversations with several assistant turns, through chat templates in the style of known models."""

from __future__ import annotations

import pytest
from chats import KINDS, REFUSED, STYLES, SYSTEM, TOOLS, Refused, chat_tokenizer, expected, places, rendered
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import PIECES

from sftdemo.data.chat import render_prompt
from sftdemo.data.examples import Example, Message, Problem
from sftdemo.data.templates import get_template
from sftdemo.mask.encoding import encoder_for
from sftdemo.mask.labels import Masker

SPECIAL = sorted({token for _, special, *_ in (*STYLES.values(), *REFUSED.values()) for token in special})
TALK = (("user", "Ask one"), ("assistant", "hello one."), ("user", "Ask two"), ("assistant", "Say two."))
PAIRS = [*zip(sorted(STYLES)[::2], sorted(STYLES)[1::2], strict=False), (sorted(STYLES)[-1],)]


def messages_of(talk) -> list[dict]:
    return [{"role": role, "content": content} for role, content in talk]


def mask(tokenizer, talk, turns: str = "all", max_length: int = 10_000):
    """The row or the problem that comes of a conversation, of which the stream gives the same."""
    example = Example(0, talk[-1][1], messages=tuple(Message(*turn) for turn in talk[:-1]))
    template = get_template("instruction", turns)
    rows, problems = Masker(tokenizer, template, max_length).tokenize([example])
    (row,), (streamed,) = (*rows, *problems), Masker(tokenizer, template, max_length).mask([example])
    if isinstance(row, Problem):
        assert streamed == row
    else:
        assert (streamed.input_ids, streamed.labels, streamed.flags) == (row.input_ids, row.labels, row.flags)
    return row


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
# not the "digits" one with a prompt that ends in two newlines: see TestRefused
every_pair = pytest.mark.parametrize(
    ("style", "kind"), [(s, k) for s in STYLES for k in KINDS if (s, k) != ("llama3", "digits")]
)


def contents():
    pieces = st.sampled_from([*PIECES, *SPECIAL]) | st.characters(exclude_categories=["Cs"])
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


# the token that ends an earlier assistant turn, as it is shown
ENDS = {
    **dict.fromkeys(["smollm2", "qwen2.5", "qwen3"], "[<|im_end|>]"),
    **dict.fromkeys(["mistral", "zephyr"], "[</s>]"),
    "llama2": " [</s>]",  # the template's own space is part of what the model must write
    "llama3": "[<|eot_id|>]",
    "gemma": "[<end_of_turn>]",
    "phi3": "[<|end|>]",
    "numbered": "[<|sep|>]",
    "plain": "",
}


class TestByEye:
    @every_pair
    def test_every_assistant_turn_and_what_ends_it(self, style, kind):
        row = mask(chat_tokenizer(style, kind), TALK)
        assert "".join(trained_text(row)).lstrip() == f"hello one.{ENDS[style]}Say two.[]"
        assert row.flags == (() if ENDS[style] else ("turn_without_stop",))

    @every_pair
    def test_the_last_turn_alone(self, style, kind):
        row = mask(chat_tokenizer(style, kind), TALK, "last")
        assert trained_text(row) == ["Say two.[]"]
        assert row.flags == ()

    def test_the_system_and_the_tool_are_not_trained(self):
        talk = [("system", "Be brief"), *TALK[:2], ("tool", "3 results"), ("assistant", "Say three."), *TALK[2:]]
        row = mask(chat_tokenizer("qwen2.5", "gpt2"), talk)
        assert trained_text(row) == ["hello one.[<|im_end|>]", "Say three.[<|im_end|>]", "Say two.[]"]

    def test_thoughts_that_the_template_keeps_are_trained(self):
        talk = [("user", "a"), ("assistant", "<think>\nb\n</think>\n\nc"), *TALK[2:]]
        row = mask(chat_tokenizer("smollm2", "gpt2"), talk)
        assert trained_text(row) == ["<think>\nb\n</think>\n\nc[<|im_end|>]", "Say two.[]"]

    @every_style
    def test_the_oracle_finds_every_content(self, style):
        """Or it would have nothing to say."""
        tokenizer = chat_tokenizer(style, "gpt2")
        before = messages_of(TALK[:-1])
        text = rendered(tokenizer, before)
        assert [text[slice(*place)] for place in places(tokenizer, before)] == ["Ask one", "hello one.", "Ask two"]

    @pytest.mark.parametrize("max_length", range(1, 60))
    def test_max_length_cuts_the_end_alone(self, max_length):
        tokenizer = chat_tokenizer("llama3", "gpt2")
        whole, cut = mask(tokenizer, TALK), mask(tokenizer, TALK, max_length=max_length)
        assert cut.input_ids == whole.input_ids[:max_length]
        assert cut.labels == whole.labels[:max_length]
        assert ("nothing_trained" in cut.flags) == (cut.trained == 0)


class TestRefused:
    @pytest.mark.parametrize("style", REFUSED)
    @every_kind
    def test_says_why_and_what_to_do(self, style, kind):
        problem = mask(chat_tokenizer(style, kind), TALK)
        assert isinstance(problem, Problem)
        assert REFUSED[style][2] in problem.message
        assert "Train only the last turn of conversations" in problem.message

    @pytest.mark.parametrize("style", REFUSED)
    @every_kind
    def test_the_last_turn_alone_is_trained(self, style, kind):
        row = mask(chat_tokenizer(style, kind), TALK, "last")
        assert [text.strip() for text in trained_text(row)] == ["Say two.[]"]

    def test_a_prompt_whose_last_tokens_depend_on_what_follows(self):
        """By GPT-2's pattern two newlines are one token at a text's end and two before a word."""
        tokenizer = chat_tokenizer("llama3", "digits")
        assert "a token merges across the beginning of assistant turn 1" in mask(tokenizer, TALK).message
        assert mask(tokenizer, TALK, "last").flags == ("merged_boundary",)

    def test_an_earlier_turns_thoughts(self):
        talk = [("user", "a"), ("assistant", "<think>\nb\n</think>\n\nc"), *TALK[2:]]
        problem = mask(chat_tokenizer("qwen3", "gpt2"), talk)
        assert "rewrites or drops message 1" in problem.message
        assert trained_text(mask(chat_tokenizer("qwen3", "gpt2"), talk, "last")) == ["Say two.[]"]

    def test_the_last_turns_thoughts_are_kept(self):
        talk = [*TALK[:3], ("assistant", "<think>\nb\n</think>\n\nc")]
        row = mask(chat_tokenizer("qwen3", "gpt2"), talk)
        assert trained_text(row) == ["hello one.[<|im_end|>]", "<think>\nb\n</think>\n\nc[]"]

    def test_a_conversation_that_the_assistant_begins(self):
        problem = mask(chat_tokenizer("smollm2", "gpt2"), TALK[1:])
        assert "begins with an assistant turn, which nothing asks for. Train only the last turn" in problem.message

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

    def test_the_other_rows_survive(self):
        talk = [Message(*turn) for turn in TALK]
        examples = [Example(0, "b", messages=(talk[0],)), Example(1, "b", messages=tuple(talk[:3]), line=5)]
        rows, problems = Masker(chat_tokenizer("drops", "gpt2"), get_template("instruction"), 10_000).tokenize(examples)
        assert ([row.row for row in rows], [(problem.row, problem.line) for problem in problems]) == ([0], [(1, 5)])


class TestEveryConversation:
    @pytest.mark.parametrize("styles", PAIRS, ids="-".join)
    @given(data=st.data(), turns=st.sampled_from(["all", "all", "last"]))
    def test_equals_the_oracle(self, styles, data, turns):
        style, kind = data.draw(st.sampled_from(styles)), data.draw(st.sampled_from(sorted(KINDS)))
        tokenizer, talk = chat_tokenizer(style, kind), data.draw(talks(style))
        row = mask(tokenizer, talk, turns)
        try:
            wanted = expected(style, tokenizer, messages_of(talk), turns)
        except Refused:
            assert "assistant turn" in row.message
            assert "Train only the last turn of conversations" in row.message
        else:
            assert (row.input_ids, row.labels) == wanted

    @given(data=st.data(), style=st.sampled_from(sorted(STYLES)), kind=st.sampled_from(sorted(KINDS)))
    def test_a_turn_is_trained_after_the_ids_that_generation_sees(self, data, style, kind):
        tokenizer, talk = chat_tokenizer(style, kind), data.draw(talks(style))
        row = mask(tokenizer, talk)
        assume(not isinstance(row, Problem))
        contents = places(tokenizer, messages_of(talk[:-1]))
        for index, place in enumerate(contents):
            if talk[index][0] == "assistant":
                asked = Example(0, "", messages=tuple(Message(*turn) for turn in talk[:index]))
                prompt = render_prompt(asked, get_template("instruction", "last"), tokenizer)
                (generation,) = encoder_for(tokenizer).encode_prompts([prompt])
                length = len(generation.ids)
                assert list(row.input_ids[:length]) == generation.ids
                assert place.begin == place.end or row.labels[length] == row.input_ids[length]

    @given(data=st.data(), style=st.sampled_from(sorted(STYLES | REFUSED)), kind=st.sampled_from(sorted(KINDS)))
    def test_what_was_typed_never_becomes_a_special_token(self, data, style, kind):
        """Of the same conversation in harmless words there are as many, unless the template refuses to be followed."""
        tokenizer = chat_tokenizer(style, kind)
        talk = data.draw(talks(style if style in STYLES else "smollm2"))
        typed = [(role, content + data.draw(st.sampled_from(SPECIAL))) for role, content in talk]
        row, harmless = mask(tokenizer, typed, "last"), mask(tokenizer, [(role, "x") for role, _ in talk], "last")
        special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        if isinstance(row, Problem):
            assert "would become a real one; take it out" in row.message
        else:
            assert [t for t in row.input_ids if t in special] == [t for t in harmless.input_ids if t in special]
