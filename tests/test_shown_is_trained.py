"""The mask that is shown is the mask that trains: both have one hash, and a run whose own differs does not begin."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from desk import TEXT, merged, only_a_cpu, scanned
from terminal.test_cli import called
from tiny import tokenizer_named

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Event, Failed, Finished, Prepared, Step
from sftdemo.data.examples import HandMask, ParsedExamples, parse_examples
from sftdemo.data.templates import get_template
from sftdemo.mask import labels
from sftdemo.mask.audit import Audit
from sftdemo.mask.labels import MaskedExample, Masker, MaskHash
from sftdemo.runs.run import run


@pytest.fixture
def config(gpt2_folder) -> RunConfig:
    return RunConfig(str(gpt2_folder), steps=1, batch_size=2, max_length=128, max_new_tokens=2)


def shown(data: ParsedExamples, template: str = "instruction") -> str:
    audit = Audit(2, 128)
    list(audit.review(data.train, Masker(tokenizer_named("gpt2"), get_template(template), 128)))
    return str(audit.mask_hash)


def refused(events: list[Event]) -> bool:
    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, Step) for event in events)
    return "is not the one that was shown" in events[-1].message


def test_what_was_shown_is_trained(config, tmp_path):
    data = parse_examples(TEXT)
    events = list(run(config, data, tmp_path / "out", shown=shown(data)))
    assert isinstance(events[-1], Finished)
    assert [event.mask_hash for event in events if isinstance(event, Prepared)] == [shown(data)]


def one_token_fewer(row) -> list[int]:
    decided = DECIDE(row)
    return [*decided[:-1], labels.IGNORE_INDEX]


def one_token_more(row) -> list[int]:
    decided = DECIDE(row)
    return [decided[0], row.input_ids[1], *decided[2:]]


DECIDE = labels.decide_labels


@pytest.mark.parametrize("planted", [one_token_fewer, one_token_more])
def test_a_planted_difference_is_refused(config, tmp_path, monkeypatch, planted: Callable):
    data = parse_examples(TEXT)
    seen = shown(data)
    monkeypatch.setattr(labels, "decide_labels", planted)
    assert refused(list(run(config, data, tmp_path / "out", shown=seen)))
    assert not (tmp_path / "out").exists()


def test_rows_or_settings_that_changed_since_are_refused(config, tmp_path):
    data = parse_examples(TEXT)
    seen = shown(data)
    fewer = replace(data, train=data.train[:1])
    by_hand = replace(data.train[0], masks=(HandMask("other", ((0, 1),), True),))
    other = replace(data.train[0], completion="Hello world?")
    for changed in (fewer, replace(data, train=(other, data.train[1]))):
        assert refused(list(run(config, changed, tmp_path / "out", shown=seen)))
    assert refused(list(run(replace(config, template="alpaca"), data, tmp_path / "out", shown=seen)))
    unused = replace(data, train=(by_hand, data.train[1]))  # a mask that is not used changes no label
    assert shown(unused) == seen


@pytest.mark.parametrize(
    "other",
    [
        MaskedExample(1, (5, 6, 7), (-100, 6, 7), (), ()),
        MaskedExample(0, (5, 6, 8), (-100, 6, 7), (), ()),
        MaskedExample(0, (5, 6, 7), (-100, -100, 7), (), ()),
        MaskedExample(0, (5, 6), (-100, 6), (), ()),
    ],
)
def test_row_number_ids_and_labels_count(other):
    def hashed(*rows: MaskedExample) -> str:
        found = MaskHash()
        for row in rows:
            found.add(row)
        return str(found)

    row = MaskedExample(0, (5, 6, 7), (-100, 6, 7), (), ())
    assert hashed(row) == hashed(replace(row, flags=("eos_cut",)))
    assert hashed(row) != hashed(other)
    assert hashed(row, other) != hashed(other, row)


def test_the_page_refuses_rows_that_it_has_not_drawn(ui, values, monkeypatch):
    only_a_cpu(monkeypatch)
    *_, scan = scanned(ui, values())
    drawn = values(audit=scan.kept)
    assert merged(ui, ui.running.train(drawn))["download"]["interactive"]
    rows = json.loads(TEXT)
    rows[0]["output"] += "!"
    changed = merged(ui, ui.running.train(drawn | {ui.desk.controls.examples: json.dumps(rows)}))
    status = json.loads(changed["run_status"])
    assert (status["state"], changed["download"]["interactive"]) == ("failed", False)
    assert "is not the one that was shown" in status["title"]


def test_the_terminal_prints_the_same_hash_for_both(capsys, tmp_path, gpt2_folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    Path("data.json").write_text(TEXT)
    settings = ["data.json", "--model", gpt2_folder, "--max-length", "128"]
    training = ["--steps", "1", "--batch-size", "2", "--max-new-tokens", "2"]

    def hashes(*words: str | Path) -> list[str]:
        code, out, _ = called(capsys, *words)
        assert code == 0
        return [line.strip() for line in out if line.strip().startswith("mask sha256")]

    (masked,) = hashes("mask", *settings)
    assert masked == f"mask sha256 {shown(parse_examples(TEXT))[:12]}…"
    assert hashes("mask", *settings, "--audit") == hashes("train", *settings, *training) == [masked]
