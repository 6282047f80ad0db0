"""Certify a run against servers made in the test: one that speaks as llama.cpp does, one with OpenAI's API alone."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from saved import load_saved
from transformers import AutoTokenizer

from sftdemo.core.errors import DataError, ModelError
from sftdemo.core.streams import Relay
from sftdemo.export.certify import certify
from sftdemo.export.engines import llama_cpp
from sftdemo.terminal.cli import main


class Model:
    """A run's folder, served with transformers: what is asked, and what of it differs from the folder."""

    def __init__(self, folder, llama_cpp: bool = True, more: str = "", ends: bool = True):
        self.tokenizer, self.model = AutoTokenizer.from_pretrained(folder), load_saved(folder).eval()
        self.llama_cpp, self.more, self.ends = llama_cpp, more, ends
        self.asked: list[str] = []

    def answer(self, path: str, content: dict) -> dict | None:
        self.asked.append(path)
        match path:
            case "/props" if self.llama_cpp:
                return {"chat_template": "x", "model_ftype": "F16"}
            case "/v1/models" if not self.llama_cpp:
                return {"data": [{"id": "mine"}]}
            case "/apply-template":
                return {"prompt": self.prompt(content)}
            case "/tokenize":
                return {"tokens": self.tokenizer(content["content"]).input_ids}
            case "/completion":
                tokens = self.generate(content["prompt"], content["n_predict"])
                stop = "eos" if tokens[-1] == self.tokenizer.eos_token_id else "limit"
                return {"tokens": tokens, "content": self.tokenizer.decode(tokens), "stop_type": stop}
            case "/v1/chat/completions":
                prompt = self.tokenizer(self.prompt(content)).input_ids
                tokens = self.generate(prompt, content["max_tokens"])
                text = self.tokenizer.decode(tokens, skip_special_tokens=True)
                reason = "stop" if tokens[-1] == self.tokenizer.eos_token_id else "length"
                return {"choices": [{"message": {"content": text}, "finish_reason": reason}]}
        return None

    def prompt(self, content: dict) -> str:
        """llama.cpp hands on a message's role and content alone, and the arguments of the template."""
        messages = [{name: message[name] for name in ("role", "content")} for message in content["messages"]]
        arguments = {"tokenize": False, "add_generation_prompt": True} | content.get("chat_template_kwargs", {})
        return self.tokenizer.apply_chat_template(messages, **arguments) + self.more

    def generate(self, ids: list[int], count: int) -> list[int]:
        inputs = torch.tensor([ids])
        ends = {} if self.ends else {"eos_token_id": None}
        output = self.model.generate(
            inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=count, do_sample=False, **ends
        )
        return output[0, len(ids) :].tolist()


@pytest.fixture
def serve():
    servers = []

    def start(model: Model) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                length = int(self.headers.get("content-length") or 0)
                found = model.answer(self.path, json.loads(self.rfile.read(length) or b"{}"))
                body = json.dumps(found or {}).encode()
                self.send_response(404 if found is None else 200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()


def certified(*arguments, **settings):
    events = Relay(certify(*arguments, **settings))
    list(events)
    return events.result


@pytest.mark.parametrize("kind", ["adapter", "merged", "full"])
def test_the_same_model_is_the_same(saved, serve, kind):
    run = saved(kind)
    certificate = certified(run, url=serve(Model(run)), prompts=["Why?"], max_new_tokens=8)
    assert [check.prompt for check in certificate.checks] == ["Why?", "Capital of Italy?", "Say\n\nit"]
    assert all((each.same_ids, each.same_end, each.difference) == (True, True, "") for each in certificate.checks)
    assert (certificate.engine, certificate.weights) == ("llama.cpp", "f16")
    assert certificate.holds
    assert json.loads((run / "certificate.json").read_text()) == certificate.to_dict()
    assert str(certificate) in (run / "README.md").read_text()


def test_one_newline_more_is_caught_and_named(saved, serve):
    run = saved("adapter")
    certificate = certified(run, url=serve(Model(run, more="\n")), max_new_tokens=8)
    assert not certificate.holds
    for check in certificate.checks:
        assert (check.same_ids, check.cause) == (False, "template")


def test_a_modelfile_with_one_newline_more_is_caught_and_named(saved, serve, tmp_path, monkeypatch):
    from contextlib import contextmanager

    from sftdemo.export import certify as module
    from sftdemo.export.engines import Server
    from sftdemo.export.ollama import modelfile
    from sftdemo.export.served import served_tokenizer

    run = saved("adapter")
    url = serve(Model(run))

    @contextmanager
    def served(gguf, positions):
        yield Server(url)

    monkeypatch.setattr(module, "llama_cpp", served)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    text = modelfile("./m.gguf", served_tokenizer(run), ["<|endoftext|>"])
    (tmp_path / "Modelfile").write_text(text)
    right = certified(run, gguf=tmp_path / "m.gguf", max_new_tokens=8)
    assert (right.holds, right.to_dict()["modelfile_same_ids"]) == (True, True)
    (tmp_path / "Modelfile").write_text(text.replace("### Response:\n", "### Response:\n\n"))
    wrong = certified(run, gguf=tmp_path / "m.gguf", max_new_tokens=8)
    assert (wrong.holds, wrong.to_dict()["modelfile_same_ids"]) == (False, False)
    assert wrong.checks[0].difference == "the Modelfile's template gives other ids"


def test_a_server_that_tells_no_ids(saved, serve):
    run = saved("adapter")
    model = Model(run, llama_cpp=False)
    url = serve(model)
    certificate = certified(run, url=f"{url}/v1", max_new_tokens=8)
    assert [check.same_ids for check in certificate.checks] == [None, None]
    assert all(check.same_tokens == check.tokens for check in certificate.checks)
    assert certificate.holds
    assert "/completion" not in model.asked
    assert "mine at http" in str(certificate)


class TestTerminal:
    def test_json_ends_with_the_certificate(self, saved, serve, capsys):
        run = saved("adapter")
        assert main(["certify", str(run), "--url", serve(Model(run)), "--max-new-tokens", "4", "--json"]) == 0
        last = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (last["same_ids"], last["same_end"], last["same_tokens"]) == (True, True, True)

    def test_for_a_person(self, saved, serve, capsys):
        run = saved("adapter")
        assert main(["certify", str(run), "--url", serve(Model(run, more="\n")), "--max-new-tokens", "4"]) == 1
        out = capsys.readouterr().out
        assert out.startswith("2 prompts: 0 of 2 the same ids;")
        assert re.search(r"\(template\) +│", out)
        assert "|---" not in out  # Markdown is for the card

    def test_nothing_there(self, saved, capsys):
        assert main(["certify", str(saved("adapter")), "--url", "http://127.0.0.1:9"]) == 1
        assert "the server at http://127.0.0.1:9 did not answer /props" in capsys.readouterr().err.replace("\n", " ")

    def test_export(self, saved, tmp_path, capsys):
        run = saved("adapter")
        assert main(["export", str(run), "--to", "merged", "--output", str(tmp_path / "out")]) == 0
        assert "the model with the adapter merged into it" in capsys.readouterr().out
        assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_file_that_is_not_there(saved, tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*none\.gguf; write it with"):
        certified(saved("adapter"), gguf=tmp_path / "none.gguf")


def test_without_llama_cpp(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "xllamacpp", None)
    with pytest.raises(ModelError, match="pip install xllamacpp"), llama_cpp(tmp_path / "x.gguf", 128):
        pass
