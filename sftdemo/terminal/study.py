"""Print a study in the terminal, with rich."""

from __future__ import annotations

from pathlib import Path

from ..core.events import Conclusion, Event, Finished, Saved, StudyCell
from ..core.text import duration
from ..study.cells import BASE, Cell, read_cells
from ..study.report import REPORT, Judge, conclusion_of, frame_of, paired_table, summary_table
from .console import line, print_table, results_console
from .run import EventPrinter


class StudyPrinter(EventPrinter):
    """Print a study: a bar with the time left on stderr, and a line for each cell that is measured."""

    def print(self, event: Event) -> None:
        """Print an event of a study."""
        match event:
            case StudyCell():
                figures, cell = event.figures, Cell.of(event)
                name = "base" if cell == BASE else str(cell)
                self._line(
                    f"{name}: completion loss {figures['completion_loss']:.3f}, prompt loss "
                    f"{figures['prompt_loss']:.3f}, {figures['ended']} of {figures['answers']} answers ended "
                    f"({duration(event.seconds)})",
                    "dim",
                )
            case Conclusion():
                pass  # it stands below the tables
            case Saved():
                self._line(f"Saved to {event.path}: {REPORT}, its plots and JSON, and the cells")
            case Finished():
                stopped = f", stopped after cell {event.steps} of {event.total}" if event.stopped else ""
                self._line(f"Done in {duration(event.seconds)}{stopped}.")
            case _:
                super().print(event)


def print_study(output: Path, judge: Judge | None = None) -> None:
    """Print the tables and the conclusion of the report on all cells in `output`, or nothing if no cell is trained."""
    cells = read_cells(output)
    frame = frame_of(cells, judge)
    if not (frame["rows"] > 0).any():
        return
    console = results_console()
    for title, (head, lines) in (
        ("Mean and standard deviation over seeds, in nats per token", summary_table(frame)),
        ("The difference to weight 0, on the same seeds and rows", paired_table(frame)),
    ):
        print_table(console, title, head, lines, numbers=True)
    line(console, conclusion_of(cells, frame), "bold")
