"""Settings from a file: they fill the page's inputs, and what is not taken is told at the button."""

from __future__ import annotations

import json

import pytest

from sftdemo.core.config import RunConfig
from sftdemo.core.settings_file import write_settings
from sftdemo.ui.panels.settings import SettingsHandlers


@pytest.fixture
def loaded(ui, tmp_path):
    """The page's inputs after a file with this text, and what the status says."""
    owners = [getattr(fn.fn, "__self__", None) for fn in ui.blocks.fns.values()]
    (handlers,) = {owner for owner in owners if isinstance(owner, SettingsHandlers)}

    def load(text: str):
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        updates = handlers.load(str(path))
        return updates, json.loads(updates.pop(handlers.panel.status))

    return load


CONFIGS = [
    RunConfig(),
    RunConfig("gpt2", template="Q: {instruction}\nA:\n", steps=3, learning_rate=1e-5, prompts=("a", "b c")),
    RunConfig(template="chat", full=True, packing=True, anyway=True, hold_out=0.2, max_length=64),
    RunConfig(epochs=1 / 3),
    RunConfig(set=("weight_decay=0.01", "lora.alpha=64"), prompt_loss_weight=0.3, turns="last", device="cpu"),
]


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_the_inputs_then_hold_the_files_settings(ui, loaded, config):
    """Also after others were typed in."""
    updates, status = loaded(write_settings(config))
    before = ui.values(steps=7, set="warmup_steps=3", turns="last", custom="{instruction}!", packing=True, seed=5)
    assert ui.desk.controls.config(before | updates) == config
    assert (status["state"], status["notes"]) == ("done", [])
    assert status["title"].endswith("settings from run.yaml")


def test_what_the_page_does_not_offer_is_told(loaded):
    _, status = loaded("report_to: none\nmerge: true\nseed: 3\nprompts: [' a']\n")
    assert (status["title"], status["detail"]) == ("2 settings from run.yaml", "the others are at their defaults")
    assert status["notes"] == [
        "Not among this page's settings, so not used: report_to, merge.",
        "This page's input cannot hold all of: prompts.",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("batchsize: 4", "run.yaml: 'batchsize' is no setting; the nearest is batch_size."),
        ("steps: 0", "run.yaml: steps is 0; it must lie between 1 and 1,000,000 optimizer steps."),
        ("[", "run.yaml cannot be read as YAML: "),
    ],
)
def test_a_file_that_is_refused_changes_nothing(loaded, text, says):
    updates, status = loaded(text)
    assert updates == {}
    assert status["state"] == "failed"
    assert status["title"].startswith(says)


@pytest.mark.parametrize("text", ["model: someone/other", "steps: 201", "set: {weight_decay: 0.1}"])
def test_a_public_page_keeps_its_limits(loaded, monkeypatch, text):
    monkeypatch.setenv("SPACE_ID", "someone/space")
    updates, status = loaded(text)
    assert updates == {}
    assert "public page" in status["title"]
