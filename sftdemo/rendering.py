"""Tokens as a person sees them: one view of an example for the page, the terminal and JSON."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .tokenization import FLAGS, IGNORE_INDEX, TokenizedExample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ViewToken:
    """A token to draw. `text` has its whitespace made visible; it is empty for the later tokens of a character that
    falls into several. `breaks` counts the newlines after it."""

    text: str
    kind: str
    id: int
    trained: bool
    breaks: int


def view_tokens(example: TokenizedExample, tokenizer: PreTrainedTokenizerBase) -> list[ViewToken]:
    """The tokens of an example with the user's own text; BOS and EOS, which have none, by their names."""
    tokens = []
    for text, kind, index, label in zip(example.tokens, example.kinds, example.input_ids, example.labels, strict=True):
        name = text or (tokenizer.convert_ids_to_tokens(index) if kind in ("special", "eos") else "")
        tokens.append(ViewToken(visible(name), kind, index, label != IGNORE_INDEX, text.count("\n")))
    return tokens


def visible(text: str) -> str:
    """Whitespace and control characters as signs: ␣ for a space at either end, ↵ newline, ⇥ tab, ␀ NUL and so on.

    >>> visible(" two words\\n")
    '␣two words↵'
    """
    inner = text.strip(" ")
    left = len(text) - len(text.lstrip(" "))
    spaced = "␣" * left + inner + "␣" * (len(text) - left - len(inner))
    signs = {"\n": "↵", "\t": "⇥", "\x7f": "␡"} | {
        chr(code): chr(0x2400 + code) for code in range(32) if code not in (9, 10)
    }
    return spaced.translate(str.maketrans(signs))


def harmless(text: str) -> str:
    """Text that a terminal prints and does not obey: control characters, newline and tab apart, as their codes."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) != "Cc" else f"\\x{ord(c):02x}" for c in text)


def to_json(example: TokenizedExample) -> dict:
    """The example as `mask --json` prints it."""
    return {
        "row": example.row,
        "text": example.text,
        "input_ids": list(example.input_ids),
        "labels": list(example.labels),
        "tokens": example.tokens,
        "kinds": list(example.kinds),
        "trained": example.trained,
        "cut": example.cut,
        "flags": list(example.flags),
    }


def summary(examples: Sequence[TokenizedExample]) -> str:
    """The totals in one line, such as "16 examples · 448 tokens · 209 trained (47 %)"."""
    tokens = sum(len(example.input_ids) for example in examples)
    trained = sum(example.trained for example in examples)
    noun = "example" if len(examples) == 1 else "examples"
    share = f" ({trained / tokens:.0%})" if tokens else ""
    return f"{len(examples):,} {noun} · {tokens:,} tokens · {trained:,} trained{share}"


def flag_sentences(example: TokenizedExample) -> list[str]:
    """What is to be said of a row, the worst first."""
    return [f"{flag.replace('_', ' ')}: {FLAGS[flag]}" for flag in example.flags]
