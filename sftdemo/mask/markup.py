"""Render a masked row as self-contained HTML for a notebook, a report or a file."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ..core.palette import PAGE
from .labels import IGNORE_INDEX, TokenizedExample
from .view import SAYS, ViewToken, row_name, row_words, view_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NEEDED = (
    "trained",
    "trained-line",
    "quiet",
    "special",
    "ink-soft",
    "line",
    "bad",
    "paper",
    "paper-ink",
)  # of the page's colours
_LOOK = """
.sftdemo-row { background: var(--paper); color: var(--paper-ink); font: 14px/1.45 system-ui, sans-serif;
  padding: .6em .8em; border: 1px solid var(--line); border-radius: 8px; }
.sftdemo-row header { color: var(--ink-soft); font-size: .85em; margin-bottom: .3em; }
.sftdemo-row .tokens { font-family: ui-monospace, Menlo, Consolas, monospace; line-height: 1.75; }
.sftdemo-row .token { white-space: pre-wrap; overflow-wrap: anywhere; padding: .12em 0; border-radius: 3px;
  margin-right: 1px; background: var(--quiet); }
.sftdemo-row .template { color: var(--ink-soft); }
.sftdemo-row .special { background: var(--special); font-style: italic; }
.sftdemo-row .trained { background: var(--trained); box-shadow: inset 0 -2px var(--trained-line); }
.sftdemo-row .partly { box-shadow: inset 0 -2px var(--trained-line); }
.sftdemo-row .eos.trained { font-weight: 700; outline: 1px solid var(--trained-line); outline-offset: -1px; }
.sftdemo-row .cut { opacity: .45; text-decoration: line-through; }
.sftdemo-row .note { color: var(--bad); font-size: .85em; margin: .3em 0 0; }
"""


def _variables(dark: bool) -> str:
    return ".sftdemo-row { " + " ".join(f"--{name}: {PAGE[name][dark]};" for name in _NEEDED) + " }"


STYLE = f"{_variables(False)}\n@media (prefers-color-scheme: dark) {{ {_variables(True)} }}{_LOOK}"


def render_html(example: TokenizedExample, tokenizer: PreTrainedTokenizerBase) -> str:
    """Draw a masked example as the page does: trained tokens are underlined on an orange background.

    Args:
        example (`TokenizedExample`):
            The row, as `Masker.tokenize` returns it.
        tokenizer (`PreTrainedTokenizerBase`):
            The tokenizer of the row. It names the tokens that have no text of their own, such as EOS.

    Returns:
        `str`: One `<section>` with its own style sheet. It needs no other file and runs no script. All text is escaped.
        The output is ASCII, so that no encoding can garble it. Each token's `title` has its role, id and label.
    """
    return ascii_only(
        row_section(example, tokenizer).replace(">", f"><style>{STYLE}</style>", 1)  # behind the section's own tag
    )


def row_section(example: TokenizedExample, tokenizer: PreTrainedTokenizerBase, prompt_loss_weight: float = 0.0) -> str:
    """Return what `render_html` draws without its style sheet, `STYLE`, for a page that has many rows."""
    tokens = "".join(_token(*each) for each in enumerate(view_tokens(example, tokenizer, prompt_loss_weight)))
    head = f"{row_name(example)} · {row_words(example, prompt_loss_weight)}"
    notes = [f"✂ {example.cut} tokens cut off by max_length"] if example.cut else []
    notes += [f"⚠ {sentence}" for sentence in example.sentences.values()]
    below = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    drawn = f'<header>{escape(head)}</header><div class="tokens">{tokens}</div>{below}'
    return f'<section class="sftdemo-row">{drawn}</section>'


def ascii_only(html: str) -> str:
    """Return HTML that no encoding can garble."""
    return html.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _token(position: int, token: ViewToken) -> str:
    is_trained = token.weight == 1 or (token.cut and token.trained)
    is_partly = 0 < token.weight < 1
    names = ["token", token.kind, *["trained"] * is_trained, *["partly"] * is_partly, *["cut"] * token.cut]
    label = "none, cut off" if token.cut else f"label {token.id if token.weight else IGNORE_INDEX}"
    label += f", counts {token.weight:g} times" if is_partly else ""
    title = f"position {position}, {SAYS[token.kind]}, id {token.id}, {label}"
    drawn = f'<span class="{" ".join(names)}" title="{escape(title)}">{escape(token.text)}</span>'
    return drawn + "<br>" * token.breaks
