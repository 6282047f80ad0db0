"""Names and sentences for the results of a run, shared by the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.events import Arm, Figures, Frame, Isolation, Prepared, Weights
from ..core.text import plural
from ..mask import view


def column_name(prompt_loss_weight: float | None) -> str:
    """Return the name of the base (None) or of the arm with this weight, for columns, curves and figures."""
    if prompt_loss_weight is None:
        return "base"
    return {0.0: "masked", 1.0: "unmasked"}.get(prompt_loss_weight, f"prompt weight {prompt_loss_weight:g}")


def arm_name(arm: Arm) -> str:
    """Return the name of an arm, with its number and the number of arms."""
    return f"{column_name(arm.prompt_loss_weight)} ({arm.index + 1} of {len(arm.weights)})"


def figure_rows(figures: Sequence[Figures]) -> list[tuple[str, str, list[str]]]:
    """Return the figures of the base and the arms as rows (name, unit, one cell for the base and for each arm)."""
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


def trained_words(event: Prepared) -> str:
    """Return how many of a run's tokens are trained and, by a weight, how many more count, as in "259 of them trained,
    256 more count 0.3 times"."""
    weight = event.prompt_loss_weight
    trained, partly, _ = view.counts(event.tokens, event.trained_tokens, event.examples, weight)
    more = f", {partly:,} more {plural(partly, 'counts', 'count')} {weight:g} times" if partly else ""
    return f"{trained:,} of them trained{more}"


def weights_sentence(event: Weights) -> str:
    """Return a sentence that says whether the base's weights have changed, with both hashes."""
    before, after = event.before[:12], event.after[:12]
    if event.full:
        return f"all weights were trained, in a copy: its sha256 was {before}… before and is {after}… now"
    verdict = "unchanged" if event.before == event.after else "CHANGED"
    return f"the base's weights: sha256 {before}… before and {after}… after the training, {verdict}"


def isolation_sentence(event: Isolation) -> str:
    """Return a sentence that says how much one packed example affects the others, and with which packing."""
    how = "packed (bfd), each example by itself" if event.packing == "bfd" else "the control, wrapped into one text"
    others = f"{event.examples} other {plural(event.examples, 'example')}"
    return (
        f"{how}: exchanging every token of row {event.row} changed the log-probabilities of the {event.tokens} tokens "
        f"of {others} by {event.change:.2g} nats at most"
    )


def moments(frames: Sequence[Frame]) -> list[str]:
    """Return, in a sentence each, from which of the frames on most held-out answers begin and end as they were
    written. The frames are of one model, in order."""
    rows = len(frames[0].losses) if frames else 0
    if not rows:
        return []
    told: list[str] = []
    where = f"in most of the {rows} held-out rows" if rows > 1 else "in the held-out row"
    for what, counts in (
        ("the answer's first token", [frame.begun for frame in frames]),
        ("the end of the answer", [frame.ended for frame in frames]),
    ):
        most = [2 * count > rows for count in counts]
        first = next((at for at in range(len(most)) if all(most[at:])), None)
        if first is None:
            told.append(f"{what} never becomes the likeliest {where}")
        elif first == 0:
            told.append(f"{what} is the likeliest {where} from the beginning")
        else:
            many = f" ({counts[first]} of them)" if rows > 1 else ""
            told.append(f"{what} is the likeliest {where} from step {frames[first].step} on{many}")
    return told
