"""Give the page as it was given before: it is the same for all who open it under one name in one language, until it
opens with another value."""

from __future__ import annotations

import asyncio
import gzip
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from .words import language

MOST_KEPT = 8  # pages, of half a megabyte each: names times languages
_NAMES = (b"host", b"x-forwarded-host", b"x-forwarded-proto", b"x-gradio-server")  # which make the page's addresses
# Gradio's first "Loading" counts its seconds once a frame, for ever: its timer outlives it. That is a sixteenth of a
# core for each page that is open. Nothing here shows those seconds, so what counts them is given no frame.
_STILL = b"""<script>{
  const give = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (draw) => (new Error().stack.includes("/statustracker") ? 0 : give(draw));
}</script>"""
_ASKED = {"page", "deep_link", "all_endpoints"}  # what Gradio itself reads in the page's address
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Answer:
    """What was answered, and the same in fewer bytes for those who can read it."""

    status: int
    headers: Headers
    body: bytes
    packed: bytes = b""

    @property
    def is_for_all(self) -> bool:
        """Whether others may be given it."""
        return self.status == 200 and not any(name.lower() == b"set-cookie" for name, _ in self.headers)


class Front:
    """An ASGI middleware that keeps the page by all that decides it. Gradio copies its layout for each visitor, puts it
    into HTML, and sends that as it is: a tenth of a second's work, and half a megabyte. Whoever comes while it is made
    for the first time waits for that. `changes` counts how often the page has become another."""

    def __init__(self, app: Any, changes: Callable[[], int]):
        self._app, self._changes = app, changes
        self._kept: OrderedDict[tuple, Answer] = OrderedDict()
        self._lock = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        if not _is_front(scope):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        key = (self._changes(), language(), scope["scheme"], scope.get("root_path"), *map(headers.get, _NAMES))
        async with self._lock:
            answer = self._kept.get(key) or await self._made(scope, receive)
            if answer.is_for_all:
                self._kept[key] = answer
                self._kept.move_to_end(key)
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        await _give(answer, b"gzip" in headers.get(b"accept-encoding", b""), send)

    async def _made(self, scope: Any, receive: Any) -> Answer:
        parts: list[Any] = []

        async def collect(message: Any) -> None:
            parts.append(message)

        await self._app(scope, receive, collect)
        begin = next(part for part in parts if part["type"] == "http.response.start")
        body = b"".join(part.get("body", b"") for part in parts if part["type"] == "http.response.body")
        body = body.replace(b"<head>", b"<head>" + _STILL, 1)  # before the modules, which keep what they find
        packed = await asyncio.to_thread(gzip.compress, body)
        return Answer(begin["status"], begin["headers"], body, packed)


def _is_front(scope: Any) -> bool:
    if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
        return False
    return not _ASKED & parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).keys()


async def _give(answer: Answer, is_packed: bool, send: Callable[[Any], Awaitable[None]]) -> None:
    body = answer.packed if is_packed else answer.body
    headers = [pair for pair in answer.headers if pair[0].lower() != b"content-length"]
    headers += [(b"content-length", str(len(body)).encode()), (b"vary", b"Accept-Encoding, Accept-Language")]
    headers += [(b"content-encoding", b"gzip")] * is_packed
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
