"""Gather what repeats a run without this program: its rows with their labels, its settings, its prompt and its ends."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..core.config import REPORTS, RunConfig
from ..core.errors import TrainingError
from ..core.events import Phase, Step
from ..core.json_files import read_object
from ..data.examples import open_examples
from ..data.row_file import RowFile
from ..mask.labels import IGNORE_INDEX, MaskedExample, loss_weights
from ..model.loading import open_model
from ..runs.folder import EXAMPLES, load_events
from ..runs.revisit import read_run
from ..runs.setup import rows_to_train
from .served import read_record, served_tokenizer

ROWS = "rows.parquet"
_COUNTS = ("examples", "tokens", "trained_tokens")
_PACKAGES = ("accelerate", "datasets", "peft", "torch", "transformers", "trl")


@dataclass(frozen=True)
class Recipe:
    """A run, as TRL can train it again.

    Args:
        config (`RunConfig`), record (`dict`):
            Its settings and its record.
        base (`str`):
            The model underneath: its Hub id or, of a local one, its last part.
        rows (`RowFile`):
            Its rows, in the order of the run, with the labels of `counted_labels`.
        planned (`int`):
            The number of steps that its settings give, though it may have been stopped before.
        same_mask (`bool`):
            Whether the hash of the mask is the run's. Else only the numbers of rows and tokens are: the hash counts
            the rows of the file that was read, and the run's folder has only those that were used.
        chat_template (`str`), pad_token (`str`), generation_config (`dict`):
            What the run has saved with its model: the prompt that was trained, and where an answer ends.
    """

    config: RunConfig
    record: dict[str, Any]
    base: str
    rows: RowFile
    planned: int
    same_mask: bool
    chat_template: str
    pad_token: str
    generation_config: dict[str, Any]


def read_recipe(run: Path, scratch: Path) -> Generator[Phase, None, Recipe]:
    """Mask the rows of a saved run once more, and return them with all that trains them. `scratch` is a folder for rows
    that stay on the disk.

    Raises:
        SftdemoError: if the run or its base cannot be read, if it went on from another adapter, or if the rows are
            masked otherwise than in the run.
    """
    record, saved = read_record(run), read_run(run)
    if record["model"].get("base") is not None:  # a run of an earlier version names none
        raise TrainingError(
            f"{run} went on from the adapter of another run, and these formats begin a new one. Train on that run "
            "exported as merged, then export the result."
        )
    opened = yield from open_model(saved.config, weights=False)
    yield Phase("export", "Masking the rows")
    found = rows_to_train(opened, open_examples(run / EXAMPLES), str(scratch))
    rows = RowFile(scratch / "counted.arrow")
    for input_ids, labels in _pairs(found.examples):
        trained = sum(label != IGNORE_INDEX for label in labels)
        rows.add(input_ids, counted_labels(input_ids, labels, opened.config.prompt_loss_weight), trained)
    _check_counts(run, rows, record["mask"])
    tokenizer = served_tokenizer(run)
    return Recipe(
        config=opened.config,
        record=record,
        base=record["model"]["hub_id"] or record["model"]["public_name"],
        rows=rows,
        planned=next((event.total for event in load_events(run) if isinstance(event, Step)), record["steps"]),
        same_mask=found.mask_hash == record["mask"]["sha256"],
        chat_template=str(tokenizer.chat_template),
        pad_token=str(tokenizer.pad_token),
        generation_config=read_object(run / "generation_config.json"),
    )


def _pairs(examples: list[MaskedExample] | RowFile) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    if isinstance(examples, RowFile):
        yield from ((tuple(row["input_ids"]), tuple(row["labels"])) for row in examples.dataset())  # pyright: ignore
    else:
        yield from ((each.input_ids, each.labels) for each in examples)


def counted_labels(input_ids: tuple[int, ...], labels: tuple[int, ...], prompt_loss_weight: float) -> tuple[int, ...]:
    """Return the labels with which TRL's loss counts what the run's does: with a prompt-loss weight of 1 the prompt has
    labels, too, and the first token, which nothing predicts, has none. Between 0 and 1 labels alone cannot say it."""
    weights = loss_weights(labels, float(prompt_loss_weight == 1))
    return tuple(index if weight else IGNORE_INDEX for index, weight in zip(input_ids, weights, strict=True))


def _check_counts(run: Path, rows: RowFile, mask: dict[str, Any]) -> None:
    for name, count in zip(_COUNTS, (len(rows), rows.tokens, rows.trained), strict=True):
        if count != mask[name]:
            raise TrainingError(
                f"{run} was trained on {mask[name]:,} {name.replace('_', ' ')}, but its rows now come to {count:,}: "
                "the tokenizer of its base, or this program, has changed since. Train it once more, then export it."
            )


def packages(config: RunConfig) -> list[str]:
    """Return what trains the run, at the versions installed here, and what it is reported to."""
    report = REPORTS[config.report_to]
    pinned = [f"{name}=={version(name).partition('+')[0]}" for name in _PACKAGES]  # without the build for this machine
    return pinned + ([report] if report else [])


def about(recipe: Recipe) -> str:
    """Return what a reader has to know of the run: its rows, its losses, its base, and what may differ."""
    record, model, losses = recipe.record, recipe.record["model"], recipe.record["losses"]
    lines = [
        f"`{ROWS}` has the {len(recipe.rows):,} sequences that were trained, as `input_ids` and `labels`: "
        f"{recipe.rows.tokens:,} tokens, {recipe.rows.trained:,} of them trained."
    ]
    if recipe.same_mask:
        lines.append(f"Their mask is the run's: sha256 `{record['mask']['sha256']}`.")
    else:
        lines.append(
            "Their numbers are the run's. The sha256 of its mask counts the rows of the file that was read, refused "
            "and held-out ones as well, so it is not compared."
        )
    if losses:
        lines.append(f"The run's loss was {losses[0]:.4f} at its first step and {losses[-1]:.4f} at its last.")
    if record["steps"] < recipe.planned:
        lines.append(f"It was stopped after {record['steps']:,} of {recipe.planned:,} steps; this trains them all.")
    if not model["hub_id"]:
        name = "".join(each for each in recipe.base if each.isprintable() and each != "`")
        lines.append(f"Its base, `{name}` ({model['copy']}), is on no Hub.")
        if recipe.base.endswith(".gguf"):
            lines.append(
                "Its weights are trained from a folder: give `--model` what "
                f'`AutoModelForCausalLM.from_pretrained(FOLDER, gguf_file="{name}")` has saved there.'
            )
    elif "dequantised" in model["copy"]:
        lines.append(f"It was trained on another copy of its base: {model['copy']}. On the Hub's the losses differ.")
    return "\n".join(lines)
