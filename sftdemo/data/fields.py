"""Read the fields of a record: texts, answers, masks. A refusal names the field and the remedy."""

# what a record holds is not known until it is looked at
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .records import Refused, kind_of, short


@dataclass(frozen=True)
class HandMask:
    """A mask made by hand: the characters of a row's whole text that are trained, in place of the completion.

    Args:
        text (`str`):
            The text that was marked, prompt and completion. The mask is used on this text only.
        trained (`tuple[tuple[int, int], ...]`):
            (begin, end) in `text`, in order, not touching. A token that holds one of these characters is trained.
        eos (`bool`):
            Whether the EOS that ends the completion is trained.
    """

    text: str
    trained: tuple[tuple[int, int], ...]
    eos: bool

    @classmethod
    def of(cls, text: str, characters: set[int], eos: bool) -> HandMask:
        """The mask that trains the characters at these positions."""
        edges = [i for i in range(len(text) + 1) if (i in characters) != (i - 1 in characters)]
        return cls(text, tuple(zip(edges[::2], edges[1::2], strict=True)), eos)

    def to_record(self) -> dict[str, Any]:
        """Return the mask as the column `mask` of a record."""
        return {"text": self.text, "trained": [list(span) for span in self.trained], "eos": self.eos}


def read_text(record: dict[str, Any], name: str) -> str:
    """The string in a column.

    Raises:
        Refused: for any other value, as all functions of this module do.
    """
    value = record[name]
    if not isinstance(value, str):
        raise Refused(f'"{name}" is {kind_of(value)}; write a string: "{name}": "…".')
    return whole_text(value, name)


def whole_text(value: str, name: str) -> str:
    """The same string.

    Raises:
        Refused: if it holds half of a character.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Refused(
            f'"{name}" has half of a character at position {error.start} (\\u{ord(value[error.start]):04x}); '
            "write the character itself or both halves of its escape."
        ) from None
    return value


def read_answer(record: dict[str, Any], name: str, held_out: bool) -> str:
    """A string, or a list of strings joined by a blank line. A held-out row may leave it out."""
    if record.get(name) is None:
        if held_out:
            return ""
        raise Refused(f'has no "{name}"; write the answer to learn: "{name}": "…".')
    value = record[name]
    if not isinstance(value, list):
        return read_text(record, name)
    if not value:
        raise Refused(f'"{name}" is an empty list; write at least one string in it.')
    for index, part in enumerate(value):
        if not isinstance(part, str):
            raise Refused(f'"{name}"[{index}] is {kind_of(part)}; write a string.')
    return whole_text("\n\n".join(value), name)


def read_masks(value: object) -> tuple[HandMask, ...]:
    """The masks made by hand: none, one, or a list with one for each sequence of a conversation."""
    if value is None or value == "":  # an empty cell in CSV
        return ()
    return tuple(map(_read_mask, value)) if isinstance(value, list) else (_read_mask(value),)


def _read_mask(value: object) -> HandMask:
    wanted = '{"text": …, "trained": [[begin, end], …], "eos": true}'
    if not isinstance(value, dict) or not isinstance(value.get("text"), str) or "trained" not in value:
        raise Refused(f'"mask" is {kind_of(value)}; write {wanted}, or leave it out.')
    stretches: list[list[int]] = []
    for span in value["trained"] if isinstance(value["trained"], list) else [value["trained"]]:
        numbers = isinstance(span, list) and len(span) == 2 and all(type(number) is int for number in span)
        if not numbers or not 0 <= span[0] < span[1] <= len(value["text"]):
            raise Refused(
                f'"mask" trains {short(span)}; write [begin, end] with 0 ≤ begin < end ≤ {len(value["text"])}, '
                'characters of its "text".'
            )
        stretches.append(span)
    eos = value.get("eos", True)
    if not isinstance(eos, bool):
        raise Refused(f'"mask" has "eos" {short(eos)}; write true or false.')
    return HandMask(whole_text(value["text"], "mask.text"), _joined(stretches), eos)


def _joined(stretches: list[list[int]]) -> tuple[tuple[int, int], ...]:
    """Return stretches of characters in order, those that touch as one."""
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(stretches):
        if joined and begin <= joined[-1][1]:
            begin, last = joined.pop()
            end = max(end, last)
        joined.append((begin, end))
    return tuple(joined)


def read_held_out(record: dict[str, Any]) -> bool:
    """Whether the row is held out; no unless it says so."""
    value = record.get("held_out", False)
    if isinstance(value, str) and value.strip().lower() in ("true", "1", "false", "0", ""):  # a cell in CSV
        return value.strip().lower() in ("true", "1")
    if not isinstance(value, bool) and value is not None:
        raise Refused(f'"held_out" is {short(value)}; write true or false.')
    return bool(value)
