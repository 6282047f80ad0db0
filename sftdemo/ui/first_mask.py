"""Bring along, with the page itself, the mask of the examples that it opens with, as it was drawn last.

Whoever opens the page reads it while the tokenizer is loaded. The page then draws the mask anew, from the examples, the
settings and the tokenizer as they are, and nothing is trained before.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from .. import __version__
from ..core.config import DEFAULT_MODEL
from ..core.files import cache_folder, write_whole
from ..data.samples import SAMPLES
from .backend import Backend
from .kept import STORAGE_KEY
from .models import stamp_of
from .spoken import Page
from .state import View
from .widgets import mask_message, to_json
from .words import LANGUAGES, Speaks, language

_FILE = "first-mask.json"  # in the cache folder
WAITING = "Getting the model ready…"


@dataclass(frozen=True)
class FirstMask:
    """The mask that the page opens with, which is drawn by `widget`, in each language in which it was drawn."""

    page: Page
    widget: gr.HTML
    backend: Backend

    def bring(self) -> None:
        """Open the page with what was kept by the last server of this version, if the files of the tokenizer are still
        the same."""
        kept = _read()
        if kept.get("of") == _opened() and _are_there(kept.get("tokenizer")):
            for name in LANGUAGES.keys() & kept["drawn"].keys():
                with Speaks(name):
                    self._open_with(kept["drawn"][name])

    def keep(self, view: View, drawn: str) -> None:
        """Open the page with a mask from now on, and keep it for the next server. Where the cache cannot be written,
        that one draws it anew."""
        if not self._open_with(json.loads(drawn)):
            return
        kept, opened = _read(), _opened()
        tokenizer = [list(stamp) for stamp in self.backend.stamps(view.config.model)]
        is_same = kept.get("of") == opened and kept.get("tokenizer") == tokenizer
        others = kept["drawn"] if is_same else {}
        told = {"of": opened, "tokenizer": tokenizer, "drawn": others | {language(): json.loads(drawn)}}
        with suppress(OSError):
            cache_folder().mkdir(parents=True, exist_ok=True)
            write_whole(cache_folder() / _FILE, json.dumps(told))

    def _open_with(self, drawn: dict[str, Any]) -> bool:
        """Open the page with a mask, in the language of the visit, and return whether it is another than before."""
        waiting = json.loads(mask_message(WAITING, waiting=True))
        ahead = {"drawn": drawn | {"waiting": True}, "unless_kept": STORAGE_KEY}
        return self.page.open_with(self.widget, to_json(waiting | {"ahead": ahead}))


def is_kept() -> bool:
    """Return whether an earlier start on this machine has drawn a mask."""
    return bool(_read())


def _opened() -> list[str]:
    """What decides the mask that the page opens with, beside the tokenizer. The version decides the settings."""
    return [__version__, DEFAULT_MODEL, SAMPLES[0].path.read_text(encoding="utf-8")]


def _read() -> dict[str, Any]:
    """Return what is kept; nothing where that cannot be read, or is no such file."""
    try:
        kept = json.loads((cache_folder() / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    drawn = kept.get("drawn") if isinstance(kept, dict) else None
    is_whole = isinstance(drawn, dict) and all(isinstance(each, dict) and each.get("rows") for each in drawn.values())
    return kept if is_whole else {}


def _are_there(tokenizer: Any) -> bool:
    """Whether each file is still as it was stamped."""
    try:
        return bool(tokenizer) and all([name, *stamp_of(Path(name))] == [name, *rest] for name, *rest in tokenizer)
    except (OSError, TypeError, ValueError):  # a file that is gone, or a list that is no list of files
        return False
