"""Chat templates in the style of known models, written from memory, on tiny tokenizers. None of them marks what the
assistant generates. Shares no code with sftdemo."""

from __future__ import annotations

from functools import cache

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
# these change, drop or repeat turns, or do not go on after the prompt
ODD = {
    "drops": (  # only the questions are kept
        "{% for message in messages if message.role != 'assistant' %}" + _CHATML_TURN + "{% endfor %}" + _CHATML_ASK,
        ["<|im_end|>", "<|im_start|>"],
    ),
    "shouts": (
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + (message.content | upper if "
        "message.role == 'assistant' else message.content) + '<|im_end|>\\n' }}{% endfor %}" + _CHATML_ASK,
        ["<|im_end|>", "<|im_start|>"],
    ),
    "says_twice": (
        "{% for message in messages %}" + _CHATML_TURN + "{{ message.content + '\\n' }}{% endfor %}" + _CHATML_ASK,
        ["<|im_end|>", "<|im_start|>"],
    ),
    "thinks_first": (  # as DeepSeek-R1: the prompt opens a thought that earlier turns do not show
        "{% for message in messages %}" + _CHATML_TURN + "{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}",
        ["<|im_end|>", "<|im_start|>"],
    ),
    "counts": (  # the head of the conversation depends on how long it has become
        "{{ messages | length | string + ' messages\\n' }}{% for message in messages %}"
        + _CHATML_TURN
        + "{% endfor %}"
        + _CHATML_ASK,
        ["<|im_end|>", "<|im_start|>"],
    ),
    "asks_in_a_word": (  # the prompt ends in a space, which is part of the answer's first token when it is there
        "{% for message in messages %}{{ message.role + ': ' + message.content + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
        ["<|endoftext|>"],
    ),
}
KINDS = {"gpt2": byte_level, "digits": digits, "llama3": llama3}
SYSTEM = {"smollm2", "qwen2.5", "llama3", "llama2", "phi3", "zephyr", "qwen3", "plain", "numbered"}
TOOLS = SYSTEM - {"llama2"}


@cache
def chat_tokenizer(style: str, kind: str):
    template, special = (STYLES | ODD)[style]
    if kind == "llama3":
        tokenizer = llama3(*special, chat_template=template)
        tokenizer.eos_token = special[0]
        return tokenizer
    tokenizer = KINDS[kind](*special, "<s>", chat_template=template)
    tokenizer.bos_token = "<s>"
    return tokenizer
