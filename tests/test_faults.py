"""Faults put into the core on purpose, each of which the named check must notice.

A test that has never failed proves nothing. These checks are the oracle's comparisons over a few fixed rows; the
property tests make the same comparisons over many.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from chats import ODD, STYLES, chat_tokenizer
from law import law, trimmed
from oracle import expected
from strategies import tokenize
from tiny import MAKERS, tiny_gpt2, tiny_llama, tokenizer_named

from sftdemo.core.errors import TrainingError
from sftdemo.data.examples import Example, HandMask, Message
from sftdemo.data.templates import get_template
from sftdemo.mask.labels import Masker
from sftdemo.model import predictions
from sftdemo.train import batches

ROWS = [  # (template, instruction, input, completion, max_length)
    ("instruction", "Say hello", "", "Hello world!", 10_000),
    ("alpaca", "Count to 3", "in French", "un, deux 3\n", 10_000),
    ("{instruction} ", "Say", "", "hello", 10_000),  # a merge
    ("{instruction}", "Say →", "", "é answer", 10_000),  # unknown tokens that fuse
    ("{instruction}", "", "", "Hello world!", 10_000),
    ("instruction", "Say hello", "", "", 10_000),
    ("instruction", "a", "", "Hello world! 🏴\u200d☠️", 24),
]
TYPED = [("instruction", "Say <|endoftext|></s>", "", "<|im_end|></s><|endoftext|>", 10_000)]
TALK = [("user", "Ask one"), ("assistant", "hello one."), ("user", "Ask two"), ("assistant", "Say two.")]


def conversation(style: str, talk, turns: str) -> list:
    example = Example(0, answer=Message(*talk[-1]), messages=tuple(Message(*turn) for turn in talk[:-1]))
    rows, problems = Masker(chat_tokenizer(style, "gpt2"), get_template("chat", turns), 10_000).tokenize([example])
    assert not problems, (style, problems)
    return rows


def rows_are_the_oracles(names=tuple(MAKERS), cases=tuple(ROWS)) -> None:
    for name in names:
        chat = [
            ("chat", *case[1:]) for case in cases if tokenizer_named(name).chat_template and case[0] == "instruction"
        ]
        for case in (*cases, *chat):
            template, instruction, context, completion, max_length = case
            row = tokenize(name, Example(0, completion, instruction=instruction, input=context), template, max_length)
            assert (row.input_ids, row.labels) == expected(tokenizer_named(name), *case), (name, case)


def typed_text_is_text() -> None:
    rows_are_the_oracles(("gpt2", "chatml", "digits", "appends_eos", "llama3"), TYPED)


def merges_are_flagged() -> None:
    for name in ("gpt2", "llama", "llama3"):
        for case in ROWS:
            row = tokenize(name, Example(0, case[3], instruction=case[1]), case[0])
            assert ("merged_boundary" in row.flags) == (case[0] == "{instruction} "), (name, case)


def conversations_are_the_oracles() -> None:
    for style in (*STYLES, *ODD):
        for turns in ("all", "last"):
            for talk in (TALK, [*TALK[:3], ("assistant", "a <|im_end|></s><|eot_id|> b")]):
                messages = [{"role": role, "content": content} for role, content in talk]
                right = law(chat_tokenizer(style, "gpt2"), messages, turns).sequences
                assert trimmed(conversation(style, talk, turns)) == trimmed(right), (style, turns, talk)


def hand_masks_are_honoured() -> None:
    """Of "a", a newline, a parrot and "b" by GPT-2's bytes: the parrot, and nothing else."""
    text = "a\n🦜b"
    example = Example(0, "🦜b", prompt="a\n", masks=(HandMask(text, ((2, 3),), False),))
    row = tokenize("gpt2", example, "instruction")
    assert tokenizer_named("gpt2").decode([label for label in row.labels if label != -100]) == "🦜"
    usual = tokenize("gpt2", replace(example, masks=()), "instruction")
    other = tokenize("gpt2", replace(example, masks=(replace(example.masks[0], text="another"),)), "instruction")
    assert other.labels == usual.labels
    assert (
        tokenize("gpt2", replace(example, masks=(replace(example.masks[0], eos=True),)), "instruction").labels[-1] == 0
    )


