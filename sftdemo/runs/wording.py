"""What a run's results are called and the sentences that tell of them, the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.events import Arm, Figures, Isolation, Weights
from ..core.text import plural


def column_name(prompt_loss_weight: float | None) -> str:
    """What a column of answers, a curve or a row of figures is called: the base, or the arm with this weight."""
    if prompt_loss_weight is None:
        return "base"
    return {0.0: "masked", 1.0: "unmasked"}.get(prompt_loss_weight, f"prompt weight {prompt_loss_weight:g}")


def arm_name(arm: Arm) -> str:
    """Which arm it is, and of how many."""
    return f"{column_name(arm.prompt_loss_weight)} ({arm.index + 1} of {len(arm.weights)})"


def figure_rows(figures: Sequence[Figures]) -> list[tuple[str, str, list[str]]]:
    """What the base and each arm come to, as (name, unit, a cell for each)."""
    answers, prompts = (f"{count:,}" for count in (figures[0].completion_tokens, figures[0].prompt_tokens))
    asked = f"of {figures[0].answers} answers"
    return [
        (
            "loss on the answers",
            f"nats a token, {answers} held-out tokens",
            [f"{each.completion_loss:.3f}" for each in figures],
        ),
        (
            "loss on the prompts",
            f"nats a token, {prompts} held-out tokens",
            [f"{each.prompt_loss:.3f}" for each in figures],
        ),
        ("ended with EOS", asked, [str(each.ended) for each in figures]),
        (
            "ran on into a prompt of its own",
            asked,
            ["-" if each.ran_on is None else str(each.ran_on) for each in figures],
        ),
        ("length", "tokens an answer, on average", [f"{each.mean_tokens:.1f}" for each in figures]),
    ]


def weights_sentence(event: Weights) -> str:
    """Whether the base's weights are what they were, with both hashes."""
    before, after = event.before[:12], event.after[:12]
    if event.full:
        return f"all weights were trained, in a copy: its sha256 was {before}… before and is {after}… now"
    verdict = "unchanged" if event.before == event.after else "CHANGED"
    return f"the base's weights: sha256 {before}… before and {after}… after the training, {verdict}"


def isolation_sentence(event: Isolation) -> str:
    """How far one packed example reaches into the others, and which packing that was."""
    how = "packed (bfd), each example by itself" if event.packing == "bfd" else "the control, wrapped into one text"
    others = f"{event.examples} other {plural(event.examples, 'example')}"
    return (
        f"{how}: exchanging every token of row {event.row} changed the log-probabilities of the {event.tokens} tokens "
        f"of {others} by {event.change:.2g} nats at most"
    )
