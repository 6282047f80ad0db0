"""Turn masked examples into what a person sees, for the page, the terminal and JSON."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ..core.text import plural
from .labels import IGNORE_INDEX, MaskedExample, TokenizedExample, loss_weights
from .layouts import Layout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from .audit import Audit


SAYS = {
    "special": "special token of the template",
    "template": "template",
    "instruction": "instruction",
    "input": "input",
    "prompt": "prompt",
    "system": "system turn",
    "user": "user turn",
    "assistant": "earlier assistant turn",
    "tool": "tool turn",
    "completion": "completion",
    "written": "the chat template's own, inside the answer",
    "eos": "EOS, the end of the answer",
}


LAYOUT_NAMES = {
    "padded": "padded: batches of {batch_size}, each to its longest",
    "shared": "shared: batches of {batch_size}, each common beginning once",
    "packed": "packed: rows of up to {max_length}",
    "seed": "cut or padded to 128, a common recipe",
}


@dataclass(frozen=True)
class ViewToken:
    """A token to draw. `text` shows whitespace as visible signs. If several tokens make up one character, `text` is
    empty for all but the first. `kind` is a key of `SAYS`. `breaks` is the number of newlines in the token, drawn after
    it. A token that `max_length` cut off (`cut`) is not trained; `trained` then says whether it would have been.
    `weight` is how often a kept token counts in the loss: by a prompt-loss weight, masked ones may as well."""

    text: str
    kind: str
    id: int
    trained: bool
    breaks: int
    cut: bool
    weight: float = 0.0


def view_tokens(
    example: TokenizedExample, tokenizer: PreTrainedTokenizerBase, prompt_loss_weight: float = 0.0
) -> list[ViewToken]:
    """Return the tokens of an example with the user's own text, including those that `max_length` cut off. BOS and EOS,
    which have no text, are shown by name."""
    kept = len(example.input_ids)
    weights = (*loss_weights(example.labels, prompt_loss_weight), *(0.0 for _ in example.cut_ids))
    ids, labels = (*example.input_ids, *example.cut_ids), (*example.labels, *example.cut_labels)
    tokens: list[ViewToken] = []
    for index, ((begin, end), kind, identity) in enumerate(zip(example.spans, example.kinds, ids, strict=True)):
        text = example.text[begin:end]
        name = text or (cast("str", tokenizer.convert_ids_to_tokens(identity)) if kind in ("special", "eos") else "")
        trained = labels[index] != IGNORE_INDEX
        drawn = visible(name), kind, identity, trained, text.count("\n"), index >= kept
        tokens.append(ViewToken(*drawn, weight=weights[index]))
    return tokens


def visible(text: str) -> str:
    """Replace whitespace and control characters by signs: ␣ space at either end, ↵ newline, ⇥ tab, ␀ NUL and so on.

    >>> visible(" two words\\n")
    '␣two words↵'
    """
    inner = text.strip(" ")
    left = len(text) - len(text.lstrip(" "))
    spaced = "␣" * left + inner + "␣" * (len(text) - left - len(inner))
    return spaced.translate(_SIGNS)


_SIGNS = str.maketrans(
    {chr(code): chr(0x2400 + code) for code in range(32)}
    | {"\n": "↵", "\t": "⇥", "\x7f": "␡"}
    | {chr(code): f"\\x{code:02x}" for code in range(0x80, 0xA0)}  # some terminals obey these as well
)


def harmless(text: str) -> str:
    """Replace control characters, except newline and tab, by their codes, so that a terminal does not obey them."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) != "Cc" else f"\\x{ord(c):02x}" for c in text)


def row_name(example: MaskedExample) -> str:
    """Return "row 3", or "row 3, part 1" if it is several sequences."""
    has_parts = example.part > 0 or not {"history_rewritten", "packed_row"}.isdisjoint(example.flags)
    return f"row {example.row}, part {example.part}" if has_parts else f"row {example.row}"


def counts(tokens: int, trained: int, sequences: int, prompt_loss_weight: float = 0.0) -> tuple[int, int, int]:
    """Return how many tokens are trained, how many count by a weight between 0 and 1, and how many not at all.

    Args:
        tokens, trained (`int`):
            The tokens of `sequences` that have a trained one, and those of them whose label is their own id.
        prompt_loss_weight (`float`, *optional*, defaults to 0.0):
            How often a masked token counts. At 1 it is trained like the others. Nothing predicts a sequence's first.
    """
    masked = tokens - trained - sequences if prompt_loss_weight else 0
    left = tokens - trained - masked
    return (trained + masked, 0, left) if prompt_loss_weight == 1 else (trained, masked, left)


