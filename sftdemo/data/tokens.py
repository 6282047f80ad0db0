"""Read rows that are tokenised already, as a trainer's preparation leaves them: ids, labels or masks, packing."""

# what a record holds is not known until it is looked at
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .records import Refused, kind_of

MASKS = ("completion_mask", "assistant_masks")  # TRL's: where both are given, a token is trained if both are 1
BESIDE = ("labels", *MASKS, "attention_mask", "position_ids", "seq_lengths")


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a row that came tokenised.

    Args:
        input_ids (`tuple[int, ...]`):
            All ids, padding included.
        labels (`tuple[int, ...]`, *optional*):
            The labels as they came, one for each id; empty if the row has none.
        mask (`tuple[int, ...]`, *optional*):
            In a row without labels, 1 for each token to train and 0 for the others. Without either all are trained.
        attention (`tuple[int, ...]`, *optional*):
            1 for each token and 0 for padding; empty if nothing is padding.
        lengths (`tuple[int, ...]`, *optional*):
            Of a packed row, the number of tokens of each of its examples, in order and without padding.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...] = ()
    mask: tuple[int, ...] = ()
    attention: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()

    @property
    def trained(self) -> list[bool]:
        """Return whether each id is trained, by its label or the mask."""
        if self.labels:
            return [label == index for label, index in zip(self.labels, self.input_ids, strict=True)]
        return [bool(bit) for bit in self.mask or self.attention] or [True] * len(self.input_ids)

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """Return the ids before the first trained token, at least one, without padding."""
        kept = [place for place, bit in enumerate(self.attention or [1] * len(self.input_ids)) if bit]
        trained = self.trained
        end = next((number for number, place in enumerate(kept) if number and trained[place]), len(kept))
        return tuple(self.input_ids[place] for place in kept[:end])

    def to_record(self) -> dict[str, Any]:
        """Return the columns of a record that `read_tokens` reads back to the same tokens."""
        columns = {
            "input_ids": self.input_ids,
            "labels": self.labels,
            "completion_mask": self.mask,
            "attention_mask": self.attention,
            "seq_lengths": self.lengths,
        }
        return {name: list(numbers) for name, numbers in columns.items() if numbers}


def read_tokens(record: dict[str, Any]) -> dict[str, Any]:
    """Return `tokens`, a field of an `Example`, and `unused`, the names of masks that labels have made superfluous.

    Raises:
        Refused: naming the column, the position and the value that does not fit.
    """
    ids = _numbers(record, "input_ids")
    if not ids:
        raise Refused('"input_ids" is an empty list; write the ids of its tokens.')
    labels = _numbers(record, "labels", len(ids))
    masks = {name: bits for name in MASKS if (bits := _bits(record, name, len(ids)))}
    attention = _bits(record, "attention_mask", len(ids))
    if 0 not in attention:
        attention = ()
    kept = sum(attention) if attention else len(ids)
    if not kept:
        raise Refused('"attention_mask" is 0 everywhere, so every token is padding; write 1 for those that are not.')
    mask = () if labels else tuple(min(bits) for bits in zip(*masks.values(), strict=True))
    tokens = Tokens(tuple(ids), tuple(labels), mask, tuple(attention), _lengths(record, attention, kept))
    return {"tokens": tokens, "unused": list(masks) if labels else []}


def _lengths(record: dict[str, Any], attention: Sequence[int], kept: int) -> tuple[int, ...]:
    """Return the length of each example of a packed row; empty if it holds one."""
    positions = _numbers(record, "position_ids", len(record["input_ids"]) if attention else kept)
    by_position = (
        _by_positions([at for at, bit in zip(positions, attention or [1] * kept, strict=True) if bit])
        if (positions)
        else ()
    )
    given = _numbers(record, "seq_lengths")
    for place, length in enumerate(given):
        if length < 1:
            raise Refused(f'"seq_lengths"[{place}] is {length}; write the number of tokens of each example.')
    if given and sum(given) != kept:
        raise Refused(
            f'"seq_lengths" adds up to {sum(given)}, and the row has {kept} tokens; write a length an example.'
        )
    if given and positions and tuple(given) != by_position:
        raise Refused('"seq_lengths" and "position_ids" cut the row into different examples; keep one of them.')
    lengths = tuple(given) or by_position
    return lengths if len(lengths) > 1 else ()


def _by_positions(positions: Sequence[int]) -> tuple[int, ...]:
    lengths: list[int] = []
    for place, position in enumerate(positions):
        if position == 0:
            lengths.append(0)
        if not lengths or position != lengths[-1]:
            raise Refused(
                f'"position_ids"[{place}] is {position}; positions begin at 0 in each example and go up by one.'
            )
        lengths[-1] += 1
    return tuple(lengths)


def _bits(record: dict[str, Any], name: str, count: int) -> Sequence[int]:
    value = record.get(name)
    if isinstance(value, list):
        value = [int(bit) if isinstance(bit, bool) else bit for bit in value]
    bits = _numbers(record | {name: value}, name, count)
    for place, bit in enumerate(bits):
        if bit not in (0, 1):
            raise Refused(f'"{name}"[{place}] is {bit}; write 0 or 1.')
    return bits


def _numbers(record: dict[str, Any], name: str, count: int | None = None) -> Sequence[int]:
    """Return the whole numbers in a column, none if the row does not have it."""
    value = record.get(name)
    if value is None or value == "":  # an empty cell in CSV
        return ()
    if isinstance(value, str):  # a cell in CSV
        try:
            value = json.loads(value)
        except ValueError:
            raise Refused(f'"{name}" is {kind_of(value)}; write a list of whole numbers.') from None
    if not isinstance(value, list):
        raise Refused(f'"{name}" is {kind_of(value)}; write a list of whole numbers.')
    for place, number in enumerate(value):
        if type(number) is not int:
            raise Refused(f'"{name}"[{place}] is {kind_of(number)}; write a whole number.')
    if count is not None and len(value) != count:
        raise Refused(f'"{name}" has {len(value)} numbers and "input_ids" {count}; write one for each token.')
    return value
