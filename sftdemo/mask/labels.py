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
5. In a conversation, every assistant turn is trained, with the token that ends it (or only the last turn, if the user
   chooses that). The ids before a turn must be those that generation would see; otherwise the row is refused.
6. A hand-made mask overrides rules 1, 2 and 5 on which tokens are trained, never on the ids themselves.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import islice, pairwise
from typing import TYPE_CHECKING, NamedTuple

from ..data.examples import Example, HandMask, Problem
from ..data.templates import TEMPLATE, RenderedPrompt, Segment, Template
from .encoding import Encoded, Span, TextEncoder, encoder_for, partition
from .rows import Row, encode_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE_INDEX = -100


def decide_labels(row: Row) -> list[int]:
    """Return the label of each token of a row, before `max_length` cuts any: its id if it is trained, else
    `IGNORE_INDEX`. Labels are decided nowhere else."""
    input_ids, prompt_length = row.input_ids, len(row.prompt_ids.ids)
    if row.hand_mask is not None:
        trained = _trained_by_hand(row.hand_mask, row)
        labels = [index if is_trained else IGNORE_INDEX for index, is_trained in zip(input_ids, trained, strict=True)]
    else:
        labels = [IGNORE_INDEX] * prompt_length + input_ids[prompt_length:]
        for turn in row.turns:
            for position in turn_tokens(turn, row).positions:
                labels[position] = input_ids[position]
    labels[:1] = [IGNORE_INDEX]
    return labels


def _trained_by_hand(mask: HandMask, row: Row) -> list[bool]:
    """Return whether a hand-made mask trains each token. All tokens of one character are treated as its first is."""
    trained: list[bool] = []
    for begin, end in row.spans:
        chosen = any(begin < last and first < end for first, last in mask.trained)
        trained.append(chosen if begin < end else bool(trained) and trained[-1])
    if row.stop_id is not None:
        trained[-1] = mask.eos
    return trained


class TurnTokens(NamedTuple):
    """The positions to train in an earlier assistant turn, and whether the last of them is the token that ends it."""

    positions: list[int]
    has_stop: bool


def turn_tokens(turn: Span, row: Row) -> TurnTokens:
    """Return the positions from the end of the turn's own prompt to the token that ends the turn, including the
    template's whitespace around its content. If the template ends the turn with no such token, only the content."""
    begin, end = turn
    spans = partition(row.prompt_ids.offsets, 0, len(row.prompt.text))
    words = [position for position, (first, last) in enumerate(spans) if first < end and last > begin]
    after = words[-1] + 1 if words else sum(first < end for first, _ in spans)
    stop = after
    while stop < len(spans) and spans[stop][0] == spans[stop][1]:  # the rest of a multi-byte character
        stop += 1
    if words:
        words += range(after, stop)
    after = stop
    while stop < len(spans) and row.prompt.text[slice(*spans[stop])].isspace():
        stop += 1
    if stop == len(spans) or row.prompt_ids.ids[stop] != row.stop_id:
        return TurnTokens(words, has_stop=False)
    return TurnTokens([*words, *range(after, stop + 1)], has_stop=True)


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
        row (`int`):
            The example's row in its source, from 0.
        input_ids, labels (`tuple[int, ...]`, of one length, at most `max_length`):
            A label is `IGNORE_INDEX` or the token's own id.
        cut_labels (`tuple[int, ...]`):
            The labels that the tokens cut off by `max_length` would have.
        flags (`tuple[str, ...]`):
            Keys of `checks.CHECKS`.
    """

    row: int
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    cut_labels: tuple[int, ...]
    flags: tuple[str, ...]

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
            `"prompt"`, a message's role, `"completion"`, or `"eos"`.
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
            The most tokens that an example keeps.
    """

    tokenizer: PreTrainedTokenizerBase
    template: Template
    max_length: int

    def tokenize(self, examples: Iterable[Example]) -> tuple[list[TokenizedExample], list[Problem]]:
        """Tokenise and mask examples to show them. Rows whose prompt cannot be rendered are returned as problems. Meant
        for a page of rows; for thousands, `mask` is faster and uses less memory."""
        encoder, rows = encoder_for(self.tokenizer), encode_rows(examples, self.tokenizer, self.template)
        tokenized = [_explain(row, encoder, self.max_length) for row in rows if isinstance(row, Row)]
        return tokenized, [row for row in rows if isinstance(row, Problem)]

    def mask(self, examples: Iterable[Example]) -> Iterator[MaskedExample | Problem]:
        """Tokenise and mask examples to train or count them. Memory does not grow with the number of rows."""
        encoder, remaining = encoder_for(self.tokenizer), iter(examples)

        def encode() -> list[Row | Problem]:
            return encode_rows(islice(remaining, CHUNK), self.tokenizer, self.template, offsets=False)

        with ThreadPoolExecutor(1) as ahead:  # the tokenizer works on the next rows while these are masked
            coming = ahead.submit(encode)
            while rows := coming.result():
                coming = ahead.submit(encode)
                for row in rows:
                    yield row if isinstance(row, Problem) else _mask(row, decide_labels(row), encoder, self.max_length)


