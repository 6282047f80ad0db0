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
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .encoding import Encoded, Span, TextEncoder, encoder_for, partition
from .errors import TemplateError
from .examples import Example, Message, Problem
from .templates import RenderedPrompt, Segment, Template, apply_chat_template, render_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE_INDEX = -100

FLAGS = {
    "merged_boundary": "a token would merge across the end of the prompt: the prompt's ids and the completion's own "
    "ids are used. End the template in a newline.",
    "answer_cut": "the answer is cut by max_length. Raise max_length or shorten the row.",
    "eos_cut": "EOS is cut off, so this row never teaches the model to stop. Raise max_length or shorten the row.",
    "nothing_trained": "no token is trained, so the row is left out. Raise max_length or write an answer.",
    "no_eos": "the tokenizer has no EOS token, so the model never learns to stop. Choose another model.",
    "empty_completion": "the answer is empty or only whitespace: the model learns to say nothing.",
    "empty_prompt": "the prompt has no token, so the answer's first token has nothing that predicts it.",
    "special_text": "the row holds a special token's text; it is tokenised as plain text.",
}


@dataclass(frozen=True)
class TokenizedExample:
    """An example as it is shown and trained.

    Args:
        row (`int`):
            The example's row in its source, from 0.
        text (`str`):
            Prompt and completion, whole, even where `max_length` cuts the tokens.
        input_ids, labels, spans, kinds (`tuple`, of one length, at most `max_length`):
            A label is `IGNORE_INDEX` or the id itself. The spans are (begin, end) in `text`, in order and without gaps;
            BOS, EOS and the later tokens of a multi-byte character have empty ones. A kind is one of `"special"`,
            `"template"`, `"prompt"`, `"completion"`, `"eos"`.
        cut (`int`):
            Tokens that `max_length` cut off.
        flags (`tuple[str, ...]`):
            Keys of `FLAGS`.
        joint_ids (`tuple[int, ...]`):
            Where `"merged_boundary"` is flagged, what the tokenizer makes of the text as a whole; else empty.
    """

    row: int
    text: str
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    spans: tuple[Span, ...]
    kinds: tuple[str, ...]
    cut: int
    flags: tuple[str, ...]
    joint_ids: tuple[int, ...] = ()

    @property
    def trained(self) -> int:
        """How many tokens are trained."""
        return sum(label != IGNORE_INDEX for label in self.labels)

    @property
    def tokens(self) -> list[str]:
        """The user's text of each token."""
        return [self.text[begin:end] for begin, end in self.spans]


def tokenize_examples(
    examples: Iterable[Example], tokenizer: PreTrainedTokenizerBase, template: Template, max_length: int
) -> tuple[list[TokenizedExample], list[Problem]]:
    """Tokenises and masks; rows whose prompt cannot be rendered come back as problems, the others survive."""
    encoder = encoder_for(tokenizer)
    rendered, problems = [], []
    for example in examples:
        try:
            rendered.append((example, render_prompt(example, template, tokenizer)))
        except TemplateError as error:
            problems.append(Problem(example.row, example.line, str(error)))
    prompts = encode_prompts([prompt for _, prompt in rendered], tokenizer)
    wholes = [_with_completion(prompt, example) for example, prompt in rendered]
    joints = encode_prompts(wholes, tokenizer)
    stop_ids = {chat: stop_token_id(tokenizer, chat) for chat in {prompt.chat for _, prompt in rendered}}
    tokenized = [
        _mask(example, prompt, prompt_encoded, joint, encoder, stop_ids[prompt.chat], max_length)
        for (example, prompt), prompt_encoded, joint in zip(rendered, prompts, joints, strict=True)
    ]
    return tokenized, problems


def _with_completion(prompt: RenderedPrompt, example: Example) -> RenderedPrompt:
    return RenderedPrompt((*prompt.segments, Segment(example.completion, True)), prompt.chat)


