"""The commands of the command line. Results are printed on stdout, remarks about them on stderr."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Generator, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..core import distributed
from ..core.config import RunConfig
from ..core.errors import ConfigError, DataError
from ..core.events import Event, Failed, Phase
from ..core.streams import Relay
from ..data.columns import read_columns
from ..data.examples import ParsedExamples, open_examples, read_examples
from ..data.problems import Problem
from .document import write_page
from .interrupt import stop_on_interrupt
from .refusals import refuse, save
from .remarks import remark
from .reports import aside
from .resume import resumed
from .settings import run_config

if TYPE_CHECKING:
    from ..mask.labels import Masker
    from .run import EventPrinter

Result = TypeVar("Result")


def _read(options: argparse.Namespace) -> ParsedExamples:
    data = read_examples(options.data, read_columns(options.columns), options.limit)
    _remark(data, options.all_problems)
    return data


def _remark(data: ParsedExamples, every: bool = False) -> None:
    refuse(data.problems, every)
    note(data.notes)


def note(notes: Iterable[str]) -> None:
    for note in notes:
        remark(f"sftdemo: {note}")


def mask(options: argparse.Namespace) -> int:
    """Show the tokens with their labels, or the audit, boundary, packing or proof; or write them as a page."""
    from ..core.environment import settle
    from ..data.hold_out import hold_out
    from ..data.templates import template_of
    from ..model.loading import open_model

    config = replace(run_config(options), packing=False)  # here --packing asks for a view
    template_of(config)  # a malformed one is reported before anything is downloaded
    data = _chosen(hold_out(_read(options), config), options.rows)
    save(options, data.problems)  # those that the model's template refuses are to come
    opened = follow(open_model(config, weights=options.prove))
    settle()
    masker = opened.masker
    failed = 0
    if options.audit or options.packing:
        failed = _look_over(data, masker, config, options)
    if options.boundary:
        _show_boundaries(data, masker, options.json)
    if options.prove:
        from ..runs.isolation import prove

        failed |= print_events(prove(opened.config, data), options.json)
    if options.html:
        write_page(data, masker, config, options)
    if not (options.audit or options.packing or options.boundary or options.prove or options.html):
        _show_tokens(data, masker, config, options)
    return failed


def _chosen(data: ParsedExamples, rows: list[int] | None) -> ParsedExamples:
    if rows is None:
        return data
    missing = set(rows) - {example.row for example in data.train}
    if missing:
        raise DataError(f"there is no row {min(missing)} to train on; rows are counted from 0.")
    return replace(data, train=tuple(example for example in data.train if example.row in rows))


def _show_tokens(data: ParsedExamples, masker: Masker, config: RunConfig, options: argparse.Namespace) -> None:
    from ..mask.audit import Audit
    from ..mask.rows import CHUNK
    from ..mask.view import to_json
    from .mask import print_rows, print_totals

    weight = config.prompt_loss_weight
    audit = Audit(config.batch_size, masker.max_length, data.held_out)
    refused: list[Problem] = []
    for begin in range(0, len(data.train), CHUNK):
        chunk = data.train[begin : begin + CHUNK]
        examples, problems = masker.tokenize(chunk)
        refused += problems
        by_row = {example.row: example for example in chunk}
        for example in examples:
            audit.add(by_row[example.row], example)
            if options.json:
                print(json.dumps(to_json(example, weight), ensure_ascii=False))
        if not options.json:
            print_rows(examples, masker.tokenizer, prompt_loss_weight=weight)
    refuse(refused, options.all_problems)
    save(options, (*data.problems, *refused))
    if not audit.examples:
        raise DataError("there is no row to show.")
    if not options.json:
        print_totals(audit, len(data.held_out), weight)


def _look_over(data: ParsedExamples, masker: Masker, config: RunConfig, options: argparse.Namespace) -> int:
    """Print the audit, the packing of the rows, or both. Returns 1 if the audit finds an error, else 0."""
    from ..mask.audit import Audit
    from ..mask.checks import errors
    from ..mask.layouts import layouts
    from .mask import Status, print_audit, print_layouts

    audit = Audit(config.batch_size, masker.max_length, data.held_out)
    refused: list[Problem] = []
    with Status() as status:
        for count, (_, row) in enumerate(audit.review(data.train, masker)):
            if isinstance(row, Problem):
                refused.append(row)
            if count % 1000 == 0:
                status.show(Phase("audit", f"Masked {count:,} rows", count / len(data.train)))
    refuse(refused, options.all_problems)
    save(options, (*data.problems, *refused))
    if not audit.examples:
        raise DataError("there is no row to look over.")
    findings = audit.findings()
    if options.audit and options.json:
        totals = {"examples": audit.examples, "tokens": audit.tokens, "trained": audit.trained}
        totals |= {"mask_hash": str(audit.mask_hash), "findings": [finding.to_dict() for finding in findings]}
        print(json.dumps(totals, ensure_ascii=False))
    elif options.audit:
        print_audit(audit, findings, len(data.held_out), config.prompt_loss_weight)
    if options.packing:
        rows = layouts(audit.lengths, audit.fresh, audit.batch_size, audit.max_length)
        if options.json:
            print(json.dumps({"layouts": [layout.to_dict() for layout in rows]}))
        else:
            print_layouts(rows, audit)
    return int(options.audit and bool(errors(findings)))


def _show_boundaries(data: ParsedExamples, masker: Masker, as_json: bool) -> None:
    from ..mask.boundary import inspect_boundary, newline_remedy
    from .mask import print_boundary, print_remedy

    shown = 0
    for example in data.train:
        try:
            boundary = inspect_boundary(example, masker)
        except DataError as error:
            remark(f"sftdemo: refused {error}")
            continue
        shown += 1
        if as_json:
            print(json.dumps(boundary.to_dict(), ensure_ascii=False))
        else:
            print_boundary(boundary)
    if not shown:
        raise DataError("there is no row to show.")
    remedy = newline_remedy(data.train, masker)
    if remedy and not as_json:
        print_remedy(remedy)


def _command(options: argparse.Namespace, data: ParsedExamples | None) -> str:
    """Return the command that was called, with the commit of a data set on the Hub."""
    origin = data.origin if data else None
    words = [origin.source if origin and word == options.data else word for word in sys.argv[1:]]
    return shlex.join(["python", "-m", "sftdemo", *words])


def follow(steps: Generator[Event, None, Result]) -> Result:
    """Show phases on stderr and return the generator's result."""
    from .mask import Status

    events = Relay(steps)
    with Status() as status:
        for event in events:
            status.show(event)
    return events.result


