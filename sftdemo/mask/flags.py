"""Detect what is unusual about one masked row. The words for each flag are in `checks.CHECKS`."""

from __future__ import annotations

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
        **_of_answers(row, encoder),
        **(_of_conversation(row.example) if row.part == 0 else {}),
    }
    found = {*row.told, *[check for check, _ in row.notes], *[flag for flag, is_so in happened.items() if is_so]}
    return tuple(sorted(found, key=_ORDER.__getitem__))


def _of_answers(row: Row, encoder: TextEncoder) -> dict[str, bool]:
    turns = [(turn.text, turn.is_empty) for turn in row.turns]
    if not row.whole.chat:
        turns = [(row.example.completion, not row.example.completion.strip())]
    return {
        "eos_typed": any(encoder.ends_in_special_text(text) for text, _ in turns),
        "role_marker": any(encoder.has_marker(text, row.markers) for text, _ in turns),
        "empty_completion": any(is_empty for _, is_empty in turns),
        "thinking_open": any(text.lstrip().startswith("<think>") and "</think>" not in text for text, _ in turns),
    }


def _of_conversation(example: Example) -> dict[str, bool]:
    roles = [message.role for message in example.messages]
    return {
        "two_user_turns": any(first == second == "user" for first, second in pairwise(roles)),
        "turns_left_out": example.left_out > 0,
        "begins_with_answer": roles[:1] == [ASSISTANT] and example.messages[0].trained,
    }


def _has_special_text(row: Row, encoder: TextEncoder) -> bool:
    if row.whole.chat:
        return any(segment.role == TYPED for segment in row.whole.segments)
    return encoder.has_special_text(row.whole.segments)
