"""The prompts that are answered before and after training: held-out rows, typed prompts, or a few trained rows."""

from __future__ import annotations

from ..core.config import RunConfig
from .examples import Example, Message, ParsedExamples
from .templates import RenderedPrompt, get_template, render_prompt

MAX_TRAINING_QUESTIONS = 3


def question_text(example: Example) -> str:
    """The question as a person reads it: the verbatim prompt, the last turn, or the instruction with its input."""
    if example.prompt is not None:
        return example.prompt
    if example.messages:
        return example.messages[-1].content
    return "\n\n".join(filter(None, [example.instruction, example.input]))


def questions_asked(config: RunConfig, data: ParsedExamples) -> list[tuple[str, Example, str]]:
    """Return what is answered before and after training, as (text to show, example, source): the typed prompts and the
    held-out rows, or if there are none the first training rows. The source is "typed", "held out" or "training"."""
    asked = [(typed_prompt(text, shape_of(data.train[0])), "typed") for text in config.prompts]
    asked += [(example, "held out") for example in data.held_out]
    asked = asked or [(example, "training") for example in data.train[:MAX_TRAINING_QUESTIONS]]
    questions = [(question_text(example), example, kind) for example, kind in asked]
    texts = {text for text, _, _ in questions}
    trained = {text for text in map(question_text, data.train) if text in texts}
    return [(text, example, "training" if text in trained else kind) for text, example, kind in questions]


def questions_rendered(config: RunConfig, data: ParsedExamples, tokenizer) -> list[tuple[str, RenderedPrompt, str]]:
    """Like `questions_asked`, with each example's prompt as the model reads it."""
    template = get_template(config.template, "last")
    asked = questions_asked(config, data)
    return [(text, render_prompt(example, template, tokenizer), kind) for text, example, kind in asked]


def shape_of(example: Example) -> str:
    """How the prompt of an example is kept: "prompt", "messages" or "instruction"."""
    if example.prompt is not None:
        return "prompt"
    return "messages" if example.messages else "instruction"


def typed_prompt(text: str, shape: str) -> Example:
    """Make an example of a typed prompt: verbatim for "prompt", a user turn for "messages", else an instruction."""
    if shape == "messages":
        return Example(-1, "", messages=(Message("user", text),))
    return Example(-1, "", prompt=text) if shape == "prompt" else Example(-1, "", instruction=text)
