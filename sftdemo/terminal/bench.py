"""Print a bench in the terminal, with rich."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ..bench.history import draw
from ..bench.parts import QUICK, THOROUGH, USUAL, Measured, bench
from ..bench.report import ending, machine_line, read_result, section, write_report
from ..core.errors import ConfigError
from ..core.events import Phase
from ..data.examples import ParsedExamples
from ..mask.view import harmless
from ..model.sources import ModelSource


def print_bench(
    source: ModelSource,
    tokenizer,
    data: ParsedExamples | None,
    options: argparse.Namespace,
    command: str,
    stop: Callable[[], bool],
) -> int:
    """Run the bench that the `options` ask for, and print and write each part as soon as it is done. Returns 1 if
    results that must be equal differ, else 0."""
    effort = QUICK if options.quick else THOROUGH if options.thorough else USUAL
    repeats = effort.repeats if options.repeats is None else options.repeats
    effort = replace(effort, parts=tuple(options.only or effort.parts), repeats=repeats)
    if options.resume and not options.write:
        raise ConfigError("--resume goes on with the report of --write FILE; name the file.")
    begun = read_result(Path(options.write)) if options.resume else None
    equal = True
    with BenchPrinter(options.json) as printer:
        for item in bench(source, tokenizer, data, effort, options.rows, stop, options.device, begun):
            if isinstance(item, Phase):
                printer.show(item)
                continue
            if options.write:
                write_report(item.result, Path(options.write), command)
            printer.print(item)
            equal = item.result.get("equalities", {"equal": True})["equal"]
    return int(not equal)


def print_drawn(folder: Path) -> int:
    """Draw the results that are kept in a folder, and print where the picture is. Returns 0."""
    print(draw(folder))
    return 0


class BenchPrinter:
    """Prints a bench: on stderr a bar, with the part and the time gone; on stdout the tables of each part as soon as it
    is measured and the ratios at the end, or with `as_json` one JSON object at the end. An exception ends it like
    the bench's own end: what is measured is printed."""

    def __init__(self, as_json: bool = False):
        self._as_json = as_json
        self._out = Console(highlight=False, soft_wrap=True)
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_interactive,  # it would leave empty lines
        )
        self._task = self._bar.add_task("Starting", total=1.0)
        self._last: Measured | None = None

    def __enter__(self) -> BenchPrinter:
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()
        if self._last is None:
            return
        if self._as_json:
            self._print(json.dumps(self._last.result))
        else:
            self._print(ending(self._last.result))

    def show(self, phase: Phase) -> None:
        """Show the progress of the bench."""
        self._bar.update(self._task, description=harmless(phase.message), completed=phase.fraction)

    def print(self, measured: Measured) -> None:
        """Print the result of a part."""
        self._bar.stop()  # or its line and the tables would be mixed up
        if not self._as_json:
            if self._last is None:
                self._print(machine_line(measured.result) + "\n")
            self._print(section(measured.result, measured.part) + "\n")
        self._last = measured
        self._bar.console.print(f"sftdemo: {measured.part} took {measured.seconds:.0f} s", style="dim", markup=False)
        self._bar.start()

    def _print(self, text: str) -> None:
        self._out.print(harmless(text), markup=False)
        self._out.file.flush()
