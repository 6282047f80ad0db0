"""Answer calls that Gradio refuses before a function of ours sees them, in sentences."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ..core.errors import ConfigError


class Page(gr.Blocks):
    """A page that answers a call with too few values, or an endpoint's with too many, in a sentence."""

    def validate_inputs(self, block_fn: Any, inputs: list[Any]) -> None:
        """Check how many values a call has. Gradio asks before each call, and answers in Python's words itself."""
        wanted, given = len(block_fn.inputs), len(inputs)
        if given < wanted or (given > wanted and block_fn.api_visibility == "public"):
            words = f"{block_fn.api_name} takes {wanted} values, and {given} came. A client of Gradio fills them in."
            raise gr.Error(words, title=ConfigError.__name__, print_exception=False)
