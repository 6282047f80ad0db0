"""Answer only under the server's own names, and take nothing that a page of another site sends.

A name that a stranger lets point to this machine (DNS rebinding) would otherwise make a browser read the page, and what
was trained here, for that stranger's site. A number needs no check, as no one else can own it.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import SftdemoError
from .downloads import Downloads
from .places import sentence

HOSTS = "SFTDEMO_HOSTS"  # further names that the page is served under, as behind a proxy; * for any
_READING = {"GET", "HEAD", "OPTIONS"}
_FILE, _UPLOAD = "/file=", "/upload"
_ANY_ADDRESS = {"0.0.0.0", "::"}
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d{1,5})?")
Headers = dict[str, str]


def own_names(bound: str) -> frozenset[str]:
    """Return the names that the page is served under if it listens on `bound`: those that are set, and a Space's."""
    names = {*os.environ.get(HOSTS, "").split(","), *os.environ.get("SPACE_HOST", "").split(",")}
    if not _is_number(bound):
        names.add(bound)
    if bound in _ANY_ADDRESS:
        names |= {socket.gethostname(), f"{socket.gethostname()}.local"}
    return frozenset(name.strip().lower() for name in names if name.strip())


def refusal(method: str, headers: Headers, names: frozenset[str]) -> str:
    """Return why a request is not answered, as a sentence; empty if it is.

    Args:
        method (`str`):
            The method of HTTP, or `"WEBSOCKET"`.
        headers (`dict[str, str]`):
            By names in small letters.
        names (`frozenset[str]`):
            The server's own, as `own_names` has them.
    """
    host = headers.get("host", "").lower()
    if host not in names and not _is_own(host, names):
        return f"This page is not served under the name {host[:100]!r}. Whoever serves it sets {HOSTS} to that name."
    if method in _READING:
        return ""
    origin = headers.get("origin")
    if origin is None:
        strange = headers.get("sec-fetch-site") in ("cross-site", "same-site")
    else:
        place = _place(origin)
        strange = place not in {host, *names} and not ("*" in names and place)
    return f"Pages of another site may send nothing here. Whoever serves this sets {HOSTS} to its name." * strange


def is_global(name: str) -> bool:
    """Return whether this is an address on the internet, not one of a private network."""
    return _is_number(name) and ip_address(name).is_global


def _is_own(host: str, names: frozenset[str]) -> bool:
    found = _HOST.fullmatch(host)
    name = (found[1] or found[2]).rstrip(".") if found else ""
    if name in names or name == "localhost" or name.endswith(".localhost"):
        return True
    if "*" in names or ("SPACE_ID" in os.environ and name.endswith(".hf.space")):
        return bool(name)
    return _is_number(name)


def _is_number(name: str) -> bool:
    try:
        return bool(ip_address(name))
    except ValueError:
        return False


def _place(origin: str) -> str:
    """Return the name and the port of an origin, in small letters; empty if it has none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


class Guard:
    """An ASGI middleware that refuses strange requests, writes a file that is offered when it is asked for, and lets
    nothing be uploaded for which there is no room.

    Args:
        names (`frozenset[str]`):
            The server's own names.
        downloads (`Downloads`):
            The files that the page offers.
        has_room (`Callable[[int], bool]`):
            Makes room for so many bytes, and returns whether there is.
    """

    def __init__(self, app: Any, names: frozenset[str], downloads: Downloads, has_room: Callable[[int], bool]):
        self._app, self._names, self._downloads, self._has_room = app, names, downloads, has_room

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): text.decode("latin-1") for name, text in scope["headers"]}
        method = scope.get("method", "WEBSOCKET")
        status, reason = 403, refusal(method, headers, self._names)
        if not reason and scope["type"] == "http":
            status, reason = await asyncio.to_thread(self._prepare, method, scope["path"], headers)
        if not reason:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            kind = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": status, "headers": kind})
            await send({"type": "http.response.body", "body": reason.encode()})

    def _prepare(self, method: str, path: str, headers: Headers) -> tuple[int, str]:
        """Make ready what a request needs; return the status and the reason of a refusal, which is empty if it is."""
        try:
            if method == "GET" and _FILE in path:
                self._downloads.make(path.partition(_FILE)[2])
            size = headers.get("content-length", "0")
            if method == "POST" and path.endswith(_UPLOAD) and size.isdecimal() and not self._has_room(int(size)):
                return 507, "There is no room for this file on the server's disk now. Try a smaller one, or later."
        except OSError as error:
            return 507, f"The file cannot be written on the server: {error.strerror or error}. Try again later."
        except SftdemoError as error:
            return 404, sentence(error)
        return 200, ""
