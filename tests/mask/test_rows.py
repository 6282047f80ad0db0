from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import PIECES, SENTENCES, prose, templates, texts
from tiny import CHATML, MAKERS, byte_level, tokenizer_named

from sftdemo.core.config import RunConfig
from sftdemo.core.errors import ConfigError
from sftdemo.data.chat import render_prompt
from sftdemo.data.examples import Example, Message, Problem
from sftdemo.data.templates import get_template
from sftdemo.mask import rows
from sftdemo.mask.ahead import AHEAD
from sftdemo.mask.encoding import encoder_for
from sftdemo.mask.labels import Masker
from sftdemo.mask.rows import encode_rows
from sftdemo.mask.separable import encode_separable
from sftdemo.mask.turn_ends import end_ids

BYTE_LEVEL = ("gpt2", "chatml", "appends_eos", "llama3", "digits")
NOT_LOCAL = sorted(MAKERS.keys() - set(BYTE_LEVEL))
BESIDE = [
    *(
        "",
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "7",
        "12",
        "345",
        "42 ",
        "日本",
        "😀",
        "é",
        "'",
        "'s",
        "'ll go",
        "(",
        " <tool> ",
    ),
    *PIECES,
]


def whole(tokenizer, examples, template) -> list:
    return Masker(tokenizer, template, 10_000).tokenize(examples)


def both_ways(tokenizer, examples, template, monkeypatch):
    """The rows with the short cut, the rows without it."""
    fast = whole(tokenizer, examples, template)
    with monkeypatch.context() as patched:
        patched.setattr(
            rows,
            "encode_separable",
            lambda encoder, prompts, *_: (encoder.encode_prompts(prompts), [None] * len(prompts)),
        )
        return fast, whole(tokenizer, examples, template)


@st.composite
def long_rows(draw, name: str):
    """Sentences on both sides of the boundary, and right beside it what a tokenizer may merge."""
    prompt = draw(prose()) + draw(st.sampled_from(BESIDE))
    answer = draw(st.sampled_from(BESIDE)) + draw(prose() | st.sampled_from(BESIDE))
    if draw(st.booleans()):
        return Example(0, answer, prompt=prompt), "instruction"
    return Example(0, answer, instruction=prompt, input=draw(st.sampled_from(["", *SENTENCES]))), draw(templates(name))


class TestSeparable:
    """The completion's ids are read off a window around the boundary, if the tokenizer allows it."""

    # "trimming" reports offsets without spaces, by which the boundary is found
    @pytest.mark.parametrize(
        "names",
        [["gpt2", "appends_eos"], ["chatml"], ["llama3"], ["digits"], ["trimming", "spaces_added"], NOT_LOCAL],
        ids="-".join,
    )
    @given(data=st.data())
    def test_equals_the_encoding_of_the_whole(self, names, data, monkeypatch):
        name = data.draw(st.sampled_from(names))
        example, spec = data.draw(long_rows(name))
        fast, slow = both_ways(tokenizer_named(name), [example], get_template(spec), monkeypatch)
        assert fast == slow

    @pytest.mark.parametrize(
        ("name", "spec"),
        [(name, spec) for name in BYTE_LEVEL for spec in ("instruction", "alpaca", "Q: {instruction}\nA:")],
    )
    def test_is_used_for_ordinary_rows(self, name, spec):
        """Or the test above would compare nothing."""
        tokenizer, template = tokenizer_named(name), get_template(spec)
        answers = [" " * spec.endswith(":") + sentence for sentence in SENTENCES]
        prompts = [
            render_prompt(Example(0, "", instruction=f"{sentence} {SENTENCES[0]}"), template, tokenizer)
            for sentence in SENTENCES
        ]
        encoder = encoder_for(tokenizer)
        _, separable = encode_separable(encoder, prompts, answers)
        assert None not in separable

    @pytest.mark.parametrize("name", NOT_LOCAL)
    def test_is_not_used_where_far_words_may_matter(self, name):
        tokenizer, encoder = tokenizer_named(name), encoder_for(tokenizer_named(name))
        prompt = render_prompt(Example(0, "", instruction=SENTENCES[0]), get_template("instruction"), tokenizer)
        assert encode_separable(encoder, [prompt], [SENTENCES[1]])[1] == [None]

    def test_is_not_used_for_a_merge(self):
        tokenizer, encoder = tokenizer_named("gpt2"), encoder_for(tokenizer_named("gpt2"))
        prompt = render_prompt(Example(0, "", prompt="Say "), get_template("instruction"), tokenizer)
        assert encode_separable(encoder, [prompt], ["hello"])[1] == [None]


