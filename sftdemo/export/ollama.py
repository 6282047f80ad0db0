"""Write the Modelfile by which Ollama serves a model with the prompt it was trained on, and read it back.

Ollama has templates of its own, in Go's syntax, and takes a chat template from a GGUF file only where it knows it
(https://github.com/ollama/ollama/blob/main/docs/modelfile.mdx). So the model's chat template is rendered with signs in
the places of what is asked, and what it writes around them becomes the template.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..core.errors import DataError, ModelError, reason, unread

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SYSTEM, _PROMPT, _RESPONSE = "systemsign", "promptsign", "responsesign"
_PLACES = {_SYSTEM: "{{ .System }}", _PROMPT: "{{ .Prompt }}", _RESPONSE: "{{ .Response }}"}
_WRITTEN = re.compile(
    r"\{\{ if \.System \}\}(?P<system>.*)\{\{ else \}\}(?P<plain>.*)\{\{ end \}\}\{\{ \.Response \}\}", re.DOTALL
)


def modelfile(gguf: str, tokenizer: PreTrainedTokenizerBase, ends: list[str]) -> str:
    """Return the Modelfile for a GGUF file.

    Args:
        gguf (`str`):
            The file, as seen from the Modelfile.
        tokenizer (`PreTrainedTokenizerBase`):
            The one of the run's folder, whose chat template is the trained prompt.
        ends (`list[str]`):
            The texts of the tokens that end an answer.

    Raises:
        ModelError: if the chat template cannot be written in Ollama's syntax.
    """
    plain, after = _around(tokenizer, [])
    system, _ = _around(tokenizer, [{"role": "system", "content": _SYSTEM}])
    template = f"{{{{ if .System }}}}{system or plain}{{{{ else }}}}{plain}{{{{ end }}}}{{{{ .Response }}}}{after}"
    if '"""' in template or any('"' in end or "\n" in end for end in ends):
        raise ModelError("the prompt has three quotation marks in it, which a Modelfile cannot hold.")
    stops = [f'PARAMETER stop "{end}"' for end in ends]
    return "\n".join([f"FROM {gguf}", f'TEMPLATE """{template}"""', *stops]) + "\n"


def _around(tokenizer: PreTrainedTokenizerBase, before: list[dict[str, Any]]) -> tuple[str, str]:
    """Return what the chat template writes up to an answer, and what after it; empty where it refuses the messages.
    BOS is left out, as llama.cpp puts it there."""
    messages = [*before, {"role": "user", "content": _PROMPT}]
    answered = [*messages, {"role": "assistant", "content": _RESPONSE}]
    try:
        asked, whole = (
            cast("str", tokenizer.apply_chat_template(each, tokenize=False, add_generation_prompt=asks))
            for each, asks in ((messages, True), (answered, False))
        )
    except Exception as error:  # a template is a program, and may fail in any way
        if before:
            return "", ""
        raise ModelError(
            f"the chat template cannot be written for Ollama: it refuses one question ({reason(error)})."
        ) from error
    bos = cast("str | None", tokenizer.bos_token)
    if bos and tokenizer("x").input_ids[:1] == [tokenizer.bos_token_id]:
        asked = asked.removeprefix(bos)
    return _placed(asked), _placed(whole.rpartition(_RESPONSE)[2].rstrip("\n"))


def _placed(text: str) -> str:
    text = text.replace("{{", '{{ "{{" }}')
    for sign, place in _PLACES.items():
        text = text.replace(sign, place)
    return text


def prompt_of(modelfile: Path, question: str) -> str:
    """Return the prompt that a Modelfile of this program makes of a question without a system message.

    Raises:
        DataError: if the file cannot be read, or is written otherwise.
    """
    try:
        text = modelfile.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{modelfile} cannot be read: {unread(error)}.") from error
    template = re.search(r'^TEMPLATE """(.*?)"""', text, re.DOTALL | re.MULTILINE)
    found = _WRITTEN.match(template[1]) if template else None
    if found is None:
        raise DataError(f"{modelfile} has no template that was written by `export --to gguf`, so it cannot be checked.")
    return found["plain"].replace("{{ .Prompt }}", question).replace('{{ "{{" }}', "{{")
