"""The lessons' faults are found before their mend and gone after the right one, with the model that they are about."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from default_model import default_model

from sftdemo.core.config import RunConfig
from sftdemo.core.errors import DataError
from sftdemo.data.examples import parse_examples
from sftdemo.data.problems import Problem
from sftdemo.data.templates import template_of
from sftdemo.mask.audit import Audit
from sftdemo.mask.labels import Masker
from sftdemo.model.loading import load_tokenizer, stop_ids
from sftdemo.ui.lesson import Lesson, Mend, Step, is_found, is_mended, lessons

pytestmark = pytest.mark.real_model


@pytest.fixture(scope="module")
def model():
    source = default_model()
    return load_tokenizer(source), stop_ids(source)


def faults() -> Iterable:
    for name, lesson in lessons().items():
        for step in lesson.steps:
            if step.finding:
                yield pytest.param(lesson, step, id=f"{name}: {step.title}")


def audited(model, lesson: Lesson, step: Step, mend: Mend | None = None) -> tuple[Audit | None, int]:
    tokenizer, stops = model
    settings = lesson.settings | step.settings | (mend.settings if mend else {})
    custom = settings.pop("custom", None)
    config = RunConfig(**settings | ({"template": custom} if settings.get("template") == "custom" else {}))
    text = (mend and mend.content) or step.content
    try:
        data = parse_examples(text)
    except DataError:
        return None, len(step.rows)
    audit = Audit(config.batch_size, config.max_length, data.held_out)
    masker = Masker(tokenizer, template_of(config), config.max_length, stops, config.too_long)
    refused = [masked for _, masked in audit.review(data.train, masker) if isinstance(masked, Problem)]
    return audit, len(data.problems) + len(refused)


@pytest.mark.parametrize(("lesson", "step"), faults())
def test_the_fault_is_found_and_one_of_the_mends_is_right(model, lesson, step):
    assert is_found(step, *audited(model, lesson, step))
    assert not is_mended(step, *audited(model, lesson, step))
    right = [mend.says for mend in step.mends if is_mended(step, *audited(model, lesson, step, mend))]
    assert len(right) == 1, right
