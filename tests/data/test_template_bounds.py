"""Only templates that do no more than write their messages down are rendered in this process."""

from __future__ import annotations

import pytest
from chats import ODD, STYLES, chat_tokenizer
from tiny import CHATML, INST, byte_level

from sftdemo.core.errors import TemplateError
from sftdemo.data import chat_style
from sftdemo.data.chat_style import apply_chat_template
from sftdemo.data.template_bounds import is_bounded

EACH, END = "{% for m in messages %}", "{% endfor %}"
UNBOUNDED = [
    "{% for i in range(9) %}{% endfor %}",
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "{{ 'a' * 9 }}",
    "{{ 9 ** 9 }}",
    "{{ '%9d' % 1 }}",
    "{{ 'a' | center(9) }}",
    "{{ 'a'.center(9) }}",
    "{{ 'a'.join(messages) }}",
    "{{ messages | tojson | tojson }}",
    "{{ 'a' | replace('a', 'aa') }}",
    "{{ lipsum() }}",
    "{{ strftime_now('%9Y') }}",
    "{% set a %}{{ messages }}{% endset %}",
    "{% set a = 'a' %}" + "{% set a = a ~ a %}" * 40,
    "{% set n = namespace(x='a') %}" + EACH + "{% set n.x = n.x + n.x %}" + END,
    "{% set n = namespace(x='a') %}" + EACH + "{% set n.x = n.x | tojson %}" + END,
    "{% set n = namespace(a=messages) %}{% for m in n.a %}{% set n.a = n.a + [m] %}{% endfor %}",
    EACH + "{% for n in messages %}{% endfor %}" + END,
    EACH + "{% for c in m.content %}{{ messages }}{% endfor %}" + END,
    "{% for c in messages[0].content %}{{ messages }}{% endfor %}",
    "{% set messages = messages[0].content %}" + EACH + "{{ messages }}" + END,
    "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{% if",
]
TOOL_CALLS = EACH + "{% for call in m.tool_calls %}{{ call.function.arguments | tojson }}{% endfor %}" + END


@pytest.mark.parametrize("template", [CHATML, INST, TOOL_CALLS, *(text for text, _ in STYLES.values())])
def test_those_of_known_models_are_bounded(template):
    assert is_bounded(template) == ("strftime_now" not in template)


@pytest.mark.parametrize("template", UNBOUNDED)
def test_those_that_may_grow_are_not(template):
    assert not is_bounded(template)


@pytest.mark.parametrize("style", STYLES | ODD)
def test_both_ways_render_the_same(style, monkeypatch):
    tokenizer = chat_tokenizer(style, "gpt2")
    turns = [("user", "Hi <é>"), ("assistant", "<think>\n\n</think>\n\u2028"), ("user", "b"), ("assistant", "c")]
    messages = [{"role": role, "content": content, "name": None} for role, content in turns]

    def rendered():
        asked = [(1, True), (2, False), (3, True), (4, False)]
        return apply_chat_template(tokenizer, messages, {"tools": [{"name": "x"}]}, {"k": 1.5}, asked)

    here = rendered()
    monkeypatch.setattr(chat_style, "is_bounded", lambda template: False)
    assert rendered() == here


def test_one_that_runs_on_is_refused_and_not_tried_again(monkeypatch):
    monkeypatch.setattr(chat_style, "RENDER_SECONDS", 0.5)
    endless = EACH + "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}" + END
    tokenizer = byte_level("<|e|>", chat_template=endless)
    ask = chat_style.APART.ask
    asked = []
    monkeypatch.setattr(chat_style.APART, "ask", lambda *words, **more: [asked.append(words), ask(*words, **more)][1])
    for _ in range(3):
        with pytest.raises(TemplateError, match=r"refuses this conversation: it takes more than .* another chat temp"):
            apply_chat_template(tokenizer, [{"role": "user", "content": "a"}], {}, {}, [(1, True)])
    assert len(asked) == 1


def test_half_of_a_character_is_refused():
    tokenizer = byte_level("<|e|>", chat_template="{{ '\\ud800' }}")
    with pytest.raises(TemplateError, match=r"^the model's chat template writes half of a character\."):
        apply_chat_template(tokenizer, [{"role": "user", "content": "a"}], {}, {}, [(1, True)])
