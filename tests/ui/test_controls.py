"""The page's inputs: each reaches its setting, and on a public page models come from a list and runs end."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sftdemo.core.config import DEFAULT_HUB_ID, DEFAULT_MODEL, SETTINGS, RunConfig
from sftdemo.core.errors import ConfigError
from sftdemo.core.limits import MODELS
from sftdemo.ui import controls

PUBLIC_MOST = {"steps": 200, "epochs": 20, "max_length": 1024, "batch_size": 32, "max_new_tokens": 128}


def another(name: str):
    """What an input holds for a setting that is not at its default, and the setting then."""
    setting = SETTINGS[name]
    if name == "set":
        return "weight_decay=1e-2\n\n lora.alpha = 4", ("weight_decay=0.01", "lora.lora_alpha=4")
    if setting.kind is tuple:
        return "a \n\n b", ("a", "b")
    if name == "chat_template_kwargs":
        return '{"a": 1}', '{"a": 1}'
    if name == "save_every":
        return "10m", "10m"
    if setting.kind is str and not setting.choices:
        return "chat", "chat"
    others = [*setting.choices] or ([not setting.default] if setting.kind is bool else [setting.limits[1]])
    value = others[-1]
    return (f" {value} " if name in ("learning_rate", "epochs") else value), value


@pytest.mark.parametrize("name", controls.PAGE_SETTINGS)
def test_an_input_changes_its_setting_and_no_other(ui, name):
    held, value = another(name)
    plain = RunConfig(full=name == "full", epochs=1 if name == "epochs" else None)  # without steps
    assert getattr(RunConfig(), name) != value
    assert ui.desk.controls.config(ui.values(**{name: held})) == replace(plain, **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("steps", None, "Steps is empty; write a whole number."),
        ("steps", 2.5, "Steps is 2.5; write a whole number."),
        ("lora_r", float("inf"), "LoRA rank is inf; write a whole number."),
        ("max_new_tokens", "", "Answer length is empty; write a whole number."),
        ("prompt_loss_weight", None, "Prompt-loss weight is empty; write a number such as 2e-3."),
        ("learning_rate", "fast", "Learning rate is 'fast'; write a number such as 2e-3, or leave it empty."),
    ],
)
def test_what_is_no_number_is_told_by_its_label(ui, name, value, says):
    with pytest.raises(ConfigError) as error:
        ui.desk.controls.config(ui.values(**{name: value}))
    assert str(error.value) == says


def test_epochs_take_the_place_of_steps(ui):
    """Whatever the input of steps holds until the browser has emptied it."""
    for steps in (12, None):
        config = ui.desk.controls.config(ui.values(epochs="0.5", steps=steps))
        assert (config.epochs, config.steps) == (0.5, None)
        held = ui.desk.controls.held(config)
        assert [held[getattr(ui.desk.controls, name)] for name in controls.LENGTH] == [None, "0.5"]
    _, wrong = ui.desk.controls.checked(ui.values(epochs="0", steps=None))
    assert {name: str(error) for name, error in wrong.items()} == {
        "epochs": "epochs is 0; it must lie between 0.01 and 1,000 passes over the examples."
    }


@pytest.mark.parametrize("blank", ["", "  ", None])
def test_the_rate_may_be_left_empty(ui, blank):
    assert ui.desk.controls.config(ui.values(learning_rate=blank)).learning_rate == 2e-3
    assert ui.desk.controls.config(ui.values(learning_rate=blank, full=True)).learning_rate == 1e-4


def public(monkeypatch) -> None:
    monkeypatch.setenv("SPACE_ID", "someone/space")


def test_the_defaults_pass(ui, monkeypatch):
    public(monkeypatch)
    assert ui.desk.controls.config(ui.values()).model == DEFAULT_MODEL


@pytest.mark.parametrize("name", PUBLIC_MOST)
def test_limits(ui, monkeypatch, name):
    over = ui.values(**{name: PUBLIC_MOST[name] + 1})
    assert getattr(ui.desk.controls.config(over), name) == PUBLIC_MOST[name] + 1
    public(monkeypatch)
    assert ui.desk.controls.config(ui.values(**{name: PUBLIC_MOST[name]}))
    with pytest.raises(ConfigError, match=f"^{name} is .* this public page allows {PUBLIC_MOST[name]:,}"):
        ui.desk.controls.config(over)
    (error,) = json.loads(ui.masking.draw(over)[ui.masking.out.wrong])["errors"]
    assert "this public page allows" in error["words"]
    *_, scan = ui.masking.scan(over)
    assert not scan[ui.masking.out.train]["interactive"]


@pytest.mark.parametrize("model", ["/etc", "../x", "someone/other", "model.gguf"])
def test_models_come_from_the_list(ui, monkeypatch, model):
    public(monkeypatch)
    with pytest.raises(ConfigError, match=r"^this public page offers .*run it on your own machine"):
        ui.desk.controls.config(ui.values(model=model))
    for offered in (*MODELS, DEFAULT_HUB_ID):
        assert ui.desk.controls.config(ui.values(model=offered)).model == offered


def test_prompts_are_counted(ui, monkeypatch):
    public(monkeypatch)
    assert len(ui.desk.controls.config(ui.values(prompts="a\n" * 16)).prompts) == 16
    with pytest.raises(ConfigError, match="there are 17 prompts"):
        ui.desk.controls.config(ui.values(prompts="a\n" * 17))
