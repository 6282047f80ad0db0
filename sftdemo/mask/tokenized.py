"""Turn rows that came tokenised into sequences for the mask. Their ids and labels stay as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from ..data.examples import Example, Problem
from ..data.templates import TEMPLATE, RenderedPrompt, Segment, Template
from .encoding import Encoded, Span, TextEncoder, encoder_for
from .prompt_ends import PromptEnds
from .row import Piece, Row
from .turn_ends import end_ids, stop_notes

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

_NOTHING = RenderedPrompt((), chat=True)
_LONGEST = 64  # tokens that wait for the rest of a character, which has 4 bytes; more where a typed � follows a �
END_WITHIN = 3  # the last tokens of an answer, among which its end is looked for: a newline may follow it


def encode_tokens(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    stop_ids: frozenset[int],
    texts: bool = True,
) -> list[list[Row] | Problem]:
    """Return the sequences of rows that came tokenised: one, or one for each example of a packed row. A row that does
    not fit the tokenizer is a problem.

    Args:
        template (`Template`):
            The one that was chosen, in which the rows may have been made.
        stop_ids (`frozenset[int]`):
            Ids at which generation stops besides the tokenizer's EOS.
        texts (`bool`, *optional*, defaults to `True`):
            Whether the rows are shown, so that their tokens are decoded.
    """
    encoder = encoder_for(tokenizer)
    ends = frozenset(stop_ids | end_ids(tokenizer, chat=True))
    decoder = TokenTexts(encoder.with_special) if texts else None
    reading = _Reading(encoder, tokenizer, stop_ids, ends, PromptEnds(tokenizer, template), decoder)
    return [_problem(example, encoder) or reading.rows(example) for example in examples]


def _problem(example: Example, encoder: TextEncoder) -> Problem | None:
    tokens, known = example.tokens, _known_ids(encoder)
    if tokens is None or known.issuperset(tokens.input_ids):
        return None
    place = next(place for place, index in enumerate(tokens.input_ids) if index not in known)
    return Problem(
        example.row,
        example.line,
        f'"input_ids"[{place}] is {tokens.input_ids[place]}, which is no id of the tokenizer, whose highest is '
        f"{max(known)}; name the model that the row was tokenised for (--model).",
    )


@lru_cache(maxsize=8)
def _known_ids(encoder: TextEncoder) -> frozenset[int]:
    return frozenset(encoder.with_special.get_vocab(with_added_tokens=True).values())


class TokenTexts:
    """The text of each token of a tokenizer, as it stands inside a text."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._before = tokenizer.encode("a", add_special_tokens=False).ids[-1:]  # or a first token would lose its space
        self._known: dict[int, str] = {}

    def of(self, ids: Iterable[int]) -> list[str]:
        """Return the text of each of the ids. A character of several tokens is the first's, the others are empty."""
        texts: list[str] = []
        waiting: list[int] = []
        for index in ids:
            text = self._one(index)
            if not waiting and "�" not in text:
                texts.append(text)
                continue
            waiting.append(index)
            joined = self._after(waiting)
            if not joined.endswith("�") or len(waiting) == _LONGEST:
                texts += [joined, *[""] * (len(waiting) - 1)]
                waiting = []
        return [*texts, *([self._after(waiting), *[""] * (len(waiting) - 1)] if waiting else [])]

    def _one(self, index: int) -> str:
        if index not in self._known:
            self._known[index] = self._after([index])
        return self._known[index]

    def _after(self, ids: list[int]) -> str:
        before = self._tokenizer.decode(self._before, skip_special_tokens=False)
        whole = self._tokenizer.decode([*self._before, *ids], skip_special_tokens=False)
        if whole.startswith(before):
            return whole[len(before) :]
        return self._tokenizer.decode(ids, skip_special_tokens=False)


