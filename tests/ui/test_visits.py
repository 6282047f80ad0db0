"""What a visit keeps of the page, and what is not done for it."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest
from gradio.exceptions import ComponentProcessingError
from gradio.state_holder import SessionState
from serving import awaited

from sftdemo.ui.visits import LeanPage


@pytest.fixture
def small():
    """A page with a handler of three inputs, which are its outputs as well."""
    with LeanPage() as page:
        parts = [gr.Textbox("a"), gr.Number(1, precision=0), gr.State([])]
        gr.Button().click(lambda *values: values, parts, parts)
    return page.queue()


def handler(page: LeanPage) -> Any:
    return next(iter(page.fns.values()))


def test_an_output_that_stays_is_not_made_anew(small):
    visit, (text, number, kept) = SessionState(small), handler(small).outputs
    sent = awaited(small.postprocess_data(handler(small), {text: "b", kept: [1], number: gr.skip()}, visit))
    assert sent == ["b", gr.skip(), None]
    assert visit[kept._id] == [1]
    assert visit[number._id] is number
    assert awaited(small.postprocess_data(handler(small), gr.skip(), visit)) == [gr.skip(), gr.skip(), None]
    assert visit[text._id] is text


def test_an_update_is_known_to_the_visit_and_to_no_other(small):
    visit, number = SessionState(small), handler(small).outputs[1]
    (sent,) = (each for each in awaited(_updated(small, visit)) if each not in (gr.skip(), None))
    assert sent["label"] == visit[number._id].label == "steps"
    assert number.label is None
    assert SessionState(small)[number._id] is number
    assert visit.blocks_config.blocks.keys() == small.blocks.keys()


async def _updated(page: LeanPage, visit: SessionState) -> list[Any]:
    return await page.postprocess_data(handler(page), {handler(page).outputs[1]: gr.update(label="steps")}, visit)


def test_what_a_visit_has_is_not_described(small):
    visit = SessionState(small)
    awaited(_updated(small, visit))
    assert not any(visit.config_values.values())
    assert [each["type"] for each in small.get_config_file()["components"]].count("number") == 1


def test_inputs_are_read_without_threads(small, monkeypatch):
    visit = SessionState(small)
    monkeypatch.setattr("anyio.to_thread.run_sync", None)
    assert awaited(small.preprocess_data(handler(small), ["b", 2.0, None], visit)) == ["b", 2, []]


def test_a_value_that_is_none_is_refused_in_gradios_words(small):
    with pytest.raises(ComponentProcessingError, match="Could not preprocess input component at index 1"):
        awaited(small.preprocess_data(handler(small), ["b", "x", None], SessionState(small)))
