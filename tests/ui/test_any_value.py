"""No value breaks the page: what is typed is drawn and looked over, or answered in a sentence of ours."""

from __future__ import annotations

import json

from data.test_any_value import ROW, any_rows, text_of
from desk import drawn, scanned
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


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


@given(st.text(), st.sampled_from(["[", "{", '[{"a": ', "prompt,completion\n", 'prompt,completion\n"', ""]))
def test_any_text_at_all(ui, values, text, begin):
    inputs = values(examples=begin + text)
    mask, _, _ = drawn(ui, inputs)
    json.dumps(mask, ensure_ascii=False).encode()
    assert list(scanned(ui, inputs))
