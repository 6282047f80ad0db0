from __future__ import annotations

import json

import pytest
from tiny import tokenizer_named

from sftdemo.data.examples import parse_examples
from sftdemo.data.templates import get_template
from sftdemo.mask.checks import CHECKS
from sftdemo.mask.labels import Masker, loss_weights
from sftdemo.mask.markup import row_section
from sftdemo.mask.view import SAYS, row_counts, row_words, summary, to_json, view_tokens, visible


def tokenized(*rows, name="gpt2", template="instruction", max_length=128):
    data = parse_examples(json.dumps(rows))
    examples, problems = Masker(tokenizer_named(name), get_template(template), max_length).tokenize(data.train)
    assert not problems
    return examples


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain", "plain"),
        (" two words ", "␣two words␣"),
        ("   ", "␣␣␣"),
        ("  a", "␣␣a"),
        ("a\n\nb\tc", "a↵↵b⇥c"),
        ("\x00\x1b[31m\x7f\r", "␀␛[31m␡␍"),
        ("naïve 🦜", "naïve 🦜"),
    ],
)
def test_whitespace_and_control_characters_are_made_visible(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize("name", ["gpt2", "llama", "unigram", "characters"])
def test_view_tokens_are_the_examples(name):
    (example,) = tokenized({"instruction": "Say hello", "output": "Hello\nworld! "}, name=name)
    tokens = view_tokens(example, tokenizer_named(name))
    assert [token.id for token in tokens] == list(example.input_ids)
    assert [token.id if token.trained else -100 for token in tokens] == list(example.labels)
    assert [token.kind for token in tokens] == list(example.kinds)
    assert [token.breaks for token in tokens] == [text.count("\n") for text in example.tokens]
    for token, text in zip(tokens, example.tokens, strict=True):
        if token.kind not in ("special", "eos"):
            assert token.text == visible(text)


def test_tokens_without_text_go_by_their_names():
    (example,) = tokenized({"instruction": "Say hello", "output": "Hello"}, name="llama")
    tokens = view_tokens(example, tokenizer_named("llama"))
    assert (tokens[0].text, tokens[0].kind) == ("<s>", "special")
    assert (tokens[-1].text, tokens[-1].kind, tokens[-1].trained) == ("</s>", "eos", True)


@pytest.mark.parametrize("role", ["developer", "eos"])
def test_a_turn_of_a_role_that_only_its_template_knows_is_of_the_prompt(role):
    asked = [{"role": role, "content": "Hello"}, {"role": "user", "content": "Hi"}]
    (example,) = tokenized(
        {"messages": [*asked, {"role": "assistant", "content": "Yo"}]}, name="chatml", template="chat"
    )
    assert {"prompt", "user"} < set(example.kinds) < SAYS.keys()
    assert example.kinds.count("eos") == 1


def test_a_character_of_several_tokens_is_shown_once():
    (example,) = tokenized({"instruction": "a", "output": "🦜"})
    texts = [token.text for token in view_tokens(example, tokenizer_named("gpt2")) if token.kind == "completion"]
    assert len(texts) > 1
    assert texts == ["🦜", *[""] * (len(texts) - 1)]


def test_the_json_form():
    (example,) = tokenized({"instruction": "Say hello", "output": "Hello"})
    record = json.loads(json.dumps(to_json(example)))
    assert record["row"] == 0
    assert record["text"] == "### Instruction:\nSay hello\n\n### Response:\nHello"
    assert "".join(record["tokens"]) == record["text"]
    assert [record["text"][begin:end] for begin, end in record["spans"]] == record["tokens"]
    lengths = {len(record[name]) for name in ("input_ids", "labels", "tokens", "kinds", "spans")}
    assert lengths == {len(example.input_ids)}
    assert record["labels"] == list(example.labels)
    assert record["trained"] == sum(label != -100 for label in record["labels"]) > 0
    assert (record["cut"], record["flags"]) == (0, [])


def test_the_json_form_of_a_row_that_is_cut():
    (example,) = tokenized({"instruction": "Say hello", "output": "Hello " * 20}, max_length=30)
    record = to_json(example)
    assert {len(record[name]) for name in ("input_ids", "labels", "tokens", "kinds", "spans")} == {30}
    assert record["cut"] > 0
    assert record["flags"] == ["answer_cut", "eos_cut"]


def test_the_summary():
    examples = tokenized({"instruction": "a", "output": "b"}, {"instruction": "c", "output": "d"})
    tokens, trained = (sum(n) for n in zip(*[(len(e.input_ids), e.trained) for e in examples], strict=True))
    expected = f"2 examples · {tokens} tokens · {trained} trained ({trained / tokens:.0%})"
    assert summary(2, tokens, trained, 0) == expected
    assert summary(2, tokens, trained, 1200) == f"{expected} · 1,200 held out"
    assert summary(1, 10, 5, 0) == "1 example · 10 tokens · 5 trained (50%)"
    assert summary(0, 0, 0, 0) == "0 examples · 0 tokens · 0 trained"
    assert summary(1400, 35_000, 12_345, 0) == "1,400 examples · 35,000 tokens · 12,345 trained (35%)"


@pytest.mark.parametrize("weight", [0, 0.3, 1])
def test_counts_follow_the_prompts_weight_as_the_loss_does(weight):
    (example,) = tokenized({"instruction": "Say hello", "output": "Hello"})
    weights = loss_weights(example.labels, weight)
    expected = weights.count(1), sum(0 < each < 1 for each in weights), weights.count(0)
    assert row_counts(example, weight) == expected
    assert [token.weight for token in view_tokens(example, tokenizer_named("gpt2"), weight)] == list(weights)
    told = {0: "", 0.3: f" · {expected[1]} count 0.3 times", 1: ""}
    assert row_words(example, weight) == f"{expected[2]} not trained{told[weight]} · {expected[0]} trained"
    assert to_json(example, weight).get("loss_weights", []) == (list(weights) if weight else [])
    drawn = row_section(example, tokenizer_named("gpt2"), weight)
    assert (drawn.count(" trained"), drawn.count(" partly")) == (expected[0] + 2, expected[1])  # two in the head


def test_flags_are_said_in_their_order():
    (example,) = tokenized({"instruction": "Say hello", "output": "Hello " * 20}, max_length=30)
    assert example.flags == ("answer_cut", "eos_cut")
    assert str(CHECKS["eos_cut"]) == (
        "EOS is cut by max length. The answer is whole, but the row never teaches the model to stop. "
        "Raise max length by one token."
    )
    (example,) = tokenized({"instruction": "a", "output": "b"})
    assert example.flags == ()
