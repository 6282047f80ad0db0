"""What the card and the page say of using a model elsewhere: each line that runs a program of ours is run."""

from __future__ import annotations

import json
import shlex
import shutil

import pytest
from elsewhere import printed_elsewhere
from model_hub import OWNER, serve_models, use_in_place_of_the_hub

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Failed
from sftdemo.data.examples import parse_examples
from sftdemo.export import formats
from sftdemo.runs.run import run
from sftdemo.runs.ways import QUESTION, ways_of
from sftdemo.terminal.cli import main

ROWS = [{"instruction": "Say hello", "output": "Hello world!"}, {"instruction": "Count", "output": "1 2 3"}]
OTHERS = ("llama-server", "ollama", "vllm", "uv")  # programs that are not here


@pytest.fixture(scope="module", params=["adapter", pytest.param("full", marks=pytest.mark.thorough)])
def folder(request, tmp_path_factory, gpt2_folder):
    """A run's folder beside its base, which is on no Hub."""
    place = tmp_path_factory.mktemp("ways")
    base = shutil.copytree(gpt2_folder, place / gpt2_folder.name)
    settings = {"full": True, "learning_rate": 1e-3} if request.param == "full" else {}
    config = RunConfig(str(base), steps=1, batch_size=2, max_length=128, max_new_tokens=4, **settings)
    events = run(config, parse_examples(json.dumps(ROWS)), place / "outputs")
    assert not [event for event in events if isinstance(event, Failed)]
    (place / "outputs" / base.name).symlink_to(base)  # where its name finds it
    return place / "outputs"


def test_the_card_has_every_way(folder):
    card = (folder / "README.md").read_text()
    for way in ways_of(json.loads((folder / "run.json").read_text())):
        assert f"### {way.name}\n\n{way.says}\n\n```" in card
        assert way.code in card


def test_python_code_answers(folder):
    ways = {way.name: way for way in ways_of(json.loads((folder / "run.json").read_text()))}
    python, terminal = printed_elsewhere(
        folder, (folder, "-c", ways["Python"].code), (folder, *shlex.split(ways["Terminal"].code)[1:])
    )
    assert python == terminal
    assert QUESTION in ways["Python"].code


def test_lines_in_a_shell_run(folder, tmp_path, monkeypatch, capsys):
    def convert(given, output, quantization):
        output.write_bytes(b"GGUF")
        yield from ()

    monkeypatch.setattr(formats, "convert_to_gguf", convert)
    monkeypatch.chdir(folder)
    (folder / "more.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    seen = set()
    for way in ways_of(json.loads((folder / "run.json").read_text()))[2:]:
        for line in way.code.replace(" && ", "\n").splitlines():
            words = shlex.split(line)
            if words[1] == "push":
                continue  # to the Hub, below
            if words[0] == "sftdemo" and words[1] != "certify":  # which needs llama.cpp: tests/export, tests/real_model
                short = ["--steps", "1", "--max-new-tokens", "2", "--max-length", "64"] if words[1] == "train" else []
                assert main([*words[1:], *short]) == 0, capsys.readouterr().err
            else:
                assert words[0] in (*OTHERS, "sftdemo")
            seen.add(words[0])
            if words[0] == "uv":
                assert (folder / words[2]).is_file()
                assert words[3:] == ["--model", "tiny-gpt2"]  # where its name finds it; the script runs in tests/export
        for made in ("model.gguf", "Modelfile"):
            (folder / made).unlink(missing_ok=True)
        for made in ("merged", "script"):
            shutil.rmtree(folder / made, ignore_errors=True)
    assert seen == {"sftdemo", *OTHERS}


def test_the_hubs_line_runs(folder, monkeypatch, capsys):
    (way,) = [way for way in ways_of(json.loads((folder / "run.json").read_text())) if way.name == "Hub"]
    monkeypatch.chdir(folder)
    with serve_models() as hub:
        use_in_place_of_the_hub(hub, monkeypatch)
        words = shlex.split(way.code.replace("owner/", f"{OWNER}/"))
        assert main(words[1:]) == 0, capsys.readouterr().err
        assert hub.repositories[f"{OWNER}/name"].private
        assert "use.py" in hub.repositories[f"{OWNER}/name"].files


def test_a_run_that_went_on_has_no_script(folder):
    record = json.loads((folder / "run.json").read_text())
    assert [way.name for way in ways_of(record)][-2:] == ["Hub", "Script"]
    record["model"]["base"] = "an adapter's base"
    assert ways_of(record)[-1].name == "Hub"
