"""Find the token that ends an assistant turn: the one at which generation stops."""

# transformers annotates its tokenizers in part
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, cast

from ..data.chat_style import chat_style
from .encoding import encoder_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LAST = 400  # characters of a text in which marks at its end are looked for


class TurnEnd(NamedTuple):
    """The token that ends a turn: its position among the ids, and where its text begins."""

    position: int
    character: int


class _Mark(NamedTuple):
    id: int
    begin: int
    end: int


def stops_of(tokenizer: PreTrainedTokenizerBase, stop_ids: frozenset[int]) -> frozenset[int]:
    """Return the ids at which the model stops: `stop_ids`, or without any the tokenizer's EOS, as in transformers."""
    eos_id = cast("int | None", tokenizer.eos_token_id)
    return stop_ids or frozenset([] if eos_id is None else [eos_id])


def stop_notes(
    trained: Iterable[int | None], tokenizer: PreTrainedTokenizerBase, stop_ids: frozenset[int]
) -> tuple[tuple[str, str], ...]:
    """Return a note (`Row.notes`) if one of the ids that are trained as an end is not one at which the model stops.

    Args:
        stop_ids (`frozenset[int]`):
            The end ids of the model's generation config. If it has none, transformers stops at the tokenizer's EOS.
    """
    stops = stops_of(tokenizer, stop_ids)
    differing = sorted({index for index in trained if index is not None} - stops)
    if not differing:
        return ()
    known = ", ".join(_named(index, tokenizer) for index in sorted(stops)) or "no token"
    found = ", ".join(_named(index, tokenizer) for index in differing)
    return (("stop_differs", f"{found} is trained, and generation stops at {known}"),)


def _named(index: int, tokenizer: PreTrainedTokenizerBase) -> str:
    return f"{tokenizer.convert_ids_to_tokens(index)} (id {index})"


def end_ids(tokenizer: PreTrainedTokenizerBase, chat: bool) -> set[int]:
    """Return the ids that end an answer by the tokenizer: its EOS and, in a chat, what its chat template puts after an
    answer."""
    eos_id = cast("int | None", tokenizer.eos_token_id)
    ends = {eos_id} if eos_id is not None else set[int]()
    tail = chat_style(tokenizer).tail if chat and tokenizer.chat_template else None
    if tail:
        encoder = encoder_for(tokenizer)
        ids = encoder.encode_chat_stretch(tail).ids
        end = TurnEnds(tail, tokenizer, frozenset()).find(tail, ids)
        ends |= {ids[end.position]} if end else set()
    return ends


@dataclass(frozen=True)
class TurnEnds:
    """What ends the turns of a chat template.

    Args:
        tail (`str`, *optional*):
            The text that the template puts after the last assistant turn; None if that is not known.
        tokenizer (`PreTrainedTokenizerBase`):
            Its EOS is added where the template puts no mark.
        stop_ids (`frozenset[int]`):
            The end ids of the model's generation config.
    """

    tail: str | None
    tokenizer: PreTrainedTokenizerBase
    stop_ids: frozenset[int]
    eos_id: int | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "eos_id", self.tokenizer.eos_token_id)

    def notes(self, trained: Iterable[int | None]) -> tuple[tuple[str, str], ...]:
        """Return what `stop_notes` does."""
        trained = set(trained)
        return () if trained <= self._stops else stop_notes(trained, self.tokenizer, self.stop_ids)

    @cached_property
    def _stops(self) -> frozenset[int]:
        return stops_of(self.tokenizer, self.stop_ids)

    def find(self, text: str, ids: Sequence[int]) -> TurnEnd | None:
        """Return the end of the turn that ends the rendered `text` with the last of `ids`; None if there is no mark.

        Marks are added tokens. Of those after the turn it is the first at which generation stops. If there is none, it
        is the last of those that follow each other directly, such as `<|END_RESPONSE|><|END_OF_TURN_TOKEN|>`.
        """
        tail = self.tail if self.tail is not None and text.endswith(self.tail) else self._trailing(text)
        if self.tail is not None and text.endswith(self.tail):
            tail, end = self.tail, self._end_of_tail
        else:
            tail = self._trailing(text)
            end = self._end_of(tail)
        if end is None:
            return None
        mark, count = end
        position = len(ids)
        try:
            for _ in range(count):
                position = _rindex(ids, mark.id, position)
        except ValueError:  # what was typed looks like the mark, and is none
            return None
        return TurnEnd(position, len(text) - len(tail) + mark.begin)

    @cached_property
    def _end_of_tail(self) -> tuple[_Mark, int] | None:
        return self._end_of(self.tail or "")

    def _end_of(self, tail: str) -> tuple[_Mark, int] | None:
        """Return the mark that ends a turn, of those in the text after it, and how many marks with its id there are
        from it on; None if there is no mark."""
        encoder, stops = encoder_for(self.tokenizer), {*self.stop_ids, self.eos_id}
        found = encoder.added_pattern.finditer(tail)
        marks = [_Mark(encoder.added[match[0]], match.start(), match.end()) for match in found]
        if not marks:
            return None
        index = next((i for i, mark in enumerate(marks) if mark.id in stops), None)
        if index is None:
            index = 0
            while index + 1 < len(marks) and marks[index + 1].begin == marks[index].end:
                index += 1
        return marks[index], sum(mark.id == marks[index].id for mark in marks[index:])

    def _trailing(self, text: str) -> str:
        """Return the marks at the end of a text, with the whitespace between them."""
        pattern = rf"(?:\s*(?:{encoder_for(self.tokenizer).added_pattern.pattern}))*\s*$"
        found = re.search(pattern, text[-_LAST:])
        return found[0] if found else ""


def _rindex(ids: Sequence[int], wanted: int, end: int) -> int:
    """Return the last position before `end` with this id."""
    for position in range(end - 1, -1, -1):
        if ids[position] == wanted:
            return position
    raise ValueError(wanted)