def spans_are_the_tokens_texts() -> None:
    for name in ("gpt2", "digits", "llama3"):
        tokenizer = tokenizer_named(name)
        row = tokenize(name, Example(0, "Hello world!", instruction="Say hello"), "instruction")
        for token, text in zip(row.input_ids, row.tokens, strict=True):
            assert text == tokenizer.decode([token], skip_special_tokens=True), (name, text)


def streaming_gives_the_same() -> None:
    examples = [Example(i, case[3], instruction=case[1]) for i, case in enumerate(ROWS)]
    template = get_template("instruction")
    rows, _ = Masker(tokenizer_named("gpt2"), template, 20).tokenize(examples)
    streamed = [row for (row,) in Masker(tokenizer_named("gpt2"), template, 20).mask(examples)]
    assert [(row.row, row.labels) for row in streamed] == [(row.row, row.labels) for row in rows]


def batches_are_read_back() -> None:
    rows = [tokenize("gpt2", Example(0, text, instruction="a"), "{instruction}\n") for text in ("Hello world!", "b")]
    long, short = rows
    pad = len(long.input_ids) - len(short.input_ids)
    batch = {
        "input_ids": torch.tensor([long.input_ids, short.input_ids + (0,) * pad]),
        "labels": torch.tensor([long.labels, short.labels + (-100,) * pad]),
        "attention_mask": torch.tensor([[1] * len(long.input_ids), [1] * len(short.input_ids) + [0] * pad]),
    }
    assert predictions.split_batch(batch) == [(row.input_ids, row.labels) for row in rows]
    batches.verify_batch(batch, rows)
    flat = {name: torch.tensor([sum((getattr(row, name) for row in rows), ())]) for name in ("input_ids", "labels")}
    flat["position_ids"] = torch.tensor([[*range(len(long.input_ids)), *range(len(short.input_ids))]])
    assert predictions.split_batch(flat) == [(row.input_ids, row.labels) for row in rows]
    trained_padding = batch | {"labels": torch.tensor([long.labels, short.labels + (0,) * pad])}
    another_token = flat | {"input_ids": flat["input_ids"] + 1}
    for spoilt in (trained_padding, another_token):
        try:
            batches.verify_batch(spoilt, rows)
        except TrainingError:
            continue
        raise AssertionError("a spoilt batch was let through")


def the_loss_is_the_stock_loss() -> None:
    from sftdemo.train.trainer import MaskedTrainer

    model = tiny_gpt2(tokenizer_named("gpt2")).eval()
    row = tokenize("gpt2", Example(0, "Hello world!", instruction="Say hello"), "instruction")
    batch = {"input_ids": torch.tensor([row.input_ids]), "labels": torch.tensor([row.labels])}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    trainer = SimpleNamespace(
        _shown=[row],
        shares=False,
        _blank=[],
        _prompt_loss_weight=0.0,
        args=SimpleNamespace(average_tokens_across_devices=False),
    )
    with torch.no_grad():
        ours, stock = MaskedTrainer.compute_loss(trainer, model, batch), model(**batch).loss
    assert abs(ours.item() - stock.item()) < 1e-5


def shared_losses_are_the_rows() -> None:
    """Three rows begin alike, one of them is another's beginning, and one has the same tokens after a different one."""
    from sftdemo.model.prefix_sharing import Branches, acceleration
    from sftdemo.model.prefix_tree import prefix_tree

    model = tiny_llama(tokenizer_named("chatml")).eval()
    ids = [(5, 6, 7, 8, 9), (5, 6, 3, 9), (4, 6, 7), (5, 6, 7)]
    rows = [(row, (-100, -100, *row[2:])) for row in ids]
    branches = Branches.of(prefix_tree(rows), model.device)
    with torch.no_grad():
        with acceleration(model):
            logits = branches.logits(model)
        ours = torch.nn.functional.cross_entropy(logits, branches.targets, reduction="sum")
        stock = 0.0
        for ids, labels in rows:
            logits = model(torch.tensor([ids])).logits[0, :-1]
            stock += torch.nn.functional.cross_entropy(logits, torch.tensor(labels[1:]), reduction="sum")
    assert abs(ours.item() - stock.item()) < 1e-4


