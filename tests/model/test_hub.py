"""Downloading from the Hub, played by a small server on this machine: the part of its protocol that is asked for."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

from sftdemo.core.errors import ModelError
from sftdemo.core.streams import Relay
from sftdemo.model.devices import choose_device
from sftdemo.model.loading import load_model, load_tokenizer
from sftdemo.model.sources import HUB_TIMEOUT, resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def hub(llama_folder):
    """Serves `tests/tiny`, a real model; `tests/pickled`, whose weights are a pickle; anything else is missing."""
    files = {path.name: path.read_bytes() for path in llama_folder.iterdir() if path.is_file()}
    repositories = {"tests/tiny": files, "tests/pickled": {"config.json": b"{}", "pytorch_model.bin": b"\x80"}}
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.do_GET(body=False)

        def do_GET(self, body=True):
            asked.append(self.path)
            path = self.path.partition("?")[0].strip("/").split("/")
            if path[:2] == ["api", "models"] and path[4:5] == ["tree"]:
                files = repositories["/".join(path[2:4])].items()
                tree = [{"type": "file", "path": file, "size": len(data), "oid": sha1(data)} for file, data in files]
                return self.answer(json.dumps(tree).encode(), body, {"Content-Type": "application/json"})
            if path[:2] == ["api", "models"] and (name := "/".join(path[2:4])) in repositories:
                siblings = [{"rfilename": file, "size": len(data)} for file, data in repositories[name].items()]
                record = {"id": name, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
                return self.answer(json.dumps(record).encode(), body, {"Content-Type": "application/json"})
            if path[2:3] == ["resolve"] and path[-1] in repositories.get("/".join(path[:2]), {}):
                data = repositories["/".join(path[:2])][path[-1]]
                etag = {"ETag": f'"{sha1(data)}"', "X-Repo-Commit": COMMIT}
                return self.answer(data, body, etag)
            return self.answer(b"{}", body, {"X-Error-Code": "RepoNotFound"}, status=404)

        def answer(self, data, body, headers, status=200):
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """Looks for a model with this server in place of the Hub, and loads it; returns what is told."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)

    def run(name: str, endpoint: str, offline: bool = False) -> str:
        files = "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + files)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        phases = Relay(resolve(name))
        try:
            told = [phase.message for phase in phases]
            load_tokenizer(phases.result)
            model = load_model(phases.result, choose_device("cpu"))
        except ModelError as error:
            return f"ERROR {error}"
        return "\n".join(
            [*told, f"SOURCE {phases.result.copy} | {phases.result.hub_id}", f"LOADED {model.name_or_path}"]
        )

    return run


def test_a_model_comes_from_the_hub_once_then_from_its_cache(hub, ask):
    endpoint, asked = hub
    first = ask("tests/tiny", endpoint)
    assert "Downloading tests/tiny from the Hub" in first
    assert "SOURCE full precision from the Hub | tests/tiny" in first
    assert "LOADED tests/tiny" in first
    assert any("model.safetensors" in path for path in asked)
    asked.clear()
    assert "LOADED tests/tiny" in ask("tests/tiny", endpoint)
    assert asked == []


def test_pickled_weights_are_refused_before_they_are_fetched(hub, ask):
    endpoint, asked = hub
    assert "ERROR tests/pickled holds no safetensors" in ask("tests/pickled", endpoint)
    assert not any("pytorch_model.bin" in path for path in asked)


def test_a_model_that_is_not_there_is_named(hub, ask):
    assert "ERROR the Hub has no model 'tests/absent'" in ask("tests/absent", hub[0])


def test_a_hub_that_never_answers_costs_seconds(ask, monkeypatch):
    assert HUB_TIMEOUT < 5
    monkeypatch.setattr("sftdemo.model.sources.HUB_TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begin = time.monotonic()
        assert "the Hub did not answer" in ask("tests/tiny", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - begin < 9  # where nothing is said, huggingface_hub waits for 10


def test_offline_is_respected(hub, ask):
    endpoint, asked = hub
    assert "HF_HUB_OFFLINE forbids" in ask("tests/tiny", endpoint, offline=True)
    assert asked == []
