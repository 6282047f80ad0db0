"""Texts with half of a character in them: of a surrogate pair, as JSON may escape it, or a byte that is no UTF-8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from .errors import ConfigError

WHOLE = "write the character itself or both halves of its escape."


def half_at(text: str) -> int | None:
    """Return the position of the first half of a surrogate pair, or None if all characters are whole.

    >>> half_at("a\\ud83d"), half_at("a\\U0001f600")
    (1, None)
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def half_words(text: str, position: int) -> str:
    """Return what is wrong with a text that has half of a character at this position: the end of a sentence."""
    return f"has half of a character at position {position} (\\u{ord(text[position]):04x}); {WHOLE}"


def check_characters(settings: Mapping[str, object]) -> None:
    """Check that the texts of settings have whole characters, but for the model's: a path may have other bytes.

    Raises:
        ConfigError: naming the setting and the position.
    """
    for name, value in settings.items():
        for text in cast("Sequence[object]", value) if isinstance(value, list | tuple) else [value]:
            if name != "model" and isinstance(text, str) and (position := half_at(text)) is not None:
                raise ConfigError(f"{name} {half_words(text, position)}")
