"""The colours of the page, the terminal and the plots; nowhere else is one spelled out.

Most are Okabe and Ito's (https://jfly.uni-koeln.de/color/), which the colour-blind can tell apart, checked for contrast
and with three simulations of colour blindness. Colour is never the only cue: what is trained is underlined as well.
"""

from __future__ import annotations

ORANGE, SKY, GREEN, BLUE = "#e69f00", "#56b4e9", "#009e73", "#0072b2"
VERMILION, PURPLE, BLACK, WHITE = "#d55e00", "#cc79a7", "#000000", "#ffffff"

INK = "#1b1b1b"  # letters on a light ground
DARK_ORANGE, LIGHT_BLUE = "#d98200", "#3a8fd0"  # seen on a light ground and on a dark one
LOSS, NO_LOSS = "#1f6fb2", "#ebf0f5"  # the ground of a token: `TOP` nats, and none

ARMS = (DARK_ORANGE, LIGHT_BLUE, GREEN, PURPLE)  # of an ablation, on either ground
LINES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)  # of a plot on white, the darkest first

# The page's CSS variables: on light ground, on dark ground.
PAGE = {
    "trained": (f"{ORANGE}70", f"{ORANGE}66"),
    "trained-line": ("#b36b00", "#ffc24d"),
    "partly": (ORANGE, ORANGE),  # a prompt token, by how much it counts
    "quiet": ("#8882", "#fff2"),
    "special": (f"{SKY}66", f"{SKY}66"),
    "ink-soft": ("#5b6470", "#a9b3bf"),
    "on-strong": (WHITE, INK),  # letters on `trained-line` or `error`
    "on-block": (INK, INK),
    "on-loss": (WHITE, WHITE),
    "line": ("#0000001f", "#ffffff26"),
    "shadow": ("#0002", "#0002"),
    "card": (WHITE, "#ffffff08"),
    "paper": (WHITE, "#14181d"),  # a row by itself, in a notebook or a file
    "paper-ink": ("#1f2937", "#e5e7eb"),
    "good": ("#00664a", "#5fd6ae"),
    "bad": ("#9a3a00", "#ffb17a"),
    "focus": ("#0b62c4", "#7db8ff"),
    "error": ("#b3261e", "#ff8a80"),
    "loss": (LOSS, "#2a76bd"),
    "worse": (ORANGE, DARK_ORANGE),
    "arm-2": (ARMS[1], ARMS[1]),
    "arm-3": (ARMS[2], ARMS[2]),
    "arm-4": (ARMS[3], ARMS[3]),
}

# The button that trains: dark letters on amber, 9:1; white would have 2:1.
BUTTON, BUTTON_HOVER, ON_BUTTON = "#f5a623", "#ffb73d", "#1d1300"

# In the terminal the 256 colours of xterm, so that one with no more shows the same. What warns is in the terminal's own
# red, yellow, green and cyan.
TERMINAL_TRAINED = ("#ff8700", "#ffaf00")  # two tones by turns show where one token ends and the next begins
TERMINAL_EOS = "#ffd700"
TERMINAL_TONES = ("#ff8700", "#00afff", "#00d700", "magenta", "#ffd700", "#00d7ff")


def page_css() -> str:
    """`PAGE` as CSS: `:root` has the variables on light ground, `.dark` those on dark ground."""
    grounds = (":root", ".dark")
    rules = (" ".join(f"--{name}: {values[index]};" for name, values in PAGE.items()) for index in range(len(grounds)))
    return "\n".join(f"{ground} {{ {rule} }}" for ground, rule in zip(grounds, rules, strict=True)) + "\n"


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of a "#rrggbb", from 0 to 255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
