"""The command line: `sftdemo mask | lint | train | ablate | study | generate | losses | film | export | push |
certify | samples | bench | app`.

Exit codes: 0 done, 1 the job failed (one line on stderr says why), 2 the call was wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from .. import __version__
from ..core.config import (
    BENCH_PARTS,
    EXPORT_FORMATS,
    LONG_PARTS,
    PUSH_KINDS,
    QUANTIZATIONS,
    SETTINGS,
    STUDY_SEEDS,
    STUDY_WEIGHTS,
    unescape,
)
from ..core.environment import prepare
from ..core.errors import ConfigError, SftdemoError
from ..data.samples import SAMPLES, data_file
from ..data.templates import CHAT, NAMED_TEMPLATES
from . import commands
from .export import certify as certify_run
from .export import export as export_run
from .export import push as push_run
from .lint import FORMATS
from .lint import lint as lint_rows
from .program import Program
from .remarks import remark

MASK_SETTINGS = (
    *("model", "template", "turns", "chat_template_kwargs", "max_length", "too_long"),
    *("batch_size", "hold_out", "seed"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    prepare()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a Windows console may be set to an encoding without ␣ or emoji
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        options = _parser().parse_args(arguments)
        return options.command(options)
    except ConfigError as error:
        remark(f"sftdemo: {error}")
        return 2
    except SftdemoError as error:
        remark(f"sftdemo: {error}")
        return 1
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it flushes
        return 1
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        name = str(error.filename)
        told = f"{name[:40]!r}… has {len(name):,} characters, more than a file's name can"
        remark(f"sftdemo: {told}; put a text into a file, and name that.")
        return 2
    except KeyboardInterrupt:
        remark("sftdemo: interrupted")
        return 130


class _Telling(argparse.ArgumentParser):
    """A parser whose options tell as `given` which of them were given, whatever their defaults."""

    def parse_known_args(self, args=None, namespace=None):
        found, rest = super().parse_known_args(args, namespace)
        alone, _ = super().parse_known_args(args, argparse.Namespace(**dict.fromkeys(vars(found))))
        found.given = frozenset(name for name, value in vars(alone).items() if value is not None)
        return found, rest


def _parser() -> argparse.ArgumentParser:
    parser = Program(prog="sftdemo", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"sftdemo {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Telling, help=argparse.SUPPRESS)

    mask = subparsers.add_parser("mask")
    _add_data(mask)
    _add_config(mask)
    for name in MASK_SETTINGS:
        _add_setting(mask, name, in_file=True)
    _add_setting(mask, "prompt_loss_weight", in_file=True)
    _add_setting(mask, "device", in_file=True, help="for --prove, defaults to the best there is")
    mask.add_argument("--audit", action="store_true", help="what is wrong with the rows, why it matters, what to do")
    mask.add_argument("--boundary", action="store_true", help="the end of each prompt, tokenised alone and together")
    mask.add_argument("--packing", action="store_true", help="how the examples lie in the rows of a batch")
    mask.add_argument("--prove", action="store_true", help="with the model: that packed examples do not see each other")
    mask.add_argument("--html", metavar="FILE", help="write the tokens and the audit as one page, which needs no other")
    mask.add_argument("--rows", type=int, nargs="+", metavar="ROW", help="only these rows, counted from 0")
    mask.add_argument("--json", action="store_true", help="print one JSON object an example, or for each view one")
    _add_saved_problems(mask)
    mask.set_defaults(command=commands.mask)

    lint = subparsers.add_parser("lint")
    _add_data(lint)
    _add_config(lint)
    for name in MASK_SETTINGS:
        _add_setting(lint, name, in_file=True)
    lint.add_argument("--format", choices=FORMATS, default="text", help="of the remarks, defaults to %(default)s")
    _add_saved_problems(lint)
    lint.set_defaults(command=lint_rows)

    train = subparsers.add_parser("train")
    _add_training(train, optional=True)
    _add_saved_problems(train, "every row that is refused while the data is read")
    words = "go on with the run in this folder, which was stopped or killed, from its last checkpoint (--save-every)"
    train.add_argument("--resume", metavar="OUTPUT", help=words)
    train.set_defaults(command=commands.train, refuse=train.error)

    ablate = subparsers.add_parser("ablate")
    _add_several(ablate, "--weights", [0.0, 1.0], "W", "the arms' prompt-loss weights, 0 masked, 1 plain fine-tuning")
    _add_training(ablate, without=["prompt_loss_weight", "save_every"])
    ablate.set_defaults(command=commands.ablate)

    study = subparsers.add_parser("study")
    _add_several(study, "--weights", STUDY_WEIGHTS, "W", "prompt-loss weights")
    _add_several(study, "--seeds", STUDY_SEEDS, "S", "two or more")
    study.add_argument(
        "--sizes", type=int, nargs="+", metavar="N", help="how many rows to train, drawn by each seed; defaults to all"
    )
    left_out = ["prompt_loss_weight", "merge", "seed", "prompts", "save_every", "film"]
    _add_training(study, "study", without=left_out, replaces=False)
    study.set_defaults(command=commands.study)

    generate = subparsers.add_parser("generate")
    generate.add_argument("model", metavar="MODEL_OR_OUTPUT", help="a saved run's folder, or a model as for --model")
    _add_setting(generate, "prompts", help="may be given several times")
    generate.add_argument(
        "--strength",
        type=float,
        metavar="S",
        help="of a saved run, with its adapter turned down or up: 0 the base, 1 as trained, 1.5 at most; the run's own "
        "questions are answered as well",
    )
    words = f"{_words('template')}, defaults to a saved run's own, or {SETTINGS['template'].default}"
    _add_setting(generate, "template", default=None, help=words)
    _add_setting(generate, "max_new_tokens")
    _add_setting(generate, "device")
    _add_setting(generate, "load_in_4bit")
    generate.add_argument("--json", action="store_true", help="print the events as JSON lines")
    generate.set_defaults(command=commands.generate)

    losses = subparsers.add_parser("losses")
    losses.add_argument("run", metavar="OUTPUT", help="a saved run's folder")
    _add_setting(losses, "device")
    losses.add_argument("--json", action="store_true", help="print the events as JSON lines")
    losses.set_defaults(command=commands.losses)

    film = subparsers.add_parser("film")
    film.add_argument("run", metavar="OUTPUT", help="a saved run's folder")
    _add_setting(film, "device")
    film.add_argument("--json", action="store_true", help="print the events as JSON lines")
    film.set_defaults(command=commands.film)

    export = subparsers.add_parser("export")
    export.add_argument("run", metavar="RUN", help="a saved run's folder")
    words = "the format; script and trl-config train the same without this program"
    export.add_argument("--to", choices=EXPORT_FORMATS, required=True, help=words)
    export.add_argument("--output", metavar="PLACE", help="the folder or file to write, defaults to one beside the run")
    _add_quantization(export)
    export.add_argument("--json", action="store_true", help="print the events as JSON lines")
    export.set_defaults(command=export_run)

    push = subparsers.add_parser("push")
    push.add_argument("run", metavar="RUN", help="a saved run's folder")
    push.add_argument("--to", required=True, metavar="OWNER/NAME", help="the repository, made if there is none")
    push.add_argument("--private", action="store_true", help="where it is made, only its owner can read it")
    push.add_argument(
        "--as", dest="kind", choices=PUSH_KINDS, help="what the model goes up as, defaults to the folder as it is"
    )
    _add_quantization(push)
    push.add_argument("--with-examples", action="store_true", help="the rows as well (examples.jsonl)")
    push.add_argument("--overwrite", action="store_true", help="replace all that the repository holds")
    push.add_argument("--json", action="store_true", help="print the events as JSON lines")
    push.set_defaults(command=push_run)

    certify = subparsers.add_parser("certify")
    certify.add_argument("run", metavar="RUN", help="a saved run's folder")
    where = certify.add_mutually_exclusive_group()
    where.add_argument("--gguf", metavar="FILE", help="a file that was exported, instead of a temporary one")
    where.add_argument("--url", metavar="URL", help="a running llama-server, Ollama or other server with OpenAI's API")
    _add_quantization(certify)
    _add_setting(certify, "prompts", help="asked besides the run's own, may be repeated")
    _add_setting(certify, "max_new_tokens")
    certify.add_argument("--json", action="store_true", help="print the events and the certificate as JSON lines")
    certify.set_defaults(command=certify_run)

    samples = subparsers.add_parser("samples")
    samples.add_argument("names", nargs="*", metavar="NAME", help="defaults to all of them")
    _add_several(samples, "--seeds", [0], "S", "of the trainings")
    samples.add_argument("--json", action="store_true", help="print one JSON object a result")
    samples.set_defaults(command=commands.samples)

    bench = subparsers.add_parser("bench")
    words = "a file of examples, hub:owner/name or a sample's name, defaults to the first sample"
    bench.add_argument("data", nargs="?", type=data_file, metavar="DATA", help=words)
    _add_limit(bench)
    _add_setting(bench, "model")
    _add_setting(bench, "device")
    bench.add_argument(
        "--only",
        nargs="+",
        metavar="PART",
        help=f"of {', '.join(BENCH_PARTS)}; defaults to all but {', '.join(LONG_PARTS)}",
    )
    effort = bench.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_true", help="only what must be equal; its times say little")
    effort.add_argument("--thorough", action="store_true", help="all parts, templates and points, and 7 repeats")
    bench.add_argument("--rows", type=int, default=40_000, metavar="N", help="for the mask, defaults to 40000")
    bench.add_argument("--repeats", type=int, metavar="N", help="of each arm, defaults to 3")
    bench.add_argument("--json", action="store_true", help="print one JSON object")
    bench.add_argument("--write", metavar="FILE", help="also write the report, its plot and JSON there, part by part")
    bench.add_argument("--resume", action="store_true", help="go on with the bench that --write has begun")
    words = "measure nothing, but draw the results kept there over time"
    bench.add_argument("--draw", metavar="FOLDER", help=words)
    bench.set_defaults(command=commands.bench)

    app = subparsers.add_parser("app")
    app.add_argument("--host", default="127.0.0.1", help="address to listen on, defaults to 127.0.0.1")
    app.add_argument("--port", type=int, help="defaults to the first free one from 7860")
    app.add_argument("--no-browser", action="store_true", help="do not open a browser window")
    app.add_argument(
        "--mcp",
        action="store_true",
        default=None,
        help="offer the endpoints as tools of the Model Context Protocol, with the package mcp",
    )
    app.add_argument("--lessons", metavar="FOLDER", help="a folder of lessons of your own, as docs/lessons.md tells")
    app.set_defaults(command=commands.app)
    parser.tell(subparsers.choices)
    return parser


def _add_data(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    names = ", ".join(sample.name for sample in SAMPLES)
    parser.add_argument(
        "data",
        nargs="?" if optional else None,
        type=data_file,
        metavar="DATA",
        help=f"a JSON, JSON Lines or CSV file of examples, hub:owner/name on the Hub, or the name of a sample: {names}",
    )
    _add_limit(parser)
    parser.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="OURS=THEIRS",
        help="how the file calls the columns, such as prompt=question completion=answer",
    )
    parser.add_argument("--all-problems", action="store_true", help="name every refused row, not three of each reason")


def _add_saved_problems(parser: argparse.ArgumentParser, which: str = "every refused row") -> None:
    words = f"write {which} to this file: JSON Lines of row, line and message"
    parser.add_argument("--save-problems", metavar="FILE", help=words)


def _add_limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=int, metavar="N", help="read only the first N rows, defaults to all")


def _add_quantization(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quantization", choices=QUANTIZATIONS, default="f16", help="of a GGUF file, defaults to %(default)s"
    )


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="a YAML file of settings; options go before it")


def _add_several(
    parser: argparse.ArgumentParser, option: str, default: Sequence[float], metavar: str, help: str
) -> None:
    """An option of several numbers, of the type of its defaults."""
    words = f"{help}, defaults to {' '.join(f'{number:g}' for number in default)}"
    parser.add_argument(option, type=type(default[0]), nargs="+", default=default, metavar=metavar, help=words)


def _add_training(
    parser: argparse.ArgumentParser,
    output: str = "outputs",
    without: Sequence[str] = (),
    replaces: bool = True,
    optional: bool = False,
) -> None:
    """What all trainings take: the data, which may be `optional`, every setting but those `without`, and where and how
    to write. One that does not replace what is there goes on with it."""
    _add_data(parser, optional)
    _add_config(parser)
    length, method = parser.add_mutually_exclusive_group(), parser.add_mutually_exclusive_group()
    groups = {"steps": length, "epochs": length, "full": method, "lora_r": method}
    for name in SETTINGS:
        if name not in without:
            _add_setting(groups.get(name, parser), name, in_file=True)
    parser.set_defaults(unused=tuple(without))
    parser.add_argument("--output", default=output, metavar="FOLDER", help="where to save, defaults to %(default)s")
    if replaces:
        parser.add_argument("--overwrite", action="store_true", help="replace an earlier run in the output's folder")
    parser.add_argument("--json", action="store_true", help="print the events as JSON lines")


def _words(name: str) -> str:
    """What a setting says of itself; of the templates, their names first."""
    words = SETTINGS[name].help
    return f"{', '.join(NAMED_TEMPLATES)}, {CHAT} (the model's own), or {words}" if name == "template" else words


def _add_setting(parser: argparse._ActionsContainer, name: str, in_file: bool = False, **more: Any) -> None:
    """An option for the setting; `more` replaces what the setting says of itself. One that may stand `in_file` is
    absent from the options unless it is given, so that the file's counts."""
    setting = SETTINGS[name]
    about: dict[str, Any] = {"dest": name, "default": setting.default, "help": _words(name)}
    if setting.kind is bool:
        can_be_unset = setting.default or name == "packing"
        about["action"] = argparse.BooleanOptionalAction if can_be_unset else "store_true"
    elif setting.kind is tuple:
        about |= {"action": "append", "default": [], "metavar": setting.metavar}
    else:
        about |= {"type": unescape if name == "template" else setting.kind, "metavar": setting.metavar}
        about["choices"] = tuple(setting.choices) or None
        about["help"] += f", defaults to {setting.default}" if setting.default not in (None, "") else ""
    about |= {"default": argparse.SUPPRESS} if in_file else {}
    parser.add_argument(setting.option, **about | more)
