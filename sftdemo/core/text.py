"""Formatting helpers shared by the terminal, the page and the reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return the form of a noun that goes with a count. `many` defaults to `one` followed by "s".

    >>> plural(1, "row"), plural(2, "row"), plural(0, "row merges", "rows merge")
    ('row', 'rows', 'rows merge')
    """
    return one if count == 1 else many or f"{one}s"


def duration(seconds: float) -> str:
    """Return a rounded duration in seconds, minutes or hours, whichever fits.

    >>> duration(89), duration(90), duration(7200)
    ('89 s', '2 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def markdown_table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table. Every row has as many cells as `head`."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])
