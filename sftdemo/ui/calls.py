"""Answer calls that Gradio refuses before a function of ours sees them, in sentences."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr
from gradio.route_utils import FnIndexInferError

from ..core.errors import ConfigError

Send = Callable[[Any], Awaitable[None]]
_CALLS = re.compile(r"/gradio_api/(?:call|run|api|queue/join|cancel|reset)(?:/|$)")
_SEE = "GET /gradio_api/info tells the endpoints and what each takes."
_UNREAD = f'The call cannot be read; send a JSON object such as {{"data": […]}}. {_SEE}'
_UNKNOWN = f"There is no endpoint of this name, or it has no argument of a name that was given. {_SEE}"
_LOG = logging.getLogger(__name__)


class CheckedPage(gr.Blocks):
    """A page that answers a call with too few values, or an endpoint's with too many, in a sentence."""

    def validate_inputs(self, block_fn: Any, inputs: list[Any]) -> None:
        """Check how many values a call has. Gradio asks before each call, and answers in Python's words itself."""
        wanted, given = len(block_fn.inputs), len(inputs)
        if given < wanted or (given > wanted and block_fn.api_visibility == "public"):
            words = f"{block_fn.api_name} takes {wanted} values, and {given} came. A client of Gradio fills them in."
            raise gr.Error(words, title=ConfigError.__name__, print_exception=False)


class Calls:
    """An ASGI middleware that answers in a sentence, with its class as the title, where Gradio would with the words of
    Python or pydantic: a call that it cannot read, and one by a name that no endpoint has."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not _CALLS.search(scope["path"]):
            await self._app(scope, receive, send)
            return
        begun = unread = False

        async def tell(message: Any) -> None:
            nonlocal begun, unread
            begun = True
            unread = unread or (message["type"] == "http.response.start" and message["status"] == 422)
            if not unread:
                await send(message)
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                await _answer(send, 422, _UNREAD)

        try:
            await self._app(scope, receive, tell)
        except (FnIndexInferError, KeyError, TypeError):  # what Gradio's own look-up of a name or a value raises
            if begun:
                raise
            _LOG.exception("A call was not answered: %s", scope["path"])
            await _answer(send, 400, _UNKNOWN)


async def _answer(send: Send, status: int, words: str) -> None:
    body = json.dumps({"error": words, "title": ConfigError.__name__}).encode()
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
