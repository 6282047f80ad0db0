"""Every token's loss in the terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from sftdemo.core.events import TokenLosses
from sftdemo.terminal.run import TOP, token_losses

ROW = TokenLosses(
    row=3,
    source="held out",
    question="Why?",
    tokens=[["W", "instruction", 1, False, 0], ["hy↵", "template", 2, False, 1], ["So", "completion", 3, True, 0]],
    weights=[None, 0.0],
    losses=[[1.25, 2.0], [0.0, 0.5]],
    ranks=[[4, 9], [1, 1]],
    likeliest=[[[["a", 0.5]], [["b", 0.5]]]] * 2,
)


def console(in_colour: bool) -> Console:
    return Console(color_system="truecolor" if in_colour else None, soft_wrap=True)


def test_without_colours_each_token_has_its_loss():
    assert token_losses(ROW, console(False)).plain.splitlines() == [
        "row 3 · held out · 1 of 3 tokens trained",
        "base, 2.00 nats a trained token",
        "Why↵⟨1.2⟩",
        "[So]⟨2.0⟩",
        "masked, 0.50 nats a trained token",
        "Why↵⟨0.0⟩",
        "[So]⟨0.5⟩",
    ]


def ground(loss: float) -> tuple[int, ...]:
    text = token_losses(replace(ROW, losses=[[loss, loss], [0.0, 0.0]]), console(True))
    (style,) = {str(span.style) for span in text.spans if text.plain[span.start : span.end] == "hy↵"} - {str(blank())}
    return tuple(map(int, style.partition("rgb(")[2].partition(")")[0].split(",")))


def blank():
    text = token_losses(replace(ROW, losses=[[0.0, 0.0], [0.0, 0.0]]), console(True))
    return next(span.style for span in text.spans if text.plain[span.start : span.end] == "hy↵")


def test_with_colours_the_ground_is_bluer_the_more_it_surprises():
    low, high, beyond = ground(1.0), ground(TOP), ground(3 * TOP)
    assert low[0] > high[0]
    assert high == beyond


def test_what_is_trained_is_underlined():
    text = token_losses(ROW, console(True))
    styles = {text.plain[span.start : span.end]: str(span.style) for span in text.spans}
    assert "underline" in styles["So"]
    assert "underline" not in styles["hy↵"]


@pytest.mark.parametrize("in_colour", [False, True])
def test_what_a_row_says_cannot_steer_the_terminal(in_colour):
    evil = replace(ROW, tokens=[["\x1b[2J", *token[1:]] for token in ROW.tokens])
    assert "\x1b" not in token_losses(evil, console(in_colour)).plain


def test_a_row_without_a_trained_token():
    nothing = replace(ROW, tokens=[[*token[:3], False, token[4]] for token in ROW.tokens])
    assert "nats a trained token" not in token_losses(nothing, console(False)).plain
