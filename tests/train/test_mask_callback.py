"""What other trainers really feed: their first batch is read back, drawn and audited, and faults in it are found."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from tiny import byte_level, tiny_gpt2, tokenizer_named
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments
from trl import SFTConfig, SFTTrainer

import sftdemo
from sftdemo.core.errors import DataError, TrainingError
from sftdemo.terminal.show import mask_report, show
from sftdemo.train.mask_callback import MaskCallback, first_batch

GENERATION = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PAIRS = [{"prompt": f"Q: {word}\nA:", "completion": f" {word} it be"} for word in ("red", "blue", "green", "black")]
TALKS = [
    {"messages": [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": word}]}
    for word in "abcd"
]


@pytest.fixture
def tokenizer():
    """Its padding token is none of its ends."""
    return byte_level("<|im_end|>", "<|im_start|>", "<|pad|>", chat_template=GENERATION, pad_token="<|pad|>")


def sft_trainer(tokenizer, rows, folder, callbacks=(), **settings) -> SFTTrainer:
    arguments = SFTConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, per_device_train_batch_size=4, max_steps=1, report_to="none",
        disable_tqdm=True, activation_checkpointing=False, **{"max_length": 64} | settings,
    )  # fmt: skip
    return SFTTrainer(
        tiny_gpt2(tokenizer), arguments, processing_class=tokenizer, train_dataset=Dataset.from_list(rows),
        callbacks=list(callbacks),
    )  # fmt: skip


def plain_trainer(tokenizer, rows, folder, collator=None, callbacks=()) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(folder), use_cpu=True, per_device_train_batch_size=4, max_steps=1, report_to="none",
        disable_tqdm=True, remove_unused_columns=False,
    )  # fmt: skip
    return Trainer(
        tiny_gpt2(tokenizer), arguments, data_collator=collator, train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer, callbacks=list(callbacks),
    )  # fmt: skip


def trained(report) -> list[str]:
    """What is trained of each example, in a stable order."""
    texts = []
    for row in report.rows:
        ids = [label for label in row.labels if label != -100]
        texts.append(report.tokenizer.decode(ids))
    return sorted(texts)


class TestRealTrainers:
    WORDS = ("black", "blue", "green", "red")

    @pytest.mark.parametrize(
        "settings",
        [{}, {"packing": True}, {"padding_free": True, "max_length": None}, {"completion_only_loss": True}],
        ids=["completion only by default", "packed", "padding-free", "completion only"],
    )
    def test_trl_with_prompts_and_completions(self, tokenizer, tmp_path, settings):
        report = mask_report(sft_trainer(tokenizer, PAIRS, tmp_path, **settings))
        assert trained(report) == [f" {word} it be<|im_end|>" for word in self.WORDS]
        assert report.errors == []

    def test_trl_with_everything_trained(self, tokenizer, tmp_path):
        report = mask_report(sft_trainer(tokenizer, PAIRS, tmp_path, completion_only_loss=False))
        assert all(text.endswith(" it be<|im_end|>") for text in trained(report))
        assert all(row.trained >= len(row.input_ids) - 1 for row in report.rows)

    @pytest.mark.parametrize("packing", [False, True])
    def test_trl_with_the_assistants_turns(self, tokenizer, tmp_path, packing):
        report = mask_report(sft_trainer(tokenizer, TALKS, tmp_path, assistant_only_loss=True, packing=packing))
        assert trained(report) == [f"{word}<|im_end|>" for word in "abcd"]
        assert report.errors == []

    def test_trl_wrapped(self, tokenizer, tmp_path):
        """Rows of 64 tokens, cut wherever that is: they are shown as they are."""
        report = mask_report(sft_trainer(tokenizer, PAIRS * 8, tmp_path, packing=True, packing_strategy="wrapped"))
        assert sum(len(row.input_ids) for row in report.rows) == 4 * 64

    def test_transformers_with_a_plain_collator(self, tokenizer, tmp_path):
        rows = [{"input_ids": tokenizer(pair["prompt"] + pair["completion"])["input_ids"] + [0]} for pair in PAIRS]
        collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
        report = mask_report(plain_trainer(tokenizer, rows, tmp_path, collator))
        assert trained(report) == sorted(f"{pair['prompt'][1:]}{pair['completion']}<|im_end|>" for pair in PAIRS)
        assert report.errors == []


def collated(rows: list[tuple[list[int], list[int]]], pad: int) -> dict:
    longest = max(len(ids) for ids, _ in rows)
    fill = [(ids, labels, longest - len(ids)) for ids, labels in rows]
    return {
        "input_ids": torch.tensor([ids + [pad] * more for ids, _, more in fill]),
        "labels": torch.tensor([labels + [-100] * more for _, labels, more in fill]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * more for ids, _, more in fill]),
    }


ROWS = [([5, 6, 7, 8, 0], [-100, -100, 7, 8, 0]), ([5, 6, 9, 0], [-100, -100, 9, 0])]


class TestPlantedFaults:
    def found(self, tokenizer, rows, **more) -> str:
        batch = collated(rows, 2) | more
        return "\n".join([*mask_report(batch, tokenizer).errors, str(mask_report(batch, tokenizer))])

    def test_a_good_batch(self, tokenizer):
        report = mask_report(collated(ROWS, 2), tokenizer)
        assert [(row.input_ids, row.labels) for row in report.rows] == [(tuple(a), tuple(b)) for a, b in ROWS]
        assert report.errors == []
        assert "2 examples · 9 tokens · 5 trained (56%)" in str(report)

    def test_eos_is_masked_because_it_is_the_padding(self, tokenizer, tmp_path):
        """transformers' own collator does that."""
        tokenizer.pad_token = "<|im_end|>"
        rows = [{"input_ids": tokenizer(pair["prompt"] + pair["completion"])["input_ids"] + [0]} for pair in PAIRS]
        collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
        report = mask_report(plain_trainer(tokenizer, rows, tmp_path, collator))
        assert any("EOS" in error for error in report.errors)
        assert "4" in str(report)

    def test_off_by_one(self, tokenizer):
        assert "label" in self.found(tokenizer, [([5, 6, 7, 8, 0], [-100, 7, 8, 0, -100])])

    def test_nothing_is_trained(self, tokenizer):
        """A response template that is not found leaves this."""
        assert "no token is trained" in self.found(tokenizer, [([5, 6, 7, 0], [-100] * 4)])

    def test_padding_is_trained(self, tokenizer):
        labels = torch.tensor([[-100, -100, 7, 8, 0], [-100, -100, 9, 0, 2]])
        assert "padding" in self.found(tokenizer, ROWS, labels=labels)

    def test_an_answer_without_an_end(self, tokenizer):
        found = self.found(tokenizer, [([5, 6, 7, 8], [-100, -100, 7, 8]), ([5, 6, 9], [-100, -100, 9])])
        assert "EOS" in found

    def test_the_mask_was_dropped(self, tokenizer):
        assert "prompt" in self.found(tokenizer, [(ids, ids) for ids, _ in ROWS])


