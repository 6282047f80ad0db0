"""Encode the many renderings of a conversation without encoding their common beginnings again and again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from ..data.templates import RenderedPrompt
from .encoding import Encoded, TextEncoder


class Encodings:
    """The token ids of renderings. Where one is the beginning of another, only the longer one is encoded as a whole.

    Args:
        conversations (`Sequence[Sequence[RenderedPrompt]]`):
            The renderings of each conversation, from the shortest to the longest.
    """

    def __init__(self, conversations: Sequence[Sequence[RenderedPrompt]], encoder: TextEncoder):
        self._encoder = encoder
        longest = list(dict.fromkeys(text for texts in conversations for text in _longest(texts)))
        encoded = encoder.encode_chat([text.segments for text in longest], offsets=False)
        self._wholes = dict(zip(longest, encoded, strict=True))
        self._cuts: dict[RenderedPrompt, list[tuple[int, int, int]]] = {}

    def find(self, text: RenderedPrompt, conversation: Sequence[RenderedPrompt]) -> Encoded:
        """Return the encoding of `text`, one of the renderings of `conversation`."""
        if text in self._wholes:
            return self._wholes[text]
        whole = next(each for each in reversed(conversation) if each in self._wholes and _begins(text, each))
        return self._beginning(whole, len(text.text))

    def _beginning(self, whole: RenderedPrompt, length: int) -> Encoded:
        """Return the encoding of the first characters of `whole`: its tokens up to the last one in these characters
        that cuts a text in two, and from there on an encoding of their own."""
        encoded = self._wholes[whole]
        if whole not in self._cuts:
            self._cuts[whole] = _cuts(whole.text, encoded.ids, self._encoder)
        cuts = self._cuts[whole]
        index = bisect_right(cuts, length, key=lambda cut: cut[1]) - 1
        begin, _, position = cuts[index] if index >= 0 else (0, 0, 0)
        rest = self._encoder.encode_chat_stretch(whole.text[begin:length])
        return encoded.until(position).then(rest.shifted(begin)) if position else rest


def _longest(texts: Sequence[RenderedPrompt]) -> Iterator[RenderedPrompt]:
    """Yield the renderings that are not the beginning of the next one."""
    for text, following in pairwise(texts):
        if not _begins(text, following):
            yield text
    yield texts[-1]


def _begins(text: RenderedPrompt, whole: RenderedPrompt) -> bool:
    """Return whether `text` is the beginning of `whole` and nothing was typed there that looks special."""
    return len(whole.segments) == 1 and len(text.segments) == 1 and whole.text.startswith(text.text)


def _cuts(text: str, ids: Sequence[int], encoder: TextEncoder) -> list[tuple[int, int, int]]:
    """Return where tokens cut the text in two, as (begin, end) in characters and the token's position. From such a
    token on, a text is encoded as if it began there."""
    known = set(encoder.cut_ids.values())
    places = [(match.start(), match.end(), match[0]) for match in encoder.cut_pattern.finditer(text)]
    places = [place for place in places if place[2] in encoder.cut_ids]
    positions = [position for position, index in enumerate(ids) if index in known]
    if [encoder.cut_ids[token] for *_, token in places] != [ids[position] for position in positions]:
        return []
    return [(begin, end, position) for (begin, end, _), position in zip(places, positions, strict=True)]
