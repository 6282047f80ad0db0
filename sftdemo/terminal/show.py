"""Show the labels of another trainer in a notebook or a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from ..core.errors import DataError
from ..mask.report import MaskReport, report_on
from .mask import render_ansi

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer


def show(
    source: Mapping[str, Any] | Iterable[Mapping[str, Any]] | Trainer,
    tokenizer: PreTrainedTokenizerBase | None = None,
    rows: int = 8,
) -> None:
    """Draw which tokens are trained: coloured text in a terminal, HTML in a notebook. Print the audit's findings below.

    Args:
        source:
            A collated batch (a mapping with `input_ids` and `labels`), a `datasets.Dataset` or other rows of them, or a
            `Trainer`, of which the first collated batch is drawn, taken apart into its examples.
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            Needed unless `source` is a trainer with a `processing_class`.
        rows (`int`, *optional*, defaults to 8):
            How many rows of a data set to draw.

    Raises:
        DataError: if there is no tokenizer, or no row.
        TrainingError: if a batch has no labels.
    """
    report = mask_report(source, tokenizer, rows)
    notebook = _notebook()
    if notebook:
        notebook.display.display(report)
    else:
        print(_as_text(report))


def mask_report(
    source: Mapping[str, Any] | Iterable[Mapping[str, Any]] | Trainer,
    tokenizer: PreTrainedTokenizerBase | None = None,
    rows: int = 8,
) -> MaskReport:
    """Return what `show` draws: the rows, the findings, and both as HTML. The arguments are those of `show`."""
    from transformers import Trainer

    from ..train.mask_callback import first_batch, records_of_batch, records_of_rows

    if isinstance(source, Trainer):
        tokenizer = tokenizer or source.processing_class  # pyright: ignore[reportAssignmentType] - a tokenizer, for text
        records = records_of_batch(first_batch(source.get_train_dataloader()))
    elif isinstance(source, Mapping):
        records = records_of_batch(cast("Mapping[str, Any]", source))
    else:
        records = list(records_of_rows(cast("Iterable[Mapping[str, Any]]", source), rows))
    if tokenizer is None:
        raise DataError("there is no tokenizer; pass the one that made the ids: show(rows, tokenizer).")
    return report_on(records, tokenizer)


def _as_text(report: MaskReport) -> str:
    rows = "".join(render_ansi(row, report.tokenizer) for row in report.rows)
    remarks = [f"error: {problem}" for problem in report.problems]
    remarks += [f"{finding.severity}: {finding}" for finding in report.findings]
    return "\n".join([rows, *remarks, report.totals])


def _notebook() -> Any:
    """Return IPython if this runs in a Jupyter kernel, which alone displays HTML, else None."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return ipython if type(shell).__name__ == "ZMQInteractiveShell" else None
