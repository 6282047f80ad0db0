"""Visit a Gradio page over plain HTTP as a browser does: put handlers into the queue and read what they return from
server-sent events."""

from __future__ import annotations

import json
import secrets
from urllib.request import Request, urlopen

TIMEOUT = 120  # seconds without a word from the app that count as an error


class Visitor:
    """A visit in a session of its own. The components keep the values that the page came with.

    Args:
        address (`str`):
            The URL of the page, such as `"http://127.0.0.1:7860"`.
    """

    def __init__(self, address: str):
        with urlopen(f"{address}/config", timeout=TIMEOUT) as answer:
            config = json.load(answer)
        self._queue = f"{address}{config['api_prefix']}/queue"
        self._handlers = config["dependencies"]
        self._mask = next(
            each["props"]["value"] for each in config["components"] if each["props"].get("elem_id") == "mask"
        )
        self._values = {component["id"]: component["props"].get("value") for component in config["components"]}
        self._session = secrets.token_hex(8)

    @property
    def brought_mask(self) -> dict | None:
        """The mask that came with the page, if one did."""
        ahead = json.loads(self._mask).get("ahead")
        return ahead and ahead["drawn"]

    def draw_mask(self) -> dict:
        """Prepare the model and draw the mask, as the page does after it has loaded, and return the value of the mask's
        widget.

        Raises:
            RuntimeError: if a handler fails or draws no row.
        """
        ready = next(each for each in self._handlers if _on_load(each) and each["api_name"] == "get_ready")
        self._run(ready)
        draw = next(each for each in self._handlers if each["trigger_after"] == ready["id"])
        mask = self._run(draw)[0]
        if not isinstance(mask, str) or not json.loads(mask)["rows"]:  # a skipped output is no string
            raise RuntimeError(f"the page opens without a mask: {mask}")
        return json.loads(mask)

    def _run(self, handler: dict) -> list:
        """Run a handler and return the values of its outputs. Those of a generator come before its end."""
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
