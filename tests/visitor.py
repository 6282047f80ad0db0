"""Visitors of the page without browsers: each does over HTTP what its scripts do, and remembers all that it is sent.

A visitor's text carries a canary, a word that nobody else knows. What comes back may hold no other visitor's.
"""

from __future__ import annotations

import io
import json
import re
import secrets
import time
import urllib.error
import urllib.request
import zipfile
from typing import Any

from gradio_client.utils import apply_diff

CANARY = re.compile(rb"canary[0-9a-f]{12}")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
PATIENCE = 600.0  # seconds
CONFIG = "window.gradio_config = "


def plain(content: bytes) -> bytes:
    """A file as it can be searched: of a zip, what was put into it."""
    if not content.startswith(b"PK"):
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return b"\n".join(archive.read(name) for name in archive.namelist())


class Visitor:
    """One page that is open, whose components hold what was sent last.

    Args:
        address (`str`):
            Where the page is served.
        canary (`str`, *optional*):
            That of the same person's first page, where this is another.
    """

    def __init__(self, address: str, canary: str | None = None):
        self.address, self.session = address.rstrip("/"), secrets.token_hex(6)
        self.canary = canary or f"canary{secrets.token_hex(6)}"
        self.seen: set[str] = set()
        self.errors: list[str] = []
        self.toasts: list[str] = []
        self.begin = time.monotonic()
        page = self.get("/").decode()
        begun = page.index(CONFIG) + len(CONFIG)
        self.config = json.JSONDecoder().raw_decode(page, begun)[0]
        components = self.config["components"]
        self.values: dict[int, Any] = {each["id"]: each["props"].get("value") for each in components}
        self.ids = {name: each["id"] for each in components if (name := each["props"].get("elem_id"))}
        self.calls = {each["id"]: each for each in self.config["dependencies"] if each["backend_fn"]}
        self.first_mask = time.monotonic() - self.begin if self.rows() else None
        for call in list(self.calls.values()):
            if any(event == "load" for _, event in call["targets"]) and not call["js"]:
                self.fire(call)

    @property
    def foreign(self) -> set[str]:
        """The canaries of others that were sent here."""
        return self.seen - {self.canary}

    def rows(self) -> list[dict]:
        """The rows that are drawn, be it ahead of the model."""
        mask = json.loads(self.values[self.ids["mask"]] or "{}")
        return (mask.get("ahead", {}).get("drawn") or mask).get("rows") or []

    def drawn(self) -> list[str]:
        """The texts of the rows that are drawn, which are sent token by token."""
        return ["".join(token[0] for token in row["tokens"]) for row in self.rows()]

    def get(self, path: str) -> bytes:
        """Return what is answered, be it a refusal."""
        try:
            with DIRECT.open(self.address + path, timeout=PATIENCE) as answer:
                return self.keep(answer.read())
        except urllib.error.HTTPError as refusal:
            return self.keep(refusal.read())

    def post(self, path: str, content: bytes, kind: str = "application/json") -> Any:
        asked = urllib.request.Request(f"{self.address}/gradio_api/{path}", content, {"Content-Type": kind})
        with DIRECT.open(asked, timeout=PATIENCE) as answer:
            return json.loads(self.keep(answer.read()))

    def keep(self, content: bytes) -> bytes:
        self.seen |= {found.decode() for found in CANARY.findall(plain(content))}
        return content

    def call(self, number: int, data: list, event_data: Any = None, trigger: int | None = None) -> dict:
        """Ask a function of the page, follow what it sends, and return its last output."""
        body = {"data": data, "fn_index": number, "session_hash": self.session, "event_data": event_data}
        joined = self.post("queue/join", json.dumps(body | {"trigger_id": trigger}).encode())
        latest: list[Any] | None = None
        place = f"{self.address}/gradio_api/queue/data?session_hash={self.session}"
        with DIRECT.open(place, timeout=PATIENCE) as stream:
            for line in stream:
                self.keep(line)
                if not line.startswith(b"data:"):
                    continue
                told = json.loads(line[5:])
                if told.get("event_id") != joined["event_id"]:
                    continue
                if told["msg"] == "log":
                    self.toasts.append(told["log"])
                if told["msg"] == "process_generating" and told["success"]:
                    sent = told["output"]["data"]
                    fresh = latest is None
                    latest = sent if fresh else [apply_diff(*pair) for pair in zip(latest, sent, strict=True)]
                if told["msg"] == "process_completed":
                    if not told["success"]:
                        self.errors.append(str(told["output"].get("error")))
                    return told["output"] | {"data": latest if latest is not None else told["output"].get("data")}
        raise AssertionError(f"no end of {self.calls[number]['api_name']}")

    def fire(self, call: dict, event_data: Any = None, depth: int = 0) -> None:
        """Do what the page does at an event: ask, show what comes, and then what follows from it."""
        output = self.call(call["id"], [self.values.get(each) for each in call["inputs"]], event_data)
        changed = set(output.get("changed_state_ids") or ())
        for component, update in zip(call["outputs"], output.get("data") or (), strict=False):
            if isinstance(update, dict) and update.get("__type__") == "update":
                if "value" not in update:
                    continue
                update = update["value"]
            if update != self.values.get(component):
                changed.add(component)
            self.values[component] = update
            if component == self.ids["mask"]:
                self.keep(" ".join(self.drawn()).encode())
                if self.first_mask is None and self.rows():
                    self.first_mask = time.monotonic() - self.begin
        for other in list(self.calls.values()) if depth < 4 else []:
            follows = other["trigger_after"] == call["id"]
            changes = any(target in changed and event == "change" for target, event in other["targets"])
            if (follows or changes) and not other["js"]:
                self.fire(other, depth=depth + 1)

    def do(self, name: str, event: str, event_data: Any = None) -> None:
        """Fire what an event of a component, by its `elem_id`, sets off."""
        target = [self.ids[name], event]
        found = [call for call in self.calls.values() if target in [list(each) for each in call["targets"]]]
        assert found, target
        for call in found:
            self.fire(call, event_data)

    def set(self, name: str, value: object, event: str = "change") -> None:
        """Put a value into a component, as a person does."""
        self.values[self.ids[name]] = value
        self.do(name, event)

    def ask(self, endpoint: str, *data: object) -> Any:
        """Ask an endpoint by its name."""
        number = next(each["id"] for each in self.calls.values() if each["api_name"] == endpoint)
        return (self.call(number, list(data)).get("data") or [None])[0]

    def upload(self, name: str, content: bytes) -> None:
        """Open a file."""
        head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        body, kind = head + content + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"
        (path,) = self.post("upload", body, kind)
        self.set("upload", {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}, "upload")

    def download(self, name: str) -> bytes:
        """Take the file that a button offers; empty if it offers none."""
        offered = self.values[self.ids[name]]
        return self.get(f"/gradio_api/file={offered['path']}") if offered else b""
