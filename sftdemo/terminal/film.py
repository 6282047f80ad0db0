"""Write down how a run learned, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

from ..core.events import Frame
from ..core.text import plural
from ..mask.view import harmless
from ..runs.wording import column_name, moments


def frame_line(frame: Frame) -> str:
    """Return the figures of a frame on one line."""
    line = f"step {frame.step:>4}"
    if not frame.losses:
        return line
    rows = len(frame.losses)
    return (
        f"{line}  held out: completion {frame.completion_loss:.4f}, prompt {frame.prompt_loss:.4f}; likeliest in "
        f"{rows} {plural(rows, 'row')}: first token {frame.begun}, end {frame.ended}"
    )


def film_text(frames: Sequence[Frame]) -> Text:
    """Return the answers to each question in the order of the frames, each where it changes, and the moments at which
    most held-out answers begin and end as they were written."""
    text = Text()
    for weight, group in groupby(frames, key=lambda frame: frame.prompt_loss_weight):
        arm = list(group)
        if len(arm) < len(frames):
            text.append(f"{column_name(weight)}\n", "bold underline")
        for number, (prompt, source, *_) in enumerate(arm[0].answers):
            text.append(harmless(f"{prompt} ({source})\n"), "bold")
            before = None
            for frame in arm:
                _, _, answer, stop = frame.answers[number]
                words = " ".join(answer.split())
                if (words, stop) != before:
                    text.append(f"step {frame.step:>4}  ", "dim").append(harmless(f"{words} ⟨{stop}⟩\n"))
                before = words, stop
        for sentence in moments(arm):
            text.append(f"{sentence[0].upper()}{sentence[1:]}.\n")
    return text
