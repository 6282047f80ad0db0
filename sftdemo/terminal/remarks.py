"""Remarks on stderr, and lines that end between two words."""

from __future__ import annotations

import sys
from shutil import get_terminal_size
from textwrap import wrap

from ..mask.view import harmless


def remark(text: str) -> None:
    """Print a line on stderr, without the control characters that a file's name or a row may bring. In a terminal it
    breaks between two words, and a path stays whole."""
    text = harmless(text)
    print(between_words(text) if sys.stderr.isatty() else text, file=sys.stderr)


def between_words(text: str, width: int | None = None) -> str:
    """Return a text with lines of up to `width` characters, by default the terminal's, which end between two words. A
    longer word is left to the terminal, so that a path can be copied."""
    width = width or get_terminal_size().columns
    lines = (
        wrap(line, width, break_long_words=False, break_on_hyphens=False, replace_whitespace=False)
        for line in text.split("\n")
    )
    return "\n".join("\n".join(line) for line in lines)
