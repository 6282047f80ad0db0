"""TRL's own preparation of the same rows, from the columns `prompt` and `completion`, and its packing."""

from __future__ import annotations

import pytest
from datasets import Dataset, disable_progress_bars, enable_progress_bars
from hypothesis import given
from hypothesis import strategies as st
from oracle import expected
from strategies import cases, in_words, tokenize
from tiny import MAKERS, tiny_gpt2, tokenizer_named
from trl import SFTConfig, SFTTrainer, pack_dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from sftdemo.data.examples import Example
from sftdemo.model.predictions import split_batch

ROWS = [
    ("Say hello\n", "Hello world!"),
    ("Count to 3\n", "1 2 3"),
    ("🏴\u200d☠️\n", "é 日本\n"),
    ("### Response:\n", "Arr"),
    ("Q: a A:", " answer"),  # the space belongs to the answer
]
MERGING = [("Q: a A: ", "answer"), ("Say ", "hello")]


@pytest.fixture(scope="module")
def trl_labels(tmp_path_factory):
    """From a tokenizer's name and rows, the (input_ids, labels) that SFTTrainer itself prepares."""

    def prepare(name, rows):
        tokenizer = MAKERS[name]()
        tokenizer.pad_token = tokenizer.eos_token
        arguments = SFTConfig(
            output_dir=str(tmp_path_factory.mktemp("trl")),
            bf16=False,
            use_cpu=True,
            activation_checkpointing=False,
            report_to="none",
            max_length=None,
        )
        dataset = Dataset.from_dict({"prompt": [p for p, _ in rows], "completion": [c for _, c in rows]})
        trainer = SFTTrainer(
            model=tiny_gpt2(tokenizer), args=arguments, processing_class=tokenizer, train_dataset=dataset
        )
        return [(tuple(row["input_ids"]), tuple(row["labels"])) for row in trainer.train_dataset]

    return prepare


class TestAgainstTRL:
    """TRL's own preparation of the same rows, from the columns `prompt` and `completion`."""

    @pytest.mark.parametrize("name", [name for name in MAKERS if name != "appends_eos"])
    def test_equal_where_no_boundary_merges(self, name, trl_labels):
        ours = [tokenize(name, Example(0, completion, prompt=prompt), "instruction") for prompt, completion in ROWS]
        assert not any("merged_boundary" in row.flags for row in ours)
        assert trl_labels(name, ROWS) == [(row.input_ids, row.labels) for row in ours]

    @pytest.mark.parametrize("name", ["gpt2", "llama"])
    def test_a_merge_costs_trl_the_prefix_that_generation_sees(self, name, trl_labels):
        """TRL takes the joint ids and trains from where they diverge, so its row does not begin with the prompt's ids
        and its first trained token spans the boundary."""
        tokenizer = tokenizer_named(name)
        for (prompt, completion), (ids, labels) in zip(MERGING, trl_labels(name, MERGING), strict=True):
            row = tokenize(name, Example(0, completion, prompt=prompt), "instruction")
            prompt_ids = tokenizer(prompt)["input_ids"]
            assert list(row.input_ids[: len(prompt_ids)]) == prompt_ids
            assert list(ids[: len(prompt_ids)]) != prompt_ids
            assert list(ids[:-1]) == list(row.joint_ids)
            first = next(label for label in labels if label != -100)
            assert tokenizer.convert_ids_to_tokens(first) in (f"Ġ{completion}", f"▁{completion}")

    def test_a_tokenizer_that_appends_eos_gives_trl_a_second_one(self, trl_labels):
        """TRL writes EOS into the text and the tokenizer appends another; its prompt carries one too, so that the
        labels begin where the prompt's EOS diverges from the answer."""
        eos = tokenizer_named("appends_eos").eos_token_id
        row = tokenize("appends_eos", Example(0, "Hello", prompt="Say\n"), "instruction")
        ((ids, labels),) = trl_labels("appends_eos", [("Say\n", "Hello")])
        assert (ids, labels) == ((*row.input_ids, eos), (*row.labels, eos))

    def test_special_text_is_special_to_trl(self, trl_labels):
        eos = tokenizer_named("gpt2").eos_token_id
        row = tokenize("gpt2", Example(0, "a <|endoftext|> b", prompt="Say\n"), "instruction")
        ((_, labels),) = trl_labels("gpt2", [("Say\n", "a <|endoftext|> b")])
        assert (labels.count(eos), row.labels.count(eos)) == (2, 1)


@pytest.fixture(scope="module")
def quiet():
    disable_progress_bars()
    yield
    enable_progress_bars()


class TestBatches:
    """Rows through TRL's own packing and collator, read back, are the oracle's."""

    LENGTH = 80

    def dataset(self, rows) -> Dataset:
        return Dataset.from_dict(
            {"input_ids": [list(row.input_ids) for row in rows], "labels": [list(row.labels) for row in rows]}
        )

    @given(
        data=st.data(),
        name=st.sampled_from(sorted(MAKERS)),
        layout=st.sampled_from(["padded", "padding_free", "packed"]),
    )
    def test_equal_the_oracle(self, quiet, data, name, layout):
        drawn = [case[:4] for case in data.draw(st.lists(cases(name), min_size=1, max_size=6))]
        rows, wanted = [], []
        for case in drawn:
            example, template, max_length = in_words((*case, self.LENGTH))
            rows.append(tokenize(name, example, template, max_length))
            wanted.append(expected(tokenizer_named(name), *case, self.LENGTH))
        dataset = self.dataset(rows)
        if layout == "packed":
            dataset = pack_dataset(dataset, self.LENGTH, "bfd")
        pad = tokenizer_named(name).eos_token_id
        collator = DataCollatorForLanguageModeling(pad_token_id=pad, padding_free=layout != "padded")
        assert sorted(split_batch(collator(list(dataset)))) == sorted(wanted)

    def test_packing_puts_several_rows_into_one(self):
        """Or the test above would not be about packing."""
        rows = [tokenize("gpt2", Example(i, "Hello", instruction="a"), "{instruction}\n", 80) for i in range(5)]
        assert len(pack_dataset(self.dataset(rows), self.LENGTH, "bfd")) == 1
