"""The prompts that are answered before and after training: held-out rows, typed prompts, or a few trained rows."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ..core.config import RunConfig
from .examples import Example, Message, ParsedExamples

MAX_TRAINING_QUESTIONS = 3
_OPENING = re.compile(r"\s*(?:\S+\s+){0,4}\S+")  # the first words of a text


@dataclass(frozen=True)
class Question:
    """What a person reads as the question, the example that asks it, and where it comes from: "held out", "typed", or
    "training" where it is one of the trained rows'."""

    text: str
    example: Example
    source: str


def questions_of(config: RunConfig, data: ParsedExamples) -> list[Question]:
    """What is answered before and after: typed prompts and held-out rows, or without any a few training rows."""
    shape = shape_of(data.train[0])
    asked = [(typed_prompt(text, shape), "typed") for text in config.prompts]
    asked += [(example, "held out") for example in data.held_out]
    asked = asked or [(example, "training") for example in data.train[:MAX_TRAINING_QUESTIONS]]
    texts = {question_text(example) for example, _ in asked}
    trained = {text for text in map(question_text, data.train) if text in texts}
    questions = [Question(question_text(example), _opened(example), source) for example, source in asked]
    return [replace(each, source="training") if each.text in trained else each for each in questions]


def _opened(example: Example) -> Example:
    """What is asked of a row that is one text: to go on after its first words."""
    return replace(example, prompt=question_text(example), whole=False) if example.whole else example


def question_text(example: Example) -> str:
    """The question as a person reads it: the verbatim prompt, the last turn, or the instruction with its input; of a
    row that is one text its first words. A row that came tokenised is named by its number, as its text is not known."""
    if example.whole:
        opening = _OPENING.match(example.completion)
        return opening[0] if opening else ""
    if example.tokens:
        return f"row {example.row}, up to its first trained token"
    if example.prompt is not None:
        return example.prompt
    if example.messages:
        return example.messages[-1].text
    return "\n\n".join(filter(None, [example.instruction, example.input]))


def shape_of(example: Example) -> str:
    """How a row is written: `"instruction"`, `"prompt"` or `"messages"`."""
    if example.prompt is not None or example.tokens:
        return "prompt"
    return "messages" if example.messages else "instruction"


def typed_prompt(text: str, shape: str) -> Example:
    """Make an example of a typed prompt: verbatim for "prompt", a user turn for "messages", else an instruction."""
    if shape == "messages":
        return Example(-1, "", messages=(Message("user", text),))
    return Example(-1, "", prompt=text) if shape == "prompt" else Example(-1, "", instruction=text)
