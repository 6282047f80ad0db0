"""Edit masks by hand on the page, and take edits back."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ..state import Desk
from .handlers import PRIVATE, Updates
from .mask import MaskHandlers

EDITS = 100  # that can be taken back
# No edit may be lost while another is on its way, and they come in order.
_IN_ORDER: dict[str, Any] = {"concurrency_id": "edits", "trigger_mode": "multiple"} | PRIVATE


class EditHandlers:
    """Keep what all masks made by hand were before each edit."""

    def __init__(self, desk: Desk, masking: MaskHandlers):
        self.desk, self.masking = desk, masking

    def wire(self) -> None:
        """Connect components and handlers."""
        session, mask = self.desk.session, self.masking.out.mask
        everything = {*self.desk.controls.all(), *session.all()}
        edited = [session.masks, session.edits]
        mask.toggle(self.toggle, everything, edited, **_IN_ORDER)
        mask.reset(self.reset, everything, edited, **_IN_ORDER)
        mask.undo(self.undo, session.edits, edited, **_IN_ORDER)

    def toggle(self, values: dict, event: gr.EventData) -> Updates:
        """Train or ignore the tokens that were marked."""
        return self._edited(values, self.masking.toggle(values, event))

    def reset(self, values: dict, event: gr.EventData) -> Updates:
        """Give a row its usual mask back."""
        return self._edited(values, self.masking.reset(values, event))

    def _edited(self, values: dict, masks: dict) -> Updates:
        session = self.desk.session
        kept = {} if masks == gr.skip() else {session.edits: [*values[session.edits], values[session.masks]][-EDITS:]}
        return {session.masks: masks} | kept

    def undo(self, edits: list[dict]) -> Updates:
        """Take the last edit back."""
        session = self.desk.session
        return {session.masks: edits[-1], session.edits: edits[:-1]} if edits else {session.masks: gr.skip()}
