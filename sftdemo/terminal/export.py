"""`export`, `push`, `certify`: hand on what a run has trained, and prove that it answers elsewhere as it does here."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.streams import Relay
from ..mask.view import harmless
from .commands import follow, print_events

if TYPE_CHECKING:
    from ..export.certificate import Certificate


def export(options: argparse.Namespace) -> int:
    """Write a saved run in another format."""
    from ..export.formats import export as exported

    return print_events(exported(options.run, options.to, _output(options), options.quantization), options.json)


def push(options: argparse.Namespace) -> int:
    """Upload a saved run to the Hub."""
    from ..export.push import push as pushed

    work = pushed(
        options.run,
        options.to,
        options.private,
        options.kind,
        options.quantization,
        options.with_examples,
        options.overwrite,
    )
    return print_events(work, options.json)


def _output(options: argparse.Namespace) -> Path:
    """Return where to write: `--output`, or beside the run."""
    if options.output:
        return Path(options.output)
    run = Path(options.run)
    name = run.resolve().name
    return run.resolve().parent / (f"{name}.{options.to}" if options.to == "html" else _named(name, options.to))


def _named(run: str, to: str) -> str:
    return f"{run}-{to}.gguf" if to == "gguf" else f"{run}-{to}"


def certify(options: argparse.Namespace) -> int:
    """Compare how a run's model answers here and where it is served. Returns 1 where more than rounding differs."""
    from ..export.certify import certify as certified

    work = certified(
        options.run, options.gguf, options.url, options.quantization, options.max_new_tokens, options.prompts
    )
    if options.json:
        events = Relay(work)
        for event in events:
            print(json.dumps(event.to_dict(), ensure_ascii=False), flush=True)
        certificate = events.result
        print(json.dumps(certificate.to_dict(), ensure_ascii=False))
    else:
        certificate = follow(work)
        _print_certificate(certificate)
    return int(not certificate.holds)


def _print_certificate(certificate: Certificate) -> None:
    from rich.text import Text

    from ..export.certificate import COLUMNS
    from .console import line, print_table, results_console

    console = results_console()
    line(console, harmless(str(certificate)), "bold")
    rows = [[Text(harmless(cell)) for cell in row] for row in certificate.rows()]
    print_table(console, "Here and there, prompt by prompt", COLUMNS, rows)
