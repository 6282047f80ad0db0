"""Encode the many renderings of a conversation without encoding their common beginnings again and again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from ..data.templates import RenderedPrompt
from .encoding import Encoded, TextEncoder


class _Cut(NamedTuple):
    """A token that cuts a text in two: its characters, and its position among the tokens."""

    begin: int
    end: int
    position: int


def encode_renderings(conversations: Sequence[Sequence[RenderedPrompt]], encoder: TextEncoder) -> list[list[Encoded]]:
    """Return the tokens of each rendering of each conversation. Where a rendering is the beginning of a later one, only
    the later one is encoded as a whole."""
    wholes = [_wholes(texts) for texts in conversations]
    longest = [
        texts[index]
        for texts, whole in zip(conversations, wholes, strict=True)
        for index in range(len(texts))
        if whole[index] == index
    ]
    encoded = iter(encoder.encode_chat([text.segments for text in longest], offsets=False))
    result: list[list[Encoded]] = []
    for texts, whole in zip(conversations, wholes, strict=True):
        known = {index: next(encoded) for index in range(len(texts)) if whole[index] == index}
        cuts: dict[int, list[_Cut]] = {}
        for index, text in enumerate(texts):
            if index not in known:
                owner = whole[index]
                if owner not in cuts:
                    cuts[owner] = _cuts(texts[owner].text, known[owner].ids, encoder)
                known[index] = _beginning(texts[owner].text, known[owner], len(text.text), cuts[owner], encoder)
        result.append([known[index] for index in range(len(texts))])
    return result


def _wholes(texts: Sequence[RenderedPrompt]) -> list[int]:
    """Return for each text the index of the one that is encoded for it: its own, or that of a later one that begins
    with it."""
    wholes = list(range(len(texts)))
    for index in range(len(texts) - 2, -1, -1):
        if _begins(texts[index], texts[wholes[index + 1]]):
            wholes[index] = wholes[index + 1]
    return wholes


def _begins(text: RenderedPrompt, whole: RenderedPrompt) -> bool:
    """Return whether `text` is the beginning of `whole` and nothing was typed there that looks special."""
    return len(whole.segments) == 1 and len(text.segments) == 1 and whole.text.startswith(text.text)


def _beginning(text: str, whole: Encoded, length: int, cuts: Sequence[_Cut], encoder: TextEncoder) -> Encoded:
    """Return the encoding of the first characters of a text: its tokens up to the last one in these characters that
    cuts the text in two, and from there on an encoding of their own."""
    index = bisect_right(cuts, length, key=lambda cut: cut.end) - 1
    if index < 0:
        return encoder.encode_chat_stretch(text[:length])
    begin, _, position = cuts[index]
    rest = encoder.encode_chat_stretch(text[begin:length])
    return whole.until(position).then(rest.shifted(begin))


def _cuts(text: str, ids: Sequence[int], encoder: TextEncoder) -> list[_Cut]:
    """Return the tokens that cut the text in two. From such a token on, a text is encoded as if it began there."""
    places = [match for match in encoder.cut_pattern.finditer(text) if match[0] in encoder.cut_ids]
    positions = [position for position, index in enumerate(ids) if index in encoder.cutting]
    if [encoder.cut_ids[match[0]] for match in places] != [ids[position] for position in positions]:
        return []
    return [_Cut(match.start(), match.end(), position) for match, position in zip(places, positions, strict=True)]
