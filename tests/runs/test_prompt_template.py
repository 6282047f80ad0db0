"""The trained prompt as a chat template: it gives the very ids that the run asks with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import CUSTOM, texts
from tiny import CHATML, MAKERS, byte_level, tokenizer_named
from transformers import PreTrainedTokenizerFast

from sftdemo.data.chat import render_prompt
from sftdemo.data.examples import Example, Message
from sftdemo.data.questions import Question
from sftdemo.data.templates import get_template
from sftdemo.mask.encoding import encoder_for
from sftdemo.runs.prompt_template import TrainedPrompt

TEMPLATES = [
    "instruction",
    "alpaca",
    *CUSTOM,
    "{input}\n-- {instruction} --\n",
    'say "{instruction}"\\n',
    "{instruction}{input}",
]


def asked(example: Example) -> Question:
    return Question("", example, "held out")


def served(tokenizer, chat_template: str, messages: list, **arguments) -> list[int]:
    """What a server makes of the messages, with nothing but the tokenizer and its chat template."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token
    )
    tokenizer.chat_template = chat_template
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False, **arguments)


@given(data=st.data())
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_gives_the_ids_of_every_template(name, data):
    tokenizer = tokenizer_named(name)
    template = get_template(data.draw(st.sampled_from(TEMPLATES)))
    example = Example(0, "", instruction=data.draw(texts(special=False)), input=data.draw(texts(False) | st.just("")))
    trained = TrainedPrompt(template, "instruction", tokenizer)
    found = trained.to_jinja([asked(example)])
    assert trained.count_same(found, [asked(example)]) == (1, 1)
    own = {"input": example.input} if example.input else {}
    messages = [{"role": "user", "content": example.instruction, **own}]
    prompt = render_prompt(example, template, tokenizer)
    ids = encoder_for(tokenizer).encode_prompts([prompt])[0].ids
    assert served(tokenizer, found, messages) == ids
    bare = [{"role": "user", "content": example.instruction}]
    assert served(tokenizer, found, bare, **own) == ids  # as llama.cpp has it


@given(text=texts(special=False))
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_verbatim_prompt_is_the_message(name, text):
    tokenizer, example = tokenizer_named(name), Example(0, "", prompt=text)
    trained = TrainedPrompt(get_template("instruction"), "prompt", tokenizer)
    assert trained.count_same(trained.to_jinja([asked(example)]), [asked(example)]) == (1, 1)


@pytest.mark.parametrize("spec", [spec for spec in TEMPLATES if "{" in spec])
def test_a_template_with_one_character_more_is_noticed(spec):
    tokenizer, question = tokenizer_named("gpt2"), asked(Example(0, "", instruction="Say hello"))
    trained = TrainedPrompt(get_template(spec), "instruction", tokenizer)
    other = TrainedPrompt(get_template(spec.replace("}", "}!", 1)), "instruction", tokenizer)
    assert trained.count_same(other.to_jinja(), [question]) == (0, 1)


def test_an_answer_ends_in_eos_and_a_system_message_stands_before_the_rest():
    tokenizer = tokenizer_named("characters")
    found = TrainedPrompt(get_template("Q: {instruction}\nA:\n"), "instruction", tokenizer).to_jinja()
    turns = [("system", "Be brief."), ("user", "1+1?"), ("assistant", "2"), ("user", "2+2?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    tokenizer.chat_template = found
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<s>Be brief.\n\nQ: 1+1?\nA:\n2</s>Q: 2+2?\nA:\n"
    assert tokenizer.apply_chat_template(messages, tokenize=False) == text.removesuffix("\nA:\n")


THINKING = "{% if loud %}LOUD {% endif %}{% if mode and mode.kinds[0] == 'x' %}X {% endif %}" + CHATML


class TestChat:
    TURNS = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    QUESTIONS = (
        asked(Example(0, "", messages=TURNS)),
        asked(Example(1, "", instruction="say", input="it")),
    )

    def trained(self, template: str, arguments: str = "", shape: str = "messages") -> TrainedPrompt:
        tokenizer = byte_level("<|im_end|>", "<|im_start|>", chat_template=template)
        return TrainedPrompt(get_template("chat", arguments=arguments), shape, tokenizer)

    @pytest.mark.parametrize("shape", ["messages", "instruction"])
    def test_the_models_own_template_stays(self, shape):
        trained = self.trained(CHATML, shape=shape)
        assert trained.to_jinja(self.QUESTIONS) == CHATML
        assert trained.count_same(CHATML, self.QUESTIONS) == (2, 2)

    @pytest.mark.parametrize("lead", ["", "\n", "\n\n", "  "])
    def test_arguments_become_its_defaults(self, lead):
        arguments = '{"loud": true, "mode": {"kinds": ["x", null, 1.5]}, "unused": "\\"é\\n"}'
        trained = self.trained(lead + THINKING, arguments)
        found = trained.to_jinja()
        assert trained.count_same(found, self.QUESTIONS) == (2, 2)
        assert trained.count_same(lead + THINKING, self.QUESTIONS) == (0, 2)
        quiet = trained.tokenizer.apply_chat_template(
            [{"role": "user", "content": "a"}], chat_template=found, tokenize=False, loud=False, mode=None
        )
        assert "LOUD" not in quiet

    def test_what_cannot_be_asked_so_is_not_compared(self):
        tools = Example(0, "", messages=self.TURNS, context='{"tools": []}')
        trained = self.trained(CHATML)
        assert trained.count_same(CHATML, [asked(tools)]) == (0, 0)
        plain = TrainedPrompt(get_template("instruction"), "instruction", trained.tokenizer)
        assert [plain.messages(question) for question in self.QUESTIONS] == [
            [],
            [{"role": "user", "content": "say", "input": "it"}],
        ]