class _Reading:
    """What turns tokens into sequences: the tokenizer, and the ids that may end an answer."""

    def __init__(
        self,
        encoder: TextEncoder,
        tokenizer: PreTrainedTokenizerBase,
        stop_ids: frozenset[int],
        ends: frozenset[int],
        prompt_ends: PromptEnds,
        texts: TokenTexts | None,
    ):
        self._encoder, self._tokenizer, self._stop_ids, self._ends = encoder, tokenizer, stop_ids, ends
        self._prompt_ends, self._texts = prompt_ends, texts

    def rows(self, example: Example) -> list[Row]:
        """Return the sequences of one row."""
        tokens = example.tokens
        if tokens is None:
            return []
        trained, ids = tokens.trained, list(tokens.input_ids)
        told = set[str]()
        notes: list[tuple[str, str]] = []
        if tokens.attention:
            count = tokens.attention.count(0)
            told.add("padding_left_out")
            lost = sum(is_trained and not bit for is_trained, bit in zip(trained, tokens.attention, strict=True))
            if lost:
                notes.append(("padding_trained", f"{lost} of {count} tokens of padding"))
            kept = [place for place, bit in enumerate(tokens.attention) if bit]
            ids, trained = [ids[place] for place in kept], [trained[place] for place in kept]
        if len(tokens.lengths) > 1:
            told.add("packed_row")
        rows: list[Row] = []
        begin = 0
        for part, length in enumerate(tokens.lengths or (len(ids),)):
            end = begin + length
            rows.append(self._row(example, ids[begin:end], trained[begin:end], part, told, notes))
            begin, told, notes = end, set[str](), []
        return rows

    def _row(
        self,
        example: Example,
        ids: list[int],
        trained: list[bool],
        part: int,
        told: set[str],
        notes: list[tuple[str, str]],
    ) -> Row:
        if trained[0]:
            told = told | {"first_labelled"}
        if all(trained):
            told = told | {"all_trained"}
        answers = _runs(trained)
        ends = [index for begin, end in answers for index in ids[max(end - END_WITHIN, begin) : end]]
        found = [index for index in ends if index in self._ends]
        begins = self._prompt_ends.notes(ids, answers, self._ends)
        notes = [*notes, *self._of_ends(ids, answers), *self._of_padding(ids, trained), *begins]
        stop_id = ids[-1] if len(ids) > 1 and ids[-1] in self._ends else None
        body = ids if stop_id is None else ids[:-1]
        texts = self._texts.of(body) if self._texts else [""] * len(body)
        encoded = Encoded(body, lambda: _offsets(texts))
        text = "".join(texts)
        return Row(
            example=example,
            prompt=_NOTHING,
            whole=RenderedPrompt((Segment(text, TEMPLATE),), chat=True),
            pieces=(Piece(encoded, len(text)),),
            stop_id=stop_id,
            answers=answers,
            joint_ids=None,
            part=part,
            told=frozenset(told),
            notes=(*notes, *stop_notes(found, self._tokenizer, self._stop_ids)),
            end_ids=self._ends,
        )

    def _of_ends(self, ids: list[int], answers: tuple[Span, ...]) -> list[tuple[str, str]]:
        """Return whether an answer's end is not trained, or missing. Behind one that is trained, EOS is padding."""
        after = [end for _, end in answers if end < len(ids) and ids[end] in self._ends]
        untrained = [end for end in after if ids[end - 1] not in self._ends]
        if untrained:
            return [("end_untrained", f"{self._name(ids[untrained[0]])} at position {untrained[0]}")]
        begin, end = answers[-1] if answers else (0, 0)
        if answers and not self._ends.intersection(ids[max(end - END_WITHIN, begin) : end]):
            return [("end_missing", f"its last trained token is {self._name(ids[end - 1])}")]
        return []

    def _of_padding(self, ids: list[int], trained: list[bool]) -> list[tuple[str, str]]:
        """Return whether the row ends in trained padding. Where padding and EOS are one token, the first is EOS."""
        pad = self._tokenizer.pad_token_id
        count = next((place for place, index in enumerate(reversed(ids)) if index != pad), len(ids))
        extra = count - (pad in self._ends)
        if extra < 1 or not all(trained[len(ids) - count :]):
            return []
        return [("padding_trained", f"{extra} tokens of padding at the end")]

    def _name(self, index: int) -> str:
        return f"{self._tokenizer.convert_ids_to_tokens(index)} (id {index})"


def _runs(trained: Sequence[bool]) -> tuple[Span, ...]:
    edges = [place for place, (one, other) in enumerate(pairwise([False, *trained, False])) if one != other]
    return tuple(zip(edges[::2], edges[1::2], strict=True))


def _offsets(texts: Sequence[str]) -> list[Span]:
    offsets: list[Span] = []
    end = 0
    for text in texts:
        offsets.append((end, end + len(text)))
        end += len(text)
    return offsets
