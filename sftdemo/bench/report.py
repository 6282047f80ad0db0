"""Report the result of a bench as Markdown, JSON and a plot."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..core.errors import ConfigError, SftdemoError, unwritten
from ..core.files import write_whole
from ..core.json_files import read_object
from ..core.palette import LINES
from ..core.text import markdown_table
from .precision import PRECISIONS, SEEDS

_FLOOR = ("positions", "kept", "gflop", "gflop_per_second", "seconds")
_FLOOR_HEAD = ["group", "positions", "kept", "GFLOP", "GFLOP/s", "floor in seconds", "step / floor", "TRL / floor"]
_SECONDS = "seconds: median (least to most)"
_BF16_ARMS = "`ours` multiplies in bf16, `ours_float32` does not, `trl_bf16` is `trl_joined` under autocast. "
PLOT = "performance.svg"


def report(result: dict) -> str:
    """Return the machine, a section for each measured part, and the ratios, as Markdown."""
    sections = [section(result, part) for part in _SECTIONS if part in result]
    return "\n\n".join(filter(None, [machine_line(result), *sections, ending(result)])) + "\n"


def machine_line(result: dict) -> str:
    """Return the line that describes the machine."""
    return "Machine: " + ", ".join(f"{name} {value}" for name, value in result["machine"].items()) + "."


def section(result: dict, part: str) -> str:
    """Return the section of one part, with its heading."""
    return _SECTIONS[part](result)


def ending(result: dict) -> str:
    """Return the ratios of all parts, if there are any, and the names of the parts that were not measured in full."""
    ratios, missing = result["ratios"], result.get("unfinished")
    table = "## Ratios\n\n" + markdown_table(["ratio", "value"], ratios.items()) if ratios else ""
    return "\n\n".join(filter(None, (table, f"Not measured, or not in full: {', '.join(missing)}." if missing else "")))


def check_file(file: Path) -> None:
    """Check, before anything is measured, that `write_report` can write to `file`.

    Raises:
        ConfigError: if its folder does not exist or cannot be written to, or if it is a folder or would be overwritten
            by the JSON or the plot.
    """
    if not file.parent.is_dir():
        raise ConfigError(f"{file.parent} is no folder; make it, or name another file for --write.")
    if file.suffix in (".json", ".svg") or file.is_dir():
        raise ConfigError(f"--write {file} names no Markdown file; the JSON and the plot are written beside it.")
    try:
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise ConfigError(f"the report cannot be written to {file}: {unwritten(error, 'file')}") from error


def read_result(file: Path) -> dict:
    """Return the result that `write_report` has written beside `file`.

    Raises:
        ConfigError: if there is none.
        ModelError: if it cannot be read.
    """
    path = file.with_suffix(".json")
    if not path.is_file():
        raise ConfigError(f"{path} is not there, so that there is nothing to go on with; leave out --resume.")
    return read_object(path)


def write_report(result: dict, file: Path, command: str) -> None:
    """Write the report to `file`, the result next to it as JSON, and the plot if growth was measured. Each file is
    replaced as a whole. `command` is named as the command that made the report.

    Raises:
        SftdemoError: if a file cannot be written.
    """
    text = f"# Performance\n\nMade by `{command}`: all figures are of one run on one machine.\n\n{report(result)}"
    contents = {file: text, file.with_suffix(".json"): json.dumps(result, indent=1) + "\n"}
    if "growth" in result:
        contents[file] = text.replace("## How the cost", f"![Seconds a step]({PLOT})\n\n## How the cost", 1)
        contents[file.with_name(PLOT)] = growth_svg(result["growth"])
    try:
        for path, content in contents.items():
            write_whole(path, content)
    except OSError as error:
        raise SftdemoError(f"the report cannot be written to {file}: {unwritten(error, 'file')}") from error


def _spread(figures: dict) -> str:
    return f"{figures['median']:.2f} ({figures['least']:.2f} to {figures['most']:.2f})"


def _seconds_table(seconds: Mapping[str, dict]) -> str:
    return markdown_table(["", _SECONDS], ([name, _spread(each)] for name, each in seconds.items()))


def _difference(found: dict) -> list[str]:
    return [f"{found['losses_relative']:.1e}", f"{found['weights_absolute']:.1e}"]


def _steps(result: dict) -> str:
    ratios, steps = result["ratios"], result["steps"]
    rows = []
    for arm in result["arms"]:
        ratio = f"{ratios['step_' + arm['group'] + '_vs_trl']:.2f}" if arm["arm"] == "ours" else ""
        seconds = _spread(arm["seconds"])
        rows.append([arm["group"], arm["arm"], seconds, ratio, arm["trained_tokens_per_second"], arm["memory_mb"]])
    head = ["group", "arm", "seconds a step: median (least to most)", "TRL's best / ours", "trained tokens/s", "MB"]
    parts = list(dict.fromkeys(part for profile in steps["profiles"].values() for part in profile))
    profiles = ([name, *(profile.get(part, "") for part in parts)] for name, profile in steps["profiles"].items())
    floors = (
        [name, *(floor[key] for key in _FLOOR), ratios[f"step_{name}_vs_floor"], ratios[f"trl_{name}_vs_floor"]]
        for name, floor in steps["floors"].items()
    )
    differences = (
        [name, arm, *_difference(found)] for name, arms in steps["differences"].items() for arm, found in arms.items()
    )
    return "\n\n".join(
        [
            "## A training step",
            "The arms take their steps by turns. `trl_padded` and `trl_joined` are TRL's own trainer, padding each "
            "batch or joining it into one row; `seed_recipe` pads every row to 128 and takes 2 a step. "
            + (_BF16_ARMS if any(arm["arm"] == "ours_float32" for arm in result["arms"]) else "")
            + "`lora` and `full` are under the default template. MB: what the process grows by in a step, weights and "
            "optimizer not counted.",
            markdown_table(head, rows),
            "Where a step of ours goes, in seconds (the median of three):",
            markdown_table(["group", *parts], profiles),
            "The floor: the step's multiply-adds at the rate of plain matrix products of the same shapes.",
            markdown_table(_FLOOR_HEAD, floors),
            _twice_as_fast({name: ratios[f"trl_{name}_vs_floor"] / 2 for name in steps["floors"]}),
            "How far losses (relative) and weights (absolute) are from `trl_padded` after these steps of AdamW:",
            markdown_table(["group", "arm", "losses", "weights"], differences),
        ]
    )


def _twice_as_fast(halves: dict[str, float]) -> str:
    """Return a sentence on whether the floor allows a step that takes half the time of TRL's. `halves` holds, for each
    group, such a step divided by the floor."""
    all_of_them = ", ".join(f"{half:.2f} for `{name}`" for name, half in halves.items())
    below = " and ".join(f"`{name}`" for name, half in halves.items() if half < 1)
    return (
        f"A step twice as fast as TRL's best would take this much of the floor: {all_of_them}. Below 1 it is out of "
        f"reach in float32 with these multiply-adds; that holds for {below or 'none of them'}. Attention, norms, "
        "clipping and the optimizer come on top of the floor."
    )


def _equalities(result: dict) -> str:
    found = result["equalities"]
    rows = ([name, *_difference(each)] for name, each in found["differences"].items())
    table = markdown_table(["", "losses, relative", "weights, absolute"], rows)
    return (
        "## Equal to TRL\n\nA small model in float64, 10 steps of gradient descent: how far losses and weights are "
        f"from TRL's.\n\n{table}\n\nPacked examples reach into each other by {found['isolation_nats']:.1e} nats. "
        f"All within limits: {'yes' if found['equal'] else 'NO'}."
    )


def _answers(result: dict) -> str:
    found = result["answers"]
    rows = ([name, found["tokens"][name], _spread(rate)] for name, rate in found["tokens_per_second"].items())
    return (
        f"## Answers\n\n{found['prompts']} prompts, up to 32 new tokens each. Reading every weight once a token at "
        f"{found['bandwidth_gb_per_second']} GB/s would take {found['floor_seconds']} s.\n\n"
        + markdown_table(["", "tokens", "tokens/s: median (least to most)"], rows)
    )


def _click(result: dict) -> str:
    found = result["click"]["seconds"]
    parts = dict.fromkeys(part for seconds in found.values() for part in seconds)
    rows = ([part, *(seconds.get(part, "") for seconds in found.values())] for part in parts)
    return (
        "## From the click to the compared answers\n\nThe default run in the warm app, in seconds: medians of each "
        "part, and of the whole. A process that stands by has loaded the model and answered the questions before the "
        "click.\n\n" + markdown_table(["part", *found], rows)
    )


def _estimate(result: dict) -> str:
    found = result["estimate"]
    rows = ([each["run"], *(each[name] or "" for name in ("promised", "taken", "ratio"))] for each in found["runs"])
    return (
        "## The estimate on the button\n\nRuns one after another, from a machine on which none was measured, in a "
        "process that stands by unless it is said: the seconds that the button promises before the click, and those "
        "until the model is saved.\n\n"
        + markdown_table(["run", "promised", "taken", "promised / taken"], rows)
        + f"\n\nWithin 20 %: {found['within']} of {len(found['runs'])}."
    )


def _film(result: dict) -> str:
    found = result["film"]
    return (
        "## The film\n\nAll steps of the default run without and with a film, by turns; then its frames are developed."
        f" The adapters take {found['mb']} MB until then.\n\n" + _seconds_table(found["seconds"])
    )


def _start(result: dict) -> str:
    found = result["start"]
    later = found["first_page_after_bare_gradio"]
    return (
        f"## Start-up\n\n{_seconds_table(found['seconds'])}\n\n"
        f"The first page comes {abs(later)} s {'before' if later < 0 else 'after'} an empty Gradio app's. The first "
        f"mask comes {found['first_mask_after_first_page']} s after the first page, which brings along what an "
        "earlier start has drawn; it is drawn anew once the tokenizer is loaded. All over plain HTTP, with the model "
        "already in the cache. The idle app holds "
        f"{found['idle_memory_mb']} MB, and {found['page_memory_mb']} MB once nothing has run for ten minutes, when "
        "the fork server ends until it is needed."
    )


def _fit(result: dict) -> str:
    rows = (
        [each["size"], f"{each['weights'] / 1e9:.2f}", each["told_gb"], each["taken_gb"], each["seconds"]]
        for each in result["fit"]["models"]
    )
    return (
        "## Larger models\n\n"
        "`train` in a process of its own, two steps of LoRA on the first sample by a model of random weights: the "
        "memory that it tells before it begins, and the most that its processes hold. Pages of files, which the system "
        "takes back where it needs them, are not counted.\n\n"
        + markdown_table(["model", "billion weights", "GB told", "GB taken", "seconds"], rows)
    )


def _disk(result: dict) -> str:
    found = result["disk"]
    rows = ([f"{file['rows']:,}", file["file_mib"], file["peak_mib"], file["seconds"]] for file in found["files"])
    return (
        "## More rows than memory\n\n"
        f"`train` in a process of its own, {found['steps']} steps of LoRA on {found['model']}, one "
        f"row of {found['row_bytes']:,} bytes a step. The peak is of the whole program, with its libraries, the model "
        f"and the step.\n\n{markdown_table(['rows', 'file in MiB', 'peak memory in MiB', 'seconds'], rows)}"
    )


def _growth(result: dict) -> str:
    rows = (
        [row["axis"], row["value"], f"{row['tokens']:,}", _spread(row["seconds"]), row["memory_mb"]]
        for row in result["growth"]
    )
    return (
        "## How the cost of a step grows\n\nLoRA; one thing at a time is varied, from 8 rows of 64 tokens that share "
        "nothing, half of them trained, rank 16, 135M weights. Packed rows: always 2,048 tokens in all.\n\n"
        + markdown_table(["what grows", "value", "tokens", _SECONDS, "MB"], rows)
    )


def _mask(result: dict) -> str:
    found = result["mask"]
    memory = ", ".join(f"{mb} MB over {rows} rows" for rows, mb in found["memory_mb"].items())
    return (
        f"## The mask\n\n{found['rows']:,} rows, {found['tokens']:,} tokens; the process grows by {memory}.\n\n"
        + _seconds_table(found["seconds"])
    )


def _precision(result: dict) -> str:
    found = result["precision"]
    if not found:
        return "## bf16 beside float32\n\nStopped before a seed was finished."
    rows = (
        [
            each["sample"],
            *(f"{each['styled'][name]} of {each['held_out']}" for name in PRECISIONS),
            *(each["loss"][name] for name in PRECISIONS),
            each["apart"],
            each["spread"],
        ]
        for each in found["samples"]
    )
    head = ["sample", *(f"in the style, {name}" for name in PRECISIONS), *(f"loss, {name}" for name in PRECISIONS)]
    return (
        f"## bf16 beside float32\n\nEach sample is trained with the seeds {', '.join(map(str, SEEDS))} in both. Counted"
        " are the held-out answers in the sample's style; the loss is the mean on the tokens of the held-out answers. "
        "bf16 passes if it has no fewer such answers in all, if the losses are less apart than the seeds spread them "
        "in float32, and if the masks are the same.\n\n"
        + markdown_table([*head, "apart", "the seeds' spread"], rows)
        + f"\n\nPassed: {'yes' if found['passed'] else 'NO'}."
    )


_SECTIONS = {
    "equalities": _equalities,
    "steps": _steps,
    "precision": _precision,
    "answers": _answers,
    "click": _click,
    "estimate": _estimate,
    "film": _film,
    "start": _start,
    "fit": _fit,
    "disk": _disk,
    "growth": _growth,
    "mask": _mask,
}


def growth_svg(growth: list[dict]) -> str:
    """Return a plot of the seconds per step over each axis of the growth, as SVG."""
    from matplotlib.figure import Figure

    axes = list(dict.fromkeys(row["axis"] for row in growth))
    figure = Figure(figsize=(3 * len(axes), 2.8), layout="constrained")
    places = figure.subplots(1, len(axes), squeeze=False)[0]
    for axis, place in zip(axes, places, strict=True):
        rows = [row for row in growth if row["axis"] == axis]
        place.plot([row["value"] for row in rows], [row["seconds"]["median"] for row in rows], "o-", color=LINES[0])
        place.set(title=axis, ylim=(0, None))
        place.grid(alpha=0.3)
    places[0].set_ylabel("seconds a step")
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