def encode_prompts(prompts: Sequence[RenderedPrompt], tokenizer: PreTrainedTokenizerBase) -> list[Encoded]:
    """The ids of rendered prompts, BOS included where the model wants one. Generation uses these same ids."""
    encoder = encoder_for(tokenizer)
    chat = iter(encoder.encode_chat([prompt.segments for prompt in prompts if prompt.chat]))
    plain = iter(encoder.encode_plain([prompt.text for prompt in prompts if not prompt.chat]))
    prefix = encoder.prefix_ids
    return [next(chat) if prompt.chat else _prepend(prefix, next(plain)) for prompt in prompts]


def _prepend(prefix: list[int], encoded: Encoded) -> Encoded:
    return Encoded([*prefix, *encoded.ids], [(0, 0)] * len(prefix) + encoded.offsets)


def stop_token_id(tokenizer: PreTrainedTokenizerBase, chat: bool) -> int | None:
    """The token that ends an answer: EOS, or in a chat what the chat template puts after the assistant's words."""
    if not chat:
        return tokenizer.eos_token_id
    mark = "contentmark"
    turns = [Message("user", "x"), Message("assistant", mark)]
    text = apply_chat_template(tokenizer, turns, generation_prompt=False)
    tail = encoder_for(tokenizer).encode_chat([[Segment(text.rpartition(mark)[2], False)]])[0].ids
    special = [index for index in tail if index in encoder_for(tokenizer).special_ids]
    return special[0] if special else tokenizer.eos_token_id


def _mask(
    example: Example,
    prompt: RenderedPrompt,
    prompt_encoded: Encoded,
    joint: Encoded,
    encoder: TextEncoder,
    stop_id: int | None,
    max_length: int,
) -> TokenizedExample:
    """The mask of one example. No other place decides a label."""
    text, boundary, length = prompt.text + example.completion, len(prompt.text), len(prompt_encoded.ids)
    # the same ids may still hold more: an unknown-token fuses with its neighbours
    merged = joint.ids[:length] != prompt_encoded.ids or any(end > boundary for _, end in joint.offsets[:length])
    if merged:
        completion = encoder.encode_continuation(example.completion)
        completion = Encoded(completion.ids, [(a + boundary, b + boundary) for a, b in completion.offsets])
    else:
        completion = Encoded(joint.ids[length:], joint.offsets[length:])

    input_ids = [*prompt_encoded.ids, *completion.ids]
    spans = partition(prompt_encoded.offsets, 0, boundary) + partition(completion.offsets, boundary, len(text))
    kinds = _prompt_kinds(prompt, prompt_encoded, encoder) + ["completion"] * len(completion.ids)
    if stop_id is not None:
        input_ids, spans, kinds = [*input_ids, stop_id], [*spans, (len(text), len(text))], [*kinds, "eos"]
    labels = [IGNORE_INDEX] * length + input_ids[length:]
    labels[:1] = [IGNORE_INDEX]

    cut = max(len(input_ids) - max_length, 0)
    trained = any(label != IGNORE_INDEX for label in labels[:max_length])
    happened = {
        "merged_boundary": merged,
        "answer_cut": cut > (stop_id is not None),
        "eos_cut": cut > 0 and stop_id is not None,
        "nothing_trained": not trained,
        "no_eos": stop_id is None,
        "empty_completion": not example.completion.strip(),
        "empty_prompt": length == 0,
        "special_text": encoder.has_special_text((*prompt.segments, Segment(example.completion, True))),
    }
    return TokenizedExample(
        row=example.row,
        text=text,
        input_ids=tuple(input_ids[:max_length]),
        labels=tuple(labels[:max_length]),
        spans=tuple(spans[:max_length]),
        kinds=tuple(kinds[:max_length]),
        cut=cut,
        flags=tuple(flag for flag in FLAGS if happened[flag]),
        joint_ids=tuple(joint.ids) if merged else (),
    )


def _prompt_kinds(prompt: RenderedPrompt, encoded: Encoded, encoder: TextEncoder) -> list[str]:
    from_user = [segment.from_user for segment in prompt.segments for _ in segment.text]
    return [
        "special"
        if token in encoder.special_ids
        else "prompt"
        if any(from_user[begin : max(end, begin + 1)])
        else "template"
        for token, (begin, end) in zip(encoded.ids, encoded.offsets, strict=True)
    ]
