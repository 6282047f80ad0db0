"""Detect what is unusual about one masked row. The words for each flag are in `checks.CHECKS`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from ..data.examples import Example
from ..data.messages import ASSISTANT
from ..data.templates import TYPED
from .checks import CHECKS
from .encoding import TextEncoder
from .row import Row

_ORDER = {check: position for position, check in enumerate(CHECKS)}


def flags_of(
    row: Row, trained: int, length: int, max_length: int, encoder: TextEncoder, too_long: str = "cut"
) -> tuple[str, ...]:
    """Return the flags of a row, as keys of `checks.CHECKS` in their order there.

    Args:
        trained (`int`):
            How many tokens are trained, of those that `max_length` keeps.
        length (`int`):
            How many tokens the row has before `max_length` cuts any.
        too_long (`str`, *optional*, defaults to `"cut"`):
            The setting of this name.
    """
    has_eos, prompt_length = row.stop_id is not None, row.answers[0][0] if row.answers else length
    mask, example = row.hand_mask, row.example
    end = row.answers[-1][1] if row.answers else length
    cut, nothing = max((length if mask else end) - max_length, 0), trained == 0
    happened = {
        "too_long": too_long == "refuse" and length > max_length,
        "prompt_too_long": nothing and prompt_length >= max_length and bool(row.answers),
        "answer_cut": cut > has_eos,
        "eos_cut": cut > 0 and has_eos,
        "nothing_trained": nothing,
        "eos_untrained": has_eos and mask is not None and not mask.eos and end == length,
        "mask_on_tokens": bool(example.masks and example.tokens) and row.part == 0,
        "made_by_hand": mask is not None,
        "empty_prompt": prompt_length == 0 and not (example.whole or example.tokens),
        "all_trained": example.whole,
        "special_text": _has_special_text(row, encoder),
    }
    found = {*row.told, *[check for check, _ in row.notes], *[flag for flag, is_so in happened.items() if is_so]}
    found.update(_of_answers(row, encoder))
    if row.part == 0:
        found.update(_of_conversation(example))
    return tuple(sorted(found, key=_ORDER.__getitem__))


def _of_answers(row: Row, encoder: TextEncoder) -> Iterator[str]:
    turns = [(turn.text, turn.is_empty) for turn in row.turns]
    if not row.whole.chat:
        turns = [(row.example.completion, not row.example.completion.strip())]
    for text, is_empty in turns:
        if encoder.ends_in_special_text(text):
            yield "eos_typed"
        if encoder.has_marker(text, row.markers):
            yield "role_marker"
        if is_empty:
            yield "empty_completion"
        if text.lstrip().startswith("<think>") and "</think>" not in text:
            yield "thinking_open"


def _of_conversation(example: Example) -> Iterator[str]:
    if example.left_out:
        yield "turns_left_out"
    roles = [message.role for message in example.messages]
    if ("user", "user") in pairwise(roles):
        yield "two_user_turns"
    if roles[:1] == [ASSISTANT] and example.messages[0].trained:
        yield "begins_with_answer"


def _has_special_text(row: Row, encoder: TextEncoder) -> bool:
    if row.whole.chat:
        return any(segment.role == TYPED for segment in row.whole.segments)
    return encoder.has_special_text(row.whole.segments)
