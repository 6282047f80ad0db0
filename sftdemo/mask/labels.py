"""THE mask: decide for every token whether it is trained. Whatever shows, checks, packs or trains uses this result.

    text       ### Instruction:↵Say hello↵↵### Response:↵ Hello world! <eos>
    input_ids  [ the prompt's ids …                      ][ completion ][eos]
    labels     [ -100 …                                  ][ completion ][eos]

The rules:

1. The prompt is tokenised alone, as in generation, and also together with the completion. If the joint ids begin with
   the prompt's ids, the joint ids are used. If not, a token merged across the boundary. Then the prompt's own ids are
   used, followed by the completion's own, so that training sees exactly the prefix that generation sees. The row is
   flagged.
2. Exactly one EOS ends a completion and is trained. If `max_length` cuts it off, the row is flagged.
3. Text that the user typed never becomes a special token.
4. Position 0 is never trained, because no token before it could predict it.
5. In a conversation, every assistant turn is trained (or only the last, if the user chooses that), but for those that
   say otherwise. What is trained is whatever the chat template puts after the prompt that generation would see, through
   the token at which generation stops: `conversations.py` finds it. If the template rewrites earlier turns, the
   conversation becomes several sequences. If it does not continue the prompt, nothing exact exists: the row is flagged
   with an error.
6. A hand-made mask overrides rules 1, 2 and 5 on which tokens are trained, never on the ids themselves.
7. A row that came tokenised keeps its ids and its labels. Rule 4 alone holds for it: no loss counts the label of
   position 0.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from ..data.examples import Example, HandMask, Problem
from ..data.templates import Template
from .ahead import work_ahead
from .checks import CHECKS
from .encoding import Span, TextEncoder, encoder_for
from .flags import flags_of
from .kinds import kinds_of
from .row import Row
from .rows import chunks_of, encode_rows
from .tokenized import END_WITHIN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE_INDEX = -100


def decide_labels(row: Row) -> list[int]:
    """Return the label of each token of a row, before `max_length` cuts any: its id if it is trained, else
    `IGNORE_INDEX`. Labels are decided nowhere else."""
    input_ids = row.input_ids
    labels = [IGNORE_INDEX] * len(input_ids)
    if row.hand_mask is not None:
        trained = _trained_by_hand(row.hand_mask, row)
        labels = [index if is_trained else IGNORE_INDEX for index, is_trained in zip(input_ids, trained, strict=True)]
    else:
        for begin, end in row.answers:
            labels[begin:end] = input_ids[begin:end]
    labels[:1] = [IGNORE_INDEX]
    return labels


def _trained_by_hand(mask: HandMask, row: Row) -> list[bool]:
    """Return whether a hand-made mask trains each token. All tokens of one character are treated as its first is."""
    trained: list[bool] = []
    ends = [last for _, last in mask.trained]
    for begin, end in row.spans:
        place = bisect_right(ends, begin)  # of the first stretch that ends behind the token's beginning
        chosen = place < len(ends) and mask.trained[place][0] < end
        trained.append(chosen if begin < end else bool(trained) and trained[-1])
    if row.stop_id is not None:
        trained[-1] = mask.eos
    return trained


def trained_spans(labels: Sequence[int]) -> tuple[Span, ...]:
    """Return the (begin, end) of each run of trained tokens, in order."""
    count = len(labels) - labels.count(IGNORE_INDEX)
    begin = len(labels) - count
    if count and IGNORE_INDEX not in labels[begin:]:  # the usual case: one run, at the end
        return ((begin, len(labels)),)
    trained = [False, *(label != IGNORE_INDEX for label in labels), False]
    edges = [index for index, (before, after) in enumerate(pairwise(trained)) if before != after]
    return tuple(zip(edges[::2], edges[1::2], strict=True))


def loss_weights(labels: Sequence[int], prompt_loss_weight: float) -> tuple[float, ...]:
    """Return each token's weight in the loss: 1 for a trained token, `prompt_loss_weight` for a masked one.

    The first token has weight 0 because nothing predicts it. In an example without a trained token, all weights are 0.
    The loss is the sum of weight * -log p divided by the sum of the weights (Huerta-Enochian & Ko 2024, arXiv
    2401.13586). A prompt-loss weight of 0 equals TRL's `completion_only_loss=True`, and 1 equals `False`.
    """
    if labels.count(IGNORE_INDEX) == len(labels):
        return (0.0,) * len(labels)
    weights = [prompt_loss_weight if label == IGNORE_INDEX else 1.0 for label in labels]
    return 0.0, *weights[1:]


@dataclass(frozen=True, slots=True)
class MaskedExample:
    """An example as it is trained.

    Args:
        row, part (`int`):
            The example's row in its source, and the number of this sequence among those of the row, both from 0.
        input_ids, labels (`tuple[int, ...]`, of one length, at most `max_length`):
            A label is `IGNORE_INDEX` or the token's own id.
        cut_labels (`tuple[int, ...]`):
            The labels that the tokens cut off by `max_length` would have.
        flags (`tuple[str, ...]`):
            Keys of `checks.CHECKS`.
        notes (`tuple[tuple[str, str], ...]`):
            Details of some of the flags, as in `("text_not_shown", "reasoning_content of turn 2")`.
        ends (`tuple[int, ...]`):
            The ids that are trained as the end of an answer.
    """

    row: int
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    cut_labels: tuple[int, ...]
    flags: tuple[str, ...]
    part: int = field(default=0, kw_only=True)
    notes: tuple[tuple[str, str], ...] = field(default=(), kw_only=True)
    ends: tuple[int, ...] = field(default=(), kw_only=True)

    @property
    def sentences(self) -> dict[str, str]:
        """Return what each flag says."""
        details = {check: "; ".join(words for each, words in self.notes if each == check) for check, _ in self.notes}
        return {flag: CHECKS[flag].told(details.get(flag, "")) for flag in self.flags}

    @property
    def cut(self) -> int:
        """Return how many tokens `max_length` cut off."""
        return len(self.cut_labels)

    @property
    def trained(self) -> int:
        """Return how many tokens are trained."""
        return len(self.labels) - self.labels.count(IGNORE_INDEX)


@dataclass(frozen=True, slots=True)
class TokenizedExample(MaskedExample):
    """An example as it is trained, with what is needed to show it.

    Args:
        text (`str`):
            The whole prompt and completion, even if `max_length` cuts the tokens.
        spans, kinds (`tuple`, one for each of `input_ids` and then of `cut_ids`):
            A span is a (begin, end) in `text`. Spans are in order and without gaps; those of BOS, EOS and the later
            tokens of a multi-byte character are empty. A kind is `"special"`, `"template"`, `"instruction"`, `"input"`,
            `"prompt"`, a message's role, `"completion"`, `"written"` for what a chat template itself writes in an
            answer, or `"eos"`.
        cut_ids (`tuple[int, ...]`):
            The tokens that `max_length` cut off.
        joint_ids (`tuple[int, ...]`):
            The ids of the text tokenised as a whole, if `"merged_boundary"` is flagged; else empty.
    """

    text: str
    spans: tuple[Span, ...]
    kinds: tuple[str, ...]
    cut_ids: tuple[int, ...]
    joint_ids: tuple[int, ...]

    @property
    def tokens(self) -> list[str]:
        """Return the text of each of `input_ids`, as the user wrote it."""
        return [self.text[begin:end] for begin, end in self.spans[: len(self.input_ids)]]


@dataclass(frozen=True)
class Masker:
    """Everything that decides a mask, apart from the examples.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            It must be backed by the `tokenizers` library.
        template (`Template`):
            How a row becomes a prompt.
        max_length (`int`):
            The most tokens that a sequence keeps.
        stop_ids (`frozenset[int]`, *optional*):
            The ids at which generation stops by the model's generation config. The tokenizer's EOS is always one.
        too_long (`str`, *optional*, defaults to `"cut"`):
            What becomes of longer rows: `"cut"`; `"drop"`, a problem in their place; or `"refuse"`, an error of the
            audit.
    """

    tokenizer: PreTrainedTokenizerBase
    template: Template
    max_length: int
    stop_ids: frozenset[int] = frozenset()
    too_long: str = "cut"

    def tokenize(self, examples: Iterable[Example]) -> tuple[list[TokenizedExample], list[Problem]]:
        """Tokenise and mask examples to show them. Rows that cannot be rendered are returned as problems. Meant for a
        page of rows; for thousands, `mask` is faster and uses less memory."""
        encoder = encoder_for(self.tokenizer)
        rows = self._encode(examples)
        sequences = [sequence for row in rows if not isinstance(row, Problem) for sequence in row]
        tokenized = [_explain(sequence, encoder, self) for sequence in sequences]
        return tokenized, [row for row in rows if isinstance(row, Problem)]

    def mask(self, examples: Iterable[Example]) -> Iterator[tuple[MaskedExample, ...] | Problem]:
        """Tokenise and mask examples to train or count them. Yield one item for each: its sequences, of which a
        conversation may have several, or a problem. Memory does not grow with the number of rows."""
        mask = partial(self._mask_chunk, encoder_for(self.tokenizer))
        for masked in work_ahead(mask, chunks_of(examples, self.template)):
            yield from masked

    def _mask_chunk(self, encoder: TextEncoder, examples: list[Example]) -> list[tuple[MaskedExample, ...] | Problem]:
        return [
            row
            if isinstance(row, Problem)
            else tuple([_mask(each, decide_labels(each), encoder, self) for each in row])
            for row in self._encode(examples, offsets=False)
        ]

    def _encode(self, examples: Iterable[Example], offsets: bool = True) -> list[list[Row] | Problem]:
        """Return the sequences of each example, or why it has none."""
        rows = encode_rows(examples, self.tokenizer, self.template, self.stop_ids, offsets)
        return [
            row if isinstance(row, Problem) else _wrong_label(row[0].example) or self._dropped(row) or row
            for row in rows
        ]

    def _dropped(self, row: list[Row]) -> Problem | None:
        """Return why the row is left out, if it is too long and such rows are to be dropped."""
        if self.too_long != "drop":
            return None
        length = max(len(sequence.input_ids) for sequence in row)
        if length <= self.max_length:
            return None
        words = f"has {length:,} tokens, and max length is {self.max_length:,}. Raise it, or shorten the row."
        return Problem(row[0].example.row, row[0].example.line, words, dropped=True)


class MaskHash:
    """A SHA-256 over the row and part, `input_ids` and `labels` of masked examples, in order. Equal hashes mean equal
    masks."""

    def __init__(self) -> None:
        self._digest = b""

    def add(self, masked: MaskedExample) -> None:
        """Add one more example to the hash."""
        count = len(masked.labels)
        form = f"{3 + 2 * count}q"  # packed in half the time that array("q", …) takes
        packed = struct.pack(form, masked.row, masked.part, count, *masked.input_ids, *masked.labels)
        self._digest = hashlib.sha256(self._digest + packed).digest()

    def __str__(self) -> str:
        return self._digest.hex()


def _wrong_label(example: Example) -> Problem | None:
    """Return the first label of a row that came tokenised that is neither `IGNORE_INDEX` nor its token's own id."""
    tokens = example.tokens
    if tokens is None or not tokens.labels:
        return None
    pairs = enumerate(zip(tokens.labels, tokens.input_ids, strict=True))
    wrong = next((at for at, (label, index) in pairs if label != index and label != IGNORE_INDEX), None)
    if wrong is None:
        return None
    return Problem(
        example.row,
        example.line,
        f'"labels"[{wrong}] is {tokens.labels[wrong]}; write {IGNORE_INDEX} or the token\'s own id, here '
        f"{tokens.input_ids[wrong]}, and do not shift the labels: the loss does that.",
    )


