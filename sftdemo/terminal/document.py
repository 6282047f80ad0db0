"""`mask --html`: the tokens and the audit as a page of its own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.config import RunConfig
from ..core.errors import ConfigError, DataError, unwritten
from ..core.files import write_whole
from ..data.examples import ParsedExamples, Problem
from .refusals import refuse, save

if TYPE_CHECKING:
    from ..mask.labels import Masker


def write_page(data: ParsedExamples, masker: Masker, config: RunConfig, options: argparse.Namespace) -> None:
    """Write the rows and the audit of `data` to the file `options.html`.

    Raises:
        DataError: if there is no row to show.
        ConfigError: if the file cannot be written.
    """
    from ..mask.audit import Audit
    from ..mask.document import audit_section, document, mask_section
    from ..mask.view import mask_sentence, totals

    audit = Audit(config.batch_size, masker.max_length, data.held_out)
    refused = [row for _, row in audit.review(data.train, masker) if isinstance(row, Problem)]
    refuse(refused, options.all_problems)
    save(options, (*data.problems, *refused))
    if not audit.examples:
        raise DataError("there is no row to show.")
    weight = config.prompt_loss_weight
    words = totals(audit, len(data.held_out), weight)
    sections = [
        audit_section(audit.findings(), (*data.problems, *refused)),
        mask_section(data.train, masker, f"{words} \u00b7 {mask_sentence(str(audit.mask_hash))}", weight),
    ]
    try:
        write_whole(Path(options.html), document(f"The mask of {data.name or Path(str(options.data)).name}", sections))
    except OSError as error:
        raise ConfigError(f"{options.html} cannot be written: {unwritten(error, 'file')}") from error
    told = {"saved": options.html, "mask_hash": str(audit.mask_hash)}
    print(json.dumps(told, ensure_ascii=False) if options.json else f"Saved to {options.html}: {words}")
