"""The Hub's model repositories, played by a small server on this machine: the part of its protocol that a push uses."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from huggingface_hub import constants

TOKEN = "hf_theWritersOwnToken"
OWNER = "writer"


@dataclass
class Repository:
    """What a model repository holds: its files, and a commit more each time they change."""

    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.safetensors filter=lfs\n"})
    private: bool = False
    commits: int = 1

    @property
    def sha(self) -> str:
        return hashlib.sha1(str(self.commits).encode()).hexdigest()


@dataclass
class ModelHub:
    """A running server: its address, what it holds, each path and token it was asked with, and what it refuses:
    beginnings of `"METHOD /path"`, each with a status, or with 0 for a connection that ends."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    endpoint: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    refuses: dict[str, int] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)


@contextmanager
def serve_models() -> Generator[ModelHub]:
    hub = ModelHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    yield hub
    server.shutdown()
    server.server_close()


def use_in_place_of_the_hub(hub: ModelHub, monkeypatch) -> None:
    """Let huggingface_hub ask this server, in this process, with its owner's token."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("time.sleep", lambda _: None)  # between a library's repeated requests


class _Handler(BaseHTTPRequestHandler):
    hub: ModelHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def do_PUT(self):
        self.answer()

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked, token = f"{self.command} {self.path}", self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.hub.asked.append((asked, token))
        status = next((status for begin, status in self.hub.refuses.items() if asked.startswith(begin)), None)
        if status == 0:
            self.close_connection = True
            return None
        if status:
            return self.send({"error": f"refused with {status}"}, status)
        if self.command == "PUT":  # to a storage that is not the Hub
            self.hub.large[self.path.removeprefix("/storage/")] = body
            return self.send({})
        if token != TOKEN:
            return self.send({}, 401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        if self.path == "/api/repos/create":
            return self.create(json.loads(body))
        if self.path == "/api/validate-yaml":
            bad = "base_model: 7" in json.loads(body)["content"]
            told = {"errors": [{"message": '"base_model" must be a string'}]} if bad else {"errors": [], "warnings": []}
            return self.send(told, 400 if bad else 200)
        name = "/".join(self.path.removeprefix("/api/models").strip("/").split("/")[:2]).removesuffix(".git")
        repository = self.hub.repositories.get(name)
        if repository is None:
            return self.send({}, 404, {"X-Error-Code": "RepoNotFound"})
        rest = self.path.partition(name)[2]
        if rest.endswith("/preupload/main"):
            return self.send({"files": [self.mode(repository, each) for each in json.loads(body)["files"]]})
        if rest == ".git/info/lfs/objects/batch":
            return self.send({"transfer": "basic", "objects": [self.place(o) for o in json.loads(body)["objects"]]})
        if rest == "/commit/main":
            return self.commit(name, repository, [json.loads(line) for line in body.splitlines()])
        siblings = [{"rfilename": each, "size": len(data)} for each, data in repository.files.items()]
        return self.send({"id": name, "sha": repository.sha, "private": repository.private, "siblings": siblings})

    def create(self, asked: dict[str, Any]):
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != OWNER:
            return self.send({"error": "You don't have the rights to create a model under this namespace"}, 403)
        if name in self.hub.repositories:
            return self.send({"error": "You already created this model repo"}, 409)
        self.hub.repositories[name] = Repository(private=asked["visibility"] == "private")
        return self.send({"url": f"{self.hub.endpoint}/{name}"})

    def mode(self, repository: Repository, file: dict[str, Any]) -> dict[str, Any]:
        large = file["path"].endswith((".safetensors", ".gguf"))
        return {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}

    def place(self, asked: dict[str, Any]) -> dict[str, Any]:
        return asked | {"actions": {"upload": {"href": f"{self.hub.endpoint}/storage/{asked['oid']}"}}}

    def commit(self, name: str, repository: Repository, lines: list[dict[str, Any]]):
        header, *operations = ((line["key"], line["value"]) for line in lines)
        if header[1].get("parentCommit", repository.sha) != repository.sha:
            return self.send({"error": "A commit has happened since. Please refresh and try again."}, 412)
        files = dict(repository.files)
        for key, value in operations:
            if key == "deletedFile":
                del files[value["path"]]
            else:
                files[value["path"]] = (
                    self.hub.large[value["oid"]] if key == "lfsFile" else base64.b64decode(value["content"])
                )
        repository.files, repository.commits = files, repository.commits + 1
        url = f"{self.hub.endpoint}/{name}/commit/{repository.sha}"
        return self.send({"success": True, "commitUrl": url, "commitOid": repository.sha})

    def send(self, made: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None):
        data = json.dumps(made).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
