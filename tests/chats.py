"""Chat templates in the style of known models, written from memory, on tiny tokenizers, and what ought to be trained of
a conversation. None of them marks what the assistant generates. Shares no code with sftdemo."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from tiny import byte_level, digits, llama3

_ALTERNATE = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)
_CHATML_TURN = "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
_CHATML_ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

# name: (template, its special tokens, EOS first)
STYLES = {
    "smollm2": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM<|im_end|>\\n' }}{% endif %}"
        + _CHATML_TURN
        + "{% endfor %}"
        + _CHATML_ASK,
        ["<|im_end|>", "<|im_start|>"],
    ),
    "qwen2.5": (
        "{%- if messages[0]['role'] == 'system' %}\n"
        "    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n"
        "{%- else %}\n"
        "    {{- '<|im_start|>system\\nYou are Qwen. You are a helpful assistant.<|im_end|>\\n' }}\n"
        "{%- endif %}\n"
        "{%- for message in messages %}\n"
        "    {%- if message.role == 'tool' %}\n"
        "        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}\n"
        "        {{- '<|im_end|>\\n' }}\n"
        "    {%- elif not (message.role == 'system' and loop.first) %}\n"
        "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
        "    {%- endif %}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n",
        ["<|im_end|>", "<|im_start|>", "<|endoftext|>"],
    ),
    "llama3": (
        "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
        "'<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' %}"
        "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
        ["<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
    ),
    "llama2": (
        "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
        "{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}"
        "{% else %}{% set loop_messages = messages %}{% set system = '' %}{% endif %}"
        "{% for message in loop_messages %}" + _ALTERNATE + "{% if message['role'] == 'user' %}"
        "{{ bos_token + '[INST] ' + (system if loop.first else '') + message['content'] | trim + ' [/INST]' }}"
        "{% else %}{{ ' ' + message['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}",
        ["</s>"],
    ),
    "mistral": (
        "{{ bos_token }}{% for message in messages %}" + _ALTERNATE + "{% if message['role'] == 'user' %}"
        "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token }}{% endif %}"
        "{% endfor %}",
        ["</s>", "[INST]", "[/INST]"],
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{% for message in messages %}" + _ALTERNATE + "{% set role = 'model' if message['role'] == "
        "'assistant' else message['role'] %}{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + "
        "'<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}",
        ["<eos>", "<start_of_turn>", "<end_of_turn>"],
    ),
    "phi3": (
        "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}",
        ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"],
    ),
    "zephyr": (  # its roles are plain text
        "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token }}\n"
        "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}{% endfor %}",
        ["</s>"],
    ),
    "qwen3": (  # an earlier answer's thoughts are taken out
        "{% for message in messages %}{% if message.role == 'assistant' %}"
        "{% set content = message.content.split('</think>')[-1].lstrip('\\n') %}"
        "{{ '<|im_start|>assistant\\n' + content + '<|im_end|>\\n' }}"
        "{% else %}" + _CHATML_TURN + "{% endif %}{% endfor %}" + _CHATML_ASK,
        ["<|im_end|>", "<|im_start|>"],
    ),
    "plain": (  # no token ends a turn
        "{% for message in messages %}{{ message.role | capitalize + ': ' + message.content + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}",
        ["<|endoftext|>"],
    ),
    "numbered": (  # and dated; the header ends in a letter of several bytes
        "{% for message in messages %}{{ loop.index | string + '/' + strftime_now('%Y') + ' ' + message.role + ' »' + "
        "message.content + '<|sep|>' }}{% endfor %}{% if add_generation_prompt %}"
        "{{ (messages | length + 1) | string + '/' + strftime_now('%Y') + ' assistant »' }}{% endif %}",
        ["<|endoftext|>", "<|sep|>"],
    ),
}
# an earlier turn cannot be found in these, or it follows another text than the prompt that asks for it
REFUSED = {
    "drops": (  # only the questions are kept
        "{% for message in messages if message.role != 'assistant' %}" + _CHATML_TURN + "{% endfor %}" + _CHATML_ASK,
        ["<|im_end|>", "<|im_start|>"],
        "rewrites or drops message 1",
    ),
    "shouts": (
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + (message.content | upper if "
        "message.role == 'assistant' else message.content) + '<|im_end|>\\n' }}{% endfor %}" + _CHATML_ASK,
        ["<|im_end|>", "<|im_start|>"],
        "rewrites or drops message 1",
    ),
    "says_twice": (
        "{% for message in messages %}" + _CHATML_TURN + "{{ message.content + '\\n' }}{% endfor %}" + _CHATML_ASK,
        ["<|im_end|>", "<|im_start|>"],
        "rewrites or drops message 1",
    ),
    "thinks_first": (  # as DeepSeek-R1: the prompt opens a thought that earlier turns do not show
        "{% for message in messages %}" + _CHATML_TURN + "{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}",
        ["<|im_end|>", "<|im_start|>"],
        "message 1 does not follow the prompt that asks for it",
    ),
    "counts": (  # the head of the conversation depends on how long it has become
        "{{ messages | length | string + ' messages\\n' }}{% for message in messages %}"
        + _CHATML_TURN
        + "{% endfor %}"
        + _CHATML_ASK,
        ["<|im_end|>", "<|im_start|>"],
        "message 1 does not follow the prompt that asks for it",
    ),
    "asks_in_a_word": (  # the prompt ends in a space, which is part of the answer's first token when it is there
        "{% for message in messages %}{{ message.role + ': ' + message.content + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
        ["<|endoftext|>"],
        "a token merges across the beginning of assistant turn 1",
    ),
}
KINDS = {"gpt2": byte_level, "digits": digits, "llama3": llama3}
SYSTEM = {"smollm2", "qwen2.5", "llama3", "llama2", "phi3", "zephyr", "qwen3", "plain", "numbered"}
TOOLS = SYSTEM - {"llama2"}


@cache
def chat_tokenizer(style: str, kind: str):
    template, special, *_ = (STYLES | REFUSED)[style]
    if kind == "llama3":
        tokenizer = llama3(*special, chat_template=template)
        tokenizer.eos_token = special[0]
        return tokenizer
    tokenizer = KINDS[kind](*special, "<s>", chat_template=template)
    tokenizer.bos_token = "<s>"
    return tokenizer


class Place(NamedTuple):
    """Where a message's content begins and ends in a text."""

    begin: int
    end: int


