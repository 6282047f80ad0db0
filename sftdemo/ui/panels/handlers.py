"""What the handlers of all panels share."""

from __future__ import annotations

from typing import Any

Updates = dict[Any, Any]  # component: its update; a component that is not there stays as it is

# The page is no API. Without a component to show progress on, Gradio's page (6.31) gives each output of each event that
# is sent, and that comes back, a new state of loading, for which it copies all of the component's properties.
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "show_progress_on": []}
# Of many events, as typing sends them, the newest is done, and those between are not. Gradio (6.31) sends that one to
# all handlers of the event anew: two such would keep each other going for good, so what else follows is a `then`.
NEWEST: dict[str, Any] = PRIVATE | {"trigger_mode": "always_last"}
