"""A run's record and settings without the places of this machine."""

from __future__ import annotations

import pytest

from sftdemo.core.config import RunConfig
from sftdemo.core.errors import ConfigError
from sftdemo.core.settings_file import parse_settings, write_settings
from sftdemo.runs.public import public_record, public_settings


def record(
    model: str, public: str, hub_id: str | None = None, base: str | None = None, begun: str | None = None
) -> dict:
    config = RunConfig(model)
    known = {"name": model, "copy": "local folder", "hub_id": hub_id, "public_name": public, "base": base}
    command = config.command_line("examples.jsonl")
    return {"model": known, "from": begun, "config": config.to_dict(), "command": command, "loss": 1.5}


def test_a_local_model_is_called_by_its_last_part():
    told = record("/home/me/my models/m", "m")
    public = public_record(told)
    assert public["model"] == told["model"] | {"name": "m"}
    assert public["config"] == told["config"] | {"model": "m"}
    assert public["command"] == told["command"].replace("'/home/me/my models/m'", "m")
    assert public_record(public) == public
    assert public["loss"] == 1.5


def test_only_the_model_is_renamed_in_the_command():
    told = record("sftdemo", "else")
    assert public_record(told)["command"].startswith("python -m sftdemo train examples.jsonl --model else")


def test_a_model_of_the_hub_keeps_its_name():
    told = record("SmolLM2-135M-Instruct", "HuggingFaceTB/x", hub_id="HuggingFaceTB/x")
    assert public_record(told) == told


@pytest.mark.parametrize(("hub_id", "base"), [(None, "base"), ("owner/base", "owner/base")])
def test_a_run_that_went_on_names_the_run_and_its_base(hub_id, base):
    told = record("/runs/first", hub_id or "base", hub_id, "/models/base" if hub_id is None else hub_id, "first")
    public = public_record(told)
    assert (public["model"]["name"], public["config"]["model"], public["model"]["base"]) == ("first", "first", base)
    assert "/runs" not in public["command"]


def test_settings_keep_their_comments_and_all_but_the_model():
    told, config = record("/home/me/m", "m"), RunConfig("/home/me/m", steps=7, prompts=("# Why?",))
    text = write_settings(config, ("python -m sftdemo train", "the rows: examples.jsonl"))
    public = public_settings(text, told)
    assert public == text.replace("/home/me/m", "m")
    assert parse_settings(public, "") == parse_settings(text, "") | {"model": "m"}
    assert public_settings(public, told) == public
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        public_settings("steps: many", told)
