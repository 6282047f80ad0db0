"""Generate greedy answers in batches, from exactly the prompt ids that training used."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from ..core.errors import ModelError
from ..core.events import Answer
from ..data.templates import RenderedPrompt
from ..mask.encoding import encoder_for
from ..mask.turn_ends import end_ids
from .linear_layers import onednn_layout

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_SIZE = 16


def generate(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[RenderedPrompt],
    max_new_tokens: int,
    stop: Callable[[], bool] = lambda: False,
    batch_size: int | None = None,
    checked: bool = True,
) -> list[Answer]:
    """Return the greedy continuation of each prompt, with the reason it ended: "EOS", "length", "stopped" or "NaN".

    The prompts are answered in batches, shortest first so that little is padded (on the left, with a mask). The
    answers come back in the order of the prompts. `stop` is called before each batch and each token.

    Raises:
        ModelError: for an empty prompt without a BOS token, or one that leaves too few positions for the new tokens;
            for a model that computes NaN, unless `checked` is false: a training that has diverged leaves such a one,
            and its answers end there.
    """
    encoded = [prompt.ids for prompt in encoder_for(tokenizer).encode_prompts(prompts)]
    for prompt, ids in zip(prompts, encoded, strict=True):
        _check_length(model, prompt, ids, max_new_tokens)
    known = model.generation_config.eos_token_id
    named = [index for index in (known if isinstance(known, list) else [known]) if isinstance(index, int)]
    stop_ids = {*named, *end_ids(tokenizer, any(p.chat for p in prompts))}
    order = sorted(range(len(prompts)), key=lambda index: len(encoded[index]))
    if stop():
        return [Answer(prompt.text, "", "stopped", 0) for prompt in prompts]
    batch_size, answers = batch_size or BATCH_SIZE, dict[int, Answer]()
    with onednn_layout(model, min(len(order), batch_size)):
        for begin in range(0, len(order), batch_size):
            batch = order[begin : begin + batch_size]
            if stop():
                answers |= {index: Answer(prompts[index].text, "", "stopped", 0) for index in batch}
                continue
            ids_of_batch = [encoded[index] for index in batch]
            completions = _generate_batch(model, tokenizer, ids_of_batch, stop_ids, max_new_tokens, stop, checked)
            for index, (ids, reason) in zip(batch, completions, strict=True):
                answer = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                answers[index] = Answer(prompts[index].text, cast("str", answer), reason, len(ids))
    return [answers[index] for index in range(len(prompts))]


def _check_length(
    model: PreTrainedModel | PeftModel, prompt: RenderedPrompt, ids: list[int], max_new_tokens: int
) -> None:
    if not ids:
        raise ModelError("a prompt is empty, and this model has no BOS token to begin from; write a prompt.")
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)  # not every model has one
    if positions and len(ids) + max_new_tokens > positions:
        raise ModelError(
            f"the prompt beginning {prompt.text[:40]!r} has {len(ids)} tokens; with {max_new_tokens} new ones that is "
            f"over the model's {positions} positions. Shorten it, or ask for fewer new tokens."
        )


def _generate_batch(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: list[list[int]],
    stop_ids: set[int],
    max_new_tokens: int,
    stop: Callable[[], bool],
    checked: bool,
) -> list[tuple[list[int], str]]:
    import torch
    from transformers import GenerationConfig

    numbers = _Numbers(len(encoded), checked)

    class Stop:
        def __call__(self, input_ids, scores, **kwargs):
            stopped = torch.full((len(input_ids),), stop(), dtype=torch.bool)
            return (stopped | numbers.lost).to(input_ids.device)

    longest = max(map(len, encoded))
    pad = tokenizer.pad_token_id or 0  # masked, so any id will do
    input_ids = torch.tensor([[pad] * (longest - len(ids)) + ids for ids in encoded])
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in encoded])
    model.eval()
    with torch.inference_mode(), _only_greedy(model):
        output = model.generate(  # pyright: ignore[reportCallIssue] - both have it, by ways that pyright does not see
            input_ids=input_ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=max_new_tokens,
                eos_token_id=sorted(stop_ids) or None,
                pad_token_id=pad,
            ),
            logits_processor=[numbers],
            stopping_criteria=[Stop()],
        )
    answers = [_cut(row, stop_ids, max_new_tokens) for row in output[:, longest:].tolist()]
    return [numbers.cut(row, *answer, longest) for row, answer in enumerate(answers)]


class _Numbers:
    """Which rows of a batch are lost, and where: the likeliest token by NaN would always be the first."""

    def __init__(self, rows: int, checked: bool):
        import torch

        self.checked, self.lost, self._at = checked, torch.zeros(rows, dtype=torch.bool), dict[int, int]()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.lost |= scores.isnan().any(dim=-1).cpu()
        if self.checked and self.lost.any():
            raise ModelError(
                "the model computes what is no number (NaN), so its weights or settings are spoilt. Fetch, save or "
                "train it anew."
            )
        for row in self.lost.nonzero().flatten().tolist():
            self._at.setdefault(row, input_ids.shape[1])
        return scores

    def cut(self, row: int, ids: list[int], reason: str, longest: int) -> tuple[list[int], str]:
        """Return the tokens of a row before it was lost; all of them with their reason if they had ended by then."""
        length = self._at.get(row, len(ids) + longest + 1) - longest
        return (ids[:length], "NaN") if length <= len(ids) else (ids, reason)


@contextmanager
def _only_greedy(model: PreTrainedModel | PeftModel) -> Generator[None]:
    """Let none of the model's own ways to generate count inside this block: transformers takes its beams, penalties and
    forced tokens wherever it is not told otherwise."""
    from transformers import GenerationConfig, PreTrainedModel

    inner = [module for module in model.modules() if isinstance(module, PreTrainedModel) and module is not model]
    owners = [model, *(module for module in inner if module.can_generate())]
    kept = [owner.generation_config for owner in owners]
    try:
        for owner in owners:
            owner.generation_config = GenerationConfig()  # pyright: ignore[reportArgumentType] - it takes anything
        yield
    finally:
        for owner, config in zip(owners, kept, strict=True):
            owner.generation_config = config


def _cut(ids: list[int], stop_ids: set[int], max_new_tokens: int) -> tuple[list[int], str]:
    for index, token in enumerate(ids):
        if token in stop_ids:
            return ids[:index], "EOS"
    return ids, "length" if len(ids) == max_new_tokens else "stopped"
