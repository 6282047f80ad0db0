"""A saved run on the Hub, played by a server on this machine: what arrives, what is told before, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants
from model_hub import OWNER, TOKEN, Repository, serve_models, use_in_place_of_the_hub

from sftdemo.core.events import Failed, Finished, Saved, Upload
from sftdemo.export import formats
from sftdemo.export.certificate import Certificate, Check
from sftdemo.export.push import NAME, push

ROOT = Path(__file__).parents[2]
TO = f"{OWNER}/pirate"
ABOUT = {"README.md", "config.yaml", "loss.svg"}
TOKENIZER = {"chat_template.jinja", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
ADAPTER = {"adapter_config.json", "adapter_model.safetensors", "run.json", "use.py"} | ABOUT | TOKENIZER
CERTIFICATE = Certificate("llama.cpp", "f16", 32, (Check("Say hello", True, True, 5, 5),))


@pytest.fixture
def hub(monkeypatch):
    with serve_models() as running:
        use_in_place_of_the_hub(running, monkeypatch)
        yield running


@pytest.fixture
def saved(saved, tmp_path_factory):
    """A copy, without what other tests have certified."""

    def of(kind: str) -> Path:
        run = shutil.copytree(saved(kind), tmp_path_factory.mktemp("pushed") / f"gpt2-{kind}")
        (run / "certificate.json").unlink(missing_ok=True)
        return run

    return of


def refusal(events) -> str:
    """The sentence that ends a push, which nothing was announced before."""
    *before, last = events
    assert isinstance(last, Failed), last
    assert not [each for each in before if isinstance(each, Saved)]
    assert TOKEN not in str([*before, last])
    return last.message


def test_an_adapter_arrives_in_one_commit(hub, saved):
    run = saved("adapter")
    events = list(push(run, TO, private=True))
    (told,) = [each for each in events if isinstance(each, Upload)]
    assert events[-2] == Saved(f"{hub.endpoint}/{TO}", "hub")
    assert isinstance(events[-1], Finished)
    arrived = hub.repositories[TO]
    assert (arrived.private, arrived.commits) == (True, 2)
    assert set(arrived.files) == {*ADAPTER, ".gitattributes"}
    assert arrived.files["adapter_model.safetensors"] == (run / "adapter_model.safetensors").read_bytes()
    assert arrived.files["README.md"] == (run / "README.md").read_bytes()
    sent = {name: data for name, data in arrived.files.items() if name != ".gitattributes"}
    assert told == Upload(
        TO,
        True,
        sorted(ADAPTER),
        sum(map(len, sent.values())),
        ["README.md", "run.json"],
        ["events.jsonl", "examples.jsonl"],
        [],
    )
    assert {token for path, token in hub.asked if not path.startswith("PUT /storage/")} == {TOKEN}


@pytest.mark.parametrize("gone_on", [False, True])
def test_no_place_of_this_machine_goes_along(hub, saved, tmp_path, gone_on):
    run = saved("adapter")
    if gone_on:
        record = json.loads((run / "run.json").read_text())
        earlier = str(tmp_path / "earlier run")
        base, config = record["config"]["model"], record["config"] | {"model": earlier}
        model = record["model"] | {"name": earlier, "base": base}
        command = record["command"].replace(base, f"'{earlier}'")
        run = shutil.copytree(run, tmp_path / "run")
        (run / "run.json").write_text(
            json.dumps(record | {"model": model, "config": config, "command": command, "from": "earlier run"})
        )
        (run / "config.yaml").write_text((run / "config.yaml").read_text().replace(base, earlier))
    assert any(b"/" + Path(run).parts[1].encode() in file.read_bytes() for file in run.iterdir())
    *_, last = push(run, TO)
    assert isinstance(last, Finished)
    arrived = hub.repositories[TO].files
    for name, data in arrived.items():
        for place in (str(run.parent), str(tmp_path.parent), str(Path.home()), str(ROOT)):
            assert place.encode() not in data, f"{name} names {place}"
    record = json.loads(arrived["run.json"])
    name = "earlier run" if gone_on else "tiny-gpt2"
    assert (record["model"]["name"], record["config"]["model"]) == (name, name)
    assert f"--model {name!r} " in record["command"] if gone_on else "--model tiny-gpt2 " in record["command"]
    assert f"model: {name}\n" in arrived["config.yaml"].decode()
    assert arrived["config.yaml"].startswith(b"# python -m sftdemo train examples.jsonl --config config.yaml\n")


def test_merged_has_all_weights_the_certificate_and_the_rows_if_asked(hub, saved, tmp_path):
    run = shutil.copytree(saved("adapter"), tmp_path / "run")
    (run / "certificate.json").write_text(json.dumps(CERTIFICATE.to_dict()))
    (run / "mine").mkdir()
    (run / "notes.txt").write_text("private")
    events = list(push(run, TO, kind="merged", with_examples=True))
    arrived = hub.repositories[TO].files
    assert {"model.safetensors", "config.json", "certificate.json", "examples.jsonl"} | ABOUT | TOKENIZER <= set(
        arrived
    )
    assert not {"adapter_config.json", "adapter_model.safetensors", "events.jsonl", "notes.txt"} & set(arrived)
    assert json.loads(arrived["run.json"])["kind"] == "merged"
    assert str(CERTIFICATE) in arrived["README.md"].decode()
    (told,) = [each for each in events if isinstance(each, Upload)]
    assert told.with_prompts == ["README.md", "run.json", "certificate.json", "examples.jsonl"]
    assert told.left == ["events.jsonl", "mine", "notes.txt"]
    assert not told.private


def test_gguf_has_its_modelfile_and_a_card_of_its_own(hub, saved, monkeypatch):
    def convert(folder, output, quantization):
        output.write_bytes(quantization.encode())
        yield from ()

    monkeypatch.setattr(formats, "convert_to_gguf", convert)
    *_, last = push(saved("adapter"), TO, kind="gguf", quantization="q8_0")
    assert isinstance(last, Finished)
    arrived = hub.repositories[TO].files
    assert set(arrived) == {"pirate-q8_0.gguf", "Modelfile", ".gitattributes"} | ABOUT
    assert arrived["pirate-q8_0.gguf"] == b"q8_0"
    assert arrived["Modelfile"].startswith(b"FROM ./pirate-q8_0.gguf\n")
    card = arrived["README.md"].decode()
    assert "llama-server -m pirate-q8_0.gguf" in card
    assert "- gguf\n" in card
    assert "use.py" not in card
    assert "merged into the weights" in card


def test_overwrite_leaves_nothing_of_what_was_there(hub, saved):
    hub.repositories[TO] = Repository({".gitattributes": b"", "README.md": b"old", "pytorch_model.bin": b"old"})
    said = refusal(push(saved("full"), TO))
    assert said.endswith(
        f"he repository {TO} is not empty: it holds README.md and 1 more. Name another, or replace all it holds with "
        "--overwrite."
    )
    assert hub.repositories[TO].files["README.md"] == b"old"
    events = list(push(saved("full"), TO, overwrite=True))
    assert [each.deleted for each in events if isinstance(each, Upload)] == [["pytorch_model.bin"]]
    assert isinstance(events[-1], Finished)
    arrived = hub.repositories[TO]
    assert set(arrived.files) == {"model.safetensors", "config.json", "run.json", "use.py", ".gitattributes"} | (
        ABOUT | TOKENIZER
    )
    assert arrived.commits == 2


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"to": "pirate"}, f'To is "pirate"; write owner/name, each of {NAME}.'),
        ({"to": "a/b/c"}, 'To is "a/b/c"; write owner/name'),
        ({"to": "a/b--c"}, 'To is "a/b--c"; write owner/name'),
        ({"kind": "script"}, "kind is 'script'; choose one of adapter, merged, gguf."),
        ({"quantization": "q2"}, "quantization is 'q2'; choose one of"),
        ({"quantization": "q8_0"}, "quantization is 'q8_0', which only a GGUF file has; choose gguf, or leave it out."),
        ({"kind": "adapter", "run": "full"}, "has no adapter: its weights are full. Push it as merged or gguf."),
        ({"run": "none"}, "is not the folder of a saved run"),
        ({"run": "ablation"}, "holds an ablation; name one of its arms: weight-0, weight-1."),
        ({"token": "none"}, "There is no login for the Hub: log in with `hf auth login`, or set HF_TOKEN"),
        ({"token": "hf_Ä"}, "The token for the Hub has characters that no token has: log in"),
    ],
)
def test_what_cannot_be_is_said_before_the_hub_is_asked(hub, saved, tmp_path, monkeypatch, how, says):
    how = {"to": TO, "run": "adapter"} | how
    if how.get("token") == "none":
        how["token"] = None
        monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    if how["run"] == "ablation":
        (tmp_path / "run.json").write_text(json.dumps({"kind": "ablation", "arms": ["weight-0", "weight-1"]}))
    run = saved(how.pop("run")) if how["run"] in ("adapter", "full") else how.pop("run") and tmp_path
    said = refusal(push(run, **how))
    assert says in said
    assert "Ä" not in said
    assert not hub.asked


@pytest.mark.parametrize(
    ("to", "held", "refuses", "how", "says"),
    [
        (TO, None, {}, {"token": "hf_wrong"}, f"The Hub refused the token that was sent for {TO} (Invalid credentials"),
        (
            "other/pirate",
            None,
            {},
            {},
            "The Hub does not let this login write to other/pirate (You don't have the rights",
        ),
        (
            TO,
            None,
            {"POST /api/repos/create": 409},
            {},
            f"he repository {TO} is there already, unseen by this login or made a moment",
        ),
        (
            TO,
            Repository(),
            {},
            {"private": True},
            f"he repository {TO} is public; make it private in its settings on the Hub, leave",
        ),
        (
            TO,
            Repository({".gitignore": b"*"}),
            {},
            {"overwrite": True},
            f"he repository {TO} has a .gitignore, by which files are left out",
        ),
        (
            TO,
            None,
            {"GET ": 0},
            {},
            f"The Hub did not answer for {TO} as it should (RemoteProtocolError). All files go",
        ),
        (
            TO,
            None,
            {"PUT ": 0},
            {},
            f"The Hub did not answer for {TO} as it should (RemoteProtocolError). All files go",
        ),
        (TO, None, {"PUT ": 403}, {}, f"The Hub does not let this login write to {TO} (refused with 403)"),
        (
            TO,
            Repository(),
            {f"POST /api/models/{TO}/commit": 412},
            {},
            f"he repository {TO} has changed since it was looked at (refused",
        ),
        (TO, None, {f"POST /api/models/{TO}/commit": 0}, {}, f"The Hub did not answer for {TO} as it should"),
        (
            TO,
            None,
            {f"POST /api/models/{TO}/commit": 422},
            {},
            f"The Hub refused what was sent to {TO}, with status 422",
        ),
        (
            TO,
            None,
            {f"POST /api/models/{TO}/commit": 504},
            {},
            f"All files go up in one commit: {TO} has all of them or none. Look there later, and try again.",
        ),
    ],
)
def test_a_push_that_fails_commits_nothing(hub, saved, to, held, refuses, how, says):
    hub.refuses |= refuses
    if held:
        hub.repositories[to] = held
    assert says in refusal(push(saved("adapter"), to, **how))
    left = hub.repositories.get(to)
    assert left is None or (left.commits == 1 and "adapter_model.safetensors" not in left.files)


def test_a_repository_that_changes_meanwhile_keeps_the_change(hub, saved):
    hub.repositories[TO] = Repository()
    events = push(saved("adapter"), TO)
    for event in events:
        if isinstance(event, Upload):
            hub.repositories[TO].files["theirs"] = b"theirs"
            hub.repositories[TO].commits += 1
            break
    assert f"he repository {TO} has changed since it was looked at (A commit has happened since" in refusal(events)
    assert set(hub.repositories[TO].files) == {".gitattributes", "theirs"}


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ("README.md", f"README.md of the run has gone since it was looked at. Nothing went to {TO}; try again."),
        ("", f"The run was deleted before it was pushed to {TO}; push another."),
    ],
)
def test_what_goes_while_it_is_pushed_is_named(hub, saved, gone, says):
    run = saved("adapter")
    events = push(run, TO)
    while not isinstance(next(events), Upload):
        pass
    (run / gone).unlink() if gone else shutil.rmtree(run)
    assert refusal(events) == says
    assert not hub.repositories


def test_an_empty_token_is_not_replaced(hub, saved):
    assert refusal(push(saved("adapter"), TO, token="")).startswith("There is no login for the Hub")
    assert not hub.asked


def test_a_card_with_bad_metadata_is_named(hub, saved, tmp_path):
    run = shutil.copytree(saved("adapter"), tmp_path / "run")
    (run / "README.md").write_text("---\nbase_model: 7\n---\n")
    said = refusal(push(run, TO))
    assert 'Invalid metadata in README.md. - "base_model" must be a string' in said
    assert hub.repositories[TO].commits == 1


def test_offline(hub, saved, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    said = refusal(push(saved("adapter"), TO))
    assert said == f"HF_HUB_OFFLINE forbids asking the Hub, so nothing goes to {TO}; unset it."
    assert not hub.asked


@pytest.mark.parametrize("as_json", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_the_command_line(hub, saved, tmp_path, as_json):
    """In a process of its own, with the address of the Hub and the token from the environment."""
    own = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path)}
    words = ["push", str(saved("adapter")), "--to", TO, "--private", *(["--json"] if as_json else [])]
    done = subprocess.run(
        [sys.executable, "-m", "sftdemo", *words],
        env=os.environ | own | {"HF_TOKEN": TOKEN, "NO_PROXY": "*", "COLUMNS": "200"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert set(hub.repositories[TO].files) == {*ADAPTER, ".gitattributes"}
    if as_json:
        told = {event["event"]: event for event in map(json.loads, done.stdout.splitlines())}
        assert told["upload"]["private"] is True
        assert told["saved"] == {"event": "saved", "path": f"{hub.endpoint}/{TO}", "kind": "hub"}
    else:
        lines = done.stdout.splitlines()
        assert lines[0] == f"{TO} on the Hub will be private"
        assert lines[2] == "with prompts and answers in them: README.md, run.json"
        assert lines[3] == "stays here: events.jsonl, examples.jsonl"
        assert lines[4] == f"Saved to {hub.endpoint}/{TO}: one commit on the Hub"
    assert TOKEN not in done.stdout + done.stderr
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]
