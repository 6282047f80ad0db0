"""Write the prompt that a run was trained on as a chat template, so that whoever serves the model asks it as it was
trained: `apply_chat_template([{"role": "user", "content": …}], add_generation_prompt=True)`.

The template is Jinja, as transformers, vLLM, llama.cpp and others read it
(https://huggingface.co/docs/transformers/chat_templating_writing).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ..data.chat import render_prompt
from ..data.questions import Question
from ..data.templates import Template
from ..mask.encoding import encoder_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PLACES = re.compile(r"\{(instruction|input)\}")
_PLAIN = """\
{{- PREFIX -}}
{%- for message in messages -%}
    {%- set given = message["input"] or (input if loop.last and input is defined else "") -%}
    {%- if message["role"] == "assistant" -%}
        {{- TAIL + message["content"] + END -}}
    {%- elif message["role"] == "system" -%}
        {{- message["content"] + "\\n\\n" -}}
    {%- elif given -%}
        {{- WITH_INPUT -}}
    {%- else -%}
        {{- WITHOUT_INPUT -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- TAIL -}}
{%- endif -%}
"""


@dataclass(frozen=True)
class TrainedPrompt:
    """How the rows of a run became prompts.

    Args:
        template (`Template`), shape (`str`):
            The run's template, and how its rows are written: `"instruction"`, `"prompt"` or `"messages"`.
        tokenizer (`PreTrainedTokenizerBase`):
            The run's tokenizer, with the model's own chat template.
    """

    template: Template
    shape: str
    tokenizer: PreTrainedTokenizerBase

    @property
    def is_chat(self) -> bool:
        """Return whether the prompts are written by the model's own chat template."""
        return self.shape == "messages" or (self.shape == "instruction" and self.template.text is None)

    def to_jinja(self, questions: Sequence[Question] = ()) -> str:
        """Return the prompt as a chat template.

        The content of a user's message is the instruction, or the verbatim prompt; a message may have a key `input`,
        the input of the instruction. Servers such as llama.cpp pass on a message's usual keys only, so the last
        message's input may be an argument of the template instead (`chat_template_kwargs`). An answer ends in EOS. A
        system message, which was not trained, stands before the rest. The model's own chat template stays as it is,
        with the run's arguments as its defaults.

        Args:
            questions (`Sequence[Question]`, *optional*):
                Prompts that decide whether a space must stand after BOS, as some tokenizers put one before a text.
        """
        if self.is_chat:
            return _with_defaults(cast("str", self.tokenizer.get_chat_template()), self.template.arguments)
        return max((self._plain(""), self._plain(" ")), key=lambda text: self.count_same(text, questions)[0])

    def count_same(self, chat_template: str, questions: Sequence[Question]) -> tuple[int, int]:
        """Return for how many questions a chat template gives the very ids that the run asks with, and how many
        questions could be compared."""
        encoder, same, compared = encoder_for(self.tokenizer), 0, 0
        for question in questions:
            messages = self.messages(question)
            if messages:
                prompt = render_prompt(question.example, self.template, self.tokenizer)
                given = self.tokenizer.apply_chat_template(
                    messages, chat_template=chat_template, add_generation_prompt=True, return_dict=False
                )
                same += given == encoder.encode_prompts([prompt])[0].ids
                compared += 1
        return same, compared

    def messages(self, question: Question) -> list[dict[str, Any]]:
        """Return a question as the messages that ask it in the chat template; empty if there are none that do."""
        example = question.example
        if example.tokens or example.context or any(message.extra for message in example.messages):
            return []
        if example.messages:
            turns = [{"role": message.role, "content": message.text} for message in example.messages]
            return turns if self.is_chat else []
        if example.prompt is not None:
            return [{"role": "user", "content": example.prompt}] if self.shape == "prompt" else []
        if self.shape == "prompt":
            return []
        if self.is_chat:
            return [{"role": "user", "content": "\n\n".join(filter(None, [example.instruction, example.input]))}]
        own = {"input": example.input} if example.input else {}
        return [{"role": "user", "content": example.instruction, **own}]

    def _plain(self, lead: str) -> str:
        content, given = 'message["content"]', "given"
        if self.shape == "prompt":
            tail, without_input, with_input = "", content, content
        else:
            text, other = self.template.text or "", self.template.text_with_input or ""
            tail = _PLACES.split(text)[-1]
            without_input = _expression(text, content, '""')
            with_input = _expression(other, content, given)
            if "{input}" not in other:
                with_input = _expression(text, f'{content} + "\\n\\n" + {given}', '""')
        words = {
            "PREFIX": self._prefix(lead),
            "TAIL": _literal(tail),
            "END": "eos_token" if self.tokenizer.eos_token else '""',
            "WITH_INPUT": with_input,
            "WITHOUT_INPUT": without_input,
        }
        return re.sub(r"\b(?:WITH_INPUT|WITHOUT_INPUT|PREFIX|TAIL|END)\b", lambda match: words[match[0]], _PLAIN)

    def _prefix(self, lead: str) -> str:
        """Return what the tokenizer puts before a text, and a chat template must write itself."""
        ids = encoder_for(self.tokenizer).prefix_ids
        if ids == [self.tokenizer.bos_token_id]:
            return f"bos_token + {_literal(lead)}" if lead else "bos_token"
        tokens = cast("list[str]", self.tokenizer.convert_ids_to_tokens(ids))
        return _literal("".join(tokens) + lead)


def _expression(text: str, content: str, given: str) -> str:
    """Return a template's text up to its last place as a Jinja expression."""
    pieces = _PLACES.split(text)[:-1]  # literals and the names of places alternate
    places = {"instruction": content, "input": given}
    parts = [places[piece] if index % 2 else _literal(piece) for index, piece in enumerate(pieces) if piece]
    return " + ".join(part for part in parts if part != '""') or '""'


def _with_defaults(chat_template: str, arguments: str) -> str:
    """Return a chat template that has arguments as its defaults."""
    lines = [  # chat templates are read with trim_blocks, which drops the newline after a block
        f"{{% set {name} = {name} if {name} is defined else {_literal(value)} %}}\n"
        for name, value in json.loads(arguments or "{}").items()
    ]
    return "".join(lines) + chat_template


def _literal(value: Any) -> str:
    """Return a value of JSON as a Jinja literal."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(name)}: {_literal(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return "none" if value is None else json.dumps(value)
