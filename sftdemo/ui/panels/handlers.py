"""What the handlers of all panels share."""

from __future__ import annotations

from typing import Any

Updates = dict[Any, Any]  # component: its update; a component that is not there stays as it is

PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}  # the page is no API
# Of many events, as typing sends them, the newest is done, and those between are not. Gradio (6.31) sends that one to
# all handlers of the event anew: two such would keep each other going for good, so what else follows is a `then`.
NEWEST: dict[str, Any] = PRIVATE | {"trigger_mode": "always_last"}
VISITS = 1000  # of which is known what was asked for last
