"""What hypothesis draws from: texts with everything that is unusual, templates, and whole rows."""

from __future__ import annotations

from hypothesis import strategies as st
from tiny import tokenizer_named

from sftdemo.data.examples import Example
from sftdemo.data.templates import get_template
from sftdemo.mask.labels import Masker

SENTENCEPIECE = ("llama", "llama_always", "llama_legacy")
SPECIAL_TEXT = [
    *("<|endoftext|>", "<|im_end|>", "<|im_start|>", "<|begin_of_text|>", "<|end_of_text|>"),
    *("</s>", "<s>", "<unk>", "<0x0A>", "[INST]", "<|im_", "end|>"),
]
PIECES = [
    *("a", "Hello", " world", " ", "  ", "\n", "\n\n", "\r\n", "\t", "\0", ".", "1", "2024", "it's", "assistant"),
    *("é", "e\u0301", "n\u0303\u0323", "\u0301", "🏴\u200d☠️", "👩\u200d👩\u200d👧", "😀", "\u200d", "�", "\ufeff"),
    *("שלום", "\u202eabc", "سلام", "日本"),
    *("{instruction}", "{input}", "### Response:\n", "contentmark0x"),
]
CUSTOM = ["Q: {instruction} A: ", "{instruction}", "{instruction}\n", "→{instruction}\t"]
SENTENCES = [
    "Arr, the capital of Italy be Rome!",
    "Write a response that appropriately completes the request.",
    "Below is an instruction that describes a task, it's 3 words (or 1,234).",
    "What is the capital of Italy",
    "don't answer the question with a word or two words;  count to 10",
    "1. Say hello\n2. Say hello again\n\n- and then",
]


def texts(special: bool = True, min_size: int = 0):
    pieces = st.sampled_from(PIECES + SPECIAL_TEXT * special) | st.characters(exclude_categories=["Cs"])
    return st.lists(pieces, min_size=min_size, max_size=6).map("".join)


def prose():
    """English sentences, long enough that a window of some words is a part of them, with something unusual between."""
    glue = [" ", "\n", "\n\n", "  ", ". ", "", *PIECES, *SPECIAL_TEXT]
    pieces = st.lists(st.tuples(st.sampled_from(SENTENCES), st.sampled_from(glue)), min_size=1, max_size=4)
    return pieces.map(lambda drawn: "".join(sentence + between for sentence, between in drawn))


def templates(name: str):
    chat = ["chat"] if tokenizer_named(name).chat_template else []
    return st.sampled_from(["instruction", "alpaca", *CUSTOM, *chat])


@st.composite
def cases(draw, name: str, special: bool = True):
    """(template, instruction, input, completion, max_length) that the oracle has an answer to."""
    template = draw(templates(name))
    # what the tokenizer's own call cannot leave plain has no oracle: see test_user_text_never_becomes_a_special_token
    special = special and name != "unigram" and not (template == "chat" and name in SENTENCEPIECE)
    instruction, context, completion = draw(texts(special)), draw(texts(special) | st.just("")), draw(texts(special))
    return template, instruction, context, completion, draw(st.integers(8, 80) | st.just(10_000))


def in_words(case) -> tuple[Example, str, int]:
    template, instruction, context, completion, max_length = case
    return Example(3, completion, instruction=instruction, input=context), template, max_length


def tokenize(name: str, example: Example, template: str, max_length: int = 10_000, turns: str = "all"):
    """The one row of `example`, which must not be a problem."""
    (row,), problems = Masker(tokenizer_named(name), get_template(template, turns), max_length).tokenize([example])
    assert not problems
    return row
