"""The Modelfile: its template makes the prompt that was trained."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import CUSTOM, texts
from tiny import CHATML, MAKERS, byte_level, tokenizer_named

from sftdemo.core.errors import DataError, ModelError
from sftdemo.data.templates import get_template
from sftdemo.export.ollama import modelfile, prompt_of
from sftdemo.runs.prompt_template import TrainedPrompt

SYSTEM = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe good.<|im_end|>\n{% endif %}" + CHATML
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}{% endfor %}" + CHATML
)


def tokenizer_with(chat_template: str, name: str = "gpt2"):
    """Like `name`, asked in another chat template."""
    from copy import copy

    tokenizer = copy(tokenizer_named(name))
    tokenizer.chat_template = chat_template
    return tokenizer


def without_bos(tokenizer, messages) -> str:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    adds = tokenizer.bos_token and tokenizer("x").input_ids[:1] == [tokenizer.bos_token_id]
    return text.removeprefix(tokenizer.bos_token) if adds else text


@given(data=st.data())
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_makes_the_trained_prompt(name, data, tmp_path_factory):
    spec = data.draw(st.sampled_from(["instruction", "alpaca", *CUSTOM, "{{not a place}} {instruction}\n"]))
    trained = TrainedPrompt(get_template(spec), "instruction", tokenizer_named(name))
    tokenizer = tokenizer_with(trained.to_jinja(), name)
    file = tmp_path_factory.mktemp("ollama") / "Modelfile"
    file.write_text(modelfile("./m.gguf", tokenizer, ["</s>"]), encoding="utf-8", newline="")
    question = data.draw(texts().filter(lambda text: "\r" not in text))
    messages = [{"role": "user", "content": question}]
    assert prompt_of(file, question) == without_bos(tokenizer, messages)


@pytest.mark.parametrize(
    ("chat_template", "system"),
    [
        (CHATML, "<|im_start|>system\n{{ .System }}<|im_end|>\n<|im_start|>user\n{{ .Prompt }}<|im_end|>\n"),
        (SYSTEM, "<|im_start|>system\n{{ .System }}<|im_end|>\n<|im_start|>user\n{{ .Prompt }}<|im_end|>\n"),
        (NO_SYSTEM, "<|im_start|>user\n{{ .Prompt }}<|im_end|>\n"),
    ],
    ids=["plain", "a default", "none"],
)
def test_a_models_own_template(chat_template, system, tmp_path):
    tokenizer = byte_level("<|im_end|>", "<|im_start|>", chat_template=chat_template)
    text = modelfile("./m.gguf", tokenizer, ["<|im_end|>", "<|im_start|>"])
    header = "<|im_start|>assistant\n"
    first = "<|im_start|>system\nBe good.<|im_end|>\n" if chat_template == SYSTEM else ""
    plain = f"{first}<|im_start|>user\n{{{{ .Prompt }}}}<|im_end|>\n{header}"
    assert text == (
        f'FROM ./m.gguf\nTEMPLATE """{{{{ if .System }}}}{system}{header}{{{{ else }}}}{plain}{{{{ end }}}}'
        '{{ .Response }}<|im_end|>"""\nPARAMETER stop "<|im_end|>"\nPARAMETER stop "<|im_start|>"\n'
    )


def test_what_cannot_be_written_is_refused():
    with pytest.raises(ModelError, match="three quotation marks"):
        modelfile("m", tokenizer_with('{{ messages[0]["content"] + \'"""\' }}'), [])
    with pytest.raises(ModelError, match=r"it refuses one question \(never\)\.$"):
        modelfile("m", tokenizer_with("{{ raise_exception('never' + '\\nagain' * 5000) }}"), [])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("FROM x\n", "no template that was written by"),
        ('FROM x\nTEMPLATE """{{ .Prompt }}"""\n', "no template that was written by"),
        (None, "cannot be read"),
    ],
)
def test_a_modelfile_of_another_form_is_not_read(text, says, tmp_path):
    if text is not None:
        (tmp_path / "Modelfile").write_text(text)
    with pytest.raises(DataError, match=says):
        prompt_of(tmp_path / "Modelfile", "a")