class TestCallback:
    def test_it_writes_logs_and_lets_the_training_go_on(self, tokenizer, tmp_path, caplog):
        callback = sftdemo.MaskCallback(tmp_path / "mask.html")
        with caplog.at_level(logging.INFO, "sftdemo"):
            sft_trainer(tokenizer, PAIRS, tmp_path, [callback]).train()
        (line,) = [record.getMessage() for record in caplog.records if record.name == "sftdemo"]
        assert line.startswith("4 examples · ")
        assert line.endswith("mask.html)")
        page = (tmp_path / "mask.html").read_text()
        assert page.startswith("<!doctype html>")
        assert page.count('<section class="sftdemo-row">') == 4
        assert len(callback.report.rows) == 4

    def test_a_place_that_is_not_there(self, tokenizer, tmp_path):
        trainer = sft_trainer(tokenizer, PAIRS, tmp_path, [sftdemo.MaskCallback(tmp_path / "nowhere" / "mask.html")])
        with pytest.raises(TrainingError, match=r"mask\.html cannot be written: No such file or directory"):
            trainer.train()

    def test_strict_stops_a_run_that_teaches_nothing(self, tokenizer, tmp_path):
        rows = [{"input_ids": [5, 6, 7, 0], "labels": [-100] * 4}] * 4
        trainer = plain_trainer(tokenizer, rows, tmp_path, callbacks=[MaskCallback(tmp_path / "m.html", strict=True)])
        with pytest.raises(TrainingError, match=r"carry an error, so nothing is trained: .*no token is trained"):
            trainer.train()
        assert trainer.state.global_step == 0

    def test_the_training_is_the_same_with_it(self, tokenizer, tmp_path):
        losses = []
        for callbacks in ([], [MaskCallback(tmp_path / "m.html")]):
            torch.manual_seed(0)
            trainer = sft_trainer(tokenizer, PAIRS * 4, tmp_path, callbacks)
            losses.append(trainer.train().training_loss)
        assert losses[0] == losses[1]

    def test_the_first_batch_leaves_the_random_numbers_alone(self):
        loader = torch.utils.data.DataLoader(list(range(8)), shuffle=True, batch_size=2)
        torch.manual_seed(0)
        expected = torch.rand(1)
        torch.manual_seed(0)
        first_batch(loader)
        assert torch.rand(1) == expected


class TestShow:
    def test_in_a_terminal_it_prints(self, tokenizer, capsys):
        show(collated(ROWS, 2), tokenizer)
        out = capsys.readouterr().out
        assert "\x1b[" in out
        assert "2 examples · 9 tokens · 5 trained (56%)" in out

    def test_in_a_notebook_it_is_displayed(self, tokenizer, capsys, monkeypatch):
        shown = []
        shell = type("ZMQInteractiveShell", (), {})()
        ipython = SimpleNamespace(get_ipython=lambda: shell, display=SimpleNamespace(display=shown.append))
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        show(collated(ROWS, 2), tokenizer)
        assert [report._repr_html_().count("<section") for report in shown] == [2]
        assert capsys.readouterr().out == ""

    def test_a_data_set(self, tokenizer):
        rows = Dataset.from_list([{"input_ids": ids, "labels": labels, "text": "x"} for ids, labels in ROWS] * 9)
        report = mask_report(rows, tokenizer, rows=5)
        assert [(row.input_ids, row.labels) for row in report.rows[:2]] == [(tuple(a), tuple(b)) for a, b in ROWS]
        assert len(report.rows) == 5

    def test_html_is_escaped_and_stands_alone(self):
        tokenizer = tokenizer_named("characters")
        ids = [128, *map(ord, "<script>alert(1)</script>"), 129]
        html = mask_report([{"input_ids": ids, "labels": ids}], tokenizer).to_html()
        assert "<script>" not in html
        assert html.isascii()
        assert "src=" not in html

    def test_without_a_tokenizer(self):
        with pytest.raises(DataError, match="there is no tokenizer; pass the one that made the ids"):
            show([{"input_ids": [1], "labels": [1]}])

    def test_without_labels(self, tokenizer):
        with pytest.raises(TrainingError, match="the batch has no labels"):
            show({"input_ids": torch.tensor([[1]])}, tokenizer)
