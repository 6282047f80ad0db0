from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from datasets import Dataset
from tiny import tiny_gpt2, tiny_llama, tokenizer_named
from trl import pack_dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from sftdemo.errors import TrainingError
from sftdemo.examples import Example
from sftdemo.packing import split_batch, verify_batch
from sftdemo.templates import get_template
from sftdemo.tokenization import tokenize_examples

LAYOUTS = ["padded", "padding_free", "packed"]


@pytest.fixture(scope="module")
def shown():
    answers = ["Hello world!", "1 2 3", "Arr, Rome!", "a"]
    examples = [Example(row, answer, instruction=f"Say {answer}") for row, answer in enumerate(answers)]
    rows, _ = tokenize_examples(examples, tokenizer_named("chatml"), get_template("{instruction}\n"), 64)
    return rows


def collate(shown, layout: str):
    """What TRL's own collator makes of the examples; the pad token is EOS."""
    rows = {
        "input_ids": [list(example.input_ids) for example in shown],
        "labels": [list(example.labels) for example in shown],
    }
    dataset = Dataset.from_dict(rows)
    if layout == "packed":
        dataset = pack_dataset(dataset, 32, "bfd")
    pad = tokenizer_named("chatml").eos_token_id
    collator = DataCollatorForLanguageModeling(pad_token_id=pad, padding_free=layout != "padded")
    return collator(list(dataset))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_batch_is_read_back(shown, layout):
    batch = collate(shown, layout)
    assert sorted(split_batch(batch)) == sorted((example.input_ids, example.labels) for example in shown)
    verify_batch(batch, shown)


def test_the_layouts_are_what_they_are_called(shown):
    lengths = [len(example.input_ids) for example in shown]
    assert collate(shown, "padded")["input_ids"].shape == (4, max(lengths))
    assert collate(shown, "padding_free")["input_ids"].shape == (1, sum(lengths))
    assert collate(shown, "packed")["input_ids"].shape == (1, sum(lengths))
    assert "attention_mask" not in collate(shown, "packed")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_padding_is_not_trained(shown, layout):
    batch = collate(shown, layout)
    trained = sum(example.trained for example in shown)
    assert (batch["labels"] != -100).sum() == trained


@pytest.mark.parametrize("layout", LAYOUTS)
class TestRefused:
    def test_every_single_label_that_differs(self, shown, layout):
        batch = collate(shown, layout)
        rows, columns = batch["input_ids"].shape
        mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
        for row in range(rows):
            for column in range(columns):
                if not mask[row, column]:
                    continue
                labels = batch["labels"].clone()
                labels[row, column] = -100 if labels[row, column] != -100 else batch["input_ids"][row, column]
                with pytest.raises(TrainingError, match="not what was shown"):
                    verify_batch(dict(batch) | {"labels": labels}, shown)

    def test_another_token(self, shown, layout):
        batch = collate(shown, layout)
        batch["input_ids"][0, 1] += 1
        with pytest.raises(TrainingError, match="not what was shown"):
            verify_batch(batch, shown)

    def test_labels_off_by_one(self, shown, layout):
        batch = collate(shown, layout)
        batch["labels"] = batch["labels"].roll(1, dims=1)
        with pytest.raises(TrainingError, match="not what was shown"):
            verify_batch(batch, shown)

    def test_an_example_that_was_not_shown(self, shown, layout):
        with pytest.raises(TrainingError, match="not what was shown"):
            verify_batch(collate(shown, layout), shown[1:])


def test_trained_padding_is_refused(shown):
    """With pad = EOS this is how a model forgets to answer: 115 of 116 trained positions can be padding."""
    batch = collate(shown, "padded")
    batch["labels"][batch["attention_mask"] == 0] = tokenizer_named("chatml").eos_token_id
    with pytest.raises(TrainingError, match="not what was shown"):
        verify_batch(batch, shown)


@pytest.mark.parametrize("layout", ["padding_free", "packed"])
@pytest.mark.parametrize("tiny", [tiny_gpt2, tiny_llama])
class TestIsolation:
    def losses(self, model, batch) -> dict[tuple, torch.Tensor]:
        """Input ids to the example's loss, from one forward over the flattened batch."""
        inputs = {name: batch[name] for name in ("input_ids", "position_ids")}
        with torch.no_grad():
            logits = model(**inputs, use_cache=False).logits[0]
        nll = torch.nn.functional.cross_entropy(logits[:-1], batch["labels"][0, 1:], reduction="none")
        starts = [*(batch["starts"][0] == 0).nonzero().flatten().tolist(), len(nll) + 1]
        return {begin: nll[begin : end - 1].sum() for begin, end in pairwise(starts)}

    def changes(self, tiny, shown, layout, reset: bool) -> tuple[float, float]:
        """How far the first example's loss moves, and at most another's, when the first example's text changes."""
        model = tiny(tokenizer_named("chatml")).eval()
        batch = dict(collate(shown, layout))
        batch["starts"] = batch["position_ids"]
        if not reset:
            batch["position_ids"] = torch.arange(batch["input_ids"].shape[1])[None]
        before = self.losses(model, batch)
        ids = batch["input_ids"].clone()
        ids[0, 0] = (ids[0, 0] + 7) % model.config.vocab_size
        after = self.losses(model, batch | {"input_ids": ids})
        moved = {begin: abs((after[begin] - before[begin]).item()) for begin in before}
        return moved.pop(0), max(moved.values())

    def test_examples_do_not_see_each_other(self, tiny, shown, layout):
        own, others = self.changes(tiny, shown, layout, reset=True)
        assert own > 1e-4
        assert others <= 1e-6

    def test_they_would_without_their_own_positions(self, tiny, shown, layout):
        own, others = self.changes(tiny, shown, layout, reset=False)
        assert own > 1e-4
        assert others > 1e-4