def fresh_tokens_are_the_trees_nodes() -> None:
    from sftdemo.mask.layouts import Sharing
    from sftdemo.model.prefix_tree import prefix_tree

    rows = [(1, 2, 3, 9), (1, 2, 4, 9), (0, 1), (1, 2, 9), (2, 2, 9), (1, 2, 3, 4, 9)]
    for size in (3, 6):
        sharing = Sharing(size)
        counts = [sharing.add(row) for row in rows]
        for begin in range(0, 6, size):
            batch = rows[begin : begin + size]
            nodes = len(prefix_tree([(ids, ids) for ids in batch]).input_ids)
            assert sum(counts[begin : begin + size]) == nodes, batch


CHATS, STEP = conversations_are_the_oracles, "mask.conversations._step"
BEGIN = "begin = turn.whole.text, len(turn.prompt.text), len(prompt.ids) - 1"
MASK, CUT, BY_HAND = "mask.labels.decide_labels", "mask.labels._mask", "mask.labels._trained_by_hand"
SHORT_CUT, LOSS = "mask.separable.encode_separable", "model.predictions.predict_batch"
SPLIT = "model.predictions.split_batch"
TREE, BRANCHES = "model.prefix_tree.prefix_tree", "model.prefix_sharing.Branches.of"
# (name, [(function, its text, what stands there instead)], the check that notices)
FAULTS = [
    (
        "the mask one token to the left",
        [(MASK, "labels[begin:end] = input_ids[begin:end]", "labels[begin - 1 : end] = input_ids[begin - 1 : end]")],
        rows_are_the_oracles,
    ),
    (
        "the mask one token to the right",
        [(MASK, "labels[begin:end] = input_ids[begin:end]", "labels[begin + 1 : end] = input_ids[begin + 1 : end]")],
        rows_are_the_oracles,
    ),
    (
        "the prompt is trained",
        [(MASK, "labels[begin:end] = input_ids[begin:end]", "labels[:end] = input_ids[:end]")],
        rows_are_the_oracles,
    ),
    ("position 0 is trained", [(MASK, "labels[:1] = [IGNORE_INDEX]", "pass")], rows_are_the_oracles),
    ("EOS is not trained", [(MASK, "labels[:1] =", "labels[:1] = labels[-1:] =")], rows_are_the_oracles),
    (
        "EOS is dropped",
        [
            ("mask.rows._encode_plain", "stop_id=eos", "stop_id=None"),
            ("mask.rows._encode_plain", "+ (eos is not None)", "+ 0"),
        ],
        rows_are_the_oracles,
    ),
    (
        "EOS comes twice",
        [
            ("mask.row.Row.input_ids", "ids.append(self.stop_id)", "ids.extend([self.stop_id] * 2)"),
            ("mask.row.Row.spans", "* (self.stop_id is not None)", "* 2"),
        ],
        rows_are_the_oracles,
    ),
    (
        "a row is cut from the left",
        [
            (CUT, "input_ids=tuple(input_ids[:max_length])", "input_ids=tuple(input_ids[-max_length:])"),
            (CUT, "kept = row.input_ids, labels[:max_length]", "kept = row.input_ids, labels[-max_length:]"),
        ],
        rows_are_the_oracles,
    ),
    (
        "the joint ids are cut at the prompt's length in spite of a merge",
        [("mask.rows._encode_both", "if joint.ids[:length] == ids.ids and not encoder", "if True or encoder")],
        rows_are_the_oracles,
    ),
    (
        "an unknown token that reaches over the boundary is overlooked",
        [("mask.encoding.TextEncoder.reaches_over", "not self.is_local and", "False and")],
        rows_are_the_oracles,
    ),
    (
        "SentencePiece's own space is put before the answer",
        [("mask.encoding.TextEncoder.encode_continuation", "if self._adds_space:", "if False:")],
        rows_are_the_oracles,
    ),
    (
        "the short cut is taken by every tokenizer",
        [
            (SHORT_CUT, "if not encoder.is_local:", "if False:"),
            (SHORT_CUT, "if encoded[index].ids[-first:] == ids[:first]", "if True"),
            (SHORT_CUT, " and completion.ids[:head] == ids[first:]", ""),
        ],
        rows_are_the_oracles,
    ),
    (
        "the short cut overlooks a merge",
        [
            (SHORT_CUT, "and characters and characters[0] == boundary", ""),
            (SHORT_CUT, "if encoded[index].ids[-first:] == ids[:first]", "if True"),
            (SHORT_CUT, " and completion.ids[:head] == ids[first:]", ""),
        ],
        merges_are_flagged,
    ),
    (
        "what was typed becomes a special token",
        [("mask.encoding.TextEncoder.encode_plain", "self.plain,", "self.with_special,")],
        typed_text_is_text,
    ),
    (
        "what was typed in a chat becomes a special token",
        [("mask.encoding.TextEncoder.encode_chat", "self.has_special_text(segments) for", "False for")],
        typed_text_is_text,
    ),
    (
        "a chat's answer ends in EOS, whatever its template puts there",
        [("mask.turn_ends.TurnEnds._end_of", "if not marks:", "if True:")],
        conversations_are_the_oracles,
    ),
    (
        "the first of several marks ends a turn, whether generation stops there or not",
        [("mask.turn_ends.TurnEnds._end_of", "if mark.id in stops), None)", "), 0)")],
        conversations_are_the_oracles,
    ),
    ("an earlier assistant turn is not trained", [(MASK, "in row.answers", "in row.answers[-1:]")], CHATS),
    (
        "what the user said before an assistant turn is trained",
        [(STEP, "begin = turn.whole.text, len(turn.prompt.text), len(prompt.ids)", BEGIN)],
        CHATS,
    ),
    (
        "every turn is trained where the last was asked for",
        [("mask.conversations._render", 'if template.turns == "all"', "if True")],
        CHATS,
    ),
    (
        "a turn is trained after another text than generation's prompt",
        [("mask.conversations._sequences", "ids[: min(len(before), step.begin)] != before", "False")],
        CHATS,
    ),
    (
        "an answer is trained after other ids than generation's prompt has",
        [(STEP, "elif whole.ids[:begin] != prompt.ids or", "elif False and")],
        CHATS,
    ),
    (
        "an answer that does not continue the prompt is trained as if it did",
        [(STEP, "if not text.startswith(turn.prompt.text):", "if False:")],
        CHATS,
    ),
    (
        "the template sees what was typed as its own marks",
        [("data.chat.Conversation._rendered", "if not self._is_typed:", "if True:")],
        CHATS,
    ),
    ("a mask made by hand is ignored", [(MASK, "if row.hand_mask is not None:", "if False:")], hand_masks_are_honoured),
    (
        "a mask made by hand is used on another text",
        [("mask.row.Row.hand_mask", "if mask.text == self.text", "")],
        hand_masks_are_honoured,
    ),
    (
        "a mask made by hand cuts a character into halves",
        [(BY_HAND, "bool(trained) and trained[-1]", "False")],
        hand_masks_are_honoured,
    ),
    (
        "a mask made by hand never trains EOS",
        [(BY_HAND, "= mask.eos", "= False")],
        hand_masks_are_honoured,
    ),
    (
        "a span is shifted by one",
        [("mask.encoding.partition", "max(position, last)", "max(position, last + 1)")],
        spans_are_the_tokens_texts,
    ),
    (
        "the stream loses a row",
        [("mask.labels.Masker.mask", "yield from masked", "yield from masked[1:]")],
        streaming_gives_the_same,
    ),
    (
        "trained padding is overlooked",
        [("model.predictions.split_batch", "length += 1", "break")],
        batches_are_read_back,
    ),
    (
        "packed rows are not taken apart",
        [(SPLIT, "if position == 0]", "if index == 0]")],
        batches_are_read_back,
    ),
    (
        "a batch is not looked at",
        [("train.batches.verify_batch", "if labels not in labels_of.get(input_ids, ()):", "if False:")],
        batches_are_read_back,
    ),
    (
        "a position is asked for its own token, not for the next",
        [
            (
                LOSS,
                "= weights[:, 1:] > 0",
                "= weights[:, :-1] > 0",
            ),
            (LOSS, "targets[:, 1:][keep[:, :-1]], weights[:, 1:]", "targets[:, :-1][keep[:, :-1]], weights[:, :-1]"),
        ],
        the_loss_is_the_stock_loss,
    ),
    (
        "the loss is of the prompt as well",
        [("mask.labels.loss_weights", "[prompt_loss_weight if", "[1.0 if")],
        the_loss_is_the_stock_loss,
    ),
    (
        "a shared token's position is its node's number",
        [(TREE, "positions.append(position)", "positions.append(node)")],
        shared_losses_are_the_rows,
    ),
    (
        "tokens are shared whatever stands before them",
        [(TREE, "nodes.setdefault((node, token)", "nodes.setdefault((position, token)")],
        shared_losses_are_the_rows,
    ),
    (
        "a shared token is asked for itself, not for the next",
        [(TREE, "input_ids[1:], labels[1:], weights[1:], strict=True)", "input_ids, labels, weights, strict=False)")],
        shared_losses_are_the_rows,
    ),
    (
        "the node before the one that predicts is asked",
        [(TREE, "kept=tuple(kept)", "kept=tuple(node - 1 for node in kept)")],
        shared_losses_are_the_rows,
    ),
    (
        "padding stands before a row",
        [
            (BRANCHES, "path + (0,) * (length - len(path))", "(0,) * (length - len(path)) + path"),
            (BRANCHES, "row * length + at", "row * length + length - len(path) + at"),
        ],
        shared_losses_are_the_rows,
    ),
    (
        "a row shares with one of its neighbours only",
        [("mask.layouts.Sharing.add", "self._sorted[max(at - 1, 0) : at + 1]", "self._sorted[at : at + 1]")],
        fresh_tokens_are_the_trees_nodes,
    ),
    (
        "rows share across batches",
        [("mask.layouts.Sharing.add", "self._sorted = []", "pass")],
        fresh_tokens_are_the_trees_nodes,
    ),
]


