"""`train --resume`: go on with a run, of which its folder is enough."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace

from ..core.config import SETTINGS
from ..core.errors import ConfigError
from ..core.events import Event
from ..data.columns import read_columns
from ..data.examples import open_examples


def resumed(options: argparse.Namespace, stop: Callable[[], bool]) -> Iterator[Event]:
    """Go on with the run in the folder `options.resume`. Settings and examples that are given must be its own.

    Raises:
        SftdemoError: if an option has no use here, or if the folder has no run to go on with.
    """
    from ..runs.checkpoint import read_begun
    from ..runs.run import run

    for name in ("output", "overwrite", "config", *(() if options.data else ("limit", "columns"))):
        if name in options.given:
            raise ConfigError(
                f"--{name} is of no use with --resume, which goes on in the run's own folder with its own rows; leave "
                "it out."
            )
    begun = read_begun(options.resume)
    given = {name: getattr(options, name) for name in options.given if name in SETTINGS}
    given |= {"prompts": tuple(given["prompts"])} if "prompts" in given else {}
    config, data = replace(begun.config, **given), begun.data
    if options.data is not None:
        data = open_examples(options.data, read_columns(options.columns), options.limit)
    return run(config, data, begun.folder, stop, resume=begun)
