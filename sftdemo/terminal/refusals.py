"""Tell which rows are not used, and write them to a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from ..data.problems import Problem, group_problems, save_problems


def refuse(problems: Iterable[Problem], every: bool) -> None:
    """Print the refused rows, those of one reason together unless `every` one is wanted."""
    problems = list(problems)
    for verb, dropped in (("refused", False), ("left out", True)):
        chosen = [problem for problem in problems if problem.dropped is dropped]
        for problem in chosen if every else group_problems(chosen):
            print(f"sftdemo: {verb} {problem}", file=sys.stderr)


def save(options: argparse.Namespace, problems: Iterable[Problem]) -> None:
    """Write all problems to the file that was asked for, if any."""
    if options.save_problems is not None:
        save_problems(options.save_problems, problems)
