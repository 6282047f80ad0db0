"""Report on labels that another trainer's preparation has made: show them, audit them, change nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from ..core.text import plural
from ..data.examples import Problem, parse_examples
from ..data.templates import get_template
from .audit import Audit
from .checks import Finding, errors
from .labels import Masker, TokenizedExample
from .markup import render_html
from .view import summary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNCUT = 1 << 31  # no row is cut: it has the length that the other trainer gave it


@dataclass(frozen=True)
class MaskReport:
    """What is trained of some rows, and what is wrong with it.

    Args:
        rows (`tuple[TokenizedExample, ...]`):
            The examples, without padding and apart from each other.
        problems (`tuple[Problem, ...]`):
            Rows whose labels do not fit their ids.
        findings (`tuple[Finding, ...]`):
            The audit's findings, the most severe first.
        totals (`str`):
            How many examples and tokens there are, and how many are trained.
    """

    rows: tuple[TokenizedExample, ...]
    problems: tuple[Problem, ...]
    findings: tuple[Finding, ...]
    totals: str
    tokenizer: PreTrainedTokenizerBase

    @property
    def errors(self) -> list[str]:
        """Return what makes training on these labels pointless, in words."""
        return [str(problem) for problem in self.problems] + [str(finding) for finding in errors(self.findings)]

    def __str__(self) -> str:
        """Return the report in one line, as a log has it."""
        found = self.errors or [f"{finding.what}{finding.where}" for finding in self.findings]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        if not found:
            return f"{self.totals}: nothing found"
        kind = plural(len(found), "error" if self.errors else "finding")
        return f"{self.totals}: {len(found)} {kind}: {found[0]}{more}"

    def to_html(self) -> str:
        """Return the rows and the findings as HTML that needs no other file and runs no script. All text is escaped."""
        remarks = [("error", str(problem)) for problem in self.problems]
        remarks += [(finding.severity, str(finding)) for finding in self.findings]
        items = "".join(f"<li><b>{severity}</b> {escape(words)}</li>" for severity, words in remarks)
        head = f"<p>{escape(self.totals)}</p>" + (f"<ul>{items}</ul>" if items else "")
        html = head + "".join(render_html(row, self.tokenizer) for row in self.rows)
        return html.encode("ascii", "xmlcharrefreplace").decode("ascii")

    def _repr_html_(self) -> str:
        return self.to_html()


def report_on(records: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> MaskReport:
    """Return a report on rows that are tokenised.

    Args:
        records (`Sequence[Mapping[str, Any]]`):
            Rows with `input_ids` and `labels`, or another of the columns that docs/data.md names for tokenised rows.
            Padding is recognised by `attention_mask`, and the examples of a packed row by `position_ids` or
            `seq_lengths`.

    Raises:
        DataError: if there is no row.
    """
    data = parse_examples(json.dumps([dict(record) for record in records]))
    masker, audit = Masker(tokenizer, get_template("instruction"), UNCUT), Audit(batch_size=1, max_length=UNCUT)
    by_row = {example.row: example for example in data.train}
    rows, problems = masker.tokenize(data.train)
    for row in rows:
        audit.add(by_row[row.row], row)
    totals = summary(len(rows), audit.tokens, audit.trained, 0)
    return MaskReport(tuple(rows), (*data.problems, *problems), tuple(audit.findings()), totals, tokenizer)
