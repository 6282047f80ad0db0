"""Compare how a model answers here with how it answers where it is served: prompt ids, answers and ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.errors import UNREADABLE, DataError, unread
from ..core.text import markdown_table, plural

CERTIFICATE = "certificate.json"
COLUMNS = ("prompt", "ids", "same tokens", "end", "first difference")  # of its table


@dataclass(frozen=True)
class Check:
    """One prompt, here and where the model is served.

    Args:
        prompt (`str`):
            The question as a person reads it.
        same_ids (`bool`, *optional*):
            Whether the model reads the same ids; None where the server does not tell.
        same_end (`bool`, *optional*):
            Whether the answer ends by the same id, or is cut in both; of a server that tells no ids, whether it ends by
            itself as here. None where the answers part before.
        same_tokens (`int`), tokens (`int`):
            After how many tokens the answers part, of how many here. Of a server that tells no ids, characters.
        difference (`str`):
            The first difference; empty without one.
        cause (`str`):
            What makes it, as far as that is known: `"BOS"`, `"template"`, `"special text"`, `"tokenizer"`, `"end"`,
            `"weights"`.
        modelfile_same_ids (`bool`, *optional*):
            Whether the Modelfile's template gives the same ids; None without one.
    """

    prompt: str
    same_ids: bool | None
    same_end: bool | None
    same_tokens: int
    tokens: int
    difference: str = ""
    cause: str = ""
    modelfile_same_ids: bool | None = None

    @property
    def holds(self) -> bool:
        """Return whether nothing differs but, at most, what rounding the weights explains."""
        return False not in (self.same_ids, self.modelfile_same_ids, self.same_end)


@dataclass(frozen=True)
class Certificate:
    """The comparison of all prompts of a run.

    Args:
        engine (`str`):
            What served the model.
        weights (`str`):
            How its weights were written, such as `"f16"`.
        max_new_tokens (`int`):
            After how many tokens an answer was cut.
        checks (`tuple[Check, ...]`):
            One for each prompt.
    """

    engine: str
    weights: str
    max_new_tokens: int
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Return whether every check does."""
        return all(check.holds for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return the certificate as JSON can hold it, with the sums of its checks."""
        checks = self.checks
        return {
            "engine": self.engine,
            "weights": self.weights,
            "max_new_tokens": self.max_new_tokens,
            "prompts": len(checks),
            "same_ids": _all([check.same_ids for check in checks]),
            "same_end": _all([check.same_end for check in checks]),
            "same_tokens": all(check.same_tokens == check.tokens for check in checks),
            "modelfile_same_ids": _all([check.modelfile_same_ids for check in checks]),
            "checks": [asdict(check) for check in checks],
        }

    def __str__(self) -> str:
        """Return a sentence: "6 of 6 prompts: same ids, same end, all tokens the same (llama.cpp, f16)."""
        count = len(self.checks)
        alike = sum(check.same_tokens == check.tokens for check in self.checks)
        parts = [
            _share([check.same_ids for check in self.checks], "the same ids", "ids that the server does not tell"),
            _share([check.same_end for check in self.checks], "the same end", "an end that cannot be compared"),
            f"{alike} of {count} the same answer, up to {self.max_new_tokens} tokens",
        ]
        return f"{count} {plural(count, 'prompt')}: {'; '.join(parts)} ({self.engine}, {self.weights})."

    def to_markdown(self) -> str:
        """Return the sentence and the table, as a card has them."""
        return f"{self}\n\n{self.table()}"

    def table(self) -> str:
        """Return the checks as a Markdown table."""
        return markdown_table(COLUMNS, [[_cell(text) for text in row] for row in self.rows()])

    def rows(self) -> list[tuple[str, ...]]:
        """Return the cells of each check under `COLUMNS`, each on one line."""
        words = {True: "same", False: "differs", None: "-"}
        return [
            (
                _short(check.prompt),
                words[check.same_ids],
                f"{check.same_tokens} of {check.tokens}",
                words[check.same_end],
                _short(f"{check.difference} ({check.cause})" if check.difference else ""),
            )
            for check in self.checks
        ]


def read_certificate(run: Path) -> Certificate | None:
    """Return the certificate in a run's folder; None if there is none.

    Raises:
        DataError: if it cannot be read.
    """
    from pydantic import TypeAdapter

    path = run / CERTIFICATE
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        for check in json.loads(text)["checks"]:
            Check(**check)  # which refuses a name that is unknown
        return TypeAdapter(Certificate).validate_json(text, strict=True)
    except UNREADABLE as error:
        raise DataError(
            f"{path} cannot be read: {unread(error)}. Write it anew with `sftdemo certify {run}`."
        ) from error


def _all(found: Sequence[bool | None]) -> bool | None:
    known = [each for each in found if each is not None]
    return all(known) if known else None


def _share(found: Sequence[bool | None], same: str, unknown: str) -> str:
    known = [each for each in found if each is not None]
    return f"{sum(known)} of {len(known)} {same}" if known else unknown


def _short(text: str) -> str:
    return " ".join((text if len(text) <= 80 else f"{text[:79]}…").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")
