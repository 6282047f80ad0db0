"""Inspect the boundary between prompt and completion: compare the prompt tokenised alone and with its completion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from ..core.errors import DataError
from ..data.examples import Example, Problem
from ..data.templates import Template
from .ahead import work_ahead
from .checks import CHECKS
from .encoding import Encoded, encoder_for, partition
from .labels import Masker
from .row import Row
from .rows import chunks_of, encode_rows

NEARBY = 4  # tokens shown on either side


@dataclass(frozen=True)
class Piece:
    """A token near the boundary: its id and its (begin, end) in the row's text."""

    id: int
    begin: int
    end: int


@dataclass(frozen=True)
class Boundary:
    """Three tokenisations of the same text, near the end of the prompt.

    Args:
        row (`int`):
            The example's row.
        text (`str`):
            The whole prompt and completion.
        at (`int`):
            The index in `text` where the prompt ends.
        alone, together, used (`tuple[Piece, ...]`):
            The tokens of the prompt by itself, as generation sees it; of prompt and completion as one text; and those
            that training uses.
        lost (`str`):
            The part of the answer that would not be trained if the first n joint ids were masked, where n is the
            number of tokens of the prompt alone, as many scripts do. Empty if nothing merges, or if the joint ids
            only split the end of the prompt differently (a template's blank line, with tokenizers like GPT-2's).
    """

    row: int
    text: str
    at: int
    alone: tuple[Piece, ...]
    together: tuple[Piece, ...]
    used: tuple[Piece, ...]
    merged: bool
    lost: str

    def to_dict(self) -> dict[str, Any]:
        """Return the boundary as a dictionary that JSON can hold, `sentence` included."""
        return asdict(self) | {"sentence": self.sentence}

    @property
    def sentence(self) -> str:
        """Describe what happens at this boundary, and what would go wrong with the joint ids."""
        if not self.merged:
            return (
                "Prompt and answer meet between two tokens: the prompt has the same ids alone and together, so "
                "training sees exactly what generation will see."
            )
        if not self.lost:
            return (
                "Together, the end of the prompt is cut into other tokens than alone. With the joint ids, training "
                "would see a prompt that generation never has, and labels cut at the prompt's length would stand at "
                "other tokens. So the prompt's own ids are used, and the answer's own after them."
            )
        return (
            "Together, a token reaches across the end of the prompt. With the joint ids, training would see a prompt "
            f"that generation never has, and labels cut at the prompt's length would lose {self.lost!r} of the answer. "
            "So the prompt's own ids are used, and the answer's own after them."
        )


def inspect_boundary(example: Example, masker: Masker) -> Boundary:
    """Return the boundary before the last answer of an example.

    Raises:
        DataError: when it cannot be rendered, its chat template does not continue the prompt, or it came tokenised.
    """
    if example.tokens:
        raise DataError(f"row {example.row}: it came tokenised, so prompt and answer are not tokenised here.")
    (rows,) = encode_rows([example], masker.tokenizer, masker.template, masker.stop_ids)
    if isinstance(rows, Problem):
        raise DataError(str(rows))
    row = rows[-1]
    prompt, joint = encoder_for(masker.tokenizer).encode_prompts([row.prompt, row.whole])
    if not row.whole.text.startswith(row.prompt.text):
        raise DataError(f"row {example.row}: {CHECKS['prompt_not_continued']}")
    at, end = len(row.prompt.text), len(row.text)
    alone = _pieces(prompt, 0, at)
    together = [piece for piece in _pieces(joint, 0, len(row.whole.text)) if piece.end <= end]
    used = together if row.joint_ids is None else alone + _pieces(row.pieces[-1].encoded, at, end)
    # All three lanes must show whole tokens, so the excerpt begins and ends where no lane has a token across.
    shared_begins = {0} | {piece.begin for piece in alone} & {piece.begin for piece in together}
    shared_ends = {end} | {piece.end for piece in used} & {piece.end for piece in together}
    before = [piece.begin for piece in alone if piece.begin < piece.end][-NEARBY:]
    after = [piece.end for piece in used if piece.end > at][:NEARBY]
    begin = max(place for place in shared_begins if place <= (before[0] if before else 0))
    stop = min(place for place in shared_ends if place >= (after[-1] if after else end))
    near = [tuple(p for p in pieces if begin <= p.begin and p.end <= stop) for pieces in (alone, together, used)]
    lost = _lost(row, len(prompt.ids), together)
    return Boundary(example.row, row.text, at, *near, merged=row.joint_ids is not None, lost=lost)


def _pieces(encoded: Encoded, begin: int, end: int) -> list[Piece]:
    spans = partition(encoded.offsets, begin, end)
    return [Piece(index, *span) for index, span in zip(encoded.ids, spans, strict=True)]


def _lost(row: Row, count: int, together: list[Piece]) -> str:
    at = len(row.prompt.text)
    masked = max((piece.end for piece in together[:count]), default=at)
    return row.text[at:masked] if row.joint_ids is not None else ""


@dataclass(frozen=True)
class Remedy:
    """A template that ends in one newline. `merging` rows merge with the current template, `remaining` with this."""

    template: str
    merging: int
    remaining: int


def newline_remedy(examples: Sequence[Example], masker: Masker) -> Remedy | None:
    """Return the template with exactly one newline at its end, if it is a custom one and fewer rows merge with the
    newline; else None."""
    template = masker.template
    if template.name != "custom" or template.text is None:
        return None
    text = template.text.rstrip() + "\n"
    mended = replace(template, text=text, text_with_input=text)
    merging, remaining = (_merging(examples, masker, way) for way in (template, mended))
    return Remedy(text, merging, remaining) if remaining < merging else None


def _merging(examples: Sequence[Example], masker: Masker, template: Template) -> int:
    """Return how many rows have a token that merges across the end of the prompt."""
    encode = partial(encode_rows, tokenizer=masker.tokenizer, template=template, offsets=False)
    chunks = work_ahead(encode, chunks_of(examples, template))
    rows = (row for chunk in chunks for row in chunk if not isinstance(row, Problem))
    return sum(any(sequence.joint_ids is not None for sequence in row) for row in rows)
