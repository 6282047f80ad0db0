"""The bench's result as Markdown, and its plot."""

from __future__ import annotations

import io
import json
from pathlib import Path

from ..core.errors import ConfigError, SftdemoError
from ..core.files import write_whole
from ..core.text import markdown_table

_FLOOR = ("positions", "kept", "gflop", "gflop_per_second", "seconds")
_FLOOR_HEAD = ["group", "positions", "kept", "GFLOP", "GFLOP/s", "floor in seconds", "step / floor", "TRL / floor"]
PLOT = "performance.svg"


def report(result: dict) -> str:
    """All that was measured as tables."""
    sections = [section(result, part) for part in _SECTIONS if part in result]
    return "\n\n".join([machine_line(result), *sections, ending(result)]) + "\n"


def machine_line(result: dict) -> str:
    """What the report begins with."""
    return "Machine: " + ", ".join(f"{name} {value}" for name, value in result["machine"].items()) + "."


def section(result: dict, part: str) -> str:
    """What one part has found."""
    return _SECTIONS[part](result)


def ending(result: dict) -> str:
    """The ratios of all parts, and which parts are missing."""
    ratios = "## Ratios\n\n" + markdown_table(["ratio", "value"], result["ratios"].items())
    missing = result.get("unfinished")
    return ratios + (f"\n\nNot measured, or not in full: {', '.join(missing)}." if missing else "")


def check_file(file: Path) -> None:
    """Refuses what `write_report` could not write to.

    Raises:
        ConfigError: before anything is measured.
    """
    if not file.parent.is_dir():
        raise ConfigError(f"{file.parent} is no folder; make it, or name another file for --write.")
    if file.suffix in (".json", ".svg") or file.is_dir():
        raise ConfigError(f"--write {file} names no Markdown file; the JSON and the plot are written beside it.")


