"""Formatting helpers shared by the terminal, the page and the reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil


def plural(count: float, one: str, many: str | None = None) -> str:
    """Return the form of a noun that goes with a count. `many` defaults to `one` followed by "s".

    >>> plural(1, "row"), plural(2, "row"), plural(0, "row merges", "rows merge")
    ('row', 'rows', 'rows merge')
    """
    return one if count == 1 else many or f"{one}s"


def ordinal(number: int) -> str:
    """Return a place in a row.

    >>> ordinal(1), ordinal(12), ordinal(22), ordinal(103)
    ('1st', '12th', '22nd', '103rd')
    """
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def list_first(parts: Iterable[str], most: int = 20) -> str:
    """Return the first of some parts with commas between them, and how many more there are.

    >>> list_first("abc"), list_first("abcd", 2)
    ('a, b, c', 'a, b and 2 more')
    """
    every = list(parts)
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def duration(seconds: float) -> str:
    """Return a rounded duration in seconds, minutes or, from an hour on, hours.

    >>> duration(89), duration(90), duration(3600)
    ('89 s', '2 min', '1.0 h')
    """
    if seconds < 89.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3570 else f"{seconds / 3600:,.1f} h"


def file_size(count: int) -> str:
    """Return a number of bytes in MB or, below a tenth of one, in kB.

    >>> file_size(1740), file_size(2_345_678)
    ('1.7 kB', '2.3 MB')
    """
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def epochs(steps: int, rows_a_step: int, rows: int, packed: bool = False) -> str:
    """Return how much of the rows some optimizer steps see: a share of them or, from one pass on, a number of epochs.
    With packing, `rows` are the `packed` ones.

    >>> epochs(12, 8, 3000)
    '12 steps of 8 are 3% of your 3,000 rows'
    >>> epochs(12, 8, 16)
    '12 steps of 8 are 6 epochs of your 16 rows'
    """
    passes = steps / ceil(rows / rows_a_step)
    share = f"{passes:.{0 if passes >= 0.01 else 2}%}" if passes < 1 else f"{passes:.3g} {plural(passes, 'epoch')}"
    return (
        f"{steps:,} {plural(steps, 'step')} of {rows_a_step:,} {plural(steps, 'is', 'are')} {share} of your {rows:,} "
        f"{'packed ' * packed}{plural(rows, 'row')}"
    )


def markdown_table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table. Every row has as many cells as `head`."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])
