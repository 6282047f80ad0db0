"""Make a trained model stop where it was trained to, whoever loads it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase


def mend_stopping(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, ends: Collection[int]
) -> GenerationConfig:
    """Let the model's generation config end on every id that was trained as an end, besides those that it names. If the
    padding token is one of them, take another: tools that ignore padding would ignore the end as well, and a model
    trained with them never learns to stop. Returns the generation config; of one that transformers would not write,
    such as a temperature without sampling, the tokens alone.

    Args:
        ends (`Collection[int]`):
            The ids that were trained as the end of an answer (`MaskedExample.ends`).
    """
    config = _writable(cast("GenerationConfig", model.generation_config))
    model.generation_config = config  # pyright: ignore[reportArgumentType] - a module takes anything
    known = config.eos_token_id
    named = known if isinstance(known, list) else [known]
    stops = [*dict.fromkeys(index for index in (*named, *sorted(ends)) if isinstance(index, int))]
    config.eos_token_id = stops if len(stops) > 1 else stops[0] if stops else None
    if tokenizer.pad_token_id in stops:
        other = _padding(tokenizer, stops)
        if other is not None:
            tokenizer.pad_token = other
    config.pad_token_id = tokenizer.pad_token_id
    return config


def _writable(config: GenerationConfig) -> GenerationConfig:
    from transformers import GenerationConfig

    try:
        config.validate(strict=True)
    except (ValueError, TypeError, AttributeError):  # its values may be anything
        return GenerationConfig(bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id)
    return config


def _padding(tokenizer: PreTrainedTokenizerBase, stops: Collection[int]) -> str | None:
    """Return a token to pad with that ends nothing: one that is made for it, or the unknown token."""
    special = {token.content: index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    named = [text for text in special if "pad" in text.lower()]
    candidates = [*named, cast("str | None", tokenizer.unk_token)]
    return next((text for text in candidates if text is not None and special.get(text) not in (None, *stops)), None)
