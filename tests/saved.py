"""Load what a run has saved, as others do."""

from __future__ import annotations

import json
from pathlib import Path

from peft import PeftModel
from transformers import AutoModelForCausalLM


def load_saved(folder: str | Path):
    """The model of a run's folder. An adapter's local base is named there without its place, which the record has."""
    folder = Path(folder)
    if not (folder / "adapter_config.json").is_file():
        return AutoModelForCausalLM.from_pretrained(folder)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    base = record["model"]["base"] or record["config"]["model"]
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
