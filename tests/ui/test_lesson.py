"""Lessons are files that anybody may write: each is read whole, and what is wrong in one is said with its place."""

from __future__ import annotations

import json

import pytest

from sftdemo.core.errors import ConfigError
from sftdemo.mask.audit import Audit
from sftdemo.ui.lesson import LESSONS, PLACES, lessons, read_lesson
from sftdemo.ui.panels.lesson import LessonHandlers, Place

GOOD = "title: A\nsteps:\n  - {title: B, text: C}\n"


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
        return tmp_path / "mine.yaml"

    return write


def test_every_lesson_can_be_read_and_points_at_parts_of_the_page(ui):
    assert list(lessons())[:3] == ["masking", "stop", "museum"]
    assert len(lessons()) == len(list(LESSONS.glob("*.yaml")))
    assert len(lessons()["museum"].steps) == 16
    there = {getattr(block, "elem_id", None) for block in ui.blocks.blocks.values()}
    assert set(PLACES.values()) <= there


def test_the_lesson_of_the_docs_can_be_read(write):
    """As a teacher would take it from there."""
    text = (LESSONS.parents[2] / "docs" / "lessons.md").read_text(encoding="utf-8")
    (example,) = [each.partition("```")[0] for each in text.split("```yaml\n")[1:]]
    lesson = read_lesson(write(example))
    assert [step.title for step in lesson.steps] == ["Guess", "The short rope"]
    assert lesson.steps[1].content.startswith('{"instruction": ')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("title: A\n", "mine.yaml: steps: it is missing"),
        ("", "mine.yaml: "),
        ("title: [\n", "mine.yaml cannot be read as YAML"),
        (GOOD + "  - {title: B}\n", "mine.yaml: step 2, text: it is missing"),
        (GOOD + "  - {title: B, text: C, colour: red}\n", "mine.yaml: step 2, colour: there is no such field"),
        (GOOD + "  - {title: B, text: C, point: moon}\n", "step 2, point: 'moon' is none of examples, mask,"),
        (GOOD + "  - {title: B, text: C, finding: eos}\n", "step 2, finding: 'eos' is none of nothing_trained,"),
        (GOOD + "  - {title: B, text: C, settings: {set: x}}\n", "step 2, settings: 'set' is none of model,"),
        (GOOD + "  - {title: B, text: C, settings: {steps: 0}}\n", "step 2, settings: steps is 0"),
        (GOOD + "  - {title: B, text: C, sample: parrot}\n", "step 2, sample: 'parrot' is none of pirate,"),
        (GOOD + "  - {title: B, text: C, sample: pirate, rows: [{a: b}]}\n", "step 2: sample and rows stand together"),
        (GOOD + "  - {title: B, text: C, ask: {question: D, choices: [x, y], right: 2}}\n", "step 2, ask: right is 2;"),
        (GOOD + "settings: {max_length: -1}\n", "mine.yaml: settings: max_length is -1"),
        (GOOD + "settings: {max_length: many}\n", "settings: max_length is many; write a whole number. See"),
        (GOOD + "settings: {prompt_loss_weight: true}\n", "settings: prompt_loss_weight is true; write a number. See"),
        (GOOD + "  - {title: B, textt: C}\n", "mine.yaml: step 2, textt: there is no such field"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(write, text, says):
    with pytest.raises(ConfigError) as refused:
        read_lesson(write(text))
    assert says in str(refused.value)


class TestOwnFolder:
    @pytest.fixture(autouse=True)
    def _chosen(self, monkeypatch, tmp_path):
        monkeypatch.setenv("SFTDEMO_LESSONS", str(tmp_path))

    def test_its_lessons_stand_beside_the_programs(self, write):
        write(GOOD)
        assert list(lessons()) == ["masking", "stop", "museum", "mine"]
        assert lessons()["mine"].title == "A"

    @pytest.mark.parametrize(
        ("name", "text", "says"),
        [
            ("notes.txt", "", "holds no lesson; write each into a file such as mine.yaml"),
            ("stop.yaml", GOOD, "stop.yaml has the name of a lesson of the program; call it otherwise"),
            ("mine.yaml", "title: A\n", "mine.yaml: steps: it is missing"),
        ],
    )
    def test_a_folder_that_cannot_be_used(self, tmp_path, name, text, says):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=says):
            lessons()

    def test_no_folder(self, monkeypatch, tmp_path):
        monkeypatch.setenv("SFTDEMO_LESSONS", str(tmp_path / "none"))
        with pytest.raises(ConfigError, match="none is no folder; name one that holds lessons"):
            lessons()


