from __future__ import annotations

import json

import pytest

from sftdemo.core.errors import ConfigError, DataError
from sftdemo.data.columns import read_columns
from sftdemo.data.examples import Example, StreamedExamples, open_examples, parse_examples

ROWS = [{"q": "a", "a": "b"}, {"q": "c", "a": "d", "id": 1}]
COLUMNS = {"prompt": "q", "completion": "a"}


def parse(rows, columns):
    return parse_examples(json.dumps(rows), columns)


def test_pairs_are_read():
    assert read_columns(["prompt=q", " completion = a=b "]) == {"prompt": "q", "completion": "a=b"}
    assert read_columns([]) == {}


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["prompt"], "columns has 'prompt'; write OURS=THEIRS"),
        (["=a"], "columns has '=a'"),
        (["prompt="], "columns has 'prompt='"),
        (["prompt=a", "prompt=b"], "columns names 'prompt' twice"),
        (["prompts=a"], "columns names 'prompts'; left of = stands one of answer, "),
    ],
)
def test_wrong_pairs_are_refused(pairs, says):
    with pytest.raises(ConfigError, match="columns") as error:
        read_columns(pairs)
    assert says in str(error.value)


def test_columns_are_renamed_before_the_shape_is_looked_for():
    parsed = parse(ROWS, COLUMNS)
    assert parsed.train == (Example(0, "b", prompt="a"), Example(1, "d", prompt="c"))
    assert parsed.notes == ("columns not used: 'id' (1 row).",)


def test_two_may_be_exchanged():
    assert parse([{"input": "a", "output": "b"}], {"input": "output", "output": "input"}).train == (
        Example(0, "a", instruction="b"),
    )


def test_one_that_is_replaced_is_told_of():
    parsed = parse([{"prompt": "x", "q": "a", "a": "b"}], COLUMNS)
    assert parsed.train == (Example(0, "b", prompt="a"),)
    assert parsed.notes == ("columns not used: 'prompt' (1 row).",)


def test_a_row_without_it_keeps_its_own():
    assert [each.prompt for each in parse([*ROWS, {"prompt": "x", "completion": "y"}], COLUMNS).train] == [
        "a",
        "c",
        "x",
    ]


def test_csv():
    assert parse_examples("q,a\nx,y\n", COLUMNS).train == (Example(0, "y", prompt="x"),)
    cell = json.dumps([{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]).replace('"', '""')
    assert parse_examples(f'chat\n"{cell}"\n', {"conversations": "chat"}).train[0].completion == "b"


def test_one_that_no_row_has_is_refused_with_those_that_exist():
    with pytest.raises(
        DataError, match='no row has the column "questoin" that columns names; the columns are "q", "a"'
    ):
        parse(ROWS, {"prompt": "questoin"})


def test_of_a_thousand_columns_the_first_are_told():
    row = {f"column {number}": "x" for number in range(1000)}
    with pytest.raises(DataError, match=r'"column 18", "column 19" and 981 more\.$'):
        parse([row, row | {"q": "x"}], {"prompt": "questoin"})
    (problem,) = parse_examples(json.dumps(row)).problems
    assert '"column 19" and 980 more; expected' in str(problem)


def test_rows_that_stay_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("sftdemo.data.examples.MAX_BYTES", 10)
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    opened = open_examples(file, COLUMNS)
    assert isinstance(opened.train, StreamedExamples)
    assert [each.prompt for each in opened.train] == ["a", "c"]
