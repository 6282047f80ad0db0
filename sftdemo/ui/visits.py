"""Keep for a visit what this page needs of Gradio, and do no more at each event.

Gradio makes a component anew for each output that stays as it is, and describes each of a visit's components for links
to the state of a page, which this one has none of. That was half of the work when someone opens the page.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import gradio as gr
from gradio.blocks import Block, BlocksConfig


class Visit(BlocksConfig):
    """The components of one visit, which nothing describes."""

    @staticmethod
    def config_for_block(*block: Any, **more: Any) -> dict:
        """Describe nothing; a browser is sent the page's own description."""
        return {}


class Layout(BlocksConfig):
    """The components of the page, of which each visit has a copy."""

    def __copy__(self) -> Visit:
        visit = Visit(self.root_block)
        vars(visit).update(vars(super().__copy__()))
        return visit


class LeanPage(gr.Blocks):
    """A page whose visits keep no more than they need."""

    def __init__(self, *args: Any, **more: Any):
        super().__init__(*args, **more)
        layout = Layout(self)
        vars(layout).update(vars(self.default_config))
        self.default_config = layout

    def queue(self, *args: Any, **more: Any) -> LeanPage:
        """Make the queue of events without a record of them. After each, Gradio would sum up the last 10,000 for a page
        of figures, which is off here: 20 ms with 30 handlers. And it would look for events a thousand times a second,
        4% of a core while nobody does anything."""
        super().queue(*args, **more)
        self._queue.ANALYTICS_MAX_EVENTS = 0
        self._queue.sleep_when_free = 0.01  # seconds
        return self

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """Read the values of a handler's inputs. Gradio hands each to a thread: 300 times when someone comes."""
        plain = [each for each in block_fn.inputs if not each.stateful]
        if not plain or not block_fn.preprocess or any(each.data_model for each in plain):  # such as files
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)
        part = copy(block_fn)
        part.preprocess = False
        values = await super().preprocess_data(part, inputs, state, explicit_call)
        try:
            return [_read(state, *pair) for pair in zip(block_fn.inputs, values, strict=True)]
        except Exception:  # which is told in Gradio's words
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> list[Any]:
        """Make what is sent to the browser, of those outputs alone that change. Gradio keeps each component that an
        update has replaced, under a number that nothing asks for, as long as the visit's state."""
        if predictions == gr.skip():
            predictions = {}
        if isinstance(predictions, dict) and all(isinstance(each, Block) for each in predictions):
            made = await self._changed(block_fn, predictions, state)
        else:
            made = await super().postprocess_data(block_fn, predictions, state)
        if state is not None:
            for kept in (state.blocks_config.blocks, state.config_values):
                for number in kept.keys() - self.blocks.keys():
                    del kept[number]
        return made

    async def _changed(self, block_fn: Any, updates: dict[Any, Any], state: Any) -> list[Any]:
        changed = {each: update for each, update in updates.items() if update != gr.skip()}
        part = copy(block_fn)
        part.outputs = [each for each in block_fn.outputs if each in changed]
        made = await super().postprocess_data(part, changed, state) if changed else []
        sent = dict(zip(part.outputs, made, strict=True))
        return [sent[each] if each in sent else None if each.stateful else gr.skip() for each in block_fn.outputs]


def _read(state: Any, component: Any, value: Any) -> Any:
    if component.stateful:
        return value
    return (component if state is None else state.get(component._id, component)).preprocess(value)
