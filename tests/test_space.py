"""What README.md tells Spaces is what they know: https://huggingface.co/docs/hub/spaces-config-reference."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from pages import ROOT

from sftdemo.core.limits import MODELS
from tools import space as rehearsal

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


class TestTheRehearsal:
    def test_it_has_the_variables_of_a_space_and_no_more_of_this_machine(self, monkeypatch):
        monkeypatch.setenv("SFTDEMO_CACHE", "/somewhere")
        monkeypatch.setenv("HF_TOKEN", "a secret")
        variables = rehearsal.environment(Path("/home"), 7860, SPACE["hf_oauth_scopes"])
        assert {"SYSTEM", "SPACE_ID", "SPACE_HOST", "OAUTH_CLIENT_ID", "OPENID_PROVIDER_URL"} <= variables.keys()
        assert variables["OAUTH_SCOPES"] == "openid profile contribute-repos"
        assert not {"SFTDEMO_CACHE", "HF_TOKEN"} & variables.keys()
        assert "OAUTH_CLIENT_ID" not in rehearsal.environment(Path("/home"), 7860, None)

    def test_a_python_that_the_spaces_user_may_not_start_is_passed_over(self, tmp_path, monkeypatch):
        for name in ("shut", "open"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "python3.99").write_text("#!/bin/sh\nexit 0\n")
        (tmp_path / "open" / "python3.99").chmod(0o755)
        monkeypatch.setattr("os.get_exec_path", lambda: [str(tmp_path / each) for each in ("none", "shut", "open")])
        monkeypatch.setattr("tools.space.another_user", dict)
        assert rehearsal.find_python("3.99") == str(tmp_path / "open" / "python3.99")
        monkeypatch.setattr("tools.space.runs", lambda python: python == sys.executable)
        assert rehearsal.find_python("3.99") == sys.executable
        monkeypatch.setattr("tools.space.runs", lambda python: False)
        with pytest.raises(SystemExit, match="User 1000 may not start"):
            rehearsal.find_python("3.99")

    def test_it_runs_under_an_id_that_is_not_roots(self, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        assert rehearsal.another_user()["user"] == 1000
        monkeypatch.setattr(os, "geteuid", lambda: 7)
        assert rehearsal.another_user() == {}
