"""TRL's and peft's settings in a run: each name is decided upon, each value is checked, and those taken have effect."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields, replace

import pytest
import torch
from peft import LoraConfig
from stand_in_trackio import stand_in
from tiny import tiny_gpt2, tiny_llama, tokenizer_named
from transformers.integrations import integration_utils
from trl import SFTConfig

from sftdemo.core.config import REPORTS, RunConfig
from sftdemo.core.errors import ConfigError, TrainingError
from sftdemo.core.events import Prepared, Step
from sftdemo.core.trl_settings import ALLOWED, OURS, REFUSED
from sftdemo.data.examples import Example
from sftdemo.data.templates import get_template
from sftdemo.mask.labels import Masker
from sftdemo.runs.work import planned_steps
from sftdemo.train.loop import train
from sftdemo.train.settings import adapter, arguments, check_settings

CPU = torch.device("cpu")
ANSWERS = ["Hello world!", "1 2 3", "Arr, the capital of Italy be Rome!", "a", "two words", "x", "Yes, but no.", "7 8"]


def test_every_setting_of_the_installed_versions_is_in_one_group():
    theirs = [each.name for each in fields(SFTConfig)] + [f"lora.{each.name}" for each in fields(LoraConfig)]
    assert sorted([*ALLOWED, *OURS, *REFUSED]) == sorted(theirs)


def test_every_report_of_the_installed_version_is_a_choice():
    assert set(REPORTS) - {"none"} == set(integration_utils.INTEGRATION_TO_CALLBACK) - {"flyte"}


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        ("weight_decay=a lot", 'weight_decay the value "a lot"; it should be a valid number'),
        ("weight_decay=.nan", "weight_decay the value NaN; it should be a finite number"),
        ("weight_decay=-1", "weight_decay the value -1; it must lie between 0 and 10"),
        ("adam_beta1=true", "adam_beta1 the value true; it should be a valid number"),
        ("adam_beta1=2", "adam_beta1=2: Invalid beta parameter at index 0: 2"),
        ("lr_scheduler_type=cosign", "cosign is not a valid SchedulerType"),
        ("lr_scheduler_type=cosine_with_min_lr", "One of min_lr or min_lr_rate should be set"),
        ("lr_scheduler_kwargs={num_cycles: 2}", "unexpected keyword argument 'num_cycles'"),
        ("optim_args=a=b", "optim_args, which AdamW does not use"),
        ("warmup_steps=-1", "Expected value warmup_steps >= 0"),
        ("lora.alpha=1.5", "lora.lora_alpha the value 1.5; it should be a valid integer"),
        ("lora.dropout=1", "lora.lora_dropout the value 1; it must lie between 0 and 0.99"),
        ("lora.init_lora_weights=best", "it should be a valid boolean or 'gaussian'"),
        ("lora.target_modules=[1]", "it should be a valid string"),
        ("lora.layers_to_transform=[0]", "`layers_to_transform` cannot be used when `target_modules` is a str"),
    ],
)
def test_a_value_is_refused_in_one_sentence(pair, says, tmp_path):
    with pytest.raises(ConfigError) as error:
        check_settings(RunConfig(set=(pair,)), CPU, str(tmp_path))
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_what_is_set_reaches_trl_and_peft(tmp_path):
    pairs = ("weight_decay=0.01", "lr_scheduler_type=cosine", "warmup_steps=0.1", "gradient_accumulation_steps=4")
    config = RunConfig(set=(*pairs, "lora.alpha=64", "lora.target_modules=[q_proj, v_proj]", "optim=adafactor"))
    check_settings(config, CPU, str(tmp_path))
    settings, lora = arguments(config, CPU, str(tmp_path)), adapter(config)
    assert (settings.weight_decay, settings.lr_scheduler_type, settings.warmup_steps) == (0.01, "cosine", 0.1)
    assert (settings.gradient_accumulation_steps, settings.per_device_train_batch_size) == (4, 8)
    assert (settings.optim, settings.report_to) == ("adafactor", [])
    assert (lora.r, lora.lora_alpha, lora.target_modules) == (16, 64, {"q_proj", "v_proj"})


@pytest.fixture(scope="module")
def llama():
    tokenizer = deepcopy(tokenizer_named("chatml"))
    tokenizer.pad_token = tokenizer.eos_token
    return tiny_llama(tokenizer), tokenizer


def trained(setup, tmp_path, **settings):
    """The events, and the trained model."""
    model, tokenizer = setup
    examples = [Example(row, answer, instruction=f"Say {answer[:9]}") for row, answer in enumerate(ANSWERS)]
    rows = Masker(tokenizer, get_template("instruction"), 96).tokenize(examples)[0]
    config = RunConfig(**{"steps": 2, "batch_size": 4, "max_length": 96, "lora_r": 4, **settings})
    events, torch_state = [], torch.get_rng_state()
    work = train(deepcopy(model), tokenizer, rows, config, lambda: False, str(tmp_path))
    while True:
        try:
            events.append(next(work))
        except StopIteration as end:
            torch.set_rng_state(torch_state)
            return events, end.value


def weights_of(model) -> dict[str, torch.Tensor]:
    return {name: each.detach() for name, each in model.named_parameters() if each.requires_grad}


def furthest(one, other) -> float:
    first, second = weights_of(one), weights_of(other)
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


SGD = {"full": True, "learning_rate": 0.05}
UNCLIPPED = ("optim=sgd", "max_grad_norm=0")


@pytest.mark.parametrize(
    "more", [{}, {"packing": True}, {"prompt_loss_weight": 0.3}], ids=["plain", "packed", "weighted"]
)
def test_two_batches_of_4_have_the_gradient_of_one_of_8(llama, tmp_path, more):
    """With SGD a step is the gradient times the rate. The rows of the two batches have unequal numbers of tokens."""
    sizes = (1, 2) if "packing" in more else (4, 8)
    one, whole = trained(llama, tmp_path, batch_size=sizes[1], steps=1, set=UNCLIPPED, **SGD, **more)
    pairs = (*UNCLIPPED, "gradient_accumulation_steps=2")
    two, parts = trained(llama, tmp_path, batch_size=sizes[0], steps=1, set=pairs, **SGD, **more)
    assert [event.loss for event in one[1:]] == pytest.approx([event.loss for event in two[1:]], abs=1e-5)
    assert furthest(whole, parts) < 1e-5
    assert furthest(whole, llama[0]) > 1e-3


def test_a_model_that_takes_no_loss_arguments_accumulates_alike(tmp_path, monkeypatch):
    tokenizer = deepcopy(tokenizer_named("gpt2"))
    tokenizer.pad_token = tokenizer.eos_token
    setup = tiny_gpt2(tokenizer), tokenizer
    monkeypatch.setattr(type(setup[0]), "accepts_loss_kwargs", False, raising=False)
    _, whole = trained(setup, tmp_path, batch_size=8, steps=1, set=UNCLIPPED, **SGD)
    pairs = (*UNCLIPPED, "gradient_accumulation_steps=2")
    _, parts = trained(setup, tmp_path, batch_size=4, steps=1, set=pairs, **SGD)
    assert furthest(whole, parts) < 1e-5
    assert furthest(whole, setup[0]) > 1e-3


def test_steps_are_counted_after_accumulation(llama, tmp_path):
    """8 rows in batches of 2, of which 3 make a step: 2 steps an epoch. The estimate plans as many."""
    settings = {"steps": None, "epochs": 2, "batch_size": 2}
    pairs = ("gradient_accumulation_steps=3", "warmup_steps=2", "lr_scheduler_type=cosine")
    (prepared, *steps), _ = trained(llama, tmp_path, set=pairs, **settings)
    assert isinstance(prepared, Prepared)
    assert [(type(step), step.step, step.total) for step in steps] == [(Step, n, 4) for n in (1, 2, 3, 4)]
    assert steps[-1].remaining == 0
    planned = planned_steps(RunConfig(set=pairs, **settings), prepared.examples, prepared.tokens)
    assert (prepared.steps, planned) == (4, 4)


def test_warm_up_begins_with_a_rate_of_0(llama, tmp_path):
    _, model = trained(llama, tmp_path, steps=1, full=True, set=("warmup_steps=5",))
    assert furthest(model, llama[0]) == 0


def test_activations_computed_twice_train_the_same(llama, tmp_path):
    usual, ours = (trained(llama, tmp_path, set=pairs) for pairs in ((), ("activation_checkpointing=true",)))
    assert furthest(usual[1], ours[1]) < 1e-6
    assert [model.get_base_model().is_gradient_checkpointing for _, model in (usual, ours)] == [False, True]


def test_dropout_drops(llama, tmp_path):
    (_, *usual), _ = trained(llama, tmp_path)
    (_, *ours), model = trained(llama, tmp_path, set=("lora.dropout=0.5", "lora.init_lora_weights=false"))
    (_, *without), _ = trained(llama, tmp_path, set=("lora.init_lora_weights=false",))
    assert model.peft_config["default"].lora_dropout == 0.5
    assert ours[0].loss != pytest.approx(without[0].loss, abs=1e-6)
    assert usual[0].loss != pytest.approx(without[0].loss, abs=1e-6)


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        ("lora.target_modules=[nowhere]", "Target modules"),
        ("lora.target_modules=[lm_head]", "PEFT adapter to `lm_head` is not supported"),
        ("lora.target_modules=[embed_tokens, q_proj]", "embeddings or on its head"),
    ],
)
def test_modules_that_cannot_be_adapted(llama, tmp_path, pair, says):
    with pytest.raises(TrainingError, match=says) as error:
        trained(llama, tmp_path, set=(pair,))
    assert "\n" not in str(error.value)


class TestReport:
    @pytest.fixture
    def sent(self, monkeypatch) -> list[tuple]:
        return stand_in(monkeypatch)

    def test_nothing_is_sent_unasked(self, llama, tmp_path, sent):
        trained(llama, tmp_path)
        assert sent == []

    def test_each_step_is_sent(self, llama, tmp_path, sent):
        config = RunConfig(report_to="trackio", set=("project=masks", "run_name=one"))
        check_settings(config, CPU, str(tmp_path))
        (_, *steps), _ = trained(llama, tmp_path, report_to=config.report_to, set=config.set)
        assert sent[0] == ("init", "masks", "one")
        assert sent[-1] == ("finish",)
        losses = [logs["train/loss"] for kind, *rest in sent if kind == "log" for logs in rest if "train/loss" in logs]
        assert losses == pytest.approx([step.loss for step in steps], abs=1e-3)

    def test_a_package_that_is_not_there(self, tmp_path):
        with pytest.raises(ConfigError, match=r"mlflow is not installed; get it with: pip install mlflow$"):
            check_settings(RunConfig(report_to="mlflow"), CPU, str(tmp_path))

    def test_kubeflow_is_not_added_by_itself(self, tmp_path, monkeypatch):
        monkeypatch.setattr(integration_utils, "is_kubeflow_available", lambda: True)
        monkeypatch.setattr("transformers.integrations.is_kubeflow_available", lambda: True)
        assert arguments(RunConfig(), CPU, str(tmp_path)).report_to == []
        assert replace(RunConfig(), report_to="none").report_to == "none"
