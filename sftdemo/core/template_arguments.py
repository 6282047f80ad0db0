"""Check the arguments of a chat template that a setting gives."""

from __future__ import annotations

import json
from typing import cast

from .errors import ConfigError

# What a chat template gets from the row, and what transformers' functions that render it keep for themselves.
_RESERVED = frozenset(
    (
        *("self", "conversation", "conversations", "messages", "tools", "documents", "chat_template"),
        *("add_generation_prompt", "continue_final_message", "tokenize", "padding", "truncation", "max_length"),
        *("return_tensors", "return_dict", "return_assistant_tokens_mask", "sanitize_control_tokens"),
        "tokenizer_kwargs",
    )
)


def check_template_arguments(text: str) -> None:
    """Refuse arguments of a chat template that are neither left out nor a JSON object, or that it gets in another way.

    Raises:
        ConfigError: naming the value and what to write.
    """
    if not text.strip():
        return
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise ConfigError(
            f'chat_template_kwargs is {text[:60]!r}; write a JSON object, such as {{"enable_thinking": false}}.'
        )
    reserved = sorted(_RESERVED.intersection(cast("dict[str, object]", arguments)))
    if reserved:
        raise ConfigError(f"chat_template_kwargs names {reserved[0]!r}, which is set in another way; leave it out.")