def put_in(monkeypatch, faults) -> None:
    """Replaces functions by themselves with another text, wherever a module of the core has them by name."""
    patches: dict[str, list[tuple[str, str]]] = {}
    for path, old, new in faults:
        patches.setdefault(path, []).append((old, new))
    for path, changes in patches.items():
        folder, module_name, *names = path.split(".")
        owner = module = importlib.import_module(f"sftdemo.{folder}.{module_name}")
        for name in names[:-1]:
            owner = getattr(owner, name)
        original = vars(owner)[names[-1]]
        text = textwrap.dedent(inspect.getsource(original.fget if isinstance(original, property) else original))
        for old, new in changes:
            assert text.count(old) == 1, f"{path} has changed: write the fault anew for {old!r}"
            text = text.replace(old, new)
        made: dict[str, object] = {}
        code = compile("from __future__ import annotations\n" + text, f"<{path} with a fault>", "exec")
        exec(code, vars(module), made)
        monkeypatch.setattr(owner, names[-1], made[names[-1]])
        for other in [value for name, value in sys.modules.items() if name.startswith("sftdemo.")]:
            if vars(other).get(names[-1]) is original:
                monkeypatch.setattr(other, names[-1], made[names[-1]])


@pytest.mark.parametrize(("faults", "check"), [fault[1:] for fault in FAULTS], ids=[name for name, *_ in FAULTS])
def test_is_noticed(faults, check, monkeypatch):
    check()
    put_in(monkeypatch, faults)
    with pytest.raises(AssertionError):
        check()
