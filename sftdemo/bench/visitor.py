"""What a browser asks of a Gradio page that it has opened, over plain HTTP: handlers are put into the queue, and what
they return comes as server-sent events."""

from __future__ import annotations

import json
import secrets
from urllib.request import Request, urlopen

TIMEOUT = 120  # seconds without a word from the app that count as an error


class Visitor:
    """A session of its own, whose components stay at the values that the page came with.

    Args:
        address (`str`):
            The page's, such as `"http://127.0.0.1:7860"`.
    """

    def __init__(self, address: str):
        with urlopen(f"{address}/config", timeout=TIMEOUT) as answer:
            config = json.load(answer)
        self._queue = f"{address}{config['api_prefix']}/queue"
        self._handlers = config["dependencies"]
        self._values = {component["id"]: component["props"].get("value") for component in config["components"]}
        self._session = secrets.token_hex(8)

    def first_mask(self) -> dict:
        """What the mask's widget is given after the page has loaded: the model is got ready, then the mask drawn.

        Raises:
            RuntimeError: when a handler fails or draws no row.
        """
        ready = next(each for each in self._handlers if _on_load(each) and each["api_name"] == "get_ready")
        self._asked(ready)
        draw = next(each for each in self._handlers if each["trigger_after"] == ready["id"])
        mask = self._asked(draw)[0]
        if not isinstance(mask, str) or not json.loads(mask)["rows"]:  # what is skipped is no string
            raise RuntimeError(f"the page opens without a mask: {mask}")
        return json.loads(mask)

    def _asked(self, handler: dict) -> list:
        """Runs a handler and waits for the values of its outputs; those of a generator come before its end."""
        values = [self._values[component] for component in handler["inputs"]]
        body = {"fn_index": handler["id"], "data": values, "session_hash": self._session}
        request = Request(f"{self._queue}/join", json.dumps(body).encode(), {"Content-Type": "application/json"})
        urlopen(request, timeout=TIMEOUT).close()
        with urlopen(f"{self._queue}/data?session_hash={self._session}", timeout=TIMEOUT) as events:
            for line in events:
                event = json.loads(line.removeprefix(b"data: ")) if line.startswith(b"data: ") else {}
                if event.get("msg") == "process_completed" and event["success"]:
                    return event["output"]["data"]
                if event.get("msg") in ("process_completed", "unexpected_error"):
                    raise RuntimeError(f"{handler['api_name']} failed: {event}")
        raise RuntimeError(f"{handler['api_name']} never ended")


def _on_load(handler: dict) -> bool:
    return any(event == "load" for _, event in handler["targets"])
