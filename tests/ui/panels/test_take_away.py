"""A saved run in other formats, and how it is used elsewhere."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from desk import named

from sftdemo.export import formats
from sftdemo.ui.panels.take_away import FORMS, GGUF, MERGED, SMALL


@pytest.fixture
def run_id(ui, values) -> str:
    first, *_ = ui.running.train(values(prompts="Why?"))
    return named(ui, first)["run_id"]


def prepared(ui, run_id, weight=None, form=MERGED) -> list[dict]:
    panel = ui.taking.panel
    names = {panel.prepare: "prepare", panel.status: "status", panel.file: "file"}
    return [
        {names[part]: value for part, value in updates.items()} for updates in ui.taking.prepare(run_id, weight, form)
    ]


def test_nothing_is_offered_before_a_run_is_saved(ui):
    for unknown in (None, "../../etc", "0" * 16):
        updates = ui.taking.show(unknown, None)
        assert updates[ui.taking.panel.column]["visible"] is False


def test_what_names_no_form_is_merged(ui):
    """As a call that leaves it empty does; the page's menu always names one."""
    (waiting, failed) = prepared(ui, None, form=None)
    assert waiting["prepare"]["interactive"] is False
    assert "no run" in json.loads(failed["status"])["title"]


def test_the_ways_are_those_of_the_run(ui, run_id):
    panel, updates = ui.taking.panel, ui.taking.show(run_id, None)
    assert updates[panel.column]["visible"] is True
    names = [updates[tab]["label"] for tab in panel.tabs]
    assert names == ["Terminal", "Python", "llama.cpp", "Ollama", "Train on", "vLLM", "Hub", "Script"]
    assert updates[panel.codes[0]]["value"].startswith("python use.py ")
    assert "peft" in updates[panel.words[0]]
    assert all(updates[tab]["visible"] for tab in panel.tabs)
    path = ui.desk.backend.folder(run_id, None) / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"model": record["model"] | {"base": "the base of another run's adapter"}}))
    updates = ui.taking.show(run_id, None)
    assert [updates[tab]["visible"] for tab in panel.tabs] == [True] * 7 + [False]


def test_merged_is_a_zip_of_the_folder(ui, run_id):
    *working, last = prepared(ui, run_id)
    assert working[0]["prepare"]["interactive"] is False
    assert last["prepare"]["interactive"] is True
    assert "Download it (" in last["file"]["label"]
    names = zipfile.ZipFile(last["file"]["value"]).namelist()
    assert {"model.safetensors", "use.py", "chat_template.jinja", "README.md"} <= set(names)
    assert "adapter_config.json" not in names
    assert prepared(ui, run_id)[-1]["file"]["value"] == last["file"]["value"]  # made once
    ui.desk.backend.delete(run_id)
    assert not Path(last["file"]["value"]).exists()


@pytest.mark.parametrize(("form", "quantization"), [(GGUF, "f16"), (SMALL, "q8_0")])
def test_gguf_is_a_zip_of_the_file_and_its_modelfile(ui, run_id, monkeypatch, form, quantization):
    def convert(folder, output, given):
        output.write_bytes(given.encode())
        yield from ()

    monkeypatch.setattr(formats, "convert_to_gguf", convert)
    archive = zipfile.ZipFile(prepared(ui, run_id, form=form)[-1]["file"]["value"])
    assert sorted(archive.namelist()) == ["Modelfile", "model.gguf"]
    assert archive.read("model.gguf") == quantization.encode()


def test_of_an_ablation_the_chosen_model(ui, values):
    first, *_ = ui.running.train_both(values(prompts="Why?"))
    run_id = named(ui, first)["run_id"]
    files = [prepared(ui, run_id, weight)[-1]["file"]["value"] for weight in (0.0, 1.0)]
    assert len(set(files)) == 2
    weights = [json.loads(zipfile.ZipFile(file).read("run.json"))["config"]["prompt_loss_weight"] for file in files]
    assert weights == [0.0, 1.0]


def test_one_that_fails_says_why(ui, run_id, monkeypatch):
    from sftdemo.core.errors import ModelError

    def convert(folder, output, given):
        raise ModelError("llama.cpp's converter failed: unknown.")
        yield

    monkeypatch.setattr(formats, "convert_to_gguf", convert)
    last = prepared(ui, run_id, form=GGUF)[-1]
    assert "converter failed: unknown." in last["status"]
    assert last["prepare"]["interactive"] is True


def test_a_run_that_is_gone_says_so(ui):
    last = prepared(ui, "0" * 16)[-1]
    assert "no run" in last["status"]
    assert last["prepare"]["interactive"] is True


def test_choosing_another_format_takes_the_file_away(ui, run_id):
    reset = ui.taking.reset()
    assert reset[ui.taking.panel.file]["visible"] is False
    assert [form for _, form in FORMS] == [MERGED, GGUF, SMALL]
