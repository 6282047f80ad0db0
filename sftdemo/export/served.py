"""Read a run's folder as those do who load it elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import ModelError
from ..core.json_files import read_object
from ..model.loading import load_tokenizer
from ..model.sources import RUN_RECORD, ModelSource, path_of
from ..runs.record import check_record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def read_record(run: Path) -> dict:
    """Return the record of a run that has a model of its own.

    Raises:
        ModelError: if there is none in the folder, or if it is an ablation, whose arms have one each.
    """
    if not (path_of(str(run)) / RUN_RECORD).is_file():
        raise ModelError(f"{run} is not the folder of a saved run: it has no {RUN_RECORD}.")
    record = read_object(run / RUN_RECORD)
    if record.get("kind") == "ablation":
        arms = ", ".join(map(str, record.get("arms", [])))
        raise ModelError(f"{run} holds an ablation; name one of its arms: {arms}.")
    check_record(run / RUN_RECORD, record)
    if "mask" not in record or "losses" not in record:
        raise ModelError(f"the {RUN_RECORD} of {run} does not say what was trained; it may have been changed.")
    return record


def served_tokenizer(run: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a run's folder as others load it: its chat template is the trained prompt.

    Raises:
        ModelError: if it cannot be loaded.
    """
    tokenizer = load_tokenizer(source_of(run))
    template = run / "chat_template.jinja"
    tokenizer.chat_template = template.read_text(encoding="utf-8") if template.is_file() else tokenizer.chat_template
    return tokenizer


def source_of(run: Path) -> ModelSource:
    """Return the folder of a run as a model, without looking for its base."""
    return ModelSource(str(run), run, "saved run")
