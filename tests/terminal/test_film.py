"""The film in the terminal."""

from __future__ import annotations

from dataclasses import replace

from sftdemo.core.events import Frame
from sftdemo.terminal.film import film_text, frame_line

FRAME = Frame(
    step=0,
    prompt_loss_weight=0.0,
    answers=[["Why?", "held out", "So\nit [bold]is", "length"]],
    completion_loss=3.0,
    prompt_loss=2.5,
    begun=0,
    ended=1,
    losses=[[1.0, 2.0]],
    ranks=[[4, 1]],
)
LATER = [replace(FRAME, step=2), replace(FRAME, step=4, begun=1, answers=[["Why?", "held out", "Arr", "EOS"]])]


def test_a_frame_is_a_line_of_figures():
    assert frame_line(FRAME) == (
        "step    0  held out: completion 3.0000, prompt 2.5000; likeliest in 1 row: first token 0, end 1"
    )
    assert frame_line(replace(FRAME, losses=[], ranks=[])) == "step    0"


def test_answers_are_told_where_they_change():
    assert film_text([FRAME, *LATER]).plain.splitlines() == [
        "Why? (held out)",
        "step    0  So it [bold]is ⟨length⟩",
        "step    4  Arr ⟨EOS⟩",
        "The answer's first token is the likeliest in the held-out row from step 4 on.",
        "The end of the answer is the likeliest in the held-out row from the beginning.",
    ]


def test_arms_come_one_after_the_other():
    other = [replace(frame, prompt_loss_weight=1.0) for frame in [FRAME, *LATER]]
    lines = film_text([FRAME, *LATER, *other]).plain.splitlines()
    assert (lines[0], lines[6]) == ("masked", "unmasked")
    assert lines[1:6] == lines[7:]
