"""The console that results and progress share, and text that breaks between words only.

Results go to stdout and progress to stderr. Where both are a terminal, progress is drawn on the results' console, or
each would write over the other's lines.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from textwrap import indent

from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.table import Table
from rich.text import Text

from .remarks import between_words

_BETWEEN_WORDS = ("␣", "<", " ")  # a token that begins so begins a word: with a space, or a special token
LEAST = 10  # characters of a column, or its longest word


def results_console() -> Console:
    """Return a console on stdout. In a terminal, lines end between two words; elsewhere, where the text does."""
    return Console(highlight=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def line(console: Console, text: str, style: str = "") -> None:
    """Print a line of results. In a terminal it breaks between two words, and a path stays whole."""
    shown = text if console.soft_wrap else between_words(text, console.width)
    console.print(shown, style=style, markup=False, soft_wrap=True)


def indented(console: Console, text: str, style: str = "") -> None:
    """Print a line of results two columns in; in a terminal, all that it breaks into."""
    shown = text if console.soft_wrap else between_words(text, console.width - 2)
    console.print(indent(shown, "  "), style=style, markup=False, soft_wrap=True)


def add_tokens(text: Text, tokens: Iterable[tuple[str, str, str, int]], console: Console) -> None:
    """Append a row's tokens. In a terminal a line ends before a token that begins a word, if the word does not fit.

    Args:
        tokens (`Iterable[tuple[str, str, str, int]]`):
            Of each token the text of its own, what is shown of it, the style, and the number of newlines after it.
    """
    width = None if console.soft_wrap else console.width
    word, place = Text(), 0
    for own, shown, style, breaks in tokens:
        if own[:1] in _BETWEEN_WORDS and word:
            place = _add_word(text, word, place, width)
            word = Text()
        word.append(shown, style)
        if breaks:
            _add_word(text, word, place, width)
            text.append("\n" * breaks)
            word, place = Text(), 0
    _add_word(text, word, place, width)


def _add_word(text: Text, word: Text, place: int, width: int | None) -> int:
    """Append a word behind `place` characters of its line, and return how many the line has then."""
    if width and place and place + word.cell_len > width:
        text.append("\n")
        place = 0
    text.append_text(word)
    return place + word.cell_len


def progress_bar(console: Console, *columns: ProgressColumn) -> Progress:
    """Return a bar that leaves nothing behind. It is drawn on stderr or, if that and stdout are the same terminal, on
    the results' `console`, so that lines which are printed meanwhile stand above it. Elsewhere it is not drawn."""
    shared = sys.stdout.isatty() and sys.stderr.isatty()
    return Progress(
        *columns,
        console=console if shared else Console(stderr=True),
        transient=True,
        redirect_stdout=shared,  # or JSON in a pipe would be taken for what the bar's terminal should show
        disable=not sys.stderr.isatty(),
    )


def print_table(
    console: Console,
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    ratios: Sequence[int] = (),
    numbers: bool = False,
) -> None:
    """Print a table in which no word is broken or, where the console is too narrow for that, the rows as a list. In a
    pipe, a table without `ratios` is as wide as that takes.

    Args:
        ratios (`Sequence[int]`, *optional*):
            How the columns share a whole line, with lines between the rows. By default they are as wide as their text.
        numbers (`bool`, *optional*, defaults to `False`):
            Whether the columns after the first are aligned to the right, each cell on one line.
    """
    between = 3 * len(head) + 1
    grows = console.soft_wrap and not ratios
    widths = _widths(console.width - between, head, rows, ratios, numbers, grows)
    if not widths:
        console.print(_listed(title, head, rows), soft_wrap=False)
        return
    drawn = Table(title=title, title_justify="left", show_lines=bool(ratios), width=sum(widths) + between)
    for index, (name, width) in enumerate(zip(head, widths, strict=True)):
        drawn.add_column(name, width=width, justify="right" if numbers and index else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    console.print(drawn, soft_wrap=False, crop=False)


def _widths(
    room: int,
    head: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    ratios: Sequence[int],
    numbers: bool,
    grows: bool,
) -> list[int] | None:
    """Return the widths of the columns, or None if there is not enough `room`, unless it `grows`, for the longest word
    of each and, with `numbers`, for the figures."""
    columns = [[str(cell) for cell in column] for column in zip(head, *rows, strict=True)]
    least = [max(cell_len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    if numbers:
        figures = [max((cell_len(cell) for cell in column[1:]), default=0) for column in columns[1:]]
        least[1:] = map(max, least[1:], figures)
    most = [max(cell_len(line) for cell in column for line in cell.split("\n")) for column in columns]
    if ratios:
        least = [max(LEAST, width) for width in least]
        most = [room * ratio // sum(ratios) for ratio in ratios]
    room = max(room, sum(least)) if grows else room
    spare, wanted = room - sum(least), [max(0, width - word) for width, word in zip(most, least, strict=True)]
    if spare < 0:
        return None
    given = min(spare, sum(wanted))
    return [word + given * width // max(1, sum(wanted)) for word, width in zip(least, wanted, strict=True)]


def _listed(title: str, head: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> Text:
    text = Text().append(title, "italic")
    for row in rows:
        text.append("\n")
        for index, (name, cell) in enumerate(zip(head, row, strict=True)):
            text.append("\n").append(f"{name}: " if name else "", "dim").append_text(
                Text(str(cell), "bold" if not index else "")
            )
    return text
