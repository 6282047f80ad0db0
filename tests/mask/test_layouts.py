from __future__ import annotations

import json
from itertools import pairwise

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from masked import fresh_tokens
from tiny import tiny_gpt2, tiny_llama, tokenizer_named
from trl import SFTConfig, SFTTrainer, pack_dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from sftdemo.core.errors import TrainingError
from sftdemo.data.examples import Example
from sftdemo.data.templates import get_template
from sftdemo.mask.labels import Masker
from sftdemo.mask.layouts import Block, Layout, layouts, padded
from sftdemo.model.predictions import split_batch
from sftdemo.model.prefix_tree import prefix_tree
from sftdemo.train.batches import verify_batch

LAYOUTS = ["padded", "padding_free", "packed"]


@pytest.fixture(scope="module")
def shown():
    answers = ["Hello world!", "1 2 3", "Arr, Rome!", "a"]
    examples = [Example(row, answer, instruction=f"Say {answer}") for row, answer in enumerate(answers)]
    rows, _ = Masker(tokenizer_named("chatml"), get_template("{instruction}\n"), 64).tokenize(examples)
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


@st.composite
def rows_to_lay_out(draw):
    lengths = draw(st.lists(st.integers(0, 200), max_size=60))
    batch_size, max_length = draw(st.integers(1, 20)), draw(st.integers(8, 150))
    fresh = [draw(st.integers(0, max(min(length, max_length) - 1, 0))) for length in lengths]
    return lengths, fresh, batch_size, max_length


@st.composite
def rows_that_begin_alike(draw):
    """Rows of ids grown from each other's beginnings, some the same, and how they are batched and cut."""
    rows = [draw(st.lists(st.integers(0, 2), min_size=1, max_size=12))]
    for _ in range(draw(st.integers(0, 25))):
        begin = draw(st.sampled_from(rows))
        rows.append(begin[: draw(st.integers(0, len(begin)))] + draw(st.lists(st.integers(0, 2), max_size=6)))
    return [row for row in rows if row], draw(st.integers(1, 9)), draw(st.integers(1, 20))


def in_batches(rows: list, size: int) -> list[list]:
    return [rows[begin : begin + size] for begin in range(0, len(rows), size)]