def train(options: argparse.Namespace) -> int:
    """Train on the completions, compare the answers before and after, and save."""
    from ..runs.run import run

    with distributed.together():
        if options.resume is not None:
            return print_events(resumed(options, stop_on_interrupt()), options.json)
        if options.data is None:
            return options.refuse("name DATA to train on or, with --resume, the folder of a run to go on with")
        config = run_config(options)
        data = open_examples(options.data, read_columns(options.columns), options.limit)
        if distributed.is_first():
            _remark(data, options.all_problems)
            save(options, data.problems)
        work = run(config, data, options.output, stop_on_interrupt(), overwrite=options.overwrite)
        return print_events(aside(work, config), options.json)


def ablate(options: argparse.Namespace) -> int:
    """Train with several prompt-loss weights and compare on held-out rows."""
    from ..runs.ablation import MOST_ARMS, ablate, check_weights

    check_weights(options.weights, MOST_ARMS)  # as with any setting, a wrong one is a wrong call
    config, data, stop = run_config(options), _read(options), stop_on_interrupt()
    work = ablate(config, data, options.output, options.weights, stop, overwrite=options.overwrite)
    return print_events(aside(work, config), options.json)


def study(options: argparse.Namespace) -> int:
    """Run a study over weights, seeds and numbers of rows, and write its report."""
    from ..study.cells import check_cells, study
    from ..study.report import judge_of, reported
    from .study import StudyPrinter, print_study

    check_cells(options.weights, options.seeds, options.sizes)
    config, data, output, judge = run_config(options), _read(options), Path(options.output), judge_of(options.data)
    work = study(config, data, output, options.weights, options.seeds, options.sizes, stop_on_interrupt())
    events = reported(aside(work, config), output, _command(options, data), judge)
    failed = print_events(events, options.json, StudyPrinter)
    if not failed and not options.json:
        print_study(output, judge)
    return failed


