"""The command line: `python -m sftdemo mask | train | ablate | study | generate | losses | samples | bench | app`.

Exit codes: 0 done, 1 the job failed (one line on stderr says why), 2 the call was wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from .. import __version__
from ..core.config import (
    BENCH_PARTS,
    DEFAULT_MODEL,
    DEFAULT_TEMPLATE,
    DEVICES,
    STUDY_SEEDS,
    STUDY_WEIGHTS,
    TURNS,
    RunConfig,
)
from ..core.errors import ConfigError, SftdemoError
from . import commands

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
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    mask = subparsers.add_parser("mask", help="show which tokens of the examples are trained")
    _add_data(mask)
    _add_model(mask)
    mask.add_argument("--audit", action="store_true", help="what is wrong with the rows, why it matters, what to do")
    mask.add_argument("--boundary", action="store_true", help="the end of each prompt, tokenised alone and together")
    mask.add_argument("--packing", action="store_true", help="how the examples lie in the rows of a batch")
    mask.add_argument("--prove", action="store_true", help="with the model: that packed examples do not see each other")
    mask.add_argument("--rows", type=int, nargs="+", metavar="ROW", help="only these rows, counted from 0")
    _add_batch_size(mask)
    mask.add_argument("--device", choices=DEVICES, default="auto", help="for --prove, defaults to the best there is")
    mask.add_argument("--json", action="store_true", help="print one JSON object an example, or for each view one")
    mask.set_defaults(command=commands.mask)

    train = subparsers.add_parser("train", help="train on the completions, compare before and after, save")
    _add_data(train)
    _add_model(train)
    train.add_argument(
        "--prompt-loss-weight",
        type=float,
        default=_DEFAULTS.prompt_loss_weight,
        metavar="W",
        help="how much an untrained token counts all the same: 0 masked, 1 plain fine-tuning, defaults to %(default)g",
    )
    _add_training(train)
    train.set_defaults(command=commands.train)

    ablate = subparsers.add_parser("ablate", help="train with several prompt-loss weights, compare on held-out rows")
    _add_data(ablate)
    _add_model(ablate)
    ablate.add_argument(
        "--weights",
        type=float,
        nargs="+",
        default=[0.0, 1.0],
        metavar="W",
        help="the arms' prompt-loss weights, defaults to 0 (masked) and 1 (plain fine-tuning)",
    )
    _add_training(ablate)
    ablate.set_defaults(command=commands.ablate, prompt_loss_weight=0.0)

    study = subparsers.add_parser("study", help="prompt-loss weights with several seeds and numbers of rows, a report")
    _add_data(study)
    _add_model(study)
    study.add_argument(
        "--weights",
        type=float,
        nargs="+",
        default=STUDY_WEIGHTS,
        metavar="W",
        help=f"prompt-loss weights, defaults to {' '.join(f'{weight:g}' for weight in STUDY_WEIGHTS)}",
    )
    study.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=STUDY_SEEDS,
        metavar="S",
        help=f"two or more, defaults to {' '.join(map(str, STUDY_SEEDS))}",
    )
    study.add_argument(
        "--sizes", type=int, nargs="+", metavar="N", help="how many rows to train, drawn by each seed; defaults to all"
    )
    _add_training(study, output="study", one_run=False)
    study.set_defaults(command=commands.study, prompt_loss_weight=0.0, merge=False, seed=0, prompt=[])

    generate = subparsers.add_parser("generate", help="answer prompts with a model or a saved run")
    generate.add_argument("model", metavar="MODEL_OR_OUTPUT", help="a saved run's folder, or a model as for --model")
    generate.add_argument("--prompt", action="append", default=[], metavar="TEXT", help="may be given several times")
    generate.add_argument(
        "--strength",
        type=float,
        metavar="S",
        help="of a saved run, with its adapter turned down or up: 0 the base, 1 as trained, 1.5 at most; the run's own "
        "questions are answered as well",
    )
    _add_template(generate, default=None, default_words="a saved run's own, or instruction")
    _add_answering(generate)
    generate.add_argument("--json", action="store_true", help="print the events as JSON lines")
    generate.set_defaults(command=commands.generate)

    losses = subparsers.add_parser("losses", help="the loss of every token, by the base and by what a run has trained")
    losses.add_argument("run", metavar="OUTPUT", help="a saved run's folder")
    losses.add_argument("--device", choices=DEVICES, default="auto", help="defaults to the best there is")
    losses.add_argument("--json", action="store_true", help="print the events as JSON lines")
    losses.set_defaults(command=commands.losses)

    samples = subparsers.add_parser("samples", help="measure what the sample data sets teach the default model")
    samples.add_argument("names", nargs="*", metavar="NAME", help="defaults to all of them")
    samples.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="S", help="defaults to 0")
    samples.add_argument("--json", action="store_true", help="print one JSON object a result")
    samples.set_defaults(command=commands.samples)

    bench = subparsers.add_parser("bench", help="measure what the program costs, beside TRL and the tokenizer alone")
    bench.add_argument("data", nargs="?", metavar="DATA", help="a file of examples, defaults to the first sample")
    bench.add_argument("--model", default=DEFAULT_MODEL, help=f"a folder, GGUF file or Hub id; default {DEFAULT_MODEL}")
    bench.add_argument(
        "--only", nargs="+", metavar="PART", help=f"of {', '.join(BENCH_PARTS)}; defaults to all but disk"
    )
    effort = bench.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_true", help="only what must be equal; its times say little")
    effort.add_argument("--thorough", action="store_true", help="all parts, templates and points, and 7 repeats")
    bench.add_argument("--rows", type=int, default=40_000, metavar="N", help="for the mask, defaults to 40000")
    bench.add_argument("--repeats", type=int, metavar="N", help="of each arm, defaults to 3")
    bench.add_argument("--json", action="store_true", help="print one JSON object")
    bench.add_argument("--write", metavar="FILE", help="also write the report, its plot and JSON there, part by part")
    bench.set_defaults(command=commands.bench)

    app = subparsers.add_parser("app", help="open the page in the browser")
    app.add_argument("--host", default="127.0.0.1", help="address to listen on, defaults to 127.0.0.1")
    app.add_argument("--port", type=int, help="defaults to the first free one from 7860")
    app.add_argument("--no-browser", action="store_true", help="do not open a browser window")
    app.set_defaults(command=commands.app)
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
    parser.add_argument(
        "--turns",
        choices=TURNS,
        default=_DEFAULTS.turns,
        help="which assistant turns of a conversation are trained, defaults to %(default)s",
    )


def _add_batch_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch-size",
        type=int,
        default=_DEFAULTS.batch_size,
        metavar="B",
        help="examples a step, defaults to %(default)s",
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


def _add_training(parser: argparse.ArgumentParser, output: str = "outputs", one_run: bool = True) -> None:
    """`one_run`: with the options that a study has no use for, since it saves no model and varies the seed."""
    parser.add_argument("--output", default=output, metavar="FOLDER", help="where to save, defaults to %(default)s")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, metavar="N", help=f"optimizer steps, defaults to {_DEFAULTS.steps}")
    length.add_argument("--epochs", type=float, metavar="E", help="passes over the examples, instead of --steps")
    parser.add_argument(
        "--learning-rate",
        type=float,
        metavar="R",
        help=f"defaults to {_DEFAULTS.learning_rate:g}, with --full to {RunConfig(full=True).learning_rate:g}",
    )
    _add_batch_size(parser)
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
    parser.add_argument("--anyway", action="store_true", help="train even where the audit finds an error")
    if one_run:
        parser.add_argument("--overwrite", action="store_true", help="replace an earlier run in the output's folder")
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
