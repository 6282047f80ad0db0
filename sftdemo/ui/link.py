"""A view of the page as a link: the sample or the own rows, the settings that decide the mask, the row, the open panel.

A link comes from anybody, so nothing in it is trusted: it goes through the checks of what a browser kept, opens models
of the page's own list only, and starts nothing."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode

from ..core.errors import ConfigError
from ..core.limits import MODELS
from ..data.hub import HUB, is_hub
from ..data.samples import SAMPLES
from .controls import LENGTH, Controls, with_length
from .kept import KEPT_BYTES, NAME_SHOWN, Kept, fitting_settings, is_choice, read_masks, settings_of

LINK_CHARACTERS = 8_000  # servers take 64,000, but chats and mail cut long addresses
LINK_BYTES = 2 * KEPT_BYTES  # of rows and masks, once they are unpacked
LINKED_SETTINGS = (
    *("model", "template", "custom", "max_length", "too_long", "turns", "chat_template_kwargs"),
    *("batch_size", "packing", "prompt_loss_weight", "against", *LENGTH),
)
# What can be open on the page: the accordion's id, and the tab in it.
DOORS = {
    "settings": ("mask-settings", ""),
    "boundary": ("laboratory", "Boundary"),
    "packing": ("laboratory", "Packing"),
    "two-ways": ("laboratory", "Two ways"),
    "training": ("training-settings", ""),
    "strength": ("strength-door", ""),
    "losses": ("losses-door", ""),
    "runs": ("past-door", ""),
}
_PARTS = ("sample", "rows", "hub", "row", "open")
_OTHERS = ("lesson", "step", "present")  # read by the lessons, and by the browser
_YES = {True: "yes", False: "no"}


@dataclass(frozen=True)
class Linked:
    """What can be used of a link: the `kept` parts of a view, with what is not used in its notes, the name of the
    `sample`, the `row` to show and the `door` to open."""

    kept: Kept
    sample: str = ""
    row: int | None = None
    door: str = ""


def is_link(query: Mapping[str, str]) -> bool:
    """Return whether the address of the page asks for a view."""
    return any(name in query for name in (*_PARTS, *LINKED_SETTINGS))


def link_of(kept: Mapping[str, Any], controls: Controls, more: Mapping[str, object]) -> str:
    """Return the query of a link to a view.

    Args:
        kept (`Mapping[str, Any]`):
            The view, as `kept.to_keep` returns it.
        more (`Mapping[str, object]`):
            What else the link says, such as `row`, `open` and `lesson`. What is empty is left out.

    Raises:
        ConfigError: if it would be too long, or if an opened file cannot stand in it.
    """
    inputs = settings_of(controls)
    parts: dict[str, Any] = _source(kept)
    for name in LINKED_SETTINGS:
        value = kept["settings"][name]
        if value != cast("Any", inputs[name]).value:
            parts[name] = _YES[value] if isinstance(value, bool) else value
    if parts.get("epochs"):
        parts.pop("steps", None)
    if parts.get("template", "") != "custom":
        parts.pop("custom", None)
    parts |= {name: value for name, value in more.items() if value not in ("", None)}
    query = urlencode(parts)
    if len(query) > LINK_CHARACTERS:
        raise ConfigError(
            f"a link to these rows would have {len(query):,} characters; it may have {LINK_CHARACTERS:,}. Send them as"
            " a file, or link to fewer rows."
        )
    return query


def _source(kept: Mapping[str, Any]) -> dict[str, str]:
    opened = kept["opened"]
    if opened and not is_hub(opened):
        raise ConfigError("a link cannot hold a file that is open; close it, and put some of its rows into the text.")
    if opened:
        return {"hub": opened.removeprefix(HUB)}
    if kept["text"] is None or kept["masks"] is None:
        raise ConfigError(f"a link holds at most {KEPT_BYTES // 1000:,} kB of text; link to fewer rows.")
    sample = next((each.name for each in SAMPLES if each.path.read_text(encoding="utf-8") == kept["text"]), "")
    if sample and not kept["masks"]:
        return {"sample": sample}
    rows = {name: kept[name] for name in ("text", "masks", "columns") if kept[name]}
    packed = zlib.compress(json.dumps(rows, ensure_ascii=False).encode("utf-8"), 9)
    return {"rows": base64.urlsafe_b64encode(packed).decode().rstrip("=")}


def from_link(query: Mapping[str, str], controls: Controls) -> Linked:
    """Return what can be used of a link, whatever it holds."""
    if sum(len(name) + len(value) for name, value in query.items()) > 2 * LINK_CHARACTERS:
        return Linked(Kept(notes=(f"This link is too long; it may have {LINK_CHARACTERS:,} characters.",)))
    rows, notes = _unpacked(query["rows"]) if "rows" in query else ({}, [])
    text = rows.get("text") if isinstance(rows.get("text"), str) else None
    masks, mask_notes = read_masks(rows.get("masks"), "this link holds")
    columns = rows.get("columns") if is_choice(rows.get("columns")) else None
    known = {sample.name: sample for sample in SAMPLES}
    sample = query.get("sample", "")
    if sample and sample not in known:
        notes.append(f"There is no sample {_shown(sample)}; there are {', '.join(known)}.")
    elif sample and text is None:
        text = known[sample].path.read_text(encoding="utf-8")
    settings, setting_notes = _settings(query, controls)
    hub = query.get("hub", "")[:NAME_SHOWN]
    if hub:
        notes.append("This link is to a data set on the Hub; press Open to read it.")
    row, door = query.get("row", ""), query.get("open", "")
    if row and not (row.isascii() and row.isdigit() and len(row) < 8):
        notes.append(f"This link's row is {_shown(row)}; a row is a number from 0.")
    if door and door not in DOORS:
        notes.append(f"This link opens {_shown(door)}; what can be opened is {', '.join(DOORS)}.")
    kept = Kept(text, masks, columns, settings, hub, (*notes, *mask_notes, *setting_notes))
    number = int(row) if row.isascii() and row.isdigit() and len(row) < 8 else None
    return Linked(kept, sample if sample in known else "", number, door if door in DOORS else "")


def _unpacked(packed: str) -> tuple[dict[str, Any], list[str]]:
    """Return the rows of a link, of which no more than `LINK_BYTES` are unpacked."""
    broken = {}, ["The rows of this link cannot be read: it was cut or changed. Copy it again, whole."]
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), LINK_BYTES)
        if unpacker.unconsumed_tail:
            return {}, [f"The rows of this link are longer than {LINK_BYTES // 1000:,} kB; send them as a file."]
        rows = json.loads(content.decode("utf-8")) if unpacker.eof else None
    except (binascii.Error, zlib.error, ValueError, RecursionError):  # `ValueError`: neither base64, UTF-8 nor JSON
        return broken
    return (cast("dict[str, Any]", rows), []) if isinstance(rows, dict) else broken


def _settings(query: Mapping[str, str], controls: Controls) -> tuple[dict[str, Any], list[str]]:
    """Return the settings that fit their inputs, and what is said of the others."""
    inputs, given, notes = settings_of(controls), {}, []
    for name in LINKED_SETTINGS:
        if name in query:
            given[name] = _read(query[name], cast("Any", inputs[name]).value)
    model = given.get("model")
    if model is not None and model not in MODELS:
        del given["model"]
        notes.append(f"This link asks for the model {_shown(model)}; if you trust it, write it into Model yourself.")
    good, wrong = fitting_settings(with_length(given), controls)
    wrong += ["steps"] if good.get("epochs") and "steps" in query else []
    ignored = [name for name in query if name not in (*_PARTS, *_OTHERS, *LINKED_SETTINGS) and name[:2] != "__"]
    if wrong or ignored:
        notes.append(f"Not used of this link: {', '.join(_shown(name) for name in (*wrong, *ignored)[:8])}.")
    return good, notes


def _read(text: str, at_first: object) -> object:
    """Return a value of the type that the input has at first; text that is none stays text, and is refused later."""
    if isinstance(at_first, bool):
        return {words: value for value, words in _YES.items()}.get(text, text)
    if isinstance(at_first, int | float):
        try:
            return int(text) if text.lstrip("-").isdigit() else float(text)
        except ValueError:
            return text
    return text


def _shown(text: object) -> str:
    """Return a text from a link as a sentence can show it."""
    return str(text)[:NAME_SHOWN].encode("utf-8", "replace").decode()
