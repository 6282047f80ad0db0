"""Text to token ids with character spans, such that what the user typed never becomes a special token."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from .errors import ModelError
from .templates import Segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]


@dataclass(frozen=True)
class Encoded:
    """`offsets[i]` is the (begin, end) of the characters behind `ids[i]`, as the tokenizer reports them: the tokens
    of one multi-byte character share it, and there may be gaps. `spans` makes a partition of them."""

    ids: list[int]
    offsets: list[Span]


class TextEncoder:
    """A tokenizer's text-to-ids part, taken apart from its settings for padding, truncation and special tokens.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            It must be backed by the `tokenizers` library, the only ones that report character offsets.

    Raises:
        ModelError: for a tokenizer without offsets.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        from tokenizers import Tokenizer

        if not tokenizer.is_fast:
            raise ModelError(
                f"the tokenizer {type(tokenizer).__name__} does not say which characters its tokens stand for; "
                "choose a model that has a tokenizer.json."
            )
        # Copies, because `encode_special_tokens`, padding and truncation are state that others may change meanwhile.
        self._with_special = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._with_special.no_padding()
        self._with_special.no_truncation()
        self._plain = Tokenizer.from_str(_without_special_pieces(self._with_special))
        self._plain.encode_special_tokens = True
        added = self._with_special.get_added_tokens_decoder()
        self.special_ids = {index for index, token in added.items() if token.special}
        self._id_of = {added[index].content: index for index in self.special_ids}
        # Longest first, as the tokenizer's own matcher prefers; a token may swallow the whitespace beside it.
        tokens = sorted((added[index] for index in self.special_ids), key=lambda token: -len(token.content))
        patterns = [
            (r"\s*" if token.lstrip else "") + re.escape(token.content) + (r"\s*" if token.rstrip else "")
            for token in tokens
        ]
        self._special_text = re.compile("|".join(patterns) or r"(?!)")
        self.prefix_ids = self._prefix()
        after_special = [self._with_special.encode(f"{token}x", add_special_tokens=False).ids for token in self._id_of]
        self._space_after_special = any(ids[1:] == self._plain_ids("x") for ids in after_special)
        self._adds_space = self._plain_ids("x") != self._plain_ids("\nx")[len(self._plain_ids("\n")) :]

    def _plain_ids(self, text: str) -> list[int]:
        return self._plain.encode(text, add_special_tokens=False).ids

    def _prefix(self) -> list[int]:
        """What the tokenizer puts before a text (BOS), without what it may put after it (EOS)."""
        whole, bare = self._plain.encode("x").ids, self._plain_ids("x")
        for start in range(len(whole) - len(bare) + 1):
            if whole[start : start + len(bare)] == bare:
                return whole[:start]
        return []

    def encode_plain(self, texts: Sequence[str]) -> list[Encoded]:
        """Encodes texts in which nothing is special; `prefix_ids` are not put before them."""
        encodings = self._plain.encode_batch(list(texts), add_special_tokens=False)
        return [Encoded(encoding.ids, encoding.offsets) for encoding in encodings]

    def encode_chat(self, texts: Sequence[Sequence[Segment]]) -> list[Encoded]:
        """Encodes texts whose template segments hold special tokens and whose user segments do not."""
        encodings = self._with_special.encode_batch(
            ["".join(segment.text for segment in segments) for segments in texts], add_special_tokens=False
        )
        return [
            self._encode_in_stretches(segments)
            if self.has_special_text(segments)
            else Encoded(encoding.ids, encoding.offsets)
            for segments, encoding in zip(texts, encodings, strict=True)
        ]

    def has_special_text(self, segments: Sequence[Segment]) -> bool:
        """Whether the user's own text holds what looks like a special token."""
        return any(segment.from_user and self._special_text.search(segment.text) for segment in segments)

    def _encode_in_stretches(self, segments: Sequence[Segment]) -> Encoded:
        """Cuts the text at the template's special tokens, as the tokenizer itself would, and encodes the rest plainly.

        A tokenizer that begins each text with a space of its own (SentencePiece) begins each stretch with one here.
        """
        encoded, stretch, begin = Encoded([], []), "", 0

        def flush() -> None:
            nonlocal stretch, begin
            bare = begin > 0 and not self._space_after_special
            plain = self.encode_continuation(stretch) if bare else self.encode_plain([stretch])[0]
            encoded.ids.extend(plain.ids)
            encoded.offsets.extend((begin + first, begin + last) for first, last in plain.offsets)
            begin, stretch = begin + len(stretch), ""

        for segment in segments:
            position = 0
            for match in [] if segment.from_user else self._special_text.finditer(segment.text):
                stretch += segment.text[position : match.start()]
                flush()
                encoded.ids.append(self._id_of[match.group().strip()])
                encoded.offsets.append((begin, begin + len(match.group())))
                begin, position = begin + len(match.group()), match.end()
            stretch += segment.text[position:]
        flush()
        return encoded

    def encode_continuation(self, text: str) -> Encoded:
        """The ids of `text` as the continuation of another text: without the space that SentencePiece tokenizers
        put before a text. They are read off an encoding of newline + text where the newline stays by itself."""
        if self._adds_space:
            anchor = self._plain_ids("\n")
            encoding = self._plain.encode("\n" + text, add_special_tokens=False)
            if encoding.ids[: len(anchor)] == anchor:
                offsets = [(max(first - 1, 0), last - 1) for first, last in encoding.offsets[len(anchor) :]]
                return Encoded(encoding.ids[len(anchor) :], offsets)
        return self.encode_plain([text])[0]


def _without_special_pieces(tokenizer) -> str:
    """The tokenizer's JSON such that no text is cut into a special token. A Unigram model would: its pieces include
    the special tokens themselves, so they are renamed to what nobody types."""
    content = json.loads(tokenizer.to_str())
    if content["model"]["type"] == "Unigram":
        special = {token["id"] for token in content["added_tokens"] if token["special"]} - {content["model"]["unk_id"]}
        for index in special & set(range(len(content["model"]["vocab"]))):
            content["model"]["vocab"][index][0] = f"\0special{index}\0"
        content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] not in special]
    return json.dumps(content)


@lru_cache(maxsize=8)
def encoder_for(tokenizer: PreTrainedTokenizerBase) -> TextEncoder:
    """The encoder of `tokenizer`, made once: copying a vocabulary of 49,152 takes about 0.1 s."""
    return TextEncoder(tokenizer)


def partition(offsets: Sequence[Span], begin: int, end: int) -> list[Span]:
    """Cuts the characters `begin` to `end` into one span a token, so that the spans join to the text.

    A character that falls into several tokens goes to the first of them, the others get an empty span; characters
    that no token reports (a stripped space) go to the token after them.
    """
    spans, position = [], begin
    for _, last in offsets:
        stop = min(max(position, last), end)
        spans.append((position, stop))
        position = stop
    if spans:
        spans[-1] = (spans[-1][0], end)
    return spans
