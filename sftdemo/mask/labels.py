"""THE mask: decides for every token whether it is trained. Everything that shows, checks, packs or trains consumes it.

    text       ### Instruction:↵Say hello↵↵### Response:↵ Hello world! <eos>
    input_ids  [ prompt's ids …                          ][ completion ][eos]
    labels     [ -100 …                                  ][ completion ][eos]

The rules:

1. The prompt is tokenised alone, as generation will, and together with the completion. If the joint ids begin with the
   prompt's ids, the joint ids are used. If not, a token merged across the boundary: then the prompt's ids are used with
   the completion's own, so that training sees the very prefix that generation sees, and the row is flagged.
2. Exactly one EOS ends a completion and is trained, unless `max_length` cut it off: then the row is flagged.
3. What the user typed never becomes a special token.
4. Position 0 is never trained: nothing before it could predict it.
5. In a conversation every assistant turn is trained with the token that ends it, where the ids before it are those
   that generation would see; a row in which they are not is refused. (Or the last turn only, if so chosen.)
6. A mask made by hand takes the place of 1, 2 and 5 as to what is trained, never as to the ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import islice
from typing import TYPE_CHECKING

from ..data.examples import Example, HandMask, Problem
from ..data.templates import TEMPLATE, RenderedPrompt, Segment, Template
from .encoding import Encoded, Span, TextEncoder, encoder_for, partition
from .rows import Row, encode_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE_INDEX = -100

CHUNK = 1000  # rows that are held as the tokenizer's own objects, which take about 100 bytes a token


@dataclass(frozen=True, slots=True)
class MaskedExample:
    """An example as it is trained.

    Args:
        row (`int`):
            The example's row in its source, from 0.
        input_ids, labels (`tuple[int, ...]`, of one length, at most `max_length`):
            A label is `IGNORE_INDEX` or the id itself.
        cut (`int`):
            Tokens that `max_length` cut off.
        flags (`tuple[str, ...]`):
            Keys of `FLAGS`.
    """

    row: int
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    cut: int
    flags: tuple[str, ...]

    @property
    def trained(self) -> int:
        """How many tokens are trained."""
        return len(self.labels) - self.labels.count(IGNORE_INDEX)


@dataclass(frozen=True, slots=True)
class TokenizedExample(MaskedExample):
    """An example as it is trained and as it is shown.

    Args:
        text (`str`):
            Prompt and completion, whole, even where `max_length` cuts the tokens.
        spans, kinds (`tuple`, one for each of `input_ids` and then of `cut_ids`):
            The spans are (begin, end) in `text`, in order and without gaps; BOS, EOS and the later tokens of a
            multi-byte character have empty ones. A kind is `"special"`, `"template"`, `"instruction"`, `"input"`,
            `"prompt"`, a message's role, `"completion"`, or `"eos"`.
        cut_ids (`tuple[int, ...]`):
            The tokens that `max_length` cut off.
        joint_ids (`tuple[int, ...]`):
            Where `"merged_boundary"` is flagged, what the tokenizer makes of the text as a whole; else empty.
    """

    text: str
    spans: tuple[Span, ...]
    kinds: tuple[str, ...]
    cut_ids: tuple[int, ...]
    joint_ids: tuple[int, ...]

    @property
    def tokens(self) -> list[str]:
        """The user's text of each of `input_ids`."""
        return [self.text[begin:end] for begin, end in self.spans[: len(self.input_ids)]]


def tokenize_examples(
    examples: Iterable[Example], tokenizer: PreTrainedTokenizerBase, template: Template, max_length: int
) -> tuple[list[TokenizedExample], list[Problem]]:
    """Tokenises and masks, to be shown; rows whose prompt cannot be rendered come back as problems, the others survive.

    For a page of rows: where there are thousands, `mask_examples` keeps less and takes less time."""
    encoder, rows = encoder_for(tokenizer), encode_rows(examples, tokenizer, template)
    tokenized = [_explained(row, _mask(row, encoder, max_length), encoder) for row in rows if isinstance(row, Row)]
    return tokenized, [row for row in rows if isinstance(row, Problem)]


def mask_examples(
    examples: Iterable[Example], tokenizer: PreTrainedTokenizerBase, template: Template, max_length: int
) -> Iterator[MaskedExample | Problem]:
    """Tokenises and masks row by row, to be trained or counted, in memory that does not grow with the rows."""
    encoder, remaining = encoder_for(tokenizer), iter(examples)

    def encode() -> list[Row | Problem]:
        return encode_rows(islice(remaining, CHUNK), tokenizer, template, offsets=False)

    with ThreadPoolExecutor(1) as ahead:  # the tokenizer works on the next rows while these are masked
        coming = ahead.submit(encode)
        while rows := coming.result():
            coming = ahead.submit(encode)
            for row in rows:
                yield row if isinstance(row, Problem) else _mask(row, encoder, max_length)


