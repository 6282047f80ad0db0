"""What README.md tells Spaces is what they know: https://huggingface.co/docs/hub/spaces-config-reference."""

from __future__ import annotations

import re

import yaml
from pages import ROOT

from sftdemo.core.limits import MODELS

SPACE = yaml.safe_load((ROOT / "README.md").read_text(encoding="utf-8").split("---\n")[1])
KNOWN = {
    *("title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file", "license"),
    *("short_description", "models", "preload_from_hub", "suggested_hardware", "startup_duration_timeout"),
    *("hf_oauth", "hf_oauth_scopes"),
}
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
HARDWARE = {"cpu-basic", "cpu-upgrade", "t4-small", "t4-medium", "l4x1", "zero-a10g", "a10g-small"}
EMOJI = re.compile("[\U0001f000-\U0001faff][\u200d\ufe0f\u2600-\u27bf\U0001f000-\U0001faff]*")


def test_every_field_is_known_and_of_its_kind():
    assert set(SPACE) <= KNOWN
    assert (SPACE["sdk"], SPACE["title"], SPACE["license"]) == ("gradio", "sftdemo", "apache-2.0")
    assert {SPACE["colorFrom"], SPACE["colorTo"]} <= COLOURS
    assert EMOJI.fullmatch(SPACE["emoji"])
    assert SPACE["suggested_hardware"] in HARDWARE
    assert re.fullmatch(r"\d+[mh]", SPACE["startup_duration_timeout"])
    assert len(SPACE["short_description"]) <= 60


def test_visitors_allow_it_no_more_than_it_needs():
    assert SPACE["hf_oauth"] is True
    assert SPACE["hf_oauth_scopes"] == ["contribute-repos"]  # to make repositories, and to see those alone


def test_it_starts_what_is_here_with_what_is_pinned():
    assert (ROOT / SPACE["app_file"]).is_file()
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert f"gradio=={SPACE['sdk_version']}" in pins
    wanted = re.search(r'requires-python = ">=(\d+\.\d+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert isinstance(SPACE["python_version"], str), "3.10 without quotation marks would be 3.1"
    assert wanted
    assert wanted[1] == SPACE["python_version"]


def test_the_models_are_offered():
    assert {*SPACE["models"], *SPACE["preload_from_hub"]} <= {*MODELS, "HuggingFaceTB/SmolLM2-135M-Instruct"}
