"""Tell what a visit asked for last from what was asked before and is still at work, or came too late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import gradio as gr

from ..controls import Controls

VISITS = 1000  # of which is known what was asked for last


@dataclass
class _Visit:
    drawn: int = 0  # a hash of the settings
    is_followed: bool = False  # whether something was begun with them
    newest: dict[str, object] = field(default_factory=dict[str, object])


class Order:
    """What each visit asked for last. Its page draws one mask after the other, and sends what follows a drawing while
    the next is under way: where a connection loses a packet, that comes after what follows the next."""

    def __init__(self, controls: Controls):
        self._controls = controls
        self._visits = lru_cache(VISITS)(lambda visit: _Visit())

    def draw(self, values: dict, request: gr.Request | None) -> None:
        """Keep that the mask is drawn with these settings, by a page that was opened."""
        if request is not None:
            visit = self._visit(request)
            visit.drawn, visit.is_followed = self._hash(values), False

    def begin(self, what: Literal["scan", "ahead"], values: dict, request: gr.Request | None) -> Callable[[], bool]:
        """Return what tells whether this is the newest of its kind: none was begun after it, and none with the settings
        that are drawn by now before it, which has others."""
        visit = self._visit(request)
        is_of_drawn = self._hash(values) == visit.drawn
        if visit.is_followed and not is_of_drawn:
            return lambda: False
        visit.is_followed |= is_of_drawn
        mine = visit.newest[what] = object()
        return lambda: visit.newest[what] is mine

    def _visit(self, request: gr.Request | None) -> _Visit:
        return self._visits((request and request.session_hash) or "")

    def _hash(self, values: dict) -> int:
        return hash(tuple(str(values[control]) for control in self._controls.all()))
