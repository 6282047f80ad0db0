"""What a run will compute is counted before it begins, and comes out as the run itself does."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tiny import tokenizer_named

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Prepared
from sftdemo.data.examples import parse_examples
from sftdemo.data.templates import template_of
from sftdemo.mask.audit import Audit
from sftdemo.mask.labels import Masker
from sftdemo.model.prefix_tree import prefix_tree
from sftdemo.runs.run import run
from sftdemo.runs.work import planned_steps, tokens_of, work_of

ROWS = [{"instruction": f"Say {word}", "output": word} for word in ("hello", "one", "two", "three", "four")]
HELD_OUT = [{"instruction": f"Say {word}", "output": word, "held_out": True} for word in ("five", "six")]


def masked(config, rows):
    train = parse_examples(json.dumps(rows)).train
    masker = Masker(tokenizer_named("gpt2"), template_of(config), config.max_length)
    return [(example, row) for example, (row,) in zip(train, masker.mask(train), strict=True)]


def counted(config, rows=ROWS) -> Audit:
    audit = Audit(config.batch_size, config.max_length)
    for example, row in masked(config, rows):
        audit.add(example, row)
    return audit


def work(config, rows=ROWS, weights=()):
    return work_of(config, counted(config, rows), parse_examples(json.dumps(rows)), weights)


def size_of(audit) -> tuple[int, int]:
    return len(audit.rows), tokens_of(audit)


def test_the_positions_of_a_step_are_those_of_its_tree():
    config = RunConfig("m", template="alpaca", batch_size=5)
    rows = [row for _, row in masked(config, ROWS)]
    tree = prefix_tree([(row.input_ids, row.labels) for row in rows])
    found = work(config)
    assert found.positions == pytest.approx(len(tree.input_ids))
    assert found.trained == pytest.approx(sum(row.trained for row in rows))
    assert work(replace(config, batch_size=50)).positions == pytest.approx(found.positions)
    assert found.positions < sum(len(row.input_ids) for row in rows) / 2, "the preamble is computed once"


def test_the_last_step_of_an_epoch_sees_what_is_left():
    config = RunConfig("m", batch_size=2, template="{instruction}")
    alone = work(replace(config, batch_size=1, steps=5))
    means = {steps: work(replace(config, steps=steps)).trained / alone.trained for steps in (1, 2, 3, 6)}
    assert means == pytest.approx({1: 2, 2: 2, 3: 5 / 3, 6: 5 / 3})


def test_packed_rows_hold_many_examples():
    config = RunConfig("m", steps=1, template="alpaca", max_length=512)
    assert work(replace(config, packing=True)).positions == pytest.approx(work(config).positions, rel=0.1)


def test_questions_and_held_out_rows_are_counted():
    config = RunConfig("m", prompts=("Why?", "How?"), max_new_tokens=7)
    found = work(config, [*ROWS, *HELD_OUT])
    assert (found.questions, found.new_tokens, found.weights) == (4, 7, (0.0,))
    per_row = work(config, [*ROWS, HELD_OUT[0]])
    assert found.held_out > per_row.held_out > work(config).held_out == 0
    assert work(RunConfig("m")).questions == 3, "of the rows themselves"
    assert work(RunConfig("m", hold_out=2)).questions == 2
    assert work(config, weights=(0.0, 0.5)).weights == (0.0, 0.5)


def test_the_answer_is_the_last_turn_of_a_conversation():
    turns = [("user", "Say one"), ("assistant", "one two three four five"), ("user", "Again"), ("assistant", "one")]
    row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    config = RunConfig("m", template="{instruction}")
    audit = Audit(8, 512)
    data = parse_examples(json.dumps([row]))
    (sequences,) = Masker(tokenizer_named("chatml"), template_of(config), 512).mask(data.train)
    for sequence in sequences:
        audit.add(data.train[0], sequence)
    found = work_of(config, audit, data)
    assert 0 < found.answer < 5
    assert found.prompt > 20


def test_nothing_to_train_is_no_work():
    for settings in ({}, {"epochs": 1}, {"packing": True}, {"packing": True, "epochs": 1}):
        found = work(RunConfig("m", **settings), [])
        assert (found.positions, found.questions, found.answer) == (0, 0, 0)


def test_rows_without_a_trained_token_do_not_count():
    long = {"instruction": "word " * 200, "output": "x"}
    config = RunConfig("m", epochs=1, batch_size=1, max_length=128)
    with_it = counted(config, [*ROWS, long])
    assert size_of(with_it) == size_of(counted(config))
    assert planned_steps(config, *size_of(with_it)) == 5


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        pytest.param({"steps": 7}, 7, marks=pytest.mark.thorough),
        ({"epochs": 3, "batch_size": 2}, 9),
        pytest.param({"epochs": 0.5, "batch_size": 1}, 3, marks=pytest.mark.thorough),
        pytest.param({"epochs": 0.01, "batch_size": 2}, 1, marks=pytest.mark.thorough),
        ({"epochs": 2, "batch_size": 1, "packing": True}, 2),
    ],
)
def test_planned_steps_are_the_trainers(gpt2_folder, tmp_path, settings, steps):
    """The run itself is asked, so that the button cannot promise another number than the one that is trained."""
    config = RunConfig(str(gpt2_folder), **{"max_length": 128, "max_new_tokens": 1} | settings)
    examples, tokens = size_of(counted(config))
    assert planned_steps(config, examples, tokens) == steps
    events = run(config, parse_examples(json.dumps(ROWS)), tmp_path / "out")
    prepared = next(event for event in events if isinstance(event, Prepared))
    assert (prepared.steps, prepared.examples, prepared.tokens) == (steps, examples, tokens)
    events.close()
