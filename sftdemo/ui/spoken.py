"""A page that speaks the language of each visit: its layout, and what its handlers return.

Labels, choices and the words on buttons are worded here, on their way to the browser. What widgets draw is worded where
its JSON is made (`widgets`, `results`), as only there the program's words can be told from the user's.
"""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import gradio as gr
from gradio.blocks import BlockFunction

from .calls import CheckedPage
from .widgets import script
from .words import ENGLISH, Speaks, language, language_of, say

_WORDED = ("label", "info", "placeholder", "title", "x_title", "y_title", "color_title")
_VALUES = {"button", "loginbutton", "markdown"}  # whose value is words; that of others is the user's, or data
_WIDGET = re.compile(r'<div class="widget ([\w-]+)">')


class Page(CheckedPage):
    """Word the layout and the updates of a page. Endpoints answer programs in English."""

    _layout: Any = None
    _worded: dict[str, Any]

    def __init__(self, *args: Any, **more: Any):
        super().__init__(*args, **more)
        self._first: dict[str, tuple[int, str]] = {}
        self.changes = 0  # how often the page has become another for those who open it

    @property
    def config(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The layout, which Gradio gives to each browser that opens the page."""
        if not self._layout:
            return self._layout
        name = language()
        if name not in self._worded:
            worded = self._layout if name == ENGLISH else _in_words(self._layout)
            self._worded[name] = _with_value(worded, *self._first[name]) if name in self._first else worded
        return self._worded[name]

    @config.setter
    def config(self, layout: Any) -> None:
        self._layout, self._worded = layout, {}

    def open_with(self, component: gr.HTML, value: str) -> bool:
        """From now on, let those who open the page in the language of the visit find this value in a component. Return
        whether it is another than before."""
        first = component._id, value
        if self._first.get(language()) == first:
            return False
        self._first[language()] = first
        self._worded = {name: layout for name, layout in self._worded.items() if name != language()}
        self.changes += 1
        return True

    async def process_api(self, block_fn: BlockFunction | int, *args: Any, **kwargs: Any) -> Any:
        """Answer an event in the language of the visit that it comes from."""
        function = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        with Speaks(ENGLISH if function.api_visibility == "public" else _spoken_by(kwargs.get("request"))):
            return await super().process_api(block_fn, *args, **kwargs)

    async def postprocess_data(self, block_fn: BlockFunction, *args: Any, **kwargs: Any) -> list[Any]:
        """Word what a handler returns for Gradio's own components."""
        found = await super().postprocess_data(block_fn, *args, **kwargs)
        if language() == ENGLISH:
            return found
        return [_update(block.get_block_name(), each) for block, each in zip(block_fn.outputs, found, strict=True)]


def _spoken_by(request: Any) -> str:
    if not isinstance(request, gr.Request):
        return ENGLISH
    return language_of(dict(request.query_params), request.headers.get("accept-language", ""))


def _update(kind: str, value: Any) -> Any:
    if isinstance(value, dict) and value.get("__type__") == "update":
        return value | _props(kind, value)
    return say(value) if kind in _VALUES and isinstance(value, str) else value


def _props(kind: str, props: dict[str, Any]) -> dict[str, Any]:
    """Return those properties of a component that are words, in the language of the visit."""
    worded: dict[str, Any] = {name: say(props[name]) for name in _WORDED if isinstance(props.get(name), str)}
    if kind in _VALUES and isinstance(props.get("value"), str):
        worded["value"] = say(props["value"])
    if choices := props.get("choices"):
        worded["choices"] = [_choice(each) for each in choices]
    return worded


def _choice(choice: Any) -> Any:
    """Return a choice with its words; one that is called by its value is a name, as of a model or a column."""
    if not isinstance(choice, list | tuple) or choice[0] == choice[1]:
        return choice
    return (say(choice[0]), choice[1])


def _with_value(layout: Any, number: int, value: str) -> Any:
    """Return the layout with another value of one component."""
    components = [
        each | {"props": each["props"] | {"value": value}} if each["id"] == number else each
        for each in layout["components"]
    ]
    return layout | {"components": components}


def _in_words(layout: Any) -> Any:
    """Return the layout of the page, as it is before anyone has used it, in the language of the visit."""
    worded = copy.deepcopy(layout)
    worded["title"] = say(worded["title"])
    for component in worded["components"]:
        props = component["props"]
        props.update(_props(component["type"], props))
        if found := _WIDGET.match(str(props.get("html_template"))):
            props["js_on_load"], props["value"] = script(found[1]), json.dumps(_drawn(json.loads(props["value"])))
        elif component["type"] == "html":
            props["value"] = say(props["value"] or "")
    return worded


def _drawn(value: Any) -> Any:
    """Return what a widget draws at first, which has nothing in it but the program's own words."""
    if isinstance(value, dict):
        return {name: _drawn(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_drawn(each) for each in value]
    return say(value) if isinstance(value, str) else value
