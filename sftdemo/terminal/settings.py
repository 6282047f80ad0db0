"""Put the settings of a command together: its options, a file of settings, the defaults."""

from __future__ import annotations

import argparse

from ..core import distributed
from ..core.config import SETTINGS, RunConfig
from ..core.settings_file import merge_settings, read_settings
from .remarks import remark


def run_config(options: argparse.Namespace) -> RunConfig:
    """Return the settings of a command: its options, then those in its file, then the defaults. A setting in the file
    that the command has no use for is named."""
    given = {name: value for name, value in vars(options).items() if name in SETTINGS}
    given |= {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    if options.config is None:
        return RunConfig(**given)
    found = read_settings(options.config)
    unused = [name for name in getattr(options, "unused", ()) if name in found]
    if unused and distributed.is_first():
        names = ", ".join(unused)
        remark(f"sftdemo: settings in {options.config} that this command does not use: {names}.")
    return RunConfig(**merge_settings(given, {name: value for name, value in found.items() if name not in unused}))
