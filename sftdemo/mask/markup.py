"""A masked row as HTML that stands by itself, for a notebook, a report or a file."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from .checks import CHECKS
from .labels import IGNORE_INDEX, TokenizedExample
from .view import SAYS, ViewToken, view_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The page's colours, ui/static/style.css: for a light ground and for a dark one.
LIGHT = {
    "--trained": "#e69f0070",
    "--trained-line": "#b36b00",
    "--quiet": "#8882",
    "--special": "#56b4e966",
    "--ink-soft": "#5b6470",
    "--line": "#0000001f",
    "--bad": "#9a3a00",
}
DARK = {
    "--trained": "#e69f0066",
    "--trained-line": "#ffc24d",
    "--quiet": "#fff2",
    "--special": "#56b4e966",
    "--ink-soft": "#a9b3bf",
    "--line": "#ffffff26",
    "--bad": "#ffb17a",
}
_LOOK = """
.sftdemo-row { background: #fff; color: #1f2937; font: 14px/1.45 system-ui, sans-serif; padding: .6em .8em;
  border: 1px solid var(--line); border-radius: 8px; }
@media (prefers-color-scheme: dark) { .sftdemo-row { background: #14181d; color: #e5e7eb; } }
.sftdemo-row header { color: var(--ink-soft); font-size: .85em; margin-bottom: .3em; }
.sftdemo-row .tokens { font-family: ui-monospace, Menlo, Consolas, monospace; line-height: 1.75; }
.sftdemo-row .token { white-space: pre-wrap; overflow-wrap: anywhere; padding: .12em 0; border-radius: 3px;
  margin-right: 1px; background: var(--quiet); }
.sftdemo-row .template { color: var(--ink-soft); }
.sftdemo-row .special { background: var(--special); font-style: italic; }
.sftdemo-row .trained { background: var(--trained); box-shadow: inset 0 -2px var(--trained-line); }
.sftdemo-row .eos.trained { font-weight: 700; outline: 1px solid var(--trained-line); outline-offset: -1px; }
.sftdemo-row .cut { opacity: .45; text-decoration: line-through; }
.sftdemo-row .note { color: var(--bad); font-size: .85em; margin: .3em 0 0; }
"""


def _variables(colours: dict[str, str]) -> str:
    return f".sftdemo-row {{ {' '.join(f'{name}: {value};' for name, value in colours.items())} }}"


_STYLE = f"{_variables(LIGHT)}\n@media (prefers-color-scheme: dark) {{ {_variables(DARK)} }}{_LOOK}"


def render_html(example: TokenizedExample, tokenizer: PreTrainedTokenizerBase) -> str:
    """Draw a masked example as the page does: what is trained stands on orange and is underlined.

    Args:
        example (`TokenizedExample`):
            The row, as `Masker.tokenize` returns it.
        tokenizer (`PreTrainedTokenizerBase`):
            The one it was tokenised with. It names the tokens that have no text of their own, such as EOS.

    Returns:
        `str`: One `<section>` with its own style sheet. It needs no other file and runs no script. All text is escaped,
        and all of it is ASCII, so that no encoding can spoil it. Each token's `title` has its role, id and label.
    """
    tokens = "".join(_token(*each) for each in enumerate(view_tokens(example, tokenizer)))
    head = f"row {example.row} · {len(example.input_ids) - example.trained} not trained · {example.trained} trained"
    notes = [f"✂ {example.cut} tokens cut off by max_length"] if example.cut else []
    notes += [f"⚠ {CHECKS[flag]}" for flag in example.flags]
    below = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    html = (
        f'<section class="sftdemo-row"><style>{_STYLE}</style><header>{escape(head)}</header>'
        f'<div class="tokens">{tokens}</div>{below}</section>'
    )
    return html.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _token(position: int, token: ViewToken) -> str:
    names = ["token", token.kind, *["trained"] * token.trained, *["cut"] * token.cut]
    label = "none, cut off" if token.cut else f"label {token.id if token.trained else IGNORE_INDEX}"
    title = f"position {position}, {SAYS[token.kind]}, id {token.id}, {label}"
    drawn = f'<span class="{" ".join(names)}" title="{escape(title)}">{escape(token.text)}</span>'
    return drawn + "<br>" * token.breaks
