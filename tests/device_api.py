"""ZeroGPU's device API, played by a small server on this machine: what the package `spaces` asks it for."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

LENT = (200, {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "MIG-0", "allowToken": "token"})
HUNG_UP = (0, None)


@dataclass
class DeviceApi:
    """A running server: its address, what it answers to the coming /schedule, and what it was asked."""

    replies: list[tuple[int, object]] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    address: str = ""

    def of(self, path: str) -> list[dict[str, str]]:
        return [words for asked, words in self.asked if asked == path]


@contextmanager
def device_api(*replies: tuple[int, object]) -> Generator[DeviceApi]:
    api = DeviceApi(list(replies))
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": api}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    api.address = f"http://127.0.0.1:{server.server_port}"
    yield api
    server.shutdown()
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
    api: DeviceApi

    def log_message(self, *_):
        pass

    def do_POST(self):
        path = urlsplit(self.path)
        self.api.asked.append((path.path, dict(parse_qsl(path.query))))
        status, answer = self.api.replies.pop(0) if path.path == "/schedule" else (200, {})
        if status:
            is_stream = isinstance(answer, str)
            self.send_response(status)
            self.send_header("Content-Type", "text/event-stream" if is_stream else "application/json")
            self.end_headers()
            self.wfile.write((answer if is_stream else json.dumps(answer)).encode())