def texts_of(rows) -> list[tuple]:
    return [
        (row.row, "problem")
        if isinstance(row, Problem)
        else [(each.example.row, each.prompt.text, each.input_ids) for each in row]
        for row in rows
    ]


class TestRows:
    EXAMPLES = (
        Example(0, "Hello", instruction="Say hello"),
        Example(1, "b", messages=(Message("user", "a"),), line=7),
        Example(2, "hello", prompt="Say "),
        Example(3, "", instruction=""),
    )

    def test_a_problem_stands_in_its_place(self):
        rows = encode_rows(self.EXAMPLES, tokenizer_named("gpt2"), get_template("instruction"))
        assert [isinstance(row, Problem) for row in rows] == [False, True, False, False]
        assert (rows[1].row, rows[1].line) == (1, 7)

    @pytest.mark.parametrize("name", [*MAKERS, "characters"])
    def test_rows_do_not_depend_on_their_neighbours(self, name):
        tokenizer, template = tokenizer_named(name), get_template("instruction")
        together = encode_rows(self.EXAMPLES, tokenizer, template)
        alone = [row for example in self.EXAMPLES for row in encode_rows([example], tokenizer, template)]
        assert texts_of(together) == texts_of(alone)

    def test_nothing(self):
        assert encode_rows([], tokenizer_named("gpt2"), get_template("instruction")) == []

    @pytest.mark.parametrize("name", MAKERS)
    def test_text_spans_and_ids_are_of_one_row(self, name):
        for row in encode_rows(self.EXAMPLES, tokenizer_named(name), get_template("instruction")):
            for each in [] if isinstance(row, Problem) else row:
                assert each.text.startswith(each.prompt.text)
                assert each.text.removeprefix(each.prompt.text).strip() == each.example.completion
                assert len(each.spans) == len(each.input_ids)
                assert each.input_ids[-1] == each.stop_id
                assert "".join(each.text[begin:end] for begin, end in each.spans) == each.text


class TestStopToken:
    @pytest.mark.parametrize(("name", "token"), [("chatml", "<|im_end|>"), ("llama", "</s>"), ("digits", "<|im_end|>")])
    def test_of_a_chat_is_what_follows_the_assistants_words(self, name, token):
        tokenizer = tokenizer_named(name)
        assert end_ids(tokenizer, chat=True) == {tokenizer.convert_tokens_to_ids(token)}

    def test_it_need_not_be_eos(self):
        tokenizer = byte_level("<|endoftext|>", "<|im_start|>", "<|im_end|>", chat_template=CHATML)
        assert tokenizer.eos_token == "<|endoftext|>"
        ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")}
        assert end_ids(tokenizer, chat=True) == ends
        assert end_ids(tokenizer, chat=False) == {tokenizer.eos_token_id}

    def test_it_is_eos_where_the_template_puts_none(self):
        tokenizer = byte_level("<|endoftext|>", chat_template="{% for m in messages %}{{ m.content }}\n{% endfor %}")
        assert end_ids(tokenizer, chat=True) == {tokenizer.eos_token_id}


