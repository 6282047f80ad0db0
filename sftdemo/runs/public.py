"""Say a run without the places of this machine, for what is handed to others."""

from __future__ import annotations

import shlex
from itertools import takewhile
from typing import Any

from ..core.config import RunConfig
from ..core.settings_file import parse_settings, write_settings


def public_record(record: dict[str, Any]) -> dict[str, Any]:
    """Return a run's record (`folder.record_of`) with the names by which others find its models, in place of the
    folders where they lie on this machine."""
    model, begun = record["model"], record.get("from")
    if model["hub_id"] and not begun:
        return record
    known = begun or model["public_name"]
    base = model.get("base") and (model["hub_id"] or model["public_name"])
    path, name = (f"--model {shlex.quote(text)}" for text in (record["config"]["model"], known))
    return record | {
        "model": model | {"name": known, "base": base},
        "config": record["config"] | {"model": known},
        "command": record["command"].replace(path, name),
    }


def public_settings(text: str, record: dict[str, Any]) -> str:
    """Return the settings that a run has left, with the public name of its model.

    Args:
        text (`str`):
            The settings, as YAML.
        record (`dict`):
            The run's record as it lies on this machine.

    Raises:
        ConfigError: if they are no settings.
    """
    config = RunConfig(**parse_settings(text, "config.yaml"))
    if config.model != record["config"]["model"]:  # it has been given a public name already
        return text
    comments = takewhile(lambda line: line.startswith("#"), text.splitlines())
    told = tuple(line.removeprefix("#").strip() for line in comments)
    return write_settings(config, told, public_record(record)["config"]["model"])
