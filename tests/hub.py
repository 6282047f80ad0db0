"""The Hub's data sets, played by a small server on this machine: the part of its protocol that is asked for."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TOKEN = "hf_tests_own"


def sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def parquet(rows: list[dict]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


def json_lines(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@dataclass
class Repository:
    """A data set repository: the files of each revision; the first revision is also `main`."""

    revisions: dict[str, dict[str, bytes]]
    private: bool = False
    gated: bool = False
    broken: str = ""  # a file whose connection ends in its middle

    def commit(self, revision: str) -> str | None:
        commits = {name: sha1(name.encode()) for name in self.revisions}
        if revision == "main":
            return next(iter(commits.values()))
        return commits.get(revision) or (revision if revision in commits.values() else None)

    def files(self, commit: str) -> dict[str, bytes]:
        return next(files for name, files in self.revisions.items() if sha1(name.encode()) == commit)


@dataclass
class Hub:
    """A running server: its address, what it holds, and each path and token that it was asked with."""

    repositories: dict[str, Repository]
    endpoint: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def serve(repositories: dict[str, Repository]) -> Generator[Hub]:
    hub = Hub(repositories)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    yield hub
    server.shutdown()
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for the client's acknowledgement

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_POST(self):
        self.posted = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def do_GET(self, body: bool = True):
        self.body, token = body, self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.hub.asked.append((self.path, token))
        path = [unquote(part) for part in self.path.partition("?")[0].strip("/").split("/")]
        api, path = path[0] == "api", path[1:] if path[0] == "api" else path
        repository = self.hub.repositories.get("/".join(path[1:3])) if path[0] == "datasets" else None
        if repository is None or (repository.private and token != TOKEN):
            return self.refuse("RepoNotFound", 401)
        kind, rest = path[3] if len(path) > 3 else "revision", path[4:]
        if repository.gated and token != TOKEN and (not api or kind == "auth-check"):
            return self.refuse("GatedRepo", 401)
        if kind == "auth-check":
            return self.send(b"")
        revision = "/".join(rest[:3]) if rest[:1] == ["refs"] else rest[0] if rest else "main"
        commit = repository.commit(revision)
        if commit is None:
            return self.refuse("RevisionNotFound", 404)
        files, place = repository.files(commit), "/".join(rest[revision.count("/") + 1 :])
        if kind == "resolve":
            return self.send_file(repository, commit, files.get(place), place)
        return self.send_json({"revision": self.info, "tree": self.tree, "paths-info": self.paths}[kind])(
            repository, commit, files, place
        )

    def send_json(self, made):
        return lambda *about: self.send(json.dumps(made(*about)).encode(), {"Content-Type": "application/json"})

    def info(self, repository, commit, files, _):
        siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
        name = next(name for name, each in self.hub.repositories.items() if each is repository)
        about = {"private": repository.private, "gated": "auto" if repository.gated else False, "tags": []}
        return {"id": name, "sha": commit, "siblings": siblings} | about

    def tree(self, repository, commit, files, place):
        inside = {name: data for name, data in files.items() if not place or name.startswith(f"{place}/")}
        folders = {name.rpartition("/")[0] for name in inside} - {"", place}
        found = [{"type": "file", "path": name, "size": len(data), "oid": sha1(data)} for name, data in inside.items()]
        return found + [{"type": "directory", "path": name, "oid": sha1(name.encode())} for name in sorted(folders)]

    def paths(self, repository, commit, files, _):
        asked = json.loads(self.posted)["paths"]
        everything = self.tree(repository, commit, files, "")
        return [each for each in everything if each["path"] in asked]

    def send_file(self, repository, commit, data, place):
        if data is None:
            return self.refuse("EntryNotFound", 404, {"X-Repo-Commit": commit})
        headers = {"ETag": f'"{sha1(data)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        begin, end, status = 0, len(data), 200
        if "Range" in self.headers:
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            begin, end, status = int(first), min(int(last or end) + 1, end), 206
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(data)}"
        if place == repository.broken and self.body:
            headers["Content-Length"] = str(end - begin)
            data, end, self.close_connection = data, begin + (end - begin) // 2, True
        return self.send(data[begin:end], headers, status)

    def refuse(self, code: str, status: int, headers=None):
        return self.send(b"{}", {"X-Error-Code": code, "X-Error-Message": code} | (headers or {}), status)

    def send(self, data: bytes, headers: dict[str, str] | None = None, status: int = 200):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.body:
            self.wfile.write(data)