class TestLayouts:
    @given(rows_to_lay_out())
    def test_laws(self, drawn):
        lengths, fresh, batch_size, max_length = drawn
        found = layouts(*drawn)
        assert [layout.name for layout in found] == ["padded", "shared", "packed", "seed"]
        for layout in found:
            limit = 128 if layout.name == "seed" else max_length
            expected = {index: min(length, limit) for index, length in enumerate(lengths) if length}
            if layout.name == "shared":
                expected = {index: fresh[index] for index in expected}
            blocks = [block for row in layout.rows for block in row]
            assert {block.example: block.length for block in blocks} == expected
            assert len(blocks) == len(expected)
            assert len(layout.widths) == len(layout.rows)
            assert layout.tokens == sum(expected.values()) == sum(lengths) - layout.lost - layout.saved
            assert layout.positions == sum(layout.widths) == layout.tokens + layout.wasted
            assert all(
                width >= sum(block.length for block in row)
                for row, width in zip(layout.rows, layout.widths, strict=True)
            )
            assert layout.fill == (pytest.approx(layout.tokens / layout.positions) if layout.positions else 0.0)
            assert sum(layout.filled(limit)) * limit == pytest.approx(layout.tokens)
        in_rows, shared, packed, seed = found
        assert [block.example for (block,) in in_rows.rows] == [index for index, length in enumerate(lengths) if length]
        assert all(len(row) == batch_size for row in shared.rows[:-1])
        assert [block.example for row in shared.rows for block in row] == [row[0].example for row in in_rows.rows]
        assert shared.wasted == packed.wasted == in_rows.saved == packed.saved == seed.saved == 0
        assert in_rows.lost == shared.lost == packed.lost
        assert shared.saved >= sum(map(bool, lengths))  # at least each example's last token
        assert max(packed.widths, default=0) <= max_length
        assert max(packed.filled(max_length), default=0) <= 1
        assert all(first + second > max_length for first, second in pairwise(sorted(packed.widths)[:2]))
        assert set(seed.widths) <= {128}
        assert padded(lengths, batch_size, max_length) == in_rows

    @pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
    def test_padded_is_the_collators_batches(self, batch_size):
        lengths = [5, 9, 2, 7, 7, 1, 12, 3, 3, 4]
        rows = [{"input_ids": [index] * length} for index, length in enumerate(lengths)]
        in_rows, *_ = layouts(lengths, [length - 1 for length in lengths], batch_size, 64)
        batches = in_batches(rows, batch_size)
        shapes = [DataCollatorForLanguageModeling(pad_token_id=0)(batch)["input_ids"].shape for batch in batches]
        assert in_rows.widths == tuple(width for count, width in shapes for _ in range(count))

    @given(rows_that_begin_alike())
    def test_shared_is_the_prefix_tree_of_each_batch(self, drawn):
        """A block holds the nodes that no earlier row of its batch runs through, as the whole tree tells."""
        rows, batch_size, max_length = drawn
        kept = [tuple(row[:max_length]) for row in rows]
        shared = layouts([len(row) for row in rows], fresh_tokens(kept, batch_size), batch_size, max_length)[1]
        trees = [prefix_tree([(row, row) for row in batch]) for batch in in_batches(kept, batch_size)]
        assert shared.widths == tuple(len(tree.input_ids) for tree in trees)
        for row, tree in zip(shared.rows, trees, strict=True):
            earlier: set[int] = set()
            for block, path in zip(row, tree.paths, strict=True):
                assert block.length == len(set(path) - earlier)
                earlier |= set(path)
        assert shared.saved == sum(map(len, kept)) - sum(shared.widths)

    def test_a_copy_and_a_beginning_are_blocks_of_nothing(self):
        rows = [(1, 2, 3, 4), (1, 2, 3, 4), (1, 2), (1, 2, 3, 5), (1, 2, 3, 4, 5)]
        shared = layouts([len(row) for row in rows], fresh_tokens(rows, 8), 8, 64)[1]
        assert shared == Layout("shared", (tuple(map(Block, range(5), (3, 0, 0, 0, 1), (0, 3, 1, 3, 3))),), (4,), 0, 15)
        assert (shared.tokens, shared.positions, shared.fill) == (4, 4, 1.0)
        apart = layouts([len(row) for row in rows], fresh_tokens(rows, 1), 1, 64)[1]
        assert (apart.widths, apart.saved) == ((3, 3, 1, 3, 4), 5)

    def test_packed_is_what_the_trainer_gets(self, tmp_path):
        """More rows than TRL packs at a time, most of a length with others, some cut."""
        generator = torch.Generator().manual_seed(0)
        lengths = torch.randint(1, 90, (2_300,), generator=generator).tolist()
        ids = [[index] * length for index, length in enumerate(lengths)]
        arguments = SFTConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=4,
            packing=True,
            max_length=64,
            use_cpu=True,
            bf16=False,
            report_to="none",
        )
        trainer = SFTTrainer(
            model=tiny_gpt2(tokenizer_named("gpt2")),
            args=arguments,
            processing_class=tokenizer_named("gpt2"),
            train_dataset=Dataset.from_dict({"input_ids": ids, "labels": ids}),
        )
        packed = layouts(lengths, fresh_tokens([row[:64] for row in ids], 4), 4, 64)[2]
        assert [[block.length for block in row] for row in packed.rows] == trainer.train_dataset["seq_lengths"][:]
        owners = [[block.example for block in row for _ in range(block.length)] for row in packed.rows]
        assert owners == trainer.train_dataset["input_ids"][:]
        batches = list(trainer.get_train_dataloader())
        assert sum(batch["input_ids"].numel() for batch in batches) == packed.positions
        assert {batch["input_ids"].shape[0] for batch in batches} == {1}
        assert packed.lost == sum(max(length - 64, 0) for length in lengths) > 0

    def test_figures(self):
        in_rows, shared, packed, seed = layouts([6, 200, 4], [5, 7, 3], 2, 10)
        assert in_rows == Layout("padded", ((Block(0, 6),), (Block(1, 10),), (Block(2, 4),)), (10, 10, 4), 190)
        assert (in_rows.tokens, in_rows.positions, in_rows.wasted, in_rows.fill) == (20, 24, 4, 20 / 24)
        assert shared == Layout("shared", ((Block(0, 5, 0), Block(1, 7, 2)), (Block(2, 3, 0),)), (12, 3), 190, 5)
        assert (shared.tokens, shared.positions, shared.wasted, shared.fill) == (15, 15, 0, 1.0)
        assert packed == Layout("packed", ((Block(1, 10),), (Block(0, 6), Block(2, 4))), (10, 10), 190)
        figures = {"tokens": 20, "positions": 20, "wasted": 0, "fill": 1.0, "saved": 0}
        rows = [[[1, 10]], [[0, 6], [2, 4]]]
        assert packed.to_dict() == {"name": "packed", "rows": rows, "widths": [10, 10], "lost": 190} | figures
        assert json.loads(json.dumps(packed.to_dict())) == packed.to_dict()
        assert (shared.to_dict()["rows"], shared.to_dict()["saved"]) == ([[[0, 5], [1, 7]], [[2, 3]]], 5)
        assert (packed.fill, packed.filled(10), packed.filled(20)) == (1.0, (1.0, 1.0), (0.5, 0.5))
        assert (seed.widths, seed.lost, seed.wasted) == ((128,) * 3, 72, 122 + 124)

    def test_nothing_to_lay_out(self, capfd):
        for layout in (*layouts([], [], 8, 512), *layouts([0, 0], [0, 0], 8, 512)):
            assert (layout.rows, layout.widths, layout.lost, layout.saved, layout.fill) == ((), (), 0, 0, 0.0)
        assert capfd.readouterr() == ("", "")

    def test_draws_nothing_on_many(self, capfd):
        assert len(layouts([3] * 5_000, [2] * 5_000, 8, 512)[0].rows) == 5_000
        assert capfd.readouterr() == ("", "")