def write_report(result: dict, file: Path, command: str) -> None:
    """Writes the report to `file`, the result as JSON beside it, and where growth was measured its plot; each whole.

    Raises:
        SftdemoError: where they cannot be written.
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
        raise SftdemoError(f"the report cannot be written to {file}: {error.strerror or error}.") from error


def _between(figures: dict) -> str:
    return f"{figures['median']:.2f} ({figures['least']:.2f} to {figures['most']:.2f})"


def _steps(result: dict) -> str:
    ratios, steps = result["ratios"], result["steps"]
    rows = []
    for arm in result["arms"]:
        ratio = f"{ratios['step_' + arm['group'] + '_vs_trl']:.2f}" if arm["arm"] == "ours" else ""
        seconds = _between(arm["seconds"])
        rows.append([arm["group"], arm["arm"], seconds, ratio, arm["trained_tokens_per_second"], arm["memory_mb"]])
    head = ["group", "arm", "seconds a step: median (least to most)", "TRL's best / ours", "trained tokens/s", "MB"]
    parts = list(dict.fromkeys(part for profile in steps["profiles"].values() for part in profile))
    profiles = ([name, *(profile.get(part, "") for part in parts)] for name, profile in steps["profiles"].items())
    floors = (
        [name, *(floor[key] for key in _FLOOR), ratios[f"step_{name}_vs_floor"], ratios[f"trl_{name}_vs_floor"]]
        for name, floor in steps["floors"].items()
    )
    apart = (
        [name, arm, f"{each['losses_relative']:.1e}", f"{each['weights_absolute']:.1e}"]
        for name, arms in steps["differences"].items()
        for arm, each in arms.items()
    )
    return "\n\n".join(
        [
            "## A training step",
            "The arms take their steps by turns. `trl_padded` and `trl_joined` are TRL's own trainer, padding each "
            "batch or joining it into one row; `seed_recipe` pads every row to 128 and takes 2 a step. `lora` and "
            "`full` are under the default template. MB: what the process grows by in a step, weights and optimizer "
            "not counted.",
            markdown_table(head, rows),
            "Where a step of ours goes, in seconds (the median of three):",
            markdown_table(["group", *parts], profiles),
            "The floor: the step's multiply-adds at the rate of plain matrix products of the same shapes.",
            markdown_table(_FLOOR_HEAD, floors),
            _twice_as_fast({name: ratios[f"trl_{name}_vs_floor"] / 2 for name in steps["floors"]}),
            "How far losses (relative) and weights (absolute) are from `trl_padded` after these steps of AdamW:",
            markdown_table(["group", "arm", "losses", "weights"], apart),
        ]
    )


def _twice_as_fast(halves: dict[str, float]) -> str:
    """What the floors leave of a step that takes half of TRL's; `halves` is such a step over each group's floor."""
    all_of_them = ", ".join(f"{half:.2f} for `{name}`" for name, half in halves.items())
    below = " and ".join(f"`{name}`" for name, half in halves.items() if half < 1)
    return (
        f"A step twice as fast as TRL's best would take this much of the floor: {all_of_them}. Below 1 it is out of "
        f"reach in float32 with these multiply-adds; that holds for {below or 'none of them'}. Attention, norms, "
        "clipping and the optimizer come on top of the floor."
    )


def _equalities(result: dict) -> str:
    found = result["equalities"]
    rows = (
        [name, f"{each['losses_relative']:.1e}", f"{each['weights_absolute']:.1e}"]
        for name, each in found["differences"].items()
    )
    table = markdown_table(["", "losses, relative", "weights, absolute"], rows)
    return (
        "## Equal to TRL\n\nA small model in float64, 10 steps of gradient descent: how far losses and weights are "
        f"from TRL's.\n\n{table}\n\nPacked examples reach into each other by {found['isolation_nats']:.1e} nats. "
        f"All within limits: {'yes' if found['equal'] else 'NO'}."
    )


def _answers(result: dict) -> str:
    found = result["answers"]
    rows = ([name, found["tokens"][name], _between(rate)] for name, rate in found["tokens_per_second"].items())
    return (
        f"## Answers\n\n{found['prompts']} prompts, up to 32 new tokens each. Reading every weight once a token at "
        f"{found['bandwidth_gb_per_second']} GB/s would take {found['floor_seconds']} s.\n\n"
        + markdown_table(["", "tokens", "tokens/s: median (least to most)"], rows)
    )


def _click(result: dict) -> str:
    found = result["click"]
    rows = (found["median"].items(), found["quickest"].items())
    rows = ([name, value, quickest] for (name, value), (_, quickest) in zip(*rows, strict=True))
    return (
        "## From the click to the compared answers\n\nThe default run in the warm app, seconds.\n\n"
        + markdown_table(["part", "median run", "quickest run"], rows)
    )


def _start(result: dict) -> str:
    found = result["start"]
    rows = ([name, _between(seconds)] for name, seconds in found["seconds"].items())
    return (
        "## Start-up\n\n"
        + markdown_table(["", "seconds: median (least to most)"], rows)
        + f"\n\nThe first page comes {found['first_page_after_bare_gradio']} s after an empty Gradio app's. The first "
        f"mask comes {found['first_mask_after_first_page']} s after the first page: over plain HTTP, which asks for it "
        "at once, with the model already in the cache. The idle app holds "
        f"{found['idle_memory_mb']} MB, with its fork server."
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
        [row["axis"], row["value"], f"{row['tokens']:,}", _between(row["seconds"]), row["memory_mb"]]
        for row in result["growth"]
    )
    return (
        "## How the cost of a step grows\n\nLoRA; one thing at a time is varied, from 8 rows of 64 tokens that share "
        "nothing, half of them trained, rank 16, 135M weights. Packed rows: always 2,048 tokens in all.\n\n"
        + markdown_table(["what grows", "value", "tokens", "seconds: median (least to most)", "MB"], rows)
    )


def _mask(result: dict) -> str:
    found = result["mask"]
    rows = ([name, _between(seconds)] for name, seconds in found["seconds"].items())
    memory = ", ".join(f"{mb} MB over {rows} rows" for rows, mb in found["memory_mb"].items())
    return (
        f"## The mask\n\n{found['rows']:,} rows, {found['tokens']:,} tokens; the process grows by {memory}.\n\n"
        + markdown_table(["", "seconds: median (least to most)"], rows)
    )


_SECTIONS = {
    "equalities": _equalities,
    "steps": _steps,
    "answers": _answers,
    "click": _click,
    "start": _start,
    "disk": _disk,
    "growth": _growth,
    "mask": _mask,
}


def growth_svg(growth: list[dict]) -> str:
    """Seconds a step over each thing that grows, as SVG."""
    from matplotlib.figure import Figure

    axes = list(dict.fromkeys(row["axis"] for row in growth))
    figure = Figure(figsize=(3 * len(axes), 2.8), layout="constrained")
    places = figure.subplots(1, len(axes), squeeze=False)[0]
    for axis, place in zip(axes, places, strict=True):
        rows = [row for row in growth if row["axis"] == axis]
        place.plot([row["value"] for row in rows], [row["seconds"]["median"] for row in rows], "o-", color="#0072b2")
        place.set(title=axis, ylim=(0, None))
        place.grid(alpha=0.3)
    places[0].set_ylabel("seconds a step")
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
