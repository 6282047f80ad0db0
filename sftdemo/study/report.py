"""Report the results of a study over its seeds as tables, plots, Markdown and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from ..core.errors import SftdemoError, TrainingError, sentence, unwritten
from ..core.events import Conclusion, Event, Failed, Finished, Saved, StudyCell
from ..core.files import write_whole
from ..core.text import markdown_table
from ..core.trl_settings import ACCUMULATION, read_pairs
from ..data.samples import SAMPLES, has_style
from ..mask.view import harmless
from .cells import BASE, Cell, read_cells, read_settings
from .conclusion import conclusion, pairs
from .plots import endings_svg, losses_svg

REPORT, RECORD, LOSSES, ENDINGS = "report.md", "report.json", "losses.svg", "endings.svg"
MOST_PROMPTS = 2  # number of prompts whose answers are shown

Judge = Callable[[str, str], bool]  # (answer, stop) to whether it is in the trained style


def judge_of(data: str | Path) -> Judge | None:
    """Return the judge of style for the file `data` if it is one of the samples, else None."""
    names = [sample.name for sample in SAMPLES if sample.path.resolve() == Path(data).resolve()]
    return partial(has_style, names[0]) if names else None


def reported(work: Iterator[Event], output: Path, command: str, judge: Judge | None = None) -> Iterator[Event]:
    """Relay the events of a study and, before the last one, write the report of all cells in `output`.

    A report is also written if the study was stopped, or if it failed after measuring a cell.
    """
    measured = False
    for event in work:
        measured |= isinstance(event, StudyCell)
        if isinstance(event, Finished) or (isinstance(event, Failed) and measured):
            try:
                if any(cell.rows for cell in read_cells(output)):
                    words = write_report(output, command, judge)
                    yield from [Conclusion(words)] if words else []
                    yield Saved(str(output), "study")
            except SftdemoError as error:
                event = Failed(sentence(error))
        yield event


def frame_of(cells: Sequence[StudyCell], judge: Judge | None = None) -> pd.DataFrame:
    """Return one row per cell; the base has no weight and no seed. `styled` counts the answers the judge accepts."""
    names = ["rows", "seed", "weight", "completion_loss", "prompt_loss", "answers", "ended", "ran_on", "styled"]
    names += ["mean_tokens", "steps", "seconds"]
    records = []
    for cell in cells:
        styled = sum(judge(each["answer"], each["stop"]) for each in cell.answers) if judge else None
        own = {"rows": cell.rows, "seed": cell.seed, "steps": cell.steps, "seconds": cell.seconds, "styled": styled}
        records.append(cell.figures | own | {"weight": cell.figures["prompt_loss_weight"]})
    return pd.DataFrame(records, columns=names).astype(
        {"seed": "Int64", "weight": float, "ran_on": float, "styled": float}
    )


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Return, for each number of rows and weight, the mean and sample standard deviation of the losses over the seeds,
    and the sums of the answers; NaN where a value is unknown."""
    return (
        frame[frame["rows"] > 0]
        .groupby(["rows", "weight"], as_index=False)
        .agg(
            seeds=("seed", "count"),
            completion_loss=("completion_loss", "mean"),
            completion_loss_sd=("completion_loss", "std"),
            prompt_loss=("prompt_loss", "mean"),
            prompt_loss_sd=("prompt_loss", "std"),
            answers=("answers", "sum"),
            ended=("ended", "sum"),
            ran_on=("ran_on", lambda counts: counts.sum(min_count=1)),
            styled=("styled", lambda counts: counts.sum(min_count=1)),
            mean_tokens=("mean_tokens", "mean"),
        )
    )


