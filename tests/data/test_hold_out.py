from __future__ import annotations

import json

import pytest

from sftdemo.core.config import RunConfig
from sftdemo.core.errors import DataError
from sftdemo.data import examples
from sftdemo.data.examples import StreamedExamples, open_examples, parse_examples
from sftdemo.data.hold_out import hold_out


def rows(count: int, held: int = 0) -> str:
    lines = [
        {"prompt": str(row), "completion": "x"} | ({"held_out": True} if row < held else {}) for row in range(count)
    ]
    return "\n".join(map(json.dumps, lines))


def numbers(found) -> list[int]:
    return [example.row for example in found]


@pytest.mark.parametrize(
    ("amount", "held", "wanted"), [(0, 0, 0), (6, 0, 6), (0.2, 0, 4), (0.01, 0, 1), (6, 4, 6), (3, 4, 4), (0.2, 4, 4)]
)
def test_so_many_are_held_out(amount, held, wanted):
    data = hold_out(parse_examples(rows(20, held)), RunConfig(hold_out=amount))
    assert len(data.held_out) == wanted
    assert sorted(numbers((*data.train, *data.held_out))) == list(range(20))
    assert all(example.held_out for example in data.held_out)
    assert not any(example.held_out for example in data.train)
    assert numbers(data.train) == sorted(numbers(data.train))


def test_the_seed_draws_them_and_once_more_changes_nothing():
    data = parse_examples(rows(50))
    drawn = [hold_out(data, RunConfig(hold_out=5, seed=seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert hold_out(drawn[0], RunConfig(hold_out=5, seed=7)) is drawn[0]


@pytest.mark.parametrize("amount", [20, 21, 0.99])
def test_none_would_be_left(amount):
    with pytest.raises(DataError, match=rf"hold_out is {amount:g}, and of 20 rows 20 are to be trained: none would"):
        hold_out(parse_examples(rows(20)), RunConfig(hold_out=amount))


def test_rows_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "MAX_BYTES", 100)
    (tmp_path / "rows.jsonl").write_text(rows(20))
    data = hold_out(open_examples(tmp_path / "rows.jsonl"), RunConfig(hold_out=3))
    assert isinstance(data.train, StreamedExamples)
    assert len(data.train) == len(list(data.train)) == 17
    assert sorted(numbers((*data.train, *data.held_out))) == list(range(20))
    assert numbers(data.train[:2]) == numbers(list(data.train)[:2])
