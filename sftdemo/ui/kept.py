"""What a browser keeps of a visit, so that a reload does not lose it: the text, masks made by hand, settings, columns.

What comes back from a browser is not to be trusted: it may be of another version, or written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import gradio as gr
from gradio.components import Component

from ..core.characters import half_at
from ..core.config import RunConfig
from ..core.errors import ConfigError, DataError
from ..core.limits import read_limits
from ..data.examples import parse_examples, to_record
from ..data.hub import is_hub
from .controls import PAGE_SETTINGS, Controls, read_setting
from .reading import READ_AS, REFUSED
from .state import Masks, content_of, with_own_masks

STORAGE_KEY = "sftdemo-kept-1"  # another number when what is kept changes its form
KEPT_BYTES = 200_000  # of the text, and of the masks; the browser sends all of it at each edit and has room for 5 MB
NAME_SHOWN = 200  # characters of what is named to the person
_PARTS = ("text", "masks", "columns", "settings", "opened")


@dataclass(frozen=True)
class Kept:
    """What can be used of it: `text` and each of the `settings` are None or missing where the default stands.
    `notes` say what is not used, and what could not be kept."""

    text: str | None = None
    masks: Masks = field(default_factory=dict)
    columns: Mapping[str, Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    hub: str = ""
    notes: tuple[str, ...] = ()


def to_keep(text: str, opened: str | None, masks: Masks, columns: Mapping[str, Any] | None, settings: dict) -> dict:
    """Return what a browser is to keep. A text or masks above `KEPT_BYTES` are left out."""
    kept_masks = json.dumps([to_record(with_own_masks(example, own)) for example, own in masks.items()])
    return {
        "text": text if len(text.encode("utf-8", "replace")) <= KEPT_BYTES else None,
        "masks": json.loads(kept_masks) if len(kept_masks) <= KEPT_BYTES else None,
        "columns": columns,
        "settings": settings,
        "opened": opened if opened is None or is_hub(opened) else "file",
    }


def too_much(kept: Mapping[str, Any]) -> str:
    """Return a sentence on what is too long to be kept; empty where all of it is kept."""
    named = {"text": "the text", "masks": "the masks made by hand"}
    words = " and ".join(words for name, words in named.items() if kept[name] is None)
    if not words:
        return ""
    return f"A reload loses {words}: a browser keeps at most {KEPT_BYTES // 1000:,} kB of that."


def from_kept(value: object, controls: Controls) -> Kept:
    """Return what can be used of what a browser kept, whatever that is."""
    if not value:
        return Kept()
    if not isinstance(value, dict):
        return Kept(notes=("What this browser kept of your last visit cannot be read; the defaults are back.",))
    kept = cast("dict[str, Any]", value)
    text, text_notes = _text(kept.get("text"), "text" in kept)
    masks, mask_notes = read_masks(kept.get("masks"), "this browser kept")
    settings, unused = fitting_settings(kept.get("settings"), controls)
    columns = kept.get("columns")
    columns = columns if is_choice(columns) else None
    opened, hub = kept.get("opened"), ""
    notes = [*text_notes, *mask_notes]
    if isinstance(opened, str) and is_hub(opened) and half_at(opened) is None:
        hub = opened[:NAME_SHOWN]
        notes.append("The data set that was open is not kept; press Open to read it again.")
    elif opened:
        notes.append("The file that was open is not kept in a browser; open it again.")
    unused += [_plain(name) for name in kept if name not in _PARTS]
    if unused:
        notes.append(f"Not used of what this browser kept: {', '.join(unused[:8])}. The defaults stand instead.")
    return Kept(text, masks, columns, settings, hub, tuple(notes))


def _plain(name: object) -> str:
    """Return a name as a page can show it."""
    return str(name)[:NAME_SHOWN].encode("utf-8", "replace").decode()


def _text(text: object, given: bool) -> tuple[str | None, list[str]]:
    if isinstance(text, str) and len(text) <= KEPT_BYTES and half_at(text) is None:
        return text, []
    return None, ["The text was too long to be kept, or cannot be read; the sample is back."] if given else []


def read_masks(records: object, held: str) -> tuple[Masks, list[str]]:
    """Return the masks by what their rows are, as the session has them, and what is said of those that cannot be read.
    `held` says where they come from, as "this browser kept"."""
    if not isinstance(records, list) or not records:
        return {}, []
    try:
        data = parse_examples(json.dumps(records))
    except (DataError, ValueError, RecursionError):  # a browser's JSON may hold what no row may
        return {}, [f"The masks made by hand that {held} cannot be read."]
    notes = [f"{len(data.problems)} of the masks that {held} cannot be read."] if data.problems else []
    return {content_of(example): example.masks for example in data.train}, notes


def fitting_settings(values: object, controls: Controls) -> tuple[dict[str, Any], list[str]]:
    """Return the values that fit their inputs, and the names of the others."""
    if not isinstance(values, dict):
        return {}, []
    given = {str(name): value for name, value in cast("dict[Any, Any]", values).items()}
    inputs = settings_of(controls)
    good = {name: value for name, value in given.items() if name in inputs and _fits(name, value, inputs[name])}
    if given.get("steps", 0) is None and good.get("epochs"):
        good["steps"] = None
    return good, [_plain(name) for name in given if name not in good]


def settings_of(controls: Controls) -> dict[str, Component]:
    """Return the inputs whose values are kept as settings, by name."""
    return {name: each for name, each in vars(controls).items() if name != "examples"}


def _fits(name: str, value: object, component: Any) -> bool:
    at_first = component.value
    numbers = isinstance(at_first, int | float) and not isinstance(at_first, bool)
    if not isinstance(value, int | float if numbers else type(at_first)) or (numbers and isinstance(value, bool)):
        return False
    if isinstance(value, str) and (len(value) > KEPT_BYTES or half_at(value) is not None):
        return False
    if isinstance(component, gr.Radio | gr.Dropdown):
        own = isinstance(component, gr.Dropdown) and component.allow_custom_value
        if not own and value not in [each for _, each in component.choices]:
            return False
    if isinstance(component, gr.Slider) and not component.minimum <= cast("float", value) <= component.maximum:
        return False
    if name not in PAGE_SETTINGS or name == "template":
        return True
    try:
        read_limits().check_settings(RunConfig(**{name: read_setting(PAGE_SETTINGS[name], value, at_first)}))
    except (ConfigError, OverflowError):
        return False
    return True


def is_choice(columns: object) -> bool:
    """Return whether these are the fields of a `ColumnChoice` but its names."""
    if not isinstance(columns, dict):
        return False
    names = [columns.get("prompt"), columns.get("answer")]
    known = all(name is None or isinstance(name, str) for name in names)
    return known and columns.get("how") in (*READ_AS, REFUSED)