def rendered(tokenizer, messages: list[dict], ask: bool = True) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)


def places(tokenizer, messages: list[dict]) -> list[Place | None]:
    """Where the contents lie in the prompt made of `messages`: a unique word in a content's place shows where it
    begins, and what follows the word is what must follow the content. None for a content that is not there as it was
    written (or trimmed)."""
    text, found = rendered(tokenizer, messages), []
    for index, message in enumerate(messages):
        word = f"unique{index}word"
        twin = rendered(tokenizer, [*messages[:index], message | {"content": word}, *messages[index + 1 :]])
        before, _, after = twin.partition(word)
        fits = [
            Place(len(before), len(before) + len(form))
            for form in (message["content"], message["content"].strip())
            if word not in after and text == before + form + after
        ]
        found.append(fits[0] if fits else None)
    return found


def encoded(tokenizer, text: str, contents: list[Place]) -> tuple[list[int], list[Place]]:
    """Ids and characters of a text in which special tokens are only those that do not lie in the contents."""
    special = "|".join(re.escape(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special)
    ids, offsets, position = [], [], 0

    def plain(begin: int, end: int) -> None:
        stretch = tokenizer(
            text[begin:end], add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        ids.extend(stretch["input_ids"])
        offsets.extend(Place(first + begin, last + begin) for first, last in stretch["offset_mapping"])

    for match in re.finditer(special, text):
        if match.start() >= position and not any(
            match.start() < place.end and place.begin < match.end() for place in contents
        ):
            plain(position, match.start())
            ids.append(tokenizer.convert_tokens_to_ids(match.group()))
            offsets.append(Place(*match.span()))
            position = match.end()
    plain(position, len(text))
    return ids, offsets


def stop_of(style: str, tokenizer) -> int:
    """The token that ends a turn, known by its name."""
    named = {"llama3": "<|eot_id|>", "gemma": "<end_of_turn>", "phi3": "<|end|>", "numbered": "<|sep|>"}
    return tokenizer.convert_tokens_to_ids(named[style]) if style in named else tokenizer.eos_token_id


class Refused(Exception):
    """A turn is not to be found after the prompt that asks for it, or not after its ids."""


def expected(style: str, tokenizer, messages: list[dict], turns: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(input_ids, labels) of a conversation whose last message is the assistant's.

    Raises:
        Refused: when an earlier turn that is to be trained cannot be.
    """
    *before, answer = messages
    text, found, stop = rendered(tokenizer, before), places(tokenizer, before), stop_of(style, tokenizer)
    assistants = [index for index, message in enumerate(before) if message["role"] == "assistant" and turns == "all"]
    if any(found[index] is None for index in assistants):
        raise Refused
    contents = [place for place in found if place]
    ids, offsets = encoded(tokenizer, text, contents)
    trained = [False] * len(ids)
    for index in assistants:
        place, asked = found[index], rendered(tokenizer, before[:index])
        if not text.startswith(asked) or text[len(asked) : place.begin].strip():
            raise Refused
        generation, _ = encoded(tokenizer, asked, contents)
        reached = offsets[: len(generation)]
        if ids[: len(generation)] != generation or any(last > len(asked) for _, last in reached):
            raise Refused
        after = [i for i, (first, _) in enumerate(offsets) if first >= place.end]
        for i, (first, last) in enumerate(offsets):
            trained[i] |= first < place.end and last > len(asked)
        token = next((i for i in after if text[slice(*offsets[i])].strip()), None)
        if token is not None and ids[token] == stop:
            trained[after[0] : token + 1] = [True] * (token + 1 - after[0])
    whole = encoded(tokenizer, text + answer["content"], [*contents, Place(len(text), len(text + answer["content"]))])
    merged = whole[0][: len(ids)] != ids or any(last > len(text) for _, last in whole[1][: len(ids)])
    alone = tokenizer(answer["content"], add_special_tokens=False, split_special_tokens=True)["input_ids"]
    completion = [*(alone if merged else whole[0][len(ids) :]), stop]
    labels = [token if chosen else -100 for token, chosen in zip(ids, trained, strict=True)] + completion
    labels[0] = -100
    return (*ids, *completion), tuple(labels)
