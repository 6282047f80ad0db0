"""The page's inputs on a public page, where models come from a list and runs end."""

from __future__ import annotations

import pytest
from desk import drawn, only_a_cpu, scanned

from sftdemo.core.config import DEFAULT_MODEL
from sftdemo.core.errors import ConfigError
from sftdemo.ui import controls

PUBLIC_MOST = {"steps": 200, "max_length": 1024, "batch_size": 32, "max_new_tokens": 128}


@pytest.fixture(autouse=True)
def this_machine(monkeypatch):
    only_a_cpu(monkeypatch)


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
    with pytest.raises(ConfigError, match=f"^{name} is .* this public page allows {PUBLIC_MOST[name]}"):
        ui.desk.controls.config(over)
    assert "this public page allows" in drawn(ui, over)[0]["message"]
    (scan,) = scanned(ui, over)
    assert not scan.train["interactive"]


@pytest.mark.parametrize("model", ["/etc", "../x", "someone/other", "model.gguf"])
def test_models_come_from_the_list(ui, monkeypatch, model):
    public(monkeypatch)
    with pytest.raises(ConfigError, match=r"^this public page offers .*run it on your own machine"):
        ui.desk.controls.config(ui.values(model=model))
    for offered in controls.MODELS:
        assert ui.desk.controls.config(ui.values(model=offered)).model == offered


def test_prompts_are_counted(ui, monkeypatch):
    public(monkeypatch)
    assert len(ui.desk.controls.config(ui.values(prompts="a\n" * 16)).prompts) == 16
    with pytest.raises(ConfigError, match="there are 17 prompts"):
        ui.desk.controls.config(ui.values(prompts="a\n" * 17))
