"""Answer calls that Gradio refuses before a function of ours sees them, in sentences."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import gradio as gr
from gradio.route_utils import FnIndexInferError
from gradio.server_messages import UnexpectedErrorMessage

from ..core.errors import ConfigError
from .visits import LeanPage

Send = Callable[[Any], Awaitable[None]]
_CALLS = re.compile(r"/gradio_api/(?:call|run|api|queue/join|cancel|reset)(?:/|$)")
_STREAM = "/gradio_api/queue/data"
_OURS = re.compile(
    r"/gradio_api/(?!file=|upload|mcp)"
)  # files are refused in words of their own, tools in those of a protocol
_SEE = "GET /gradio_api/info tells the endpoints and what each takes."
_UNREAD = f'The call cannot be read; send a JSON object such as {{"data": […]}}. {_SEE}'
_UNKNOWN = f"There is no endpoint of this name, or it has no argument of a name that was given. {_SEE}"
_REFUSED = {
    400: f'The call names no visit; send one as "session_hash", a text that the caller chooses. {_SEE}',
    404: f"There is nothing of this name. {_SEE}",
    405: f"What has this name is not asked in this way: an endpoint by POST, its answer by GET. {_SEE}",
    422: _UNREAD,
}
RUN, RUNS = "sftdemo-run", "sftdemo-runs"  # what a browser keeps: the run that is shown, and its own
_LOG = logging.getLogger(__name__)


# What the page's scripts send with an event: what each part is called, and what it is where it is left out.
_USUAL: dict[str, Any] = {
    **dict.fromkeys(("row", "page", "part", "step", "mend"), 0),
    **dict.fromkeys(("check", "run", "name", "note", "template", "open", "lesson"), ""),
    "line": None,
    "trained": False,
    "tokens": [],
    "runs": [],
}
_KINDS = {int: "a whole number", str: "a text", bool: "true or false", list: "a list"}
_MOST = 10**9


class CheckedPage(LeanPage):
    """A page that answers a call with too few values, or an endpoint's with too many, in a sentence; and an event with
    which no script of ours would send what came with it."""

    async def call_function(
        self,
        block_fn: Any,
        processed_input: list[Any],
        iterator: Any = None,
        requests: Any = None,
        event_id: str | None = None,
        event_data: gr.EventData | None = None,  # which Gradio hands over by its place
        *args: Any,
        **more: Any,
    ) -> Any:
        """Call a handler, once what was sent with the event is what its parts may be."""
        if event_data is not None:
            event_data._data = sent(event_data._data)
        values = [kept(*pair) for pair in zip(block_fn.inputs, processed_input, strict=False)] or processed_input
        return await super().call_function(block_fn, values, iterator, requests, event_id, event_data, *args, **more)

    def validate_inputs(self, block_fn: Any, inputs: list[Any]) -> None:
        """Check how many values a call has. Gradio asks before each call, and answers in Python's words itself."""
        wanted, given = len(block_fn.inputs), len(inputs)
        if given < wanted or (given > wanted and block_fn.api_visibility == "public"):
            words = f"{block_fn.api_name} takes {wanted} values, and {given} came. A client of Gradio fills them in."
            raise gr.Error(words, title=ConfigError.__name__, print_exception=False)


def kept(block: Any, value: Any) -> Any:
    """Return what an input holds; nothing where a browser has kept what is neither a run's id nor a list of such."""
    key = getattr(block, "storage_key", "")
    if key == RUN:
        return value if isinstance(value, str) else None
    if key == RUNS:
        return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
    return value


def sent(data: object) -> dict[str, Any]:
    """Return what was sent with an event, with nothing in place of the parts that were left out.

    Raises:
        gr.Error: for a part that is of another kind.
    """
    given = {str(name): value for name, value in data.items()} if isinstance(data, dict) else {}
    for name, value in given.items():
        if name in _USUAL and not _fits(name, value):
            kind = _KINDS[int if name == "line" else type(_USUAL[name])]
            words = f"{name} is {json.dumps(value)[:60]}; the page's own scripts send {kind}."
            raise gr.Error(words, title=ConfigError.__name__, print_exception=False)
    return _USUAL | given


def _fits(name: str, value: object) -> bool:
    if isinstance(value, list):
        kind = int if name == "tokens" else str
        return isinstance(_USUAL[name], list) and all(type(each) is kind for each in value)
    if name == "line" and value is None:
        return True
    wanted = int if name == "line" else type(_USUAL[name])
    return type(value) is wanted and not (isinstance(value, int) and abs(value) > _MOST)


class Calls:
    """An ASGI middleware that answers in a sentence, with its class as the title, where Gradio would with the words of
    Python, pydantic or HTTP: a call that it cannot read, and one by a name that no endpoint has."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        if scope["type"] != "http" or not _OURS.search(scope["path"]):
            await self._app(scope, receive, send)
            return
        if scope["path"].endswith(_STREAM) and _is_gone(scope):
            await _tell_gone(send)
            return
        is_call, status = _CALLS.search(scope["path"]), 0  # the status of the answer, once it has begun

        async def tell(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            if status not in _REFUSED or (status == 400 and not is_call):
                await send(message)
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                await _answer(send, status, _REFUSED[status])

        try:
            await self._app(scope, receive, tell)
        except (FnIndexInferError, KeyError, TypeError):  # what Gradio's own look-up of a name or a value raises
            if status or not is_call:
                raise
            _LOG.exception("A call was not answered: %s", scope["path"])
            await _answer(send, 400, _UNKNOWN)


def _is_gone(scope: Any) -> bool:
    """Return whether a stream of events is asked for by a visit that this server does not know."""
    asked = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [])
    return bool(asked) and asked[-1] not in scope["app"].get_blocks()._queue.pending_messages_per_session


async def _tell_gone(send: Send) -> None:
    """Answer as Gradio does, which then raises an error: two tracebacks for a page that outlives its server."""
    message = UnexpectedErrorMessage(message="404: Not Found", session_not_found=True)
    body = f"data: {message.model_dump_json()}\n\n".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": body})


async def _answer(send: Send, status: int, words: str) -> None:
    body = json.dumps({"error": words, "title": ConfigError.__name__}).encode()
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
