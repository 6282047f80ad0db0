"""All colours of the page, the terminal and the plots. No other module spells one out.

Most are from the palette of Okabe and Ito (https://jfly.uni-koeln.de/color/), which colour-blind people can tell apart.
They were checked for contrast and with three simulations of colour blindness. Colour is never the only cue: trained
tokens are underlined as well.
"""

from __future__ import annotations

ORANGE, SKY, GREEN, BLUE = "#e69f00", "#56b4e9", "#009e73", "#0072b2"
VERMILION, PURPLE, BLACK, WHITE = "#d55e00", "#cc79a7", "#000000", "#ffffff"

INK = "#1b1b1b"  # text on a light background
DARK_ORANGE, LIGHT_BLUE = "#d98200", "#3a8fd0"  # visible on light and dark backgrounds
LOSS, NO_LOSS = "#1f6fb2", "#ebf0f5"  # background of a token with a loss of `TOP` nats, and of 0 nats

ARMS = (DARK_ORANGE, LIGHT_BLUE, GREEN, PURPLE)  # of an ablation, on either background
LINES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)  # of a plot on white, darkest first

# The page's CSS variables: (on a light background, on a dark background).
PAGE = {
    "trained": (f"{ORANGE}70", f"{ORANGE}66"),
    "trained-line": ("#9d5d00", "#ffc24d"),
    "partly": (ORANGE, ORANGE),  # a prompt token, shaded by how much it counts in the loss
    "quiet": ("#8882", "#fff2"),
    "special": (f"{SKY}66", f"{SKY}66"),
    "ink-soft": ("#5b6470", "#a9b3bf"),
    "on-strong": (WHITE, INK),  # text on `trained-line` or `error`
    "on-block": (INK, INK),
    "line": ("#0000001f", "#ffffff26"),
    "shadow": ("#0002", "#0002"),
    "card": (WHITE, "#ffffff08"),
    "paper": (WHITE, "#14181d"),  # a row on its own, in a notebook or a file
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

# The training button: dark text on amber has a contrast of 9:1; white text would have 2:1.
BUTTON, BUTTON_HOVER, ON_BUTTON = "#f5a623", "#ffb73d", "#1d1300"

# The terminal uses the 256 colours of xterm only, so that every terminal with at least these looks the same. Warnings
# use the terminal's own red, yellow, green and cyan.
TERMINAL_TRAINED = ("#ff8700", "#ffaf00")  # alternating tones show where one token ends and the next begins
TERMINAL_EOS = "#ffd700"
TERMINAL_TONES = ("#ff8700", "#00afff", "#00d700", "magenta", "#ffd700", "#00d7ff")


def page_css() -> str:
    """Return `PAGE` as CSS: `:root` has the variables for a light background, `.dark` those for a dark one."""
    grounds = (":root", ".dark")
    rules = (" ".join(f"--{name}: {values[index]};" for name, values in PAGE.items()) for index in range(len(grounds)))
    return "\n".join(f"{ground} {{ {rule} }}" for ground, rule in zip(grounds, rules, strict=True)) + "\n"


def rgb(colour: str) -> tuple[int, int, int]:
    """Return the red, green and blue of a "#rrggbb" colour, each from 0 to 255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