class TestTooLong:
    """One token a character, a BOS before and an EOS after."""

    ROWS = (
        Example(0, "c", instruction="a"),
        Example(1, "c" * 7, instruction="a", line=7),
        Example(2, "c" * 6, instruction="a"),
        Example(3, "c", prompt="a" * 1200),
    )

    def both_ways(self, examples, name="characters", **settings) -> list:
        masker = Masker(tokenizer_named(name), get_template("{instruction}\n"), 10, **settings)
        shown, problems = masker.tokenize(examples)
        streamed = list(masker.mask(examples))
        assert [row for row in streamed if isinstance(row, Problem)] == problems
        masked = [each for row in streamed if not isinstance(row, Problem) for each in row]
        assert [(each.row, each.labels) for each in masked] == [(each.row, each.labels) for each in shown]
        return streamed

    def test_dropped_rows_are_problems_of_their_own_kind(self):
        first, second, third, fourth = self.both_ways(self.ROWS, too_long="drop")
        assert [len(each.input_ids) for row in (first, third) for each in row] == [5, 10]
        words = "has {} tokens, and max length is 10. Raise it, or shorten the row."
        assert second == Problem(1, 7, words.format("11"), dropped=True)
        assert fourth == Problem(3, None, words.format("1,203"), dropped=True)

    def test_a_conversation_is_dropped_whole(self):
        unstopped = (
            "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
            "{% if add_generation_prompt %}assistant: {% endif %}"
        )
        masker = Masker(byte_level("</s>", chat_template=unstopped), get_template("chat"), 24)
        talk = Example(0, "d" * 9, messages=tuple(map(Message, ("user", "assistant", "user"), "abc")))
        (sequences,) = masker.mask([talk])
        assert [each.cut > 0 for each in sequences] == [False, True]
        (dropped,) = replace(masker, too_long="drop").mask([talk])
        assert isinstance(dropped, Problem)
        assert dropped.dropped

    def test_others_are_as_they_were(self):
        plain = self.both_ways(self.ROWS)
        assert [each.cut for row in plain for each in row] == [0, 1, 0, 1193]
        assert [row for row in self.both_ways(self.ROWS, too_long="refuse") if isinstance(row, Problem)] == []
        kept = [row for row in self.both_ways(self.ROWS, too_long="drop") if not isinstance(row, Problem)]
        assert kept == [plain[0], plain[2]]

    def test_another_word_is_refused(self):
        with pytest.raises(ConfigError, match="too_long is 'skip'; choose one of cut, drop, refuse"):
            RunConfig(too_long="skip")


class TestStreaming:
    """`mask` against `tokenize`, over the border of a chunk."""

    @pytest.fixture(autouse=True)
    def small_chunks(self, monkeypatch):
        monkeypatch.setattr(rows, "CHUNK", 3)

    def streamed(self, examples, name="gpt2", spec="instruction", max_length=40):
        masked = Masker(tokenizer_named(name), get_template(spec), max_length).mask(examples)
        return [each for row in masked for each in ([row] if isinstance(row, Problem) else row)]

    @given(data=st.data())
    def test_gives_the_same_rows(self, data):
        name = data.draw(st.sampled_from(sorted(MAKERS)))
        spec = data.draw(templates(name))
        drawn = data.draw(st.lists(st.tuples(texts(), texts(), st.booleans()), max_size=8))
        examples = [
            Example(i, answer, messages=(Message("user", asked),)) if is_chat else Example(i, answer, instruction=asked)
            for i, (asked, answer, is_chat) in enumerate(drawn)
        ]
        rows, problems = Masker(tokenizer_named(name), get_template(spec), 40).tokenize(examples)
        streamed = self.streamed(examples, name, spec)
        assert [row.row for row in streamed] == list(range(len(examples)))
        assert [row for row in streamed if isinstance(row, Problem)] == problems
        fields = ("row", "input_ids", "labels", "cut", "flags", "trained")
        masked = [row for row in streamed if not isinstance(row, Problem)]
        assert [[getattr(row, field) for field in fields] for row in masked] == [
            [getattr(row, field) for field in fields] for row in rows
        ]

    @pytest.mark.parametrize("count", range(8))
    def test_of_any_number(self, count):
        examples = [Example(i, "b" * i, instruction="a") for i in range(count)]
        assert [row.row for row in self.streamed(examples)] == list(range(count))

    def test_a_chunk_of_problems_alone_does_not_end_it(self):
        chat = [Example(i, "b", messages=(Message("user", "a"),)) for i in range(7)]
        streamed = self.streamed([*chat, replace(chat[0], row=7, messages=(), instruction="a")])
        assert [isinstance(row, Problem) for row in streamed] == [True] * 7 + [False]

    def test_reads_no_more_than_it_needs_ahead(self):
        read = []

        def counted():
            for row in range(100):
                read.append(row)
                yield Example(row, "b", instruction="a")

        rows = Masker(tokenizer_named("gpt2"), get_template("instruction"), 40).mask(counted())
        assert read == []
        assert next(rows)[0].row == 0
        for _ in range(3):
            next(rows)
        rows.close()
        assert len(read) <= 3 * (2 + AHEAD)  # the chunk that came out, the one being read from, those ahead

    def test_an_error_in_the_source_is_raised(self):
        def broken():
            yield Example(0, "b", instruction="a")
            raise OSError("the disk is gone")

        with pytest.raises(OSError, match="the disk is gone"):
            self.streamed(broken())
