"""A tokenised row, or a part of one, before any label is decided: what `labels.decide_labels` decides on."""

from __future__ import annotations

from dataclasses import dataclass

from ..data.examples import Example, HandMask
from ..data.messages import Message
from ..data.templates import RenderedPrompt
from .encoding import Encoded, Span, partition


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of a row that were encoded together. Their offsets count characters of the row's text, in which the piece
    reaches up to the character `end`."""

    encoded: Encoded
    end: int


@dataclass(frozen=True, slots=True)
class Row:
    """A sequence of tokens to train on. A conversation may need several; each of them is a `Row`.

    Args:
        prompt (`RenderedPrompt`):
            What generation sees before the last answer.
        whole (`RenderedPrompt`):
            The prompt with the answer, as it is written down. Where `text` is shorter, the template goes on after it.
        pieces (`tuple[Piece, ...]`):
            All tokens but `stop_id`: the prompt's and the answer's, or one piece where they are encoded as one text.
        stop_id (`int`, *optional*):
            The token that ends the last answer.
        answers (`tuple[tuple[int, int], ...]`):
            The positions (begin, end) of the answers to train, in order, each with the token that ends it.
        joint_ids (`list[int]`, *optional*):
            The ids of prompt + answer as one text, if a token merges across the boundary; else None.
        part (`int`, *optional*, defaults to 0):
            The number of this sequence among those of its row.
        turns (`tuple[Message, ...]`, *optional*):
            In a conversation, the turns to train in this sequence.
        told (`frozenset[str]`, *optional*):
            The checks (`checks.CHECKS`) that rendering and tokenising have set off.
        notes (`tuple[tuple[str, str], ...]`, *optional*):
            More such checks, each with its details, as in `("text_not_shown", "reasoning_content of turn 2")`.
        markers (`tuple[str, ...]`, *optional*):
            The texts by which the template marks whose turn it is, such as "### Response:".
        end_ids (`frozenset[int]`, *optional*):
            In a row that came tokenised, the ids that end an answer where they stand at the end of a trained stretch.
    """

    example: Example
    prompt: RenderedPrompt
    whole: RenderedPrompt
    pieces: tuple[Piece, ...]
    stop_id: int | None
    answers: tuple[Span, ...]
    joint_ids: list[int] | None
    part: int = 0
    turns: tuple[Message, ...] = ()
    told: frozenset[str] = frozenset()
    notes: tuple[tuple[str, str], ...] = ()
    markers: tuple[str, ...] = ()
    end_ids: frozenset[int] = frozenset()

    @property
    def text(self) -> str:
        """Return the text of all tokens but `stop_id`."""
        return self.whole.text[: self.pieces[-1].end]

    @property
    def hand_mask(self) -> HandMask | None:
        """Return the example's hand-made mask if one was made for exactly this text, else None. A row that came
        tokenised has labels of its own, and takes none."""
        if not self.example.masks or self.example.tokens:
            return None
        return next((mask for mask in self.example.masks if mask.text == self.text), None)

    @property
    def input_ids(self) -> list[int]:
        """Return all ids of the row, with the one that ends it."""
        ids: list[int] = []
        for piece in self.pieces:
            ids += piece.encoded.ids
        if self.stop_id is not None:
            ids.append(self.stop_id)
        return ids

    @property
    def spans(self) -> list[Span]:
        """Return the span of each of `input_ids`, in order and without gaps. The span of `stop_id` is empty."""
        spans: list[Span] = []
        begin = 0
        for piece in self.pieces:
            spans += partition(piece.encoded.offsets, begin, piece.end)
            begin = piece.end
        return spans + [(begin, begin)] * (self.stop_id is not None)