def paired(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the difference between each other weight and weight 0, paired by seed and number of rows, so that both
    have the same rows and the same initial weights.

    The columns are the mean, the sample standard deviation, and in how many of the `seeds` the weight was better.
    Better means a lower loss, or more answers that end.
    """
    joined = pairs(frame)
    better = {"completion_loss": -1, "prompt_loss": -1, "ended": 1}
    columns = {"seeds": ("seed", "count")}
    for name, sign in better.items():
        joined[f"{name}_by"] = joined[name] - joined[f"{name}_masked"]
        joined[f"{name}_better"] = sign * joined[f"{name}_by"] > 0
        columns[name] = (f"{name}_by", "mean")
        columns[f"{name}_sd"] = (f"{name}_by", "std")
        columns[f"{name}_better"] = (f"{name}_better", "sum")
    return joined.groupby(["rows", "weight"], as_index=False).agg(**columns)


Rows = tuple[list[str], list[list[str]]]  # head and cells


def summary_table(frame: pd.DataFrame) -> Rows:
    """Return the head and the cells of the summary: the base, then each number of rows and weight."""
    judged, known = bool(frame["styled"].notna().any()), bool(frame["ran_on"].notna().any())
    head = ["rows", "weight", "seeds", "completion loss", "prompt loss", "ended", *["ran on"] * known, "tokens"]
    head += ["in the style"] * judged
    base = frame[frame["rows"] == 0].assign(seeds=0, weight=float("nan"))
    lines = []
    for each in pd.concat([base, summary(frame)]).to_dict("records"):
        counts = [each["ended"], *[each["ran_on"]] * known]
        ended = [f"{count:.0f} of {each['answers']}" for count in counts]
        styled = [f"{each['styled']:.0f} of {each['answers']}"] * judged
        who = [f"{each['rows']:,}", f"{each['weight']:g}", str(each["seeds"])] if each["seeds"] else ["", "base", ""]
        losses = [_spread(each, name) for name in ("completion_loss", "prompt_loss")]
        lines.append([*who, *losses, *ended, f"{each['mean_tokens']:.1f}", *styled])
    return head, lines


def paired_table(frame: pd.DataFrame) -> Rows:
    """Return the head and the cells of a table of `paired`."""
    names = {"completion_loss": "lower", "prompt_loss": "lower", "ended": "more"}
    head = ["rows", "weight", "seeds"]
    for name, word in names.items():
        head += [f"{name.replace('_', ' ')}, difference", f"{word} with"]
    lines = []
    for each in paired(frame).to_dict("records"):
        line = [f"{each['rows']:,}", f"{each['weight']:g}", str(each["seeds"])]
        for name in names:
            line += [_spread(each, name, "+"), f"{each[f'{name}_better']} of {each['seeds']}"]
        lines.append(line)
    return head, lines


def _spread(figures: dict, name: str, sign: str = "") -> str:
    deviation = figures.get(f"{name}_sd")  # missing for the base, and NaN for one seed
    return f"{figures[name]:{sign}.3f}" + ("" if pd.isna(deviation) else f" ± {deviation:.3f}")


def write_report(folder: Path, command: str, judge: Judge | None = None) -> str:
    """Write `REPORT`, `RECORD` and the plots of the study in `folder`, each file whole. Return the conclusion.

    Args:
        command (`str`):
            The command that the report names as its origin.
        judge (`Judge`, *optional*):
            Whether an answer is in the trained style. Without a judge, the report has no such column.

    Raises:
        TrainingError: if the cells cannot be read or the report cannot be written.
    """
    from ..core.machine import machine

    cells, settings, found = read_cells(folder), read_settings(folder), machine()
    frame = frame_of(cells, judge)
    contents = {
        LOSSES: losses_svg(frame),
        ENDINGS: endings_svg(frame),
        REPORT: markdown(cells, frame, settings, found, command),
        RECORD: json.dumps(_record(cells, frame, settings, found, command), indent=1, allow_nan=False) + "\n",
    }
    try:
        for name, content in contents.items():
            write_whole(folder / name, content)
    except OSError as error:
        raise TrainingError(f"the report cannot be written to {folder}: {unwritten(error, 'folder')}") from error
    return conclusion_of(cells, frame)


def _record(cells: Sequence[StudyCell], frame: pd.DataFrame, settings: dict, found: dict, command: str) -> dict:
    tables = {"summary": summary(frame), "paired": paired(frame), "measured": frame}
    plain = {name: table.astype(object).where(table.notna(), None) for name, table in tables.items()}
    about = {"command": command, "machine": found, "study": settings, "conclusion": conclusion_of(cells, frame)}
    return about | {name: table.to_dict("records") for name, table in plain.items()}


def conclusion_of(cells: Sequence[StudyCell], frame: pd.DataFrame) -> str:
    """Return what the cells have shown, in a sentence or two; empty if nothing can be compared."""
    return conclusion(frame, cells[0].figures["completion_tokens"])


def markdown(cells: Sequence[StudyCell], frame: pd.DataFrame, settings: dict, found: dict, command: str) -> str:
    """Return the whole report as Markdown."""
    sections = [
        "# What prompt tokens weigh in the loss",
        "Made by",
        _fenced(command, "bash"),
        *filter(None, [conclusion_of(cells, frame)]),
        *_measured(cells, frame, settings),
        *_differences(frame),
        "## Losses and endings",
        "Losses are mean -log p in nats per token of the held-out rows' completions and of their prompts, whichever of "
        "them count in training; ± is the sample standard deviation over seeds. *ended*: answers that stopped with "
        "EOS. *ran on*: answers that went on with a question of their own, in the template's words. *tokens*: mean "
        "length of an answer. Answers are summed over the seeds.",
        markdown_table(*summary_table(frame)),
        f"![Loss on held-out completions and prompts against the prompt-loss weight]({LOSSES})",
        f"![Share of the answers by how they ended, against the prompt-loss weight]({ENDINGS})",
        "In the plots a line joins the means, a dot is a seed, and a bar reaches from the least seed to the most.",
        *_answers(cells),
        "## Settings and machine",
        _fenced(json.dumps(settings, indent=1, ensure_ascii=False), "json"),
        _fenced(json.dumps(found, indent=1, ensure_ascii=False), "json"),
    ]
    return "\n\n".join(sections) + "\n"


def _measured(cells: Sequence[StudyCell], frame: pd.DataFrame, settings: dict) -> list[str]:
    trained, config, figures = frame[frame["rows"] > 0], settings["config"], cells[0].figures
    weights, seeds, sizes, steps = (sorted(trained[name].unique()) for name in ("weight", "seed", "rows", "steps"))
    whole = len(weights) * len(seeds) * len(sizes)
    decides = ["which rows are drawn"] if min(sizes) < settings["rows"]["to train on"] else []
    decides += ["the order of the rows"] + ["how the adapter begins"] * (not config["full"])
    batches = read_pairs(config.get("set", [])).get(ACCUMULATION, 1)  # an earlier version's study has no `set`
    about = (
        f"Weights {', '.join(f'{weight:g}' for weight in weights)}; seeds {', '.join(map(str, seeds))}; rows "
        f"{', '.join(f'{rows:,}' for rows in sizes)}: {len(trained)} of {whole} cells. Each is a training of its own "
        f"from the same model, in {' to '.join(map(str, sorted({steps[0], steps[-1]})))} steps of up to "
        f"{config['batch_size'] * batches} {'packed rows' if config['packing'] else 'rows'}. A seed decides "
        f"{' and '.join(decides)}; all weights of one seed have the same."
    )
    limits = (
        f"Every cell is measured on the same held-out rows ({figures['completion_tokens']:,} tokens of completion, "
        f"{figures['prompt_tokens']:,} of prompt) and answers the same {figures['answers']} prompts. The spread is "
        "over seeds: it says nothing of other held-out rows, other data or another model."
    )
    lacking = "The other cells are not measured: a study of them in the same folder adds them."
    return ["## What was measured", about, limits, *[lacking] * (len(trained) < whole)]


def _differences(frame: pd.DataFrame) -> list[str]:
    head, lines = paired_table(frame)
    title = "## The difference to masked prompts"
    if not lines:
        return [title, "No weight can be compared with weight 0 on the same seed and rows."]
    most = int(paired(frame)["seeds"].max())
    chance = (
        f"If a weight made no difference, all of {most} seeds would still agree on a direction in {2 / 2**most:.1%} of "
        "such comparisons, and there are several comparisons here."
        if most > 1
        else "One seed shows no more than that seed: no spread is known."
    )
    return [
        title,
        "Read these first. Each is the cell's figure minus that of weight 0 with the same seed and the same rows, mean "
        "± sample standard deviation over the seeds that have both. A minus is a lower loss than with masked "
        f"prompts; *ended* counts answers. {chance}",
        markdown_table(head, lines),
    ]


def _answers(cells: Sequence[StudyCell]) -> list[str]:
    """Return the answers of the base and of each weight, for the largest number of rows and the lowest seed."""
    trained = [cell for cell in cells if cell.rows]
    rows = max(cell.rows for cell in trained)
    seed = min(cell.seed for cell in trained if cell.rows == rows and cell.seed is not None)
    shown = [cell for cell in cells if Cell.of(cell) == BASE]
    shown += sorted(
        (cell for cell in trained if (cell.rows, cell.seed) == (rows, seed)),
        key=lambda cell: cell.figures["prompt_loss_weight"],
    )
    about = f"Greedy answers with seed {seed} and {rows:,} rows. Losses alone can mislead: read what they come to."
    sections = ["## Answers", about]
    for index, asked in enumerate(shown[0].answers[:MOST_PROMPTS]):
        sections += [f"### Prompt {index + 1}, {asked['source']}", _fenced(asked["prompt"])]
        for cell in shown:
            name = f"weight {cell.figures['prompt_loss_weight']:g}" if cell.rows else "base"
            answer = cell.answers[index]
            sections += [f"{name} (ended by: {answer['stop']})", _fenced(answer["answer"])]
    return sections


def _fenced(text: str, language: str = "text") -> str:
    """Return a code block that its text cannot close: the fence is longer than any run of backticks in the text."""
    text = harmless(text)
    fence = "`" * max([3, *(len(ticks) + 1 for ticks in re.findall("`+", text))])
    return f"{fence}{language}\n{text}\n{fence}"