class TestHandlers:
    @pytest.fixture
    def learning(self, ui):
        handlers = (getattr(fn.fn, "__self__", None) for fn in ui.blocks.fns.values())
        return next(each for each in handlers if isinstance(each, LessonHandlers))

    def test_a_step_is_entered_with_the_rows_and_settings_that_stand_before_it(self, ui, learning):
        updates, notes = learning.enter({"lesson": "masking", "step": "2"})
        assert notes == ()
        assert updates[ui.desk.controls.examples]["value"].startswith('{"instruction"')
        assert updates[learning.panel.place].index == 1
        updates, _ = learning.enter({"lesson": "museum", "step": "8"})
        assert updates[ui.desk.controls.max_length] == 22
        updates, _ = learning.enter({"lesson": "museum", "step": "9"})
        assert updates[ui.desk.controls.max_length] == ui.desk.controls.max_length.value

    @pytest.mark.parametrize(
        ("query", "says"),
        [
            ({"lesson": "moon"}, "There is no lesson moon; there are masking,"),
            ({"lesson": "stop", "step": "99"}, "has the steps 1 to 3"),
            ({"lesson": "stop", "step": "-1"}, "has the steps 1 to 3"),
        ],
    )
    def test_what_is_not_there_is_told(self, learning, query, says):
        assert says in learning.enter(query)[1][0]
        assert learning.enter({}) == ({}, ())

    def test_a_fault_is_mended_only_after_it_was_found(self, ui, values, learning):
        """Not by the audit of the step before, which is still there when a step is entered."""
        panel, session = learning.panel, ui.desk.session
        place = Place("museum", 7)  # EOS is cut by max length
        rows = {"examples": place.step.content, "masks": {}}

        def seen(length: int, at: Place) -> tuple[bool, Place]:
            given = values(max_length=length, **rows)
            *_, scanned = ui.masking.scan(given)
            updates = learning.look(given | {panel.place: at, session.audit: scanned[session.audit]})
            return json.loads(updates[panel.card])["done"]["finding"], updates.get(panel.place, at)

        assert seen(512, place) == (False, place)
        lengths = [length for length in range(10, 60) if _check_at(ui, values(max_length=length, **rows), "eos_cut")]
        done, place = seen(lengths[0], place)
        assert (done, place.found) == (False, True)
        assert seen(512, place) == (True, place)

    def test_rows_that_are_refused_only_when_they_are_masked_count(self, ui, values, learning):
        """As the model's tokenizer refuses labels that are shifted."""
        place = Place("museum", 4)
        given = values(examples=place.step.content, masks={})
        *_, scanned = ui.masking.scan(given)
        updates = learning.look(
            given | {learning.panel.place: place, ui.desk.session.audit: scanned[ui.desk.session.audit]}
        )
        assert not ui.desk.data(given).problems
        assert updates[learning.panel.place].found

    def test_a_moved_setting_and_a_run_are_seen(self, ui, values, learning, monkeypatch):
        panel = learning.panel

        def moved(weight: float) -> bool:
            given = values(prompt_loss_weight=weight) | {panel.place: Place("masking", 1)}
            return json.loads(learning.look(given)[panel.card])["done"]["moves"]

        assert (moved(0.0), moved(0.5)) == (False, True)
        told = {panel.place: Place("masking", 3), ui.desk.run_id: None}
        assert learning.tell_trained(told) == {panel.place: {"__type__": "update"}}
        monkeypatch.setattr(type(ui.desk.backend), "saved_run", lambda *_: "a run")
        assert learning.tell_trained(told)[panel.place].trained
        assert learning.look(values() | {panel.place: None}) == {panel.place: {"__type__": "update"}}


def _check_at(ui, values: dict, check: str) -> bool:
    *_, scanned = ui.masking.scan(values)
    audit: Audit = scanned[ui.desk.session.audit]
    return check in {finding.check for finding in audit.findings()}
