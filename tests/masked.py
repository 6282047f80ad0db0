"""What the program makes of one row, for tests to look at."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from law import IGNORED

from sftdemo.data.examples import parse_examples
from sftdemo.data.templates import get_template
from sftdemo.mask.labels import Masker
from sftdemo.mask.layouts import Sharing

LONG = 100_000


class Made(NamedTuple):
    """The sequences of a row, or why there are none."""

    tokenizer: object
    sequences: tuple
    problem: str

    @property
    def trained(self) -> list[list[str]]:
        """The text of each run of trained tokens, sequence by sequence."""
        return [[self.tokenizer.decode(run) for run in runs(each.labels)] for each in self.sequences]

    @property
    def texts(self) -> list[str]:
        return [self.tokenizer.decode(each.input_ids) for each in self.sequences]

    @property
    def flags(self) -> set[str]:
        return {flag for each in self.sequences for flag in each.flags}


def runs(labels) -> list[list[int]]:
    """The runs of trained tokens."""
    found, before = [], IGNORED
    for label in labels:
        if label != IGNORED and before == IGNORED:
            found.append([])
        if label != IGNORED:
            found[-1].append(label)
        before = label
    return found


def made_of(tokenizer, row: dict, stops: frozenset[int] = frozenset(), turns: str = "all", arguments: str = "") -> Made:
    parsed = parse_examples(json.dumps(row))
    if parsed.problems:
        return Made(tokenizer, (), str(parsed.problems[0]))
    given = {"arguments": arguments} if arguments else {}
    masker = Masker(tokenizer, get_template("instruction", turns=turns, **given), LONG, stop_ids=stops)
    (item,) = masker.mask(parsed.train)
    return Made(tokenizer, item, "") if isinstance(item, tuple) else Made(tokenizer, (), str(item))


def fresh_tokens(rows: Iterable[Sequence[int]], batch_size: int) -> list[int]:
    """How many tokens of each row no earlier row of its batch has computed."""
    sharing = Sharing(batch_size)
    return [sharing.add(row) for row in rows]
