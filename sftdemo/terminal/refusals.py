"""Tell which rows are not used, and write them to a file."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ..data.problems import Problem, group_problems, save_problems
from .remarks import remark


def refuse(problems: Iterable[Problem], every: bool) -> None:
    """Print the refused rows, those of one reason together unless `every` one is wanted."""
    problems = list(problems)
    for verb, dropped in (("refused", False), ("left out", True)):
        chosen = [problem for problem in problems if problem.dropped is dropped]
        for problem in chosen if every else group_problems(chosen):
            remark(f"sftdemo: {verb} {problem}")


def save(options: argparse.Namespace, problems: Iterable[Problem]) -> None:
    """Write all problems to the file that was asked for, if any."""
    if options.save_problems is not None:
        save_problems(options.save_problems, problems)
