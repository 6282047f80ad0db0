"""Tell errors in Gradio's toasts, which draw HTML: the user's own words in them must stay words."""

from __future__ import annotations

import html

import gradio as gr

from ..core.errors import SftdemoError
from .places import sentence
from .words import say


def warn(error: SftdemoError) -> None:
    """Show an error beside the page, which goes on."""
    gr.Warning(html.escape(say(sentence(error)), quote=False))


def refusal(words: str) -> gr.Error:
    """Return what a handler raises to leave the page as it is, and to say why."""
    return gr.Error(html.escape(say(words), quote=False))
