"""Print what is wrong with a data set in a form that editors, pre-commit and CI read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .. import __version__
from ..data.columns import read_columns
from ..data.examples import Problem, read_examples
from ..mask.checks import CHECKS, Finding, errors
from .commands import follow, note
from .refusals import save
from .settings import run_config

FORMATS = ("text", "json", "github", "sarif")
REFUSED, DROPPED = "refused", "dropped"  # the rules of rows that are not looked at
_UNUSED = {REFUSED: "the row cannot be read", DROPPED: "the row has more tokens than max length"}
_LEVELS = {"error": "error", "warning": "warning", "note": "notice"}  # GitHub's words
_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True)
class Remark:
    """One thing that is wrong, at one place.

    Args:
        severity (`str`):
            `"error"`, `"warning"` or `"note"`.
        rule (`str`):
            A key of `checks.CHECKS`, `REFUSED` or `DROPPED`.
        message (`str`):
            What is wrong, why it matters and what to do.
        row, line (`int`, *optional*):
            The row, from 0, and its line, from 1; None where it concerns the data as a whole, or the line is not known.
    """

    severity: str
    rule: str
    message: str
    row: int | None = None
    line: int | None = None


def remarks_on(problems: Iterable[Problem], findings: Iterable[Finding], lines: dict[int, int | None]) -> list[Remark]:
    """Return a remark for each refused row and for each row that a finding names; one for a finding without rows.

    Args:
        lines (`dict[int, int | None]`):
            The line of each row.
    """
    remarks = [
        Remark("note", DROPPED, each.message, each.row, each.line)
        if each.dropped
        else Remark("error", REFUSED, each.message, each.row, each.line)
        for each in problems
    ]
    for finding in findings:
        words = f"{finding.what}. {finding.why} {finding.remedy}"
        rows: Sequence[int | None] = finding.rows or [None]
        for row in rows:
            line = None if row is None else lines.get(row)
            remarks.append(Remark(finding.severity, finding.check, words, row, line))
    return remarks


def formatted(remarks: Sequence[Remark], path: str, kind: str) -> str:
    """Return the remarks on the file `path` in one of `FORMATS`, without a newline at the end."""
    if kind == "json":
        return json.dumps({"file": path, "remarks": [vars(remark) for remark in remarks]}, ensure_ascii=False)
    if kind == "sarif":
        return json.dumps(_sarif(remarks, path), ensure_ascii=False, indent=1)
    return "\n".join((_github if kind == "github" else _text)(remark, path) for remark in remarks)


def _text(remark: Remark, path: str) -> str:
    """As compilers write, so that editors jump to the line."""
    place = path if remark.line is None else f"{path}:{remark.line}"
    row = "" if remark.row is None else f"row {remark.row}: "
    return f"{place}: {remark.severity}: {row}{remark.message} [{remark.rule}]"


def _github(remark: Remark, path: str) -> str:
    """A workflow command (https://docs.github.com/actions/reference/workflow-commands-for-github-actions)."""
    line = "" if remark.line is None else f",line={remark.line}"
    message = remark.message if remark.row is None else f"row {remark.row}: {remark.message}"
    return f"::{_LEVELS[remark.severity]} file={_escaped(path, ':,')}{line},title={remark.rule}::{_escaped(message)}"


def _escaped(text: str, more: str = "") -> str:
    for sign in "%\r\n" + more:
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text


def _sarif(remarks: Sequence[Remark], path: str) -> dict[str, Any]:
    """A SARIF log (https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html)."""
    used = list(dict.fromkeys(remark.rule for remark in remarks))
    driver = {"name": "sftdemo", "version": __version__, "rules": list(_rules(used))}
    return {
        "$schema": _SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": [_result(remark, path) for remark in remarks]}],
    }


def _rules(used: Iterable[str]) -> Iterator[dict[str, Any]]:
    for rule in used:
        words = _UNUSED[rule] if rule in _UNUSED else CHECKS[rule].what
        yield {"id": rule, "shortDescription": {"text": words}}


def _result(remark: Remark, path: str) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": path}}
    if remark.line is not None:
        place["region"] = {"startLine": remark.line}
    message = remark.message if remark.row is None else f"row {remark.row}: {remark.message}"
    return {
        "ruleId": remark.rule,
        "level": remark.severity,
        "message": {"text": message},
        "locations": [{"physicalLocation": place}],
    }


def lint(options: argparse.Namespace) -> int:
    """Print what is wrong with the rows, for a machine to read. Returns 1 if a row is refused or an error is found."""
    from ..data.hold_out import hold_out
    from ..mask.audit import Audit
    from ..model.loading import open_model

    config = run_config(options)
    data = hold_out(read_examples(options.data, read_columns(options.columns), options.limit), config)
    note(data.notes)
    opened = follow(open_model(config, weights=False))
    audit, problems = Audit(config.batch_size, opened.config.max_length, data.held_out), list(data.problems)
    for _, row in audit.review(data.train, opened.masker):
        if isinstance(row, Problem):
            problems.append(row)
    save(options, problems)
    findings = audit.findings()
    lines = {example.row: example.line for example in data.train}
    remarks = remarks_on(problems, findings, lines)
    if remarks or options.format in ("json", "sarif"):
        print(formatted(remarks, str(options.data), options.format))
    return int(bool(errors(findings)) or any(not problem.dropped for problem in problems))
