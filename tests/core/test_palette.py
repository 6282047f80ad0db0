from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.color import Color, ColorSystem

import sftdemo
from sftdemo.core.palette import (
    BUTTON,
    ON_BUTTON,
    PAGE,
    TERMINAL_EOS,
    TERMINAL_TONES,
    TERMINAL_TRAINED,
    page_css,
    rgb,
)

STATIC = Path(sftdemo.__file__).parent / "ui" / "static"
THEMES_OWN = {"font-mono", "font", "body-text-color", "background-fill-primary", "block-background-fill"}


def luminance(colour: str) -> float:
    """As WCAG 2 has it."""
    parts = [each / 255 for each in rgb(colour)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(first: str, second: str) -> float:
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def test_the_page_has_both_grounds():
    rules = dict(re.findall(r"^(\S+) \{ (.*) \}$", page_css(), re.MULTILINE))
    assert list(rules) == [":root", ".dark"]
    for index, rule in enumerate(rules.values()):
        assert re.findall(r"--([\w-]+): (\S+);", rule) == [(name, values[index]) for name, values in PAGE.items()]


def test_every_variable_that_is_used_is_made_and_used_if_made():
    drawn_apart = STATIC.parents[1] / "mask" / "markup.py"  # a row by itself
    sources = "".join(file.read_text(encoding="utf-8") for file in (*STATIC.glob("*.*"), drawn_apart))
    used = set(re.findall(r"var\(--([\w-]+)", sources))
    set_by_the_page = set(re.findall(r"(?<!var\()--([\w-]+)", sources))
    assert used - set_by_the_page - THEMES_OWN == set(PAGE)


@pytest.mark.parametrize("name", ["ink-soft", "good", "bad", "error", "trained-line"])
def test_words_can_be_read_on_white(name):
    assert contrast(PAGE[name][0], PAGE["card"][0]) >= 4.5


def test_letters_on_strong_colours_can_be_read():
    for ground in ("trained-line", "error"):
        for letters, below in zip(PAGE["on-strong"], PAGE[ground], strict=True):
            assert contrast(letters, below) >= 3  # they are bold
    assert contrast(ON_BUTTON, BUTTON) >= 9


def test_text_on_the_most_of_a_losses_colour_can_be_read():
    css = (STATIC / "style.css").read_text(encoding="utf-8")
    shares = [int(share) / 100 for share in re.findall(r"--most: (\d+)%", css)]
    for index, (paper, ink, share) in enumerate(
        zip(("#ffffff", "#1f2937"), ("#1f2937", "#f3f4f6"), shares, strict=True)
    ):
        for name in ("loss", "worse"):
            pairs = zip(rgb(PAGE[name][index]), rgb(paper), strict=True)
            mixed = "#" + "".join(f"{round(share * colour + (1 - share) * under):02x}" for colour, under in pairs)
            assert contrast(ink, mixed) >= 4.5, (name, paper, mixed)


def test_a_terminal_with_256_colours_shows_the_same():
    for colour in {*TERMINAL_TRAINED, TERMINAL_EOS, *TERMINAL_TONES} - {"magenta"}:
        fewer = Color.parse(colour).downgrade(ColorSystem.EIGHT_BIT)
        assert Color.from_ansi(fewer.number).get_truecolor().hex == colour