def _mask(row: Row, encoder: TextEncoder, max_length: int) -> MaskedExample:
    """The mask of one example. No other place decides a label."""
    example, length = row.example, len(row.prompt_ids.ids)
    input_ids, eos = row.input_ids, row.stop_id is not None
    by_hand = example.mask is not None and example.mask.text == row.text
    unstopped = False
    if by_hand:
        trained = _by_hand(example.mask, row.spans, eos)
        labels = [index if chosen else IGNORE_INDEX for index, chosen in zip(input_ids, trained, strict=True)]
    else:
        labels = [IGNORE_INDEX] * length + input_ids[length:]
        for turn in row.turns:
            chosen, stopped = _turn_tokens(turn, row)
            unstopped |= not stopped
            for position in chosen:
                labels[position] = input_ids[position]
    labels[:1] = [IGNORE_INDEX]

    cut = max(len(input_ids) - max_length, 0)
    nothing = labels[:max_length].count(IGNORE_INDEX) == min(len(labels), max_length)
    happened = {
        "merged_boundary": row.joint_ids is not None,
        "prompt_too_long": nothing and length >= max_length,
        "answer_cut": cut > eos,
        "eos_cut": cut > 0 and eos,
        "nothing_trained": nothing,
        "no_eos": not eos,
        "eos_untrained": by_hand and eos and not example.mask.eos,
        "eos_typed": encoder.ends_in_special_text(example.completion),
        "turn_without_stop": unstopped,
        "mask_not_used": example.mask is not None and not by_hand,
        "made_by_hand": by_hand,
        "empty_completion": not example.completion or example.completion.isspace(),
        "empty_prompt": length == 0,
        "special_text": encoder.has_special_text((*row.prompt.segments, Segment(example.completion, "completion"))),
    }
    return MaskedExample(
        row=example.row,
        input_ids=tuple(input_ids[:max_length]),
        labels=tuple(labels[:max_length]),
        cut=cut,
        flags=tuple([flag for flag, is_so in happened.items() if is_so]),
    )


def loss_weights(labels: Sequence[int], prompt_loss_weight: float) -> tuple[float, ...]:
    """How much each token of an example counts in the loss: 1 where it is trained, elsewhere `prompt_loss_weight`.

    Nothing predicts the first token, so it never counts, and of an example without a trained token none does. The loss
    is the sum of weight * -log p over the sum of the weights (Huerta-Enochian & Ko 2024, arXiv 2401.13586): with 0
    TRL's `completion_only_loss=True`, with 1 its `False`.
    """
    if labels.count(IGNORE_INDEX) == len(labels):
        return (0.0,) * len(labels)
    weights = [prompt_loss_weight if label == IGNORE_INDEX else 1.0 for label in labels]
    return 0.0, *weights[1:]


def _by_hand(mask: HandMask, spans: list[Span], eos: bool) -> list[bool]:
    """Whether a mask made by hand trains each token: the later tokens of a character go with its first."""
    trained: list[bool] = []
    for begin, end in spans:
        chosen = any(begin < last and first < end for first, last in mask.trained)
        trained.append(chosen if begin < end else bool(trained) and trained[-1])
    if eos:
        trained[-1] = mask.eos
    return trained


def mark_by_hand(row: TokenizedExample, mask: HandMask | None, tokens: Iterable[int], trained: bool) -> HandMask:
    """The mask of a row after some of its tokens (positions, from 0) were set to be trained or to be ignored.

    `mask` is the one that the example carries; where the row does not use it, its usual mask is what is changed. The
    tokens of one character are set together.
    """
    if mask is not None and "made_by_hand" in row.flags:
        characters, eos = {place for span in mask.trained for place in range(*span)}, mask.eos
    else:
        usual = [label != IGNORE_INDEX for label in row.labels]
        usual += [kind in ("completion", "eos") for kind in row.kinds[len(usual) :]]
        chosen = (span for span, is_trained in zip(row.spans, usual, strict=True) if is_trained)
        characters, eos = {place for span in chosen for place in range(*span)}, True
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


def _turn_tokens(turn: Span, row: Row) -> tuple[list[int], bool]:
    """The positions that an earlier assistant turn trains: all from the prompt that asks for it to the token that ends
    it, the template's whitespace around its words included; and whether there is such a token."""
    begin, end = turn
    spans = partition(row.prompt_ids.offsets, 0, len(row.prompt.text))
    chosen = [position for position, (first, last) in enumerate(spans) if first < end and last > begin]
    position = chosen[-1] + 1 if chosen else sum(first < end for first, _ in spans)
    spoken = bool(chosen)
    while position < len(spans) and spans[position][0] == spans[position][1]:  # the rest of a multi-byte character
        chosen += [position] * spoken  # of the template's, where the turn says nothing
        position += 1
    stop = position
    while stop < len(spans) and row.prompt.text[slice(*spans[stop])].isspace():
        stop += 1
    stopped = stop < len(spans) and row.prompt_ids.ids[stop] == row.stop_id
    return chosen + list(range(position, stop + 1)) * stopped, stopped


def _explained(row: Row, masked: MaskedExample, encoder: TextEncoder) -> TokenizedExample:
    """Adds to a masked example what a person needs to see of it."""
    kinds = _prompt_kinds(row.prompt, row.prompt_ids, encoder) + ["completion"] * len(row.completion_ids.ids)
    for turn in row.turns:
        chosen, stopped = _turn_tokens(turn, row)
        for position in chosen:
            kinds[position] = "completion"
        if stopped:
            kinds[chosen[-1]] = "eos"
    return TokenizedExample(
        **{field.name: getattr(masked, field.name) for field in fields(masked)},
        text=row.text,
        spans=tuple(row.spans),
        kinds=tuple(kinds + ["eos"] * (row.stop_id is not None)),
        cut_ids=tuple(row.input_ids[len(masked.input_ids) :]),
        joint_ids=tuple(row.joint_ids or ()),
    )


def _prompt_kinds(prompt: RenderedPrompt, encoded: Encoded, encoder: TextEncoder) -> list[str]:
    """A token that holds the user's text is of that text's kind, also where it begins with the template's space."""
    roles = [segment.role for segment in prompt.segments for _ in segment.text]
    return [
        "special"
        if token in encoder.special_ids
        else next((role for role in roles[begin : max(end, begin + 1)] if role != TEMPLATE), TEMPLATE)
        for token, (begin, end) in zip(encoded.ids, encoded.offsets, strict=True)
    ]
