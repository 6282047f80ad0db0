"""Let a tokenizer that is not known to be harmless try each text in another process first.

A tokenizer's file may bring expressions that take for ever on a short text, and replacements that make it grow beyond
all memory. A process of its own can be ended; once it has encoded a text, the same text is encoded here as well.
"""

# the tokenizers library annotates its classes in part
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, cast

from ..core.apart import APART, ApartError
from ..core.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

SECONDS, CHARACTERS_A_SECOND = 5.0, 50_000
MOST_GROWTH = 8  # times the characters of a text that all replacements may make of it together, unwatched
_MOST_EXPRESSION = 40  # characters that a message quotes
_ENDINGS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"'(?i:[sdmt]|ll|ve|re)")
_REST = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Of GPT-2, Llama 3, Qwen and GPT-4: each takes a time in proportion to the text's length.
_HARMLESS = {
    *(f"{ending}|{_REST % digits}" for ending in _ENDINGS for digits in ("", "{1,3}")),
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    *(r"\p{N}", r"\p{N}{1,3}", r"\d", r"\s+", r"\n", " ", " {2,}"),
}


def watched(tokenizer: Tokenizer) -> Tokenizer:
    """Return the tokenizer or, if it has an expression that is not known, or replacements that make a text much longer,
    one with the same methods to encode.

    Raises:
        ModelError: if replacements make what it decodes much longer, which no known tokenizer does.
    """
    content = tokenizer.to_str()
    parts = json.loads(content)
    if _grows(parts["decoder"]):
        raise ModelError(
            f"the model's tokenizer cannot be used: its decoder may make more than {MOST_GROWTH} characters of each "
            "that it decodes. Choose another model."
        )
    unknown = [
        each for part in ("normalizer", "pre_tokenizer") for each in _expressions(parts[part]) if each not in _HARMLESS
    ]
    if not unknown and not _grows(parts["normalizer"]):
        return tokenizer
    return cast("Tokenizer", _Watched(tokenizer, content, unknown[0] if unknown else None))


def _expressions(part: Any) -> Iterator[str]:
    """Yield the regular expressions in a part of a tokenizer's JSON."""
    if isinstance(part, dict):
        for name, each in cast("dict[str, Any]", part).items():
            if name == "Regex" and isinstance(each, str):
                yield each
            else:
                yield from _expressions(each)
    elif isinstance(part, list):
        for each in cast("list[Any]", part):
            yield from _expressions(each)


def _grows(part: Any) -> bool:
    """Return whether the replacements of a normalizer or a decoder may make a text much longer."""
    growth = 1
    for pattern, content in _replacements(part):
        growth *= max(1, ceil(len(content) / max(1, len(pattern))))
        if growth > MOST_GROWTH:
            return True
    return False


def _replacements(part: Any) -> Iterator[tuple[str, str]]:
    """Yield what each step of a normalizer's or a decoder's JSON replaces, one character at least where it is an
    expression, and by what."""
    if isinstance(part, dict):
        step = cast("dict[str, Any]", part)
        if step.get("type") == "Replace":
            yield step["pattern"].get("String", ""), step["content"]
        for each in (*step.get("normalizers", ()), *step.get("decoders", ())):
            yield from _replacements(each)


class _Watched:
    """A tokenizer that is watched for the sake of an expression or, without one, of its replacements."""

    def __init__(self, tokenizer: Tokenizer, content: str, expression: str | None):
        self._tokenizer, self._content, self._expression = tokenizer, content, expression
        self._reason = ""  # why it was ended, once it was

    def encode(self, text: str, add_special_tokens: bool = True) -> Encoding:
        """Encode as the tokenizer does.

        Raises:
            ModelError: if it takes too long, as the other methods do.
        """
        self._try([text])
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens)

    def encode_batch(self, texts: Sequence[str], add_special_tokens: bool = True) -> list[Encoding]:
        """Encode as the tokenizer does."""
        self._try(texts)
        return self._tokenizer.encode_batch(list(texts), add_special_tokens=add_special_tokens)

    def encode_batch_fast(self, texts: Sequence[str], add_special_tokens: bool = True) -> list[Encoding]:
        """Encode as the tokenizer does."""
        self._try(texts)
        return self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)

    def to_str(self) -> str:
        """Return the tokenizer's JSON."""
        return self._content

    def _try(self, texts: Sequence[str]) -> None:
        seconds = SECONDS + sum(map(len, texts)) / CHARACTERS_A_SECOND
        try:
            if not self._reason:
                APART.ask("encode", seconds, tokenizer=self._content, texts=list(texts))
        except ApartError as error:
            self._reason = str(error)[:200]
        if not self._reason:
            return
        if self._expression is None:
            raise ModelError(
                f"the model's tokenizer cannot encode a text ({self._reason}): the replacements of its "
                "normalizer may make it grow without end. Choose another model."
            )
        raise ModelError(
            f"the model's tokenizer cannot encode a text ({self._reason}): its expression "
            f"{self._expression[:_MOST_EXPRESSION]!r} may take for ever. Choose another model."
        )
