from __future__ import annotations

import argparse

import pytest

from sftdemo.core.config import RunConfig
from sftdemo.core.errors import ConfigError
from sftdemo.core.trl_settings import OURS, REFUSED
from sftdemo.terminal.cli import _parser


def test_pairs_have_one_spelling():
    config = RunConfig(set=("weight_decay=1e-2", " lora.alpha = 64", "lora.target_modules=[q_proj,v_proj]"))
    assert config.set == ("weight_decay=0.01", "lora.lora_alpha=64", "lora.target_modules=[q_proj, v_proj]")
    assert config.trl_settings == {
        "weight_decay": 0.01,
        "lora.lora_alpha": 64,
        "lora.target_modules": ["q_proj", "v_proj"],
    }
    assert RunConfig(set=config.set) == config == RunConfig(set=list(config.set))


def test_a_step_sees_all_accumulated_batches():
    assert RunConfig(batch_size=4).rows_a_step == 4
    assert RunConfig(batch_size=4, set=("gradient_accumulation_steps=3",)).rows_a_step == 12


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"set": ["weight_dekay=1"]},
            "which is no setting of TRL's SFTConfig known to this version; the nearest is weight_decay.",
        ),
        (
            {"set": ["lora.lora_alfa=1"]},
            "no setting of peft's LoraConfig known to this version; the nearest is lora.lora_alpha.",
        ),
        ({"set": ["zzz=1"]}, "set names 'zzz', which is no setting of TRL's SFTConfig known to this version."),
        ({"set": ["weight_decay"]}, "set is 'weight_decay'; write a name, = and a value, such as weight_decay=0.01."),
        ({"set": ["lora.alpha=1", "lora.lora_alpha=2"]}, "set names lora.lora_alpha twice; give it once."),
        ({"set": ["weight_decay=[1"]}, "set: weight_decay=[1 cannot be read as YAML"),
        ({"set": ["gradient_accumulation_steps=0"]}, "the value 0; it must lie between 1 and 1,024 batches."),
        ({"set": ["gradient_accumulation_steps=2.0"]}, "the value 2.0; it must lie between 1 and 1,024 batches."),
        ({"set": ["gradient_accumulation_steps=true"]}, "the value true; it must lie"),
        ({"set": ["lr_scheduler_type=greedy"]}, "'greedy', which needs TRL's own evaluation"),
        ({"set": ["lora.init_lora_weights=pissa_niter_4"]}, "changes the base's weights"),
        ({"set": ["lora.alpha=4"], "full": True}, "set names lora.lora_alpha, but with full there is no adapter"),
        ({"set": ["project=x"]}, "but nothing is reported; say where to, such as --report-to trackio."),
        ({"set": ["trackio_space_id=x"], "report_to": "wandb"}, "reported to wandb, not to trackio."),
        ({"report_to": "all"}, "report_to is 'all'; choose one of none, trackio"),
    ],
    ids=str,
)
def test_refused(settings, says):
    with pytest.raises(ConfigError) as error:
        RunConfig(**settings)
    assert says in str(error.value)


@pytest.mark.parametrize("name", OURS)
def test_what_has_an_option_names_it(name):
    with pytest.raises(ConfigError) as error:
        RunConfig(set=(f"{name}=1",))
    assert str(error.value) == f"set names {name}, which this program sets itself; use {OURS[name]}."
    (subparsers,) = [each for each in _parser()._actions if isinstance(each, argparse._SubParsersAction)]
    assert OURS[name].split()[0] in subparsers.choices["train"]._option_string_actions


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(name):
    with pytest.raises(ConfigError) as error:
        RunConfig(set=(f"{name}=1",))
    assert str(error.value) == f"set names {name}, which is not taken: {REFUSED[name]}."
