"""No value breaks the page: what is typed is drawn and looked over, or answered in a sentence of ours."""

from __future__ import annotations

import json

from data.test_any_value import ROW, any_rows, text_of
from desk import drawn, scanned
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sftdemo.ui.panels.columns import chosen

ANY_CELL = st.none() | st.text(max_size=6) | st.integers() | st.lists(st.text(max_size=3), max_size=2)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(any_rows(), min_size=1, max_size=3), st.sampled_from(["array", "lines"]))
def test_any_rows(ui, values, llama_folder, rows, form):
    rows = [ROW, *rows]
    text = text_of(rows) if form == "array" else "\n".join(text_of([row])[1:-1] for row in rows)
    inputs = values(examples=text, model=str(llama_folder))
    mask, asked, command = drawn(ui, inputs)
    assert mask["rows"]
    json.dumps([mask, asked, command], ensure_ascii=False).encode()  # it reaches the browser
    *_, last = scanned(ui, inputs)
    assert last.totals["summary"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(st.dictionaries(st.sampled_from(["q", "a", "text", "input", "\u00e9"]), ANY_CELL), min_size=1, max_size=4),
    st.none() | st.sampled_from(["q", "a", "no such column"]),
    st.none() | st.sampled_from(["q", "a", "input"]),
    st.sampled_from(["template", "unchanged", "refused"]),
)
def test_any_choice_of_columns(ui, values, llama_folder, rows, prompt, answer, how):
    inputs = values(examples=text_of(rows), model=str(llama_folder), columns=chosen(prompt, answer, how))
    updates = ui.masking.draw(inputs)
    shown = {name: updates.get(part) for name, part in vars(ui.opening.sources.columns).items()}
    json.dumps([update for update in shown.values() if update], ensure_ascii=False).encode()
    assert list(scanned(ui, inputs))
    if shown["card"]["visible"]:
        assert set(shown["prompt"]["choices"]) >= {shown["prompt"]["value"], shown["answer"]["value"]} - {None}


@given(st.text(), st.sampled_from(["[", "{", '[{"a": ', "prompt,completion\n", 'prompt,completion\n"', ""]))
def test_any_text_at_all(ui, values, text, begin):
    inputs = values(examples=begin + text)
    mask, _, _ = drawn(ui, inputs)
    json.dumps(mask, ensure_ascii=False).encode()
    assert list(scanned(ui, inputs))
