"""The command line: `python -m sftdemo mask | train | generate | samples | app`.

Exit codes: 0 done, 1 the job failed (one line on stderr says why), 2 the call was wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from . import __version__
from .config import DEFAULT_MODEL, DEFAULT_TEMPLATE, DEVICES, RunConfig
from .errors import ConfigError, DataError, SftdemoError
from .events import Event, Failed

_DEFAULTS = RunConfig()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a Windows console may be set to an encoding without ␣ or emoji
            stream.reconfigure(encoding="utf-8")
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except ConfigError as error:
        print(f"sftdemo: {error}", file=sys.stderr)
        return 2
    except SftdemoError as error:
        print(f"sftdemo: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it flushes
        return 1
    except KeyboardInterrupt:
        print("sftdemo: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sftdemo",
        description="See prompt masking, and feel it: colour every token by its label, train on the completion, "
        "compare before and after.",
    )
    parser.add_argument("--version", action="version", version=f"sftdemo {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    mask = commands.add_parser("mask", help="show which tokens of the examples are trained")
    _add_data(mask)
    _add_model(mask)
    mask.add_argument("--json", action="store_true", help="print one JSON object an example")
    mask.set_defaults(command=_mask)

    train = commands.add_parser("train", help="train on the completions, compare before and after, save")
    _add_data(train)
    _add_model(train)
    _add_training(train)
    train.set_defaults(command=_train)

    generate = commands.add_parser("generate", help="answer prompts with a model or a saved run")
    generate.add_argument("model", metavar="MODEL_OR_OUTPUT", help="a saved run's folder, or a model as for --model")
    generate.add_argument("--prompt", action="append", required=True, metavar="TEXT", help="may be given several times")
    _add_template(generate, default=None, default_words="a saved run's own, or instruction")
    _add_answering(generate)
    generate.add_argument("--json", action="store_true", help="print the events as JSON lines")
    generate.set_defaults(command=_generate)

    samples = commands.add_parser("samples", help="measure what the sample data sets teach the default model")
    samples.add_argument("names", nargs="*", metavar="NAME", help="defaults to all of them")
    samples.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="S", help="defaults to 0")
    samples.add_argument("--json", action="store_true", help="print one JSON object a result")
    samples.set_defaults(command=_samples)

    app = commands.add_parser("app", help="open the page in the browser")
    app.add_argument("--host", default="127.0.0.1", help="address to listen on, defaults to 127.0.0.1")
    app.add_argument("--port", type=int, help="defaults to the first free one from 7860")
    app.add_argument("--no-browser", action="store_true", help="do not open a browser window")
    app.set_defaults(command=_app)
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="a JSON, JSON Lines or CSV file of examples")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help=f"a folder, GGUF file or Hub id; default {DEFAULT_MODEL}"
    )
    _add_template(parser)
    parser.add_argument(
        "--max-length",
        type=int,
        default=_DEFAULTS.max_length,
        metavar="N",
        help="tokens a row keeps, defaults to %(default)s",
    )


def _add_template(
    parser: argparse.ArgumentParser, default: str | None = DEFAULT_TEMPLATE, default_words: str = DEFAULT_TEMPLATE
) -> None:
    parser.add_argument(
        "--template",
        default=default,
        metavar="T",
        help="instruction, alpaca, chat (the model's own), or a text with {instruction} and, if wanted, {input} in it, "
        rf"where \n is a newline; default: {default_words}",
    )


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", default="outputs", metavar="FOLDER", help="where to save, defaults to outputs")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, metavar="N", help=f"optimizer steps, defaults to {_DEFAULTS.steps}")
    length.add_argument("--epochs", type=float, metavar="E", help="passes over the examples, instead of --steps")
    parser.add_argument(
        "--learning-rate",
        type=float,
        metavar="R",
        help=f"defaults to {_DEFAULTS.learning_rate:g}, with --full to {RunConfig(full=True).learning_rate:g}",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=_DEFAULTS.batch_size,
        metavar="B",
        help="examples a step, defaults to %(default)s",
    )
    parser.add_argument(
        "--packing",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="fill rows of max-length with whole examples that do not see each other; batch-size then counts rows",
    )
    method = parser.add_mutually_exclusive_group()
    method.add_argument("--full", action="store_true", help="train all weights instead of a LoRA adapter")
    method.add_argument(
        "--lora-r", type=int, default=_DEFAULTS.lora_r, metavar="R", help="the adapter's rank, defaults to %(default)s"
    )
    parser.add_argument("--merge", action="store_true", help="save the adapter merged into the model's weights")
    parser.add_argument("--seed", type=int, default=_DEFAULTS.seed, metavar="S", help="defaults to %(default)s")
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        metavar="TEXT",
        help="a prompt to answer before and after, may be repeated; the data's held-out rows are answered as well",
    )
    _add_answering(parser)
    parser.add_argument("--json", action="store_true", help="print the events as JSON lines")


def _add_answering(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-new-tokens",
        type=int,
        default=_DEFAULTS.max_new_tokens,
        metavar="N",
        help="tokens of an answer, defaults to %(default)s",
    )
    parser.add_argument("--device", choices=DEVICES, default="auto", help="defaults to the best there is")


def _template(text: str) -> str:
    """A custom template as typed in a shell, where \\n, \\t and \\\\ stand for a newline, a tab and a backslash."""
    return re.sub(r"\\([nt\\])", lambda match: {"n": "\n", "t": "\t", "\\": "\\"}[match[1]], text)


def _read(path: str):
    from .examples import read_examples

    data = read_examples(path)
    for line in [f"sftdemo: refused {problem}" for problem in data.problems] + [f"sftdemo: {x}" for x in data.notes]:
        print(line, file=sys.stderr)
    return data


def _mask(options: argparse.Namespace) -> int:
    from .models import effective_max_length, load_tokenizer, located
    from .templates import get_template
    from .tokenization import tokenize_examples

    config = RunConfig(model=options.model, template=_template(options.template), max_length=options.max_length)
    template = get_template(config.template)
    data = _read(options.data)
    source = _follow(located(config.model))
    tokenizer = load_tokenizer(source)
    max_length = effective_max_length(config.max_length, source)
    examples, problems = tokenize_examples(data.train, tokenizer, template, max_length)
    for problem in problems:
        print(f"sftdemo: refused {problem}", file=sys.stderr)
    if options.json:
        from .rendering import to_json

        for example in examples:
            print(json.dumps(to_json(example), ensure_ascii=False))
    else:
        from .terminal import print_mask

        print_mask(examples, tokenizer, len(data.held_out))
    if not examples:
        raise DataError("there is no row to show.")
    return 0


def _follow(steps: Iterable[Event]):
    """Shows phases on stderr; returns what the generator returns."""
    from .terminal import Status

    steps = iter(steps)
    with Status() as status:
        while True:
            try:
                status.show(next(steps))
            except StopIteration as end:
                return end.value


def _train(options: argparse.Namespace) -> int:
    from .runs import run

    config = RunConfig(
        model=options.model,
        template=_template(options.template),
        max_length=options.max_length,
        steps=options.steps,
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        batch_size=options.batch_size,
        packing=options.packing,
        full=options.full,
        lora_r=options.lora_r,
        merge=options.merge,
        seed=options.seed,
        device=options.device,
        max_new_tokens=options.max_new_tokens,
        prompts=tuple(options.prompt),
    )
    data = _read(options.data)
    interrupted = _stop_on_interrupt()
    return _print_events(run(config, data, options.output, stop=lambda: bool(interrupted)), options.json)


def _stop_on_interrupt() -> list[int]:
    """The first Ctrl-C asks the run to end and keep what it has (the list fills); a second one ends the program."""
    interrupted: list[int] = []

    def handle(number, frame) -> None:
        if interrupted:
            raise KeyboardInterrupt
        interrupted.append(number)
        print("sftdemo: stopping after this step; press Ctrl-C again to give up", file=sys.stderr)

    signal.signal(signal.SIGINT, handle)
    return interrupted


def _generate(options: argparse.Namespace) -> int:
    from .runs import answer

    config = RunConfig(model=options.model, device=options.device, max_new_tokens=options.max_new_tokens)
    template = None if options.template is None else _template(options.template)
    return _print_events(answer(config, options.prompt, template), options.json)


def _print_events(events: Iterable[Event], as_json: bool) -> int:
    """Prints events as JSON lines or for a person; 1 when the last one is `Failed`."""
    failed = False
    if as_json:
        for event in events:
            print(json.dumps(event.to_dict(), ensure_ascii=False), flush=True)
            failed |= isinstance(event, Failed)
        return int(failed)
    from .terminal import EventPrinter

    with EventPrinter() as printer:
        for event in events:
            printer.print(event)
            failed |= isinstance(event, Failed)
    return int(failed)


def _samples(options: argparse.Namespace) -> int:
    from .samples import SAMPLES, SampleResult, get_sample, measure
    from .terminal import Status, print_samples

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


def _app(options: argparse.Namespace) -> int:
    from .ui import launch

    launch(host=options.host, port=options.port, open_browser=not options.no_browser)
    return 0
