"""Let the model answer the questions that stand there before anyone trains it, and show the answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
from gradio.events import Dependency

from ...core.errors import SftdemoError
from ...core.events import Before, Failed, Finished
from ..results import comparison
from ..state import Desk
from .handlers import PRIVATE, Updates

NOTHING_YET = "The answers appear here, side by side, when a training is done."
UNTRAINED = "What the model answers as it is. Train it, and the new answers stand beside these."


class AheadHandlers:
    """Ask a process that stands by for a run, so that neither its model nor these answers are waited for later."""

    def __init__(self, desk: Desk, compare: gr.HTML, run_id: gr.BrowserState):
        self.desk, self.compare, self.run_id = desk, compare, run_id

    def wire(self, idle: Sequence[Dependency]) -> None:
        """Ask after each of these events. What is asked later ends what was asked before (`Standby.ask`)."""
        everything = {*self.desk.controls.all(), *self.desk.session.all(), self.run_id}
        asking: dict[str, Any] = {"concurrency_limit": 8, "trigger_mode": "multiple"}
        for event in idle:
            event.then(self.answer, everything, self.compare, **asking, **PRIVATE)

    def answer(self, values: dict) -> Iterator[Updates]:
        """Show the answers of the model as it is, where those of a run are not shown."""
        yield {self.compare: gr.skip()}
        told, before = [], []
        run_id = values[self.run_id]
        is_free = self.desk.backend.saved_run(run_id) is None and not self.desk.backend.is_running(run_id)
        try:
            for told in self.desk.backend.ahead(self.desk.config(values), self.desk.data(values)):
                before = [event for event in told if isinstance(event, Before) and event.stop != "stopped"]
                if before and is_free:
                    yield {self.compare: comparison(before, UNTRAINED)}
        except SftdemoError:  # the mask's place says what is wrong
            return
        is_over = bool(told) and isinstance(told[-1], Finished | Failed)
        if is_free and is_over and not before:  # those that stand there answer what is asked no more
            yield {self.compare: comparison([], NOTHING_YET)}
