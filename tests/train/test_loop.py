from __future__ import annotations

import socket
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from tiny import tiny_gpt2, tiny_llama, tokenizer_named
from trl import SFTConfig, SFTTrainer
from trl.data_utils import pack_dataset

from sftdemo.core.config import RunConfig
from sftdemo.core.errors import TrainingError
from sftdemo.core.events import Prepared, Step
from sftdemo.data.examples import Example
from sftdemo.data.templates import get_template
from sftdemo.mask.labels import Masker
from sftdemo.train.loop import train
from sftdemo.train.trainer import MaskedTrainer

ANSWERS = ["Hello world!", "1 2 3", "Arr, the capital of Italy be Rome!", "a", "two words", ""]


def make(kind: str):
    tokenizer = deepcopy(tokenizer_named("gpt2" if kind == "gpt2" else "chatml"))
    tokenizer.pad_token = tokenizer.eos_token
    return (tiny_gpt2 if kind == "gpt2" else tiny_llama)(tokenizer), tokenizer


def shown_for(tokenizer):
    examples = [Example(row, answer, instruction=f"Say {answer[:9]}") for row, answer in enumerate(ANSWERS)]
    return Masker(tokenizer, get_template("instruction"), 96).tokenize(examples)[0]


@pytest.fixture(params=["gpt2", "llama"])
def setup(request):
    model, tokenizer = make(request.param)
    return model, tokenizer, shown_for(tokenizer)


@pytest.fixture
def gpt2():
    model, tokenizer = make("gpt2")
    return model, tokenizer, shown_for(tokenizer)


def dataset_of(shown) -> Dataset:
    return Dataset.from_dict(
        {"input_ids": [list(row.input_ids) for row in shown], "labels": [list(row.labels) for row in shown]}
    )


