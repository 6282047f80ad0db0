"""Let the model answer the questions that stand there before anyone trains it, and show the answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
from gradio.events import Dependency

from ...core.errors import SftdemoError
from ...core.events import Before, Event, Failed, Finished
from ..results import comparison
from ..state import Desk
from .handlers import PRIVATE, Updates
from .order import Order
from .scanned import OFF, buttons, planned

NOTHING_YET = "The answers appear here, side by side, when a training is done."
UNTRAINED = "What the model answers as it is. Train it, and the new answers stand beside these."


class AheadHandlers:
    """Ask a process that stands by for a run, so that neither its model nor these answers are waited for later. The
    buttons to train with then tell the shorter time."""

    def __init__(self, desk: Desk, order: Order, compare: gr.HTML, train: gr.Button, both: gr.Button):
        self.desk, self.order, self.compare, self.train, self.both = desk, order, compare, train, both

    def wire(self, idle: Sequence[Dependency]) -> None:
        """Ask after each of these events. What is asked later ends what was asked before (`Standby.ask`)."""
        everything = {*self.desk.controls.all(), *self.desk.session.all(), self.desk.run_id}
        shown = [self.compare, self.train, self.both]
        asking: dict[str, Any] = {"concurrency_limit": 8, "trigger_mode": "multiple"}
        for event in idle:
            event.then(self.answer, everything, shown, **asking, **PRIVATE)

    def answer(self, values: dict, request: gr.Request | None = None) -> Iterator[Updates]:
        """Show the answers of the model as it is, where those of a run are not shown."""
        yield {self.compare: gr.skip()}
        # The same questions may be asked for other settings, which the buttons speak of from then on.
        is_newest = self.order.begin("ahead", values, request)
        if not is_newest():
            return
        told, before = [], []
        run_id = values[self.desk.run_id]
        is_free = self.desk.backend.saved_run(run_id) is None and not self.desk.backend.is_running(run_id)
        try:
            yield from self._offer(values)
            for told in self.desk.backend.ahead(self.desk.config(values), self.desk.data(values)):
                before = [event for event in told if isinstance(event, Before) and event.stop != "stopped"]
                if before and is_free:
                    yield {self.compare: comparison(before, UNTRAINED)}
            ended = told[-1] if told else None
            if isinstance(ended, Finished) and not ended.stopped and is_newest():
                yield from self._offer(values, told)
        except SftdemoError:  # the mask's place says what is wrong
            return
        is_over = isinstance(ended, Finished | Failed)
        if is_free and is_over and not before:  # those that stand there answer what is asked no more
            yield {self.compare: comparison([], NOTHING_YET)}

    def _offer(self, values: dict, told: Sequence[Event] = ()) -> Iterator[Updates]:
        """What the buttons say of a run that begins now, if a process stands by for it, which has `told` what it did
        ahead."""
        audit = values[self.desk.session.audit]
        if audit is None or self.desk.checked(values)[1]:
            return
        plan = planned(self.desk, values, audit)
        plan.learn_ahead(told)
        if not plan.ready.stands_by:
            return
        said = buttons(plan, audit.findings())
        if OFF in said:  # they say already what is to be mended
            return
        yield {out: gr.update(value=each["value"]) for out, each in zip((self.train, self.both), said, strict=True)}
