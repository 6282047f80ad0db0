"""Write a page that needs no other file, for a handout or an issue: the mask and the audit.

It runs no script but the one that it is given, which its policy names by its hash.
All text in it is escaped. It is light or dark as the reader's browser is, and fits a phone.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from typing import TYPE_CHECKING

from ..core.palette import PAGE
from ..core.text import plural
from ..data.examples import Example, Problem
from .checks import Finding
from .labels import Masker
from .markup import STYLE, ascii_only, row_section

if TYPE_CHECKING:
    pass

ROWS, TOKENS = 50, 20_000  # of a data set that are drawn, at most
# Should any text get past the escaping, a browser still loads and runs nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_LOOK = """
body { background: var(--paper); color: var(--paper-ink); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 60rem; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.lead { border-left: 4px solid var(--trained-line); padding-left: .8rem; }
.soft, th, dt { color: var(--ink-soft); font-weight: 400; font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
td, th { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid var(--line); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0; } dd { margin: 0; }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: .6rem; margin: 0 0 1.2rem; }
.answers div, pre { border: 1px solid var(--line); border-radius: 8px; padding: .5rem .7rem; margin: 0;
  white-space: pre-wrap; }
.answers .prompt { grid-column: 1 / -1; border: 0; padding: 0; font-weight: 600; }
.error { color: var(--error); } .warning { color: var(--bad); }
.sftdemo-row { margin: .6rem 0; } img { max-width: 100%; }
@media (prefers-color-scheme: dark) { img { filter: invert(1) hue-rotate(180deg); } }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } dt { margin-top: .4rem; } }
"""


def document(title: str, sections: Sequence[str], script: str = "", style: str = "") -> str:
    """Return a whole page. `title` is text, and the `sections` are HTML. The `script` and the `style` are ASCII."""
    light, dark = (
        f":root {{ {' '.join(f'--{name}: {tones[index]};' for name, tones in PAGE.items())} }}" for index in (0, 1)
    )
    digest = b64encode(sha256(script.encode()).digest()).decode()
    policy = f"{_POLICY}; script-src 'sha256-{digest}'" if script else _POLICY
    style = f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n{_LOOK}{STYLE}{style}"
    return ascii_only(
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(sections)
        + (f"\n<script>{script}</script>" if script else "")
        + "\n</html>\n"
    )


def mask_section(examples: Sequence[Example], masker: Masker, totals: str, prompt_loss_weight: float = 0.0) -> str:
    """Return the rows with their tokens: the first ones, of up to `ROWS` rows and `TOKENS` tokens."""
    drawn, tokens, seen = list[str](), 0, 0
    for example in examples:
        if seen == ROWS or tokens > TOKENS:
            break
        seen += 1
        for row in masker.tokenize([example])[0]:
            tokens += len(row.input_ids)
            drawn.append(row_section(row, masker.tokenizer, prompt_loss_weight))
    left = f" The first {seen:,} of {len(examples):,} rows are drawn." if seen < len(examples) else ""
    about = "Tokens on orange are trained; the others have the label -100."
    if prompt_loss_weight == 1:
        about = "Tokens on orange are trained, those of the prompt as well."
    elif prompt_loss_weight:
        about = f"Tokens on orange are trained; those underlined count {prompt_loss_weight:g} times in the loss."
    return f"<h2>The mask</h2>\n<p>{escape(totals)}<br>{about}{left}</p>\n" + "\n".join(drawn)


def audit_section(findings: Sequence[Finding], refused: Sequence[Problem]) -> str:
    """Return what the audit has found, the worst first, and how many rows are not used."""
    items = [
        f'<li><b class="{finding.severity}">{finding.severity}</b> {escape(str(finding))}</li>' for finding in findings
    ]
    if refused:
        rows = f"{len(refused):,} {plural(len(refused), 'row is', 'rows are')} not used"
        items.insert(0, f'<li><b class="warning">refused</b> {rows}. The first: {escape(str(refused[0]))}</li>')
    return "<h2>The audit</h2>\n" + (f"<ul>{''.join(items)}</ul>" if items else "<p>Nothing found.</p>")
