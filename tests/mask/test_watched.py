"""A tokenizer that takes for ever, or all memory, is refused with a sentence; those of known models cost nothing."""

from __future__ import annotations

import pytest
from tiny import MAKERS, OTHERS, byte_level, tokenizer_named
from tokenizers import Regex, decoders, normalizers, pre_tokenizers

from sftdemo.core.apart import APART
from sftdemo.core.errors import ModelError
from sftdemo.data.examples import Example
from sftdemo.data.templates import get_template
from sftdemo.mask.encoding import encoder_for
from sftdemo.mask.labels import Masker
from sftdemo.mask.watched import watched


def with_words(expression: str):
    """A tokenizer that cuts a text into words by this expression."""
    tokenizer = byte_level("<|e|>")
    split = pre_tokenizers.Split(Regex(expression), behavior="isolated")
    steps = [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return tokenizer


@pytest.mark.parametrize("name", MAKERS | OTHERS)
def test_those_of_known_models_are_used_as_they_are(name):
    backend = tokenizer_named(name).backend_tokenizer
    assert watched(backend) is backend


def test_an_expression_that_is_not_known_makes_the_same_tokens():
    row, tokenizer = Example(0, "Hello, wörld!", instruction="Say hello"), with_words(r"\w+|[^\w\s]")
    (masked,), _ = Masker(tokenizer, get_template("instruction"), 512).tokenize([row])
    assert type(encoder_for(tokenizer).plain).__name__ == "_Watched"
    text = masked.text[masked.text.index("Hello") :]
    assert tokenizer.backend_tokenizer.encode(text).ids == [index for index in masked.labels if index != -100][:-1]


def with_replacements(*steps: tuple[str | Regex, str]):
    """A tokenizer that replaces these in a text first."""
    tokenizer = byte_level("<|e|>")
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(*step) for step in steps])
    return tokenizer


@pytest.mark.parametrize(
    ("steps", "is_watched"),
    [
        ([(" ", "▁")] * 9 + [("``", '"'), (Regex(" {2,}"), " ")], False),
        ([("a", "b" * 8)], False),
        ([("a", "b" * 9)], True),
        ([("ab", "ababab")] * 2, True),
        ([(Regex(r"\s+"), " " * 9)], True),
    ],
)
def test_replacements_that_make_a_text_much_longer_are_watched(steps, is_watched):
    backend = with_replacements(*steps).backend_tokenizer
    assert (watched(backend) is not backend) == is_watched


def test_answers_that_a_decoder_would_make_much_longer_are_refused():
    tokenizer = byte_level("<|e|>")
    backend, step = tokenizer.backend_tokenizer, decoders.Replace
    backend.decoder = decoders.Sequence([step("a", "b" * 8), decoders.ByteLevel()])
    assert watched(backend) is backend
    backend.decoder = decoders.Sequence([step("a", "bbb"), step("b", "ccc")])
    with pytest.raises(ModelError, match="its decoder may make more than 8 characters of each that it decodes"):
        encoder_for(tokenizer)


def test_a_text_that_grows_beyond_all_memory_is_refused():
    masker = Masker(with_replacements(*[("a", "a" * 30)] * 9), get_template("instruction"), 512)
    with pytest.raises(
        ModelError, match=r"the replacements of its normalizer may make it grow without end\. Choose another model\.$"
    ):
        masker.tokenize([Example(0, "a", instruction="Say hello")])


@pytest.mark.parametrize("expression", ["(a+)+$", "(a|aa)+$"])
def test_one_that_takes_for_ever_is_refused_and_not_tried_again(expression, monkeypatch):
    masker, ask, asked = Masker(with_words(expression), get_template("instruction"), 512), APART.ask, []
    endless = "a" * 60 + "!"

    def counted(*words, texts, **more):
        asked.extend(text for text in texts if endless in text)
        return ask(*words, texts=texts, **more)

    monkeypatch.setattr(APART, "ask", counted)
    for _ in range(3):
        with pytest.raises(ModelError, match=r"^the model's tokenizer cannot encode a text .* Choose another model\."):
            masker.tokenize([Example(0, endless, instruction="Say hello")])
    assert len(asked) == 1
