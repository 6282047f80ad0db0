from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import MAKERS, tokenizer_named
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from sftdemo.core.errors import ModelError
from sftdemo.data.templates import Segment
from sftdemo.mask.encoding import TextEncoder, encoder_for, largest_token, partition


def encoder(name: str) -> TextEncoder:
    return encoder_for(tokenizer_named(name))


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("gpt2", []), ("llama", ["<s>"]), ("appends_eos", []), ("unigram", []), ("characters", ["<s>"])],
)
def test_prefix(name, prefix):
    assert tokenizer_named(name).convert_ids_to_tokens(encoder(name).prefix_ids) == prefix


@pytest.mark.parametrize("name", MAKERS)
def test_continuation_is_the_middle_of_a_text(name):
    """The ids of a continuation are those the tokenizer gives it after a newline."""
    tokenizer = tokenizer_named(name)
    before = tokenizer("Say hello\n", add_special_tokens=False)["input_ids"]
    for text in ("answer", " answer", "\nanswer", ""):
        whole = tokenizer("Say hello\n" + text, add_special_tokens=False)["input_ids"]
        if whole[: len(before)] == before:
            assert encoder(name).encode_continuation(text).ids == whole[len(before) :], repr(text)


@pytest.mark.parametrize("name", ["llama", "llama_always", "llama_legacy"])
def test_continuation_spans(name):
    encoded = encoder(name).encode_continuation("hello hello")
    assert ["hello hello"[begin:end] for begin, end in partition(encoded.offsets, 0, 11)][-1] == " hello"
    assert all(0 <= begin <= end <= 11 for begin, end in encoded.offsets)


@pytest.mark.parametrize("name", ["chatml", "llama"])
def test_chat_encodes_the_templates_special_tokens_only(name):
    tokenizer = tokenizer_named(name)
    token = tokenizer.eos_token
    template, user = Segment(f"{token}a", "template"), Segment(f"a{token}", "prompt")
    (ids,) = [encoded.ids for encoded in encoder(name).encode_chat([[template, user, template]])]
    assert ids.count(tokenizer.eos_token_id) == 2
    assert encoder(name).has_special_text([user])
    assert not encoder(name).has_special_text([template])


def test_chat_offsets_cover_the_text():
    segments = [
        Segment("<|im_start|>user\n", "template"),
        Segment("é <|im_end|>", "prompt"),
        Segment("<|im_end|>\n", "template"),
    ]
    (encoded,) = encoder("chatml").encode_chat([segments])
    text = "".join(segment.text for segment in segments)
    spans = partition(encoded.offsets, 0, len(text))
    assert "".join(text[begin:end] for begin, end in spans) == text
    assert [text[begin:end] for begin, end in spans if text[begin:end].startswith("<|im")] == [
        "<|im_start|>",
        "<|im_end|>",
    ]


def test_a_special_token_may_swallow_the_space_beside_it():
    from tokenizers import AddedToken

    tokenizer = MAKERS["chatml"]()
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<|go|>", rstrip=True, special=True)]})
    go = tokenizer.convert_tokens_to_ids("<|go|>")
    segments = [Segment("<|go|>  a", "template"), Segment("<|im_end|>", "prompt")]
    (encoded,) = encoder_for(tokenizer).encode_chat([segments])
    assert encoded.ids[0] == go
    assert encoded.offsets[0] == (0, 8)


def test_a_slow_tokenizer_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match=r"Slow does not say which characters.*tokenizer\.json"):
        TextEncoder(Slow(), ())


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1), st.integers(0, 5), st.integers(0, 15))
def test_a_partition_has_neither_gap_nor_overlap(offsets, begin, length):
    spans = partition(offsets, begin, begin + length)
    assert len(spans) == len(offsets)
    assert spans[0][0] == begin
    assert spans[-1][1] == begin + length
    assert all(first[1] == second[0] for first, second in pairwise(spans))
    assert all(first <= last for first, last in spans)


def test_partition_by_eye():
    assert partition([(0, 1), (1, 2), (1, 2), (3, 4)], 0, 5) == [(0, 1), (1, 2), (2, 2), (2, 5)]
    assert partition([], 0, 3) == []


@pytest.mark.parametrize(
    ("vocabulary", "largest"),
    [({"a": 0, "b": 1}, ("b", 1)), ({"a": 0, "b": 7}, ("b", 7)), ({"a": 2, "b": 0}, ("a", 2)), ({}, ("", 0))],
    ids=["all ids", "a gap", "a gap, the other way round", "none"],
)
def test_the_token_with_the_largest_id(vocabulary, largest):
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="a"))
    tokenizer.add_tokens(["added"])
    assert largest_token(tokenizer) == largest