def _mask(row: Row, labels: list[int], encoder: TextEncoder, masker: Masker) -> MaskedExample:
    """Return the example with its labels, cut to `max_length`."""
    max_length = masker.max_length
    input_ids, kept = row.input_ids, labels[:max_length]
    return MaskedExample(
        row=row.example.row,
        part=row.part,
        input_ids=tuple(input_ids[:max_length]),
        labels=tuple(kept),
        cut_labels=tuple(labels[max_length:]),
        flags=flags_of(row, len(kept) - kept.count(IGNORE_INDEX), len(labels), max_length, encoder, masker.too_long),
        notes=row.notes,
        ends=_ends(row, kept),
    )


def _ends(row: Row, labels: Sequence[int]) -> tuple[int, ...]:
    """Return the trained ids that end an answer."""
    if row.example.tokens:
        last = (index for begin, end in trained_spans(labels) for index in labels[max(end - END_WITHIN, begin) : end])
        return tuple(sorted(row.end_ids.intersection(last)))
    if row.stop_id is None:
        return ()
    ends = {labels[end - 1] for _, end in row.answers if end <= len(labels)}
    return tuple(sorted(ends - {IGNORE_INDEX}))


def _explain(row: Row, encoder: TextEncoder, masker: Masker) -> TokenizedExample:
    """Return a masked example with everything that is needed to show it."""
    masked, spans = _mask(row, decide_labels(row), encoder, masker), row.spans
    return TokenizedExample(
        **{each.name: getattr(masked, each.name) for each in fields(masked)},
        text=row.text,
        spans=tuple(spans),
        kinds=kinds_of(row, spans, encoder),
        cut_ids=tuple(row.input_ids[masker.max_length :]),
        joint_ids=tuple(row.joint_ids or ()),
    )


def mark_by_hand(row: TokenizedExample, mask: HandMask | None, tokens: Iterable[int], trained: bool) -> HandMask:
    """Return the mask of a row after setting some of its tokens (positions, from 0) to trained or masked.

    `mask` is the hand-made mask of this text, if it has one; otherwise the usual mask is changed. All tokens of one
    character are set together.
    """
    if mask is not None:
        characters, eos = {place for span in mask.trained for place in range(*span)}, mask.eos
    else:
        labels = (*row.labels, *row.cut_labels)
        usual = zip(row.spans, labels, strict=True)
        characters = {place for span, label in usual if label != IGNORE_INDEX for place in range(*span)}
        eos = labels[-1:] != (IGNORE_INDEX,)
    for index in tokens:
        if not 0 <= index < len(row.spans):
            continue
        begin, end = row.spans[index]
        if begin == end == len(row.text) and row.kinds[index] == "eos":
            eos = trained
            continue
        while begin == end and index > 0:  # a later token of a character goes with its first
            index -= 1
            begin, end = row.spans[index]
        characters = characters | set(range(begin, end)) if trained else characters - set(range(begin, end))
    return HandMask.of(row.text, characters, eos)
