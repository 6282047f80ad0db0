from __future__ import annotations

import json

import pytest

from sftdemo.core.errors import ConfigError
from sftdemo.data.examples import parse_examples
from sftdemo.data.problems import Problem, group_problems, save_problems


def said(*rows, lines: bool = True) -> list[str]:
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows)
    return list(map(str, group_problems(parse_examples(text).problems)))


def test_one_reason_is_one_line_with_three_examples():
    (line,) = said(*[{"subject": "a"}] * 3000)
    assert line.startswith('3,000 rows: has "subject"; expected "instruction" and "output", ')
    assert line.endswith(', or "conversations", first in row 0 (line 1), row 1 (line 2), row 2 (line 3).')


def test_a_single_row_is_told_as_ever():
    assert said({"instruction": "a"}) == ['row 0 (line 1): has no "output"; write the answer to learn: "output": "…".']


@pytest.mark.parametrize(
    "rows",
    [
        [{"instruction": number, "output": "b"} for number in (1, 25, -3.5)],
        [{"instruction": "a", "output": ["b"] * count + [7]} for count in (1, 2, 12)],
        [{"instruction": "a", "output": "b", "held_out": value} for value in ("maybe", "no", 'say "no"')],
        [{"messages": [{"role": "user", "content": "a", "weight": 1}] * count} for count in (1, 2)],
        ["one", "two"],
    ],
)
def test_values_and_numbers_do_not_matter(rows):
    (line,) = said(*rows, lines=False)
    assert line.startswith(f"{len(rows)} rows: ")


def test_names_do():
    lines = said({"instruction": "a"}, {"prompt": "a"}, {"subject": 1}, {"topic": 1}, {"instruction": "a"}, lines=False)
    assert [line.split(":")[0] for line in lines] == ["2 rows", "row 1", "row 2", "row 3"]
    assert "first in row 0, row 4." in lines[0]


def test_the_first_row_comes_first():
    groups = group_problems([Problem(0, None, "a."), Problem(1, None, "b."), Problem(2, None, "a.")])
    assert [(group.count, group.problems[0].row) for group in groups] == [(2, 0), (1, 1)]


def test_they_are_saved_in_the_order_of_the_rows(tmp_path):
    path = tmp_path / "refused.jsonl"
    save_problems(path, [Problem(5, None, "is é.", dropped=True), Problem(1, 2, "is 5.")])
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [
        {"row": 1, "line": 2, "message": "is 5.", "dropped": False},
        {"row": 5, "line": None, "message": "is é.", "dropped": True},
    ]
    save_problems(path, [])
    assert path.read_text() == ""
    with pytest.raises(ConfigError, match=r"cannot be written: .* Name another file\."):
        save_problems(tmp_path / "nowhere" / "refused.jsonl", [])
