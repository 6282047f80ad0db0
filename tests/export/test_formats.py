"""A saved run in another format: what it answers stays the same."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
import torch
from elsewhere import printed_elsewhere
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from saved import load_saved
from transformers import AutoModelForCausalLM, AutoTokenizer

from sftdemo.core.events import Failed, Finished, Saved
from sftdemo.export import formats
from sftdemo.export.formats import export
from sftdemo.export.push import push
from sftdemo.export.served import served_tokenizer
from sftdemo.runs import use


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.tensor([[5, 6, 7, 8]])).logits


@pytest.mark.parametrize("kind", ["adapter", "merged", "full"])
@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_merged_answers_as_the_run_does(saved, tmp_path, kind, model):
    run, output = saved(kind, model), tmp_path / "out"
    *_, told, last = export(run, "merged", output)
    assert (told, type(last)) == (Saved(str(output), "merged"), Finished)
    merged = AutoModelForCausalLM.from_pretrained(output)
    torch.testing.assert_close(logits(merged), logits(load_saved(run)), rtol=1e-4, atol=1e-4)
    assert AutoTokenizer.from_pretrained(output).chat_template == (run / "chat_template.jinja").read_text()
    assert not (output / "adapter_config.json").exists()
    record = json.loads((output / "run.json").read_text())
    assert record["kind"] == ("merged" if kind == "adapter" else kind)
    assert (
        "base_model_relation: finetune" in (output / "README.md").read_text()
        or "base_model" not in (output / "README.md").read_text()
    )


def test_a_disk_that_is_full_at_the_weights_is_told_and_nothing_stays(saved, tmp_path, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", full)
    *_, last = export(saved("adapter"), "merged", tmp_path / "out", "f16")
    assert "out cannot be written: No space left on device. Free space, or name another place." in last.message
    assert not any("out" in path.name for path in tmp_path.iterdir())


def test_an_adapter_is_copied(saved, tmp_path):
    run = saved("adapter")
    *_, last = export(run, "adapter", tmp_path / "out")
    assert isinstance(last, Finished)
    assert {file.name: file.read_bytes() for file in run.iterdir()} == {
        file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()
    }


@pytest.mark.parametrize("to", ["adapter", "merged", "gguf", "the Hub"])
def test_a_run_that_has_diverged_goes_nowhere(saved, tmp_path, to):
    run = shutil.copytree(saved("adapter"), tmp_path / "run")
    weights = load_file(run / "adapter_model.safetensors")
    name = max(weights)
    weights[name][0, 0] = float("nan")
    save_file(weights, run / "adapter_model.safetensors", {"format": "pt"})
    *_, last = push(run, "me/mine") if to == "the Hub" else export(run, to, tmp_path / "out")
    assert isinstance(last, Failed)
    assert f"has values in '{name}' that are no numbers (NaN): the training has diverged." in last.message
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_gguf_gets_the_whole_model_and_a_modelfile(saved, tmp_path, monkeypatch):
    seen = []

    def convert(folder, output, quantization):
        seen.append((sorted(file.name for file in folder.iterdir()), quantization))
        output.write_bytes(b"GGUF")
        yield from ()

    monkeypatch.setattr(formats, "convert_to_gguf", convert)
    *_, told, last = export(saved("adapter"), "gguf", tmp_path / "m.gguf", "q8_0")
    assert (told, type(last)) == (Saved(str(tmp_path / "m.gguf"), "gguf"), Finished)
    ((files, quantization),) = seen
    assert {"model.safetensors", "chat_template.jinja", "generation_config.json", "tokenizer.json"} <= set(files)
    assert quantization == "q8_0"
    text = (tmp_path / "Modelfile").read_text()
    assert text.startswith("FROM ./m.gguf\n")
    assert "### Instruction:\n{{ .Prompt }}\n\n### Response:\n" in text
    assert text.endswith('PARAMETER stop "<|endoftext|>"\n')


@pytest.mark.parametrize(
    ("kind", "to", "settings", "says"),
    [
        ("full", "adapter", {}, "has no adapter: its weights are full. Export it as merged or gguf."),
        ("adapter", "onnx", {}, "To is 'onnx'; choose one of adapter, merged, gguf, script, trl-config"),
        ("adapter", "merged", {"quantization": "q8_0"}, "quantization is 'q8_0', which only a GGUF file has"),
        ("adapter", "gguf", {"quantization": "q2"}, "quantization is 'q2'; choose one of f16, q8_0, bf16, f32"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(saved, tmp_path, kind, to, settings, says):
    (failed,) = export(saved(kind), to, tmp_path / "out", **settings)
    assert isinstance(failed, Failed)
    assert says in failed.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "to"), [("out", "merged"), ("Modelfile", "gguf")])
def test_nothing_is_replaced(saved, tmp_path, name, to):
    (tmp_path / name).write_text("years of work")
    (failed,) = export(saved("adapter"), to, tmp_path / ("m.gguf" if to == "gguf" else "out"))
    assert f"{name} is there already" in failed.message
    assert (tmp_path / name).read_text() == "years of work"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names have whole characters")
def test_a_place_whose_name_is_not_utf_8(saved, tmp_path):
    (failed,) = export(saved("adapter"), "merged", tmp_path / "out\udcff")
    assert failed.message.endswith("has a name that is not UTF-8; name another place.")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_run(tmp_path):
    (failed,) = export(tmp_path, "merged", tmp_path / "out")
    assert "is not the folder of a saved run" in failed.message
    (tmp_path / "run.json").write_text(json.dumps({"kind": "ablation", "arms": ["weight-0", "weight-1"]}))
    (failed,) = export(tmp_path, "merged", tmp_path / "out")
    assert "holds an ablation; name one of its arms: weight-0, weight-1." in failed.message


def test_elsewhere_a_folder_answers_as_its_run_did(saved, tmp_path, gpt2_folder):
    """In another place, without this package, the base's place or a cache."""
    commands, answers = [], []
    for kind in ("adapter", "merged", "full"):
        folder = shutil.copytree(saved(kind), tmp_path / kind)
        base = ["--base", gpt2_folder] if kind == "adapter" else []
        for words in (["Capital of Italy?"], ["Say", "--input", "it"]):
            commands.append((folder, "use.py", *words, "--max-new-tokens", "8", *base))
        answers += [each["after"].strip() for each in json.loads((folder / "run.json").read_text())["comparisons"]]
    assert printed_elsewhere(tmp_path, *commands) == answers


def test_elsewhere_a_base_that_is_not_there_is_a_sentence(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(use, "FOLDER", saved("adapter"))
    monkeypatch.setattr(sys, "argv", ["use.py", "Why?", "--base", str(tmp_path / "gone")])
    with pytest.raises(SystemExit, match=rf"^error: the model under this adapter, {tmp_path}/gone, .*--base FOLDER"):
        use.main()


def test_no_place_of_this_machine_is_in_the_files_that_others_load(saved, gpt2_folder):
    for kind in ("adapter", "merged", "full"):
        for name in ("adapter_config.json", "config.json", "README.md", "tokenizer_config.json", "use.py"):
            if (saved(kind) / name).is_file():
                assert str(gpt2_folder.parent) not in (saved(kind) / name).read_text(), name


def test_the_served_tokenizer_asks_as_was_trained(saved):
    text = served_tokenizer(saved("adapter")).apply_chat_template(
        [{"role": "user", "content": "a", "input": "b"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "### Instruction:\na\n\n### Input:\nb\n\n### Response:\n"
