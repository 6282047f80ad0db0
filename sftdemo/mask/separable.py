"""Avoid encoding the prompt a second time where prompt and completion clearly meet between two tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..data.templates import RenderedPrompt
from .encoding import Encoded, TextEncoder

_WINDOW = 64  # characters
_LAST_LINE = re.compile(r".*\n(?=[A-Za-z0-9#<])", re.DOTALL)  # up to where it begins
_WORD_ENDS = re.compile(r"[A-Za-z](?= [A-Za-z])")


def encode_separable(
    encoder: TextEncoder,
    prompts: Sequence[RenderedPrompt],
    completions: Sequence[str],
    offsets: bool = True,
) -> tuple[list[Encoded], list[Encoded | None]]:
    """Return the prompts' ids, and the completion's own wherever tokenising prompt and completion together gives the
    ids of each alone, one after the other. Return None where it does not, or where this shortcut cannot tell.

    Only a window of a few words around the boundary is tokenised together. That is enough for tokenizers that first
    split a text into words by a pattern and then encode each word by itself, as distant words have no influence. It
    saves encoding every prompt twice.
    """
    result: list[Encoded | None] = [None] * len(prompts)
    if not encoder.is_local:
        return encoder.encode_prompts(prompts, offsets), result
    windows = {
        index: window
        for index, (prompt, completion) in enumerate(zip(prompts, completions, strict=True))
        if (window := _window(prompt, completion)) is not None
    }
    encoded, own = encoder.encode_beside(prompts, [completions[index] for index in windows], offsets)
    texts = list({text for text, _ in windows.values()})
    together = dict(zip(texts, encoder.plain.encode_batch(texts, add_special_tokens=False), strict=True))
    for (index, (text, boundary)), completion in zip(windows.items(), own, strict=True):
        window = together[text]
        first = window.char_to_token(boundary)
        characters = window.token_to_chars(first) if first else None
        if first and characters and characters[0] == boundary:
            ids, head = window.ids, len(window.ids) - first
            if encoded[index].ids[-first:] == ids[:first] and completion.ids[:head] == ids[first:]:
                result[index] = completion
    return encoded, result


def _window(prompt: RenderedPrompt, completion: str) -> tuple[str, int] | None:
    """Return the text around the boundary, from the beginning of a word to the end of one, and the boundary in it."""
    text = prompt.text
    tail = text[-_WINDOW:]
    before = _LAST_LINE.match(tail)
    word = _WORD_ENDS.search(completion, 8, _WINDOW)
    head = completion[: word.end()] if word else completion
    if not (before or len(text) <= _WINDOW) or not head or len(head) > 4 * _WINDOW:
        return None
    tail = tail[before.end() :] if before else tail
    return tail + head, len(tail)