def row_counts(example: MaskedExample, prompt_loss_weight: float = 0.0) -> tuple[int, int, int]:
    """Return the `counts` of one example. Without a trained token none of its tokens count."""
    if not example.trained:
        return 0, 0, len(example.labels)
    return counts(len(example.labels), example.trained, 1, prompt_loss_weight)


def row_words(example: MaskedExample, prompt_loss_weight: float = 0.0) -> str:
    """Return how many tokens of an example are trained and how many not, as in "17 not trained · 13 trained"."""
    trained, partly, left = row_counts(example, prompt_loss_weight)
    between = f" · {partly:,} {plural(partly, 'counts', 'count')} {prompt_loss_weight:g} times" if partly else ""
    return f"{left:,} not trained{between} · {trained:,} trained"


def to_json(example: TokenizedExample, prompt_loss_weight: float = 0.0) -> dict[str, Any]:
    """Return the example as `mask --json` prints it. With a prompt-loss weight, it has the weight of each token."""
    weights = {"loss_weights": list(loss_weights(example.labels, prompt_loss_weight))} if prompt_loss_weight else {}
    return weights | {
        "row": example.row,
        "part": example.part,
        "text": example.text,
        "input_ids": list(example.input_ids),
        "labels": list(example.labels),
        "tokens": example.tokens,
        "kinds": list(example.kinds[: len(example.input_ids)]),
        "spans": [list(span) for span in example.spans[: len(example.input_ids)]],
        "trained": example.trained,
        "cut": example.cut,
        "flags": list(example.flags),
        "notes": [f"{check}: {details}" for check, details in example.notes],
    }


def summary(examples: int, tokens: int, trained: int, held_out: int, partly: int = 0, weight: float = 0.0) -> str:
    """Return the totals in one line, such as "16 examples · 448 tokens · 209 trained (47%) · 6 held out". Beside those
    trained, `partly` tokens count `weight` times."""
    share = f" ({trained / tokens:.0%})" if tokens else ""
    more = f", {partly:,} more {plural(partly, 'counts', 'count')} {weight:g} times" if partly else ""
    asked = f" · {held_out:,} held out" if held_out else ""
    return f"{examples:,} {plural(examples, 'example')} · {tokens:,} tokens · {trained:,} trained{share}{more}{asked}"


def totals(audit: Audit, held_out: int, prompt_loss_weight: float = 0.0) -> str:
    """Return the `summary` of all audited rows under a prompt-loss weight."""
    tokens = sum(min(length, audit.max_length) for length in audit.lengths)  # of the rows that are trained
    trained, partly, _ = counts(tokens, audit.trained, len(audit.rows), prompt_loss_weight)
    return summary(audit.examples, audit.tokens, trained, held_out, partly, prompt_loss_weight)


def mask_sentence(mask_hash: str) -> str:
    """Return the hash of a mask, shortened. The mask that is shown and the mask that is trained have the same hash."""
    return f"mask sha256 {mask_hash[:12]}…"


def layout_figure(layout: Layout, max_length: int) -> str:
    """Return the cost of a layout in one line: how full packed rows are, how many tokens sharing saves, and for the
    others how much is padding."""
    lost = f" · {layout.lost:,} {plural(layout.lost, 'token')} cut off" if layout.lost else ""
    if layout.name == "packed":
        shares = layout.filled(max_length)
        if not shares:
            return "no rows"
        full = f"{len(shares)} {plural(len(shares), 'row')}, {sum(shares) / len(shares):.0%} full on average"
        return f"{layout.positions:,} positions in {full} · no padding{lost}"
    if layout.name == "shared":
        kept = layout.tokens + layout.saved
        return f"{layout.positions:,} positions · {layout.saved:,} of {kept:,} tokens saved{lost}"
    waste = f"{layout.wasted:,} ({1 - layout.fill:.0%}) are padding" if layout.wasted else "no padding"
    return f"{layout.positions:,} positions · {waste}{lost}"