def arguments(folder, **settings) -> SFTConfig:
    return SFTConfig(
        output_dir=str(folder),
        **{"per_device_train_batch_size": 3, "max_steps": 3, "learning_rate": 1e-2, "max_length": 96, **settings},
        bf16=False,
        use_cpu=True,
        activation_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def lora() -> LoraConfig:
    return LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")


def losses_of(trainer) -> list[float]:
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def trainer_of(kind, setup, folder, adapter=None, rows=None, **settings):
    model, tokenizer, shown = setup
    torch.manual_seed(0)
    extra = {}
    if kind is MaskedTrainer:
        extra = {"shown": shown, "prompt_loss_weight": settings.pop("prompt_loss_weight", 0.0)}
    return kind(
        model=deepcopy(model),
        args=arguments(folder, **settings),
        processing_class=tokenizer,
        train_dataset=dataset_of(shown) if rows is None else rows,
        peft_config=adapter,
        **extra,
    )


def token_losses(model, shown, trained=True) -> list[float]:
    """-log p of every trained token, or else of the others, one example at a time, from the logits of a plain forward.
    Nothing predicts a first token."""
    model.eval()
    found = []
    for row in shown:
        with torch.no_grad():
            logits = model(torch.tensor([row.input_ids])).logits[0]
        for position, token in list(enumerate(row.input_ids))[1:]:
            if (row.labels[position] != -100) == trained:
                found.append(-logits[position - 1].log_softmax(-1)[token].item())
    return found


# the loss is linear in the weight: one that is neither end shows what the others would
WEIGHTS = [0.25, *(pytest.param(weight, marks=pytest.mark.thorough) for weight in (0.0, 0.01, 1.0))]
LAYOUTS = {"padded": {}, "padding_free": {"padding_free": True, "max_length": None}, "packed": {"packing": True}}


class TestLoss:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_equals_the_cross_entropy_by_hand(self, setup, layout, tmp_path):
        """The mean over all trained tokens of the batch, so that a long answer weighs more than a short one."""
        model, _, shown = setup
        expected = token_losses(model, shown)
        settings = LAYOUTS[layout] | {"per_device_train_batch_size": len(shown), "max_steps": 1}
        (loss,) = losses_of(trainer_of(MaskedTrainer, setup, tmp_path, **settings))
        assert loss == pytest.approx(sum(expected) / len(expected), abs=1e-5)
        assert len(expected) == sum(row.trained for row in shown)

    @pytest.mark.parametrize(
        ("adapter", "layout"),
        [
            *((None, layout) for layout in LAYOUTS),
            (lora(), "padded"),
            *(pytest.param(lora(), layout, marks=pytest.mark.thorough) for layout in ("padding_free", "packed")),
        ],
    )
    def test_equals_stock_trl(self, setup, layout, adapter, tmp_path):
        # SGD, because Adam blows up the rounding of gradients that are zero, such as that of a key's bias
        settings = LAYOUTS[layout] | {"optim": "sgd", "learning_rate": 0.1}
        ours = trainer_of(MaskedTrainer, setup, tmp_path / "a", deepcopy(adapter), **settings)
        stock = trainer_of(SFTTrainer, setup, tmp_path / "b", deepcopy(adapter), **settings)
        before = {name: parameter.detach().clone() for name, parameter in ours.model.named_parameters()}
        assert losses_of(ours) == pytest.approx(losses_of(stock), abs=1e-5)
        theirs = dict(stock.model.named_parameters())
        for name, parameter in ours.model.named_parameters():
            torch.testing.assert_close(parameter, theirs[name], atol=1e-5, rtol=0)
        moved = [(p - before[name]).abs().max().item() for name, p in ours.model.named_parameters()]
        assert max(moved) > 1e-3
        assert ours.state.global_step == 3

    @pytest.mark.parametrize("weight", WEIGHTS)
    def test_accumulated_batches_weigh_their_tokens(self, setup, weight, tmp_path):
        settings = {"prompt_loss_weight": weight, "max_steps": 2}
        whole = trainer_of(MaskedTrainer, setup, tmp_path / "a", per_device_train_batch_size=6, **settings)
        parts = trainer_of(
            MaskedTrainer,
            setup,
            tmp_path / "b",
            per_device_train_batch_size=2,
            gradient_accumulation_steps=3,
            **settings,
        )
        assert losses_of(whole) == pytest.approx(losses_of(parts), abs=1e-5)


class TestPromptLossWeight:
    @pytest.mark.parametrize("shares", [False, True], ids=["padded", "shared"])
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("weight", WEIGHTS)
    def test_equals_the_weighted_mean_by_hand(self, setup, layout, weight, shares, tmp_path, monkeypatch):
        monkeypatch.setattr("sftdemo.train.trainer.can_share", lambda *_: shares)
        model, _, shown = setup
        completion, prompt = token_losses(model, shown), token_losses(model, shown, trained=False)
        expected = (sum(completion) + weight * sum(prompt)) / (len(completion) + weight * len(prompt))
        settings = LAYOUTS[layout] | {"per_device_train_batch_size": len(shown), "max_steps": 1}
        (loss,) = losses_of(trainer_of(MaskedTrainer, setup, tmp_path, prompt_loss_weight=weight, **settings))
        assert loss == pytest.approx(expected, abs=1e-5)
        assert len(prompt) > len(completion) > 0

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_at_1_equals_stock_trl_on_all_tokens(self, setup, layout, tmp_path):
        settings = LAYOUTS[layout] | {"optim": "sgd", "learning_rate": 0.1}
        ours = trainer_of(MaskedTrainer, setup, tmp_path / "a", prompt_loss_weight=1.0, **settings)
        rows = dataset_of(setup[2]).remove_columns("labels")
        stock = trainer_of(SFTTrainer, setup, tmp_path / "b", rows=rows, completion_only_loss=False, **settings)
        # for GPT-2, which names no loss, transformers counts first tokens, which nothing predicts, as well
        stock._loss_shifts_labels = True
        assert losses_of(ours) == pytest.approx(losses_of(stock), abs=1e-5)
        theirs = dict(stock.model.named_parameters())
        for name, parameter in ours.model.named_parameters():
            torch.testing.assert_close(parameter, theirs[name], atol=1e-5, rtol=0)

    def test_a_row_without_a_trained_token_does_not_count(self, gpt2, tmp_path):
        model, tokenizer, shown = gpt2
        blank = replace(shown[0], labels=(-100,) * len(shown[0].labels))
        losses = [
            losses_of(
                trainer_of(
                    MaskedTrainer,
                    (model, tokenizer, rows),
                    tmp_path / str(len(rows)),
                    prompt_loss_weight=0.5,
                    per_device_train_batch_size=len(rows),
                    max_steps=1,
                )
            )
            for rows in (shown, [*shown, blank])
        ]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def run(setup, tmp_path, stop=lambda: False, **settings):
    """The events and the trained model."""
    model, tokenizer, shown = setup
    config = RunConfig(**{"steps": 3, "batch_size": 2, "max_length": 96, "lora_r": 4, **settings})
    training_events, events = train(model, tokenizer, shown, config, stop, str(tmp_path)), []
    while True:
        try:
            events.append(next(training_events))
        except StopIteration as end:
            return events, end.value


def rows_in(settings, shown) -> int:
    """What the batches are drawn from: the examples, or the rows that TRL packs them into."""
    return len(pack_dataset(dataset_of(shown), 96, "bfd")) if settings.get("packing") else len(shown)


class TestTrain:
    @pytest.mark.parametrize("settings", [{}, {"full": True}, {"packing": True}, {"full": True, "packing": True}])
    def test_events(self, gpt2, tmp_path, settings):
        events, model = run(gpt2, tmp_path, **settings)
        prepared, *steps = events
        assert isinstance(prepared, Prepared)
        assert prepared.examples == len(gpt2[2])
        assert prepared.tokens == sum(len(row.input_ids) for row in gpt2[2])
        assert prepared.trained_tokens == sum(row.trained for row in gpt2[2])
        assert prepared.steps == 3
        assert (prepared.rows_a_step, prepared.rows) == (2, rows_in(settings, gpt2[2]))
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert prepared.trainable_parameters == trainable
        assert (trainable == gpt2[0].num_parameters()) == settings.get("full", False)
        assert [(type(step), step.step, step.total) for step in steps] == [(Step, n, 3) for n in (1, 2, 3)]
        assert steps[-1].remaining == 0

    @pytest.mark.parametrize("shares", [False, True], ids=["padded", "shared"])
    def test_equals_stock_trl(self, gpt2, tmp_path, shares, monkeypatch):
        """With the settings that `train` chooses itself; whether it shares prefixes must not change what is learned."""
        monkeypatch.setattr("sftdemo.train.trainer.can_share", lambda *_: shares)
        before = deepcopy(gpt2[0])
        stock = trainer_of(
            SFTTrainer,
            (before, *gpt2[1:]),
            tmp_path,
            per_device_train_batch_size=2,
            learning_rate=1e-3,
            max_length=None,
            seed=0,
        )
        events, model = run(gpt2, tmp_path, full=True, learning_rate=1e-3)
        assert [event.loss for event in events[1:]] == pytest.approx(losses_of(stock), abs=1e-5)
        theirs = dict(stock.model.named_parameters())
        for name, parameter in model.named_parameters():
            if not name.endswith("c_attn.bias"):  # the keys' part has no gradient but rounding, which Adam blows up
                torch.testing.assert_close(parameter, theirs[name], atol=1e-5, rtol=0)

    def test_learns(self, gpt2, tmp_path):
        events, _ = run(gpt2, tmp_path, full=True, steps=30, batch_size=6, learning_rate=1e-2)
        assert events[-1].loss < events[1].loss / 4

    def test_epochs(self, gpt2, tmp_path):
        events, _ = run(gpt2, tmp_path, steps=None, epochs=2)
        assert events[0].steps == len(events[1:]) == 6

    def test_same_seed_same_losses(self, tmp_path):
        def losses(seed):
            model, tokenizer = make("gpt2")
            events, _ = run((model, tokenizer, shown_for(tokenizer)), tmp_path, seed=seed)
            return [event.loss for event in events[1:]]

        assert losses(1) == losses(1) != losses(2)

    def test_rows_without_a_trained_token_are_left_out(self, gpt2, tmp_path):
        model, tokenizer, shown = gpt2
        masked = replace(shown[0], labels=(-100,) * len(shown[0].labels))
        events, _ = run((model, tokenizer, [masked, *shown[1:]]), tmp_path)
        assert events[0].examples == len(shown) - 1

    def test_nothing_trained(self, gpt2, tmp_path):
        model, tokenizer, shown = gpt2
        masked = [replace(row, labels=(-100,) * len(row.labels)) for row in shown]
        for rows in ([], masked):
            with pytest.raises(TrainingError, match="nothing to learn"):
                run((model, tokenizer, rows), tmp_path)


class TestStop:
    def test_ends_within_one_step(self, gpt2, tmp_path):
        asked = iter([False, False, True])
        events, model = run(gpt2, tmp_path, stop=lambda: next(asked, True), steps=50)
        assert [event.step for event in events[1:]] == [1, 2, 3]
        assert model is not None

    def test_closing_the_generator_ends_the_training(self, gpt2, tmp_path):
        import threading

        model, tokenizer, shown = gpt2
        events = train(model, tokenizer, shown, RunConfig(steps=100_000, full=True), lambda: False, str(tmp_path))
        assert isinstance(next(events), Prepared)
        assert isinstance(next(events), Step)
        events.close()
        assert not [thread for thread in threading.enumerate() if thread.name == "in turns"]


class TestFailures:
    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_loss_that_is_not_finite(self, gpt2, tmp_path, value):
        with torch.no_grad():
            gpt2[0].transformer.h[0].mlp.c_fc.weight[0, 0] = value
        with pytest.raises(TrainingError, match=r"became nan at step 1.*Lower the learning rate \(it is 0\.002"):
            run(gpt2, tmp_path)

    def test_tampered_labels_are_refused_before_any_weight_changes(self, gpt2, tmp_path):
        model, tokenizer, shown = gpt2
        before = deepcopy(model.state_dict())
        wrong = [replace(row, labels=(-100, *row.input_ids[1:])) for row in shown]
        trainer = MaskedTrainer(
            model=model,
            args=arguments(tmp_path),
            processing_class=tokenizer,
            train_dataset=dataset_of(wrong),
            shown=shown,
        )
        with pytest.raises(TrainingError, match="not what was shown"):
            trainer.train()
        assert trainer.state.global_step == 0
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_a_tampered_batch_ends_the_run(self, gpt2, tmp_path, monkeypatch):
        """Whatever lies between the examples and the model: here the data loader shifts the labels by one."""
        model = gpt2[0]
        before = deepcopy(model.state_dict())
        loader = MaskedTrainer.get_train_dataloader

        def shifted(self):
            for batch in loader(self):
                yield dict(batch) | {"labels": batch["labels"].roll(-1, dims=1)}

        monkeypatch.setattr(MaskedTrainer, "get_train_dataloader", lambda self: list(shifted(self)))
        with pytest.raises(TrainingError, match="not what was shown"):
            run(gpt2, tmp_path, full=True)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_out_of_memory_in_words(self, gpt2, tmp_path, monkeypatch):
        def fails(*_, **__):
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(MaskedTrainer, "compute_loss", fails)
        with pytest.raises(TrainingError, match="memory does not suffice for batches of 2 with max_length 96; lower"):
            run(gpt2, tmp_path)

    def test_other_errors_come_through(self, gpt2, tmp_path, monkeypatch):
        def fails(*_, **__):
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(MaskedTrainer, "compute_loss", fails)
        with pytest.raises(ZeroDivisionError, match="a bug"):
            run(gpt2, tmp_path)


def test_nothing_is_reported_to_anyone(gpt2, tmp_path, monkeypatch):
    sent = []
    monkeypatch.delenv("CI", raising=False)  # there TRL reports nothing, and the control below would fail
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", lambda *a, **k: sent.append("telemetry"))
    monkeypatch.setattr(socket.socket, "connect", lambda *a, **k: sent.append("socket"))
    run(gpt2, tmp_path)
    assert not sent
    trainer_of(SFTTrainer, gpt2, tmp_path)
    assert sent == ["telemetry"]


def test_nothing_is_printed(gpt2, tmp_path, capfd):
    run(gpt2, tmp_path)
    assert capfd.readouterr().out == ""
