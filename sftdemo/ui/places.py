"""Keep the server's own places from a public page: what is told there names a run or a file, and not where it lies.

On a machine of one's own everything is told as it is, since there the place helps. Events pass here when they leave the
backend, errors when they become sentences.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from ..core import errors
from ..core.events import Event, Saved
from ..core.files import cache_folder
from ..core.limits import is_public
from .start import EARLIER, RUN_ID, runs_folder

# Fields of events with what a visitor or a model wrote, which stays as it is.
_WRITTEN = frozenset({"prompt", "answer", "answers", "before", "after", "question", "tokens", "likeliest"})
_PACKAGE = Path(__file__).parents[2]  # the folder that the package lies in
Told = TypeVar("Told", bound=Event)


def sentence(error: Exception) -> str:
    """Return an error's message as a sentence of its own (`core.errors.sentence`), as the page may tell it."""
    words = errors.sentence(error)
    shown = without_places(words)
    return words if shown == words else errors.sentence(Exception(shown))


def told(event: Told, run_id: str | None = None) -> Told:
    """Return an event as the page may tell it.

    Args:
        run_id (`str`, *optional*):
            The run that the event is of. By default, any run that it names counts as this one.
    """
    if not is_public() or isinstance(event, Saved):  # whose path this server itself reads; the API leaves it out
        return event
    changed = {
        each.name: other
        for each in fields(event)
        if each.name not in _WRITTEN and (other := _hidden(value := getattr(event, each.name), run_id)) != value
    }
    return replace(event, **changed) if changed else event


def each_told(events: Iterable[Event], run_id: str | None = None) -> Iterator[Event]:
    """Yield events as the page may tell them."""
    return (told(event, run_id) for event in events)


def without_places(text: str, run_id: str | None = None) -> str:
    """Return a text with a short name in place of each path of the server: "this run", or the path's last part. On a
    machine of one's own it stays as it is."""
    if not is_public() or "/" not in text:
        return text
    return _pattern(frozenset(_roots())).sub(partial(_name, run_id=run_id), text)


def _hidden(value: Any, run_id: str | None) -> Any:
    if isinstance(value, str):
        return without_places(value, run_id)
    if isinstance(value, list):
        return [_hidden(each, run_id) for each in value]
    return value


def _roots() -> Iterator[str]:
    """Yield the folders under which all that is the server's own lies."""
    from huggingface_hub.constants import HF_HOME, HF_HUB_CACHE

    temporary = tempfile.gettempdir()
    places: list[str | Path] = [cache_folder(), HF_HOME, HF_HUB_CACHE, _PACKAGE, Path.cwd(), sys.prefix, temporary]
    places.append(os.environ.get("GRADIO_TEMP_DIR") or temporary)
    with suppress(RuntimeError):  # this user has no home
        places.append(Path.home())
    for place in map(Path, places):
        for path in {place.absolute(), place.resolve()}:
            if path != Path(path.anchor):  # under which everything lies, a visitor's own paths as well
                yield str(path)


@lru_cache(maxsize=8)
def _pattern(roots: frozenset[str]) -> re.Pattern[str]:
    """Return what finds a path in one of these folders. In the middle of an address there is none."""
    root = "|".join(re.escape(each) for each in sorted(roots, key=len, reverse=True))
    path = rf"(?:{root})(?:/[^\s'\"`:;,()<>…]*|(?![\w-]))"
    return re.compile(rf"(?P<before>\b[Tt]he run in )?(?<![\w.~/-])(?:file://)?(?P<path>{path})")


def _name(match: re.Match[str], run_id: str | None) -> str:
    path = Path(match["path"].rstrip(".!?"))
    end = match["path"][len(match["path"].rstrip(".!?")) :]
    if not RUN_ID.fullmatch(path.name) or path.parent.name != runs_folder().name:
        return f"{match['before'] or ''}{path.name}{end}"
    name = "this run" if run_id in (None, path.name) else EARLIER
    return (name if match.start() else name[:1].upper() + name[1:]) + end