CHUNK = 1000  # rows held at once as the tokenizer's own objects, which take about 100 bytes per token


class MaskHash:
    """A SHA-256 over the row number, `input_ids` and `labels` of masked examples, in order. Equal hashes mean equal
    masks."""

    def __init__(self) -> None:
        self._digest = b""

    def add(self, masked: MaskedExample) -> None:
        """Add one more example to the hash."""
        digest = hashlib.sha256(self._digest)
        for numbers in ((masked.row, len(masked.labels)), masked.input_ids, masked.labels):
            digest.update(array("q", numbers))
        self._digest = digest.digest()

    def __str__(self) -> str:
        return self._digest.hex()


def _mask(row: Row, labels: list[int], encoder: TextEncoder, max_length: int) -> MaskedExample:
    """Return the example with its labels, cut to `max_length`."""
    input_ids = row.input_ids
    return MaskedExample(
        row=row.example.row,
        input_ids=tuple(input_ids[:max_length]),
        labels=tuple(labels[:max_length]),
        cut_labels=tuple(labels[max_length:]),
        flags=flags_of(row, labels, encoder, max_length),
    )


def flags_of(row: Row, labels: Sequence[int], encoder: TextEncoder, max_length: int) -> tuple[str, ...]:
    """Return the flags of a row with these labels, as keys of `checks.CHECKS`."""
    example, prompt_length, has_eos = row.example, len(row.prompt_ids.ids), row.stop_id is not None
    cut = max(len(labels) - max_length, 0)
    is_by_hand = row.hand_mask is not None
    nothing = labels[:max_length].count(IGNORE_INDEX) == min(len(labels), max_length)
    happened = {
        "merged_boundary": row.joint_ids is not None,
        "prompt_too_long": nothing and prompt_length >= max_length,
        "answer_cut": cut > has_eos,
        "eos_cut": cut > 0 and has_eos,
        "nothing_trained": nothing,
        "no_eos": not has_eos,
        "eos_untrained": has_eos and row.hand_mask is not None and not row.hand_mask.eos,
        "eos_typed": encoder.ends_in_special_text(example.completion),
        "turn_without_stop": not is_by_hand and not all(turn_tokens(turn, row).has_stop for turn in row.turns),
        "mask_not_used": example.mask is not None and not is_by_hand,
        "made_by_hand": is_by_hand,
        "empty_completion": not example.completion or example.completion.isspace(),
        "empty_prompt": prompt_length == 0,
        "special_text": encoder.has_special_text((*row.prompt.segments, Segment(example.completion, "completion"))),
    }
    return tuple([flag for flag, is_so in happened.items() if is_so])


def _explain(row: Row, encoder: TextEncoder, max_length: int) -> TokenizedExample:
    """Return a masked example with everything that is needed to show it."""
    labels = decide_labels(row)
    masked = _mask(row, labels, encoder, max_length)
    kinds = _prompt_kinds(row.prompt, row.prompt_ids, encoder) + ["completion"] * len(row.completion_ids.ids)
    for turn in row.turns:
        positions, has_stop = turn_tokens(turn, row)
        for position in positions:
            kinds[position] = "completion"
        if has_stop:
            kinds[positions[-1]] = "eos"
    return TokenizedExample(
        **{field.name: getattr(masked, field.name) for field in fields(masked)},
        text=row.text,
        spans=tuple(row.spans),
        kinds=tuple(kinds + ["eos"] * (row.stop_id is not None)),
        cut_ids=tuple(row.input_ids[max_length:]),
        joint_ids=tuple(row.joint_ids or ()),
    )


def _prompt_kinds(prompt: RenderedPrompt, encoded: Encoded, encoder: TextEncoder) -> list[str]:
    """Return the kind of each prompt token. A token with any of the user's text has the kind of that text, even if it
    begins with a space of the template."""
    roles = [segment.role for segment in prompt.segments for _ in segment.text]
    return [
        "special"
        if token in encoder.special_ids
        else next((role for role in roles[begin : max(end, begin + 1)] if role != TEMPLATE), TEMPLATE)
        for token, (begin, end) in zip(encoded.ids, encoded.offsets, strict=True)
    ]


def mark_by_hand(row: TokenizedExample, mask: HandMask | None, tokens: Iterable[int], trained: bool) -> HandMask:
    """Return the mask of a row after setting some of its tokens (positions, from 0) to trained or masked.

    `mask` is the hand-made mask of the example. If the row does not use it, the usual mask is changed instead. All
    tokens of one character are set together.
    """
    if mask is not None and "made_by_hand" in row.flags:
        characters, eos = {place for span in mask.trained for place in range(*span)}, mask.eos
    else:
        usual = zip(row.spans, (*row.labels, *row.cut_labels), strict=True)
        characters = {place for span, label in usual if label != IGNORE_INDEX for place in range(*span)}
        eos = True
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