def generate(options: argparse.Namespace) -> int:
    """Answer prompts with a model or a saved run."""
    from ..runs.revisit import answers_at, check_strength
    from ..runs.run import answer

    if options.strength is not None:
        check_strength(options.strength)
        if options.template is not None or options.load_in_4bit:
            raise ConfigError(
                "with --strength a run is loaded and asked as it was trained; leave --template and --load-in-4bit out."
            )
        work = answers_at(Path(options.model), options.strength, options.prompts, device=options.device)
        return print_events(work, options.json)
    if not options.prompts:
        raise ConfigError("give at least one --prompt, or with a saved run --strength.")
    wanted = {name: getattr(options, name) for name in ("model", "device", "max_new_tokens", "load_in_4bit")}
    return print_events(answer(RunConfig(**wanted), options.prompts, options.template), options.json)


def losses(options: argparse.Namespace) -> int:
    """Print the loss of every token by the base and by the trained models."""
    from ..runs.revisit import token_losses

    return print_events(token_losses(Path(options.run), options.device), options.json)


def film(options: argparse.Namespace) -> int:
    """Print the answers and losses of a run after each step whose adapter was kept."""
    from ..runs.film import film as frames_of

    return print_events(frames_of(Path(options.run), options.device), options.json)


def print_events(events: Iterable[Event], as_json: bool, printer_of: Callable[[], EventPrinter] | None = None) -> int:
    """Print events as JSON lines, or in readable form with an `EventPrinter` or what `printer_of` makes. Returns 1 if
    an event is `Failed`, else 0."""
    failed = False
    if as_json:
        for event in events:
            print(json.dumps(event.to_dict(), ensure_ascii=False), flush=True)
            failed |= isinstance(event, Failed)
        return int(failed)
    from .run import EventPrinter

    with (printer_of or EventPrinter)() as printer:
        for event in events:
            printer.print(event)
            failed |= isinstance(event, Failed)
    return int(failed)


def samples(options: argparse.Namespace) -> int:
    """Measure what the sample data sets teach the default model."""
    from ..bench.samples import SampleResult, measure
    from ..data.samples import SAMPLES, get_sample
    from .mask import Status, print_samples

    names = [get_sample(name).name for name in options.names] or [sample.name for sample in SAMPLES]
    results = []
    with Status() as status:
        for item in measure(names, options.seeds):
            if not isinstance(item, SampleResult):
                status.show(item)
            elif options.json:
                print(json.dumps(asdict(item)), flush=True)
            else:
                results.append(item)
    if not options.json:
        print_samples(results)
    return 0


def bench(options: argparse.Namespace) -> int:
    """Measure what the program costs, or draw what was. Returns 1 if results that must be equal differ, else 0."""
    from ..bench.report import check_file
    from ..core.environment import settle
    from ..model.loading import load_tokenizer
    from ..model.sources import resolve
    from .bench import print_bench, print_drawn

    if options.draw:
        return print_drawn(Path(options.draw))
    if options.write:
        check_file(Path(options.write))
    data = read_examples(options.data, limit=options.limit) if options.data else None
    if data:
        _remark(data)
    source = follow(resolve(options.model))
    tokenizer = load_tokenizer(source)
    settle()
    stop = stop_on_interrupt("what is being measured")
    return print_bench(source, tokenizer, data, options, _command(options, data), stop)


def app(options: argparse.Namespace) -> int:
    """Open the page in the browser."""
    from ..core.environment import without_proxies

    if options.port is None:
        _check_port(os.environ.get("GRADIO_SERVER_PORT", "7860"))  # which Gradio reads when it is imported
    with without_proxies():
        from ..ui import launch
    shown = {"open_browser": not options.no_browser, "lessons": options.lessons}
    launch(host=options.host, port=options.port, mcp=options.mcp, **shown)
    return 0


def _check_port(text: str) -> None:
    if not (text.isdecimal() and 1 <= int(text[:9]) <= 65_535):
        raise ConfigError(f"GRADIO_SERVER_PORT is {text[:80]!r}; it must be a number from 1 to 65535.")
