"""The README and the pages of docs/: their code blocks, the commands in them, and the sessions they print."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *DOCS]
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_OURS = re.compile(r"^(?:\S*python3? -m sftdemo|sftdemo|(?:torchrun|accelerate launch) .*-m sftdemo) (.*)$")


@dataclass(frozen=True)
class Session:
    """A command in a `console` block, and what is printed below it."""

    page: str
    command: str
    output: str

    @property
    def words(self) -> list[str]:
        """The arguments of sftdemo; empty for another command."""
        ours = _OURS.match(self.command)
        return shlex.split(ours[1], comments=True) if ours else []


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page, of these languages or of all."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [
        "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True))
        for indent, language, text in found
        if not languages or language in languages
    ]


def sessions(page: Path) -> list[Session]:
    found = []
    for block in blocks(page, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append(Session(page.name, command, output))
    return found


def commands(page: Path) -> list[list[str]]:
    """The arguments of every sftdemo command in the page's blocks."""
    lines = [line for block in blocks(page) if "\n$ " not in f"\n{block}" for line in block.splitlines()]
    typed = [ours[1] for line in lines if (ours := _OURS.match(line.strip()))]
    return [shlex.split(words, comments=True) for words in typed] + [
        each.words for each in sessions(page) if each.words
    ]
