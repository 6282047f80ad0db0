"""Draw a conclusion from the events of a run, in a sentence or two, with its doubt.

It has numbers and this program's own words only, nothing of the user's, so it may stand anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TypeVar

from ..core.events import Arm, Comparison, Event, Figures, HeldOut, Step
from ..core.text import plural
from .wording import column_name

Kind = TypeVar("Kind", bound=Event)
_ONE_SEED = "One seed: that alone proves little; `study` repeats it."
_DIVERGED = "the training has diverged. Lower the learning rate."


def conclusion(events: Sequence[Event]) -> str:
    """Return what a run or an ablation has shown, from its events so far; empty if it trained nothing.

    Losses are compared as they are printed, with three decimals: a difference that these do not show is none.
    """
    figures = _of(Figures, events)
    if figures:
        return _of_arms(figures[0], figures[1:], events)
    steps = _of(Step, events)
    if not steps or not steps[-1].step:
        return ""
    last = steps[-1]
    stopped = f"Stopped after step {last.step:,} of {last.total:,}. " if last.step < last.total else ""
    comparisons = [each for each in _of(Comparison, events) if "stopped" not in (each.before_stop, each.after_stop)]
    words = (_learned(_of(HeldOut, events), comparisons), _answered(comparisons))
    return stopped + " ".join(filter(None, words))


def _of(kind: type[Kind], events: Sequence[Event]) -> list[Kind]:
    return [event for event in events if isinstance(event, kind)]


def _learned(held_out: Sequence[HeldOut], comparisons: Sequence[Comparison]) -> str:
    """Say how the loss on the held-out answers has changed in a training."""
    if len(held_out) < 2 or not held_out[0].completion_tokens:
        if any(each.after_stop == "NaN" for each in comparisons):
            return f"The trained model computes what is no number (NaN): {_DIVERGED}"
        if any(each.source == "held out" for each in comparisons):
            return "No loss on held-out answers was measured: give the held-out rows answers."
        return "No row is held out, so nothing is known of rows that were not trained; `--hold-out 0.2` keeps some."
    # of a training that was stopped the last two are on the rows that there was time for
    before, after = held_out[-2].completion_loss, held_out[-1].completion_loss
    on = _on(held_out[-1].completion_tokens, held_out[0].completion_tokens)
    if not isfinite(after):
        return f"{on} the loss is not a number: {_DIVERGED}"
    if _shown(before) == _shown(after):
        return f"{on} the training left the loss at {_shown(after)}, to three decimals."
    if after < before:
        return f"{on} the training lowered the loss from {_shown(before)} to {_shown(after)}."
    return (
        f"{on} the training raised the loss from {_shown(before)} to {_shown(after)}: fewer steps, or a lower learning "
        "rate, may help."
    )


def _answered(comparisons: Sequence[Comparison]) -> str:
    """Say of how many prompts the answers are others now, and how many end by themselves."""
    if not comparisons:
        return ""
    known = all(each.source == "training" for each in comparisons)
    asked = f"{len(comparisons):,} {'trained ' * known}{plural(len(comparisons), 'prompt')}"
    changed = sum(each.before != each.after for each in comparisons)
    first, then = (sum(getattr(each, f"{when}_stop") == "EOS" for each in comparisons) for when in ("before", "after"))
    return (
        f"Of {asked}, {changed:,} {plural(changed, 'is', 'are')} answered otherwise than before; {then:,} "
        f"{plural(then, 'answer ends by itself', 'answers end by themselves')}, before the training {first:,}. "
        "One seed, and few prompts: read the answers as well."
    )


def _of_arms(base: Figures, arms: Sequence[Figures], events: Sequence[Event]) -> str:
    tokens = base.completion_tokens
    measured = max([each.completion_tokens for each in _of(HeldOut, events)], default=tokens)
    on, names = _on(tokens, max(tokens, measured)), [column_name(each.prompt_loss_weight) for each in arms]
    losses = [each.completion_loss for each in arms]
    lost = [column_name(each.prompt_loss_weight) for each in (base, *arms) if not _is_finite(each)]
    if lost:
        return f"The loss is not a number ({' and '.join(lost)}), so nothing can be compared: {_DIVERGED}"
    planned = max((len(arm.weights) for arm in _of(Arm, events)), default=len(arms))
    trained = _steps(events)
    told = ", ".join(f"{_shown(loss)} {name}" for name, loss in zip(names, losses, strict=True))
    if len(arms) < 2:
        return (
            f"Stopped before there was anything to compare: {on[0].lower()}{on[1:]} the loss is {told}, and "
            f"{_shown(base.completion_loss)} before the training."
        )
    if len(set(trained)) > 1:
        lengths = ", ".join(f"{steps:,} {name}" for name, steps in zip(names, trained, strict=False))
        return (
            f"{on} the loss is {told}, but the trainings were not equally long (steps: {lengths}), so that this "
            "difference says nothing of the prompts' weight."
        )
    missing = f" Stopped: {planned - len(arms)} of {planned} weights not trained." if len(arms) < planned else ""
    return f"{_compared(on, base, arms)}{_next_to(base, losses)}.{missing} {_ONE_SEED}"


def _steps(events: Sequence[Event]) -> list[int]:
    """Return how many steps each arm that took any has trained."""
    found: list[int] = []
    for event in events:
        if isinstance(event, Arm):
            found.append(0)
        elif isinstance(event, Step) and found:
            found[-1] = event.step
    return [steps for steps in found if steps]


def _compared(on: str, base: Figures, arms: Sequence[Figures]) -> str:
    by_weight = sorted(arms, key=lambda each: each.prompt_loss_weight or 0.0)
    low, high = by_weight[0], by_weight[-1]
    best, worst = (choose(arms, key=lambda each: each.completion_loss) for choose in (min, max))
    first, second = (_shown(each.completion_loss) for each in (high, low))
    if _shown(best.completion_loss) == _shown(worst.completion_loss):
        names = " and ".join(column_name(each.prompt_loss_weight) for each in by_weight)
        words = f"{on}, {names} come to the same loss, to three decimals: {second}"
    elif len(arms) > 2:
        ends = [f"{_shown(each.completion_loss)}, {column_name(each.prompt_loss_weight)}" for each in (best, worst)]
        words = f"{on} the lowest loss of {len(arms)} weights is {ends[0]}; the highest is {ends[1]}"
    else:
        weight = low.prompt_loss_weight
        lowered = low.completion_loss < high.completion_loss
        act = "masking lowered" if lowered else "masking raised"
        if weight:
            act = f"a prompt weight of {weight:g} lowered" if lowered else f"a prompt weight of {weight:g} raised"
        words = f"{on}, {act} the loss from {first} ({column_name(high.prompt_loss_weight)}) to {second}"
    return words + _on_prompts(base, low, high)


def _on_prompts(base: Figures, low: Figures, high: Figures) -> str:
    """Say how the training with the least weight has changed the loss on the prompts, beside that with the greatest."""
    if not low.prompt_tokens:
        return ""
    before, after, other = (_shown(each.prompt_loss) for each in (base, low, high))
    name, asked = column_name(low.prompt_loss_weight), "nobody asked for them"
    if before == after:
        words = f"stayed at {after} ({name})"
    else:
        rose = low.prompt_loss > base.prompt_loss
        verb, why = ("rose", f", because {asked}") if rose else ("fell", f", though {asked}")
        words = f"{verb} from {before} before the training to {after} ({name}){'' if low.prompt_loss_weight else why}"
    return f"; the prompts' loss {words}, and is {other} ({column_name(high.prompt_loss_weight)})"


def _next_to(base: Figures, losses: Sequence[float]) -> str:
    """Say it where no training was better on the answers than none."""
    if base.completion_loss > min(losses):
        return ""
    return f". Before any training it was {_shown(base.completion_loss)}: none of the trainings has lowered that"


def _on(tokens: int, of: int) -> str:
    share = f"{tokens:,} of {of:,}" if tokens < of else f"{tokens:,}"
    return f"On {share} held-out answer {plural(of, 'token')}"


def _shown(loss: float) -> str:
    return f"{loss:.3f}"


def _is_finite(figures: Figures) -> bool:
    return isfinite(figures.completion_loss) and isfinite(figures.prompt_loss)
