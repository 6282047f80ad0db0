"""What is asked before and after a training: held-out rows, typed prompts, or a few of the trained rows."""

from __future__ import annotations

from ..core.config import RunConfig
from .examples import Example, Message, ParsedExamples
from .templates import RenderedPrompt, get_template, render_prompt

MAX_TRAINING_QUESTIONS = 3


def question_text(example: Example) -> str:
    """What a person reads as the question: the instruction with its input, the verbatim prompt, the last turn."""
    if example.prompt is not None:
        return example.prompt
    if example.messages:
        return example.messages[-1].content
    return "\n\n".join(filter(None, [example.instruction, example.input]))


def questions_asked(config: RunConfig, data: ParsedExamples) -> list[tuple[str, Example, str]]:
    """What is answered before and after, as (what to show, the example, where it comes from): typed prompts and
    held-out rows, or without any a few training rows."""
    asked = [(typed_prompt(text, shape_of(data.train[0])), "typed") for text in config.prompts]
    asked += [(example, "held out") for example in data.held_out]
    asked = asked or [(example, "training") for example in data.train[:MAX_TRAINING_QUESTIONS]]
    questions = [(question_text(example), example, kind) for example, kind in asked]
    texts = {text for text, _, _ in questions}
    trained = {text for text in map(question_text, data.train) if text in texts}
    return [(text, example, "training" if text in trained else kind) for text, example, kind in questions]


def questions_rendered(config: RunConfig, data: ParsedExamples, tokenizer) -> list[tuple[str, RenderedPrompt, str]]:
    template = get_template(config.template, "last")
    asked = questions_asked(config, data)
    return [(text, render_prompt(example, template, tokenizer), kind) for text, example, kind in asked]


def shape_of(example: Example) -> str:
    if example.prompt is not None:
        return "prompt"
    return "messages" if example.messages else "instruction"


def typed_prompt(text: str, shape: str) -> Example:
    """A typed prompt in the shape of the examples: a verbatim "prompt", a user's turn of "messages", "instruction"."""
    if shape == "messages":
        return Example(-1, "", messages=(Message("user", text),))
    return Example(-1, "", prompt=text) if shape == "prompt" else Example(-1, "", instruction=text)
