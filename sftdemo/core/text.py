"""Small pieces of text that are written the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def plural(count: int, one: str, many: str | None = None) -> str:
    """The noun that goes with a count; `many` defaults to `one` with an s.

    >>> plural(1, "row"), plural(2, "row"), plural(0, "row merges", "rows merge")
    ('row', 'rows', 'rows merge')
    """
    return one if count == 1 else many or f"{one}s"


def duration(seconds: float) -> str:
    """About how long something takes, in the unit that suits it.

    >>> duration(89), duration(90), duration(7200)
    ('89 s', '2 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def markdown_table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown, with a cell for each of `head` in every row."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])
