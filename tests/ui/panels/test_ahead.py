"""Answers before anyone asks for a training: shown where nothing else is, and silent where they cannot be had."""

from __future__ import annotations

import json
import time

import pytest
from desk import SKIP, OnLentGpu, build_page, scanned, tiny

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Before, Finished, Phase, Step
from sftdemo.mask.checks import errors
from sftdemo.runs.estimate import Ready
from sftdemo.runs.standby import Standby
from sftdemo.ui import backend as backend_module
from sftdemo.ui.backend import Backend
from sftdemo.ui.panels.ahead import NOTHING_YET, UNTRAINED, AheadHandlers

ANSWER = Before("Capital of Italy?", "It is", "length", "held out")
RUN = "0a" * 16


class Asked(Backend):
    """A backend in which a process stands by that answers without a model."""

    def __init__(self):
        super().__init__(stands_by=False)
        self.asked, self.shown, self.told = [], None, [[Phase("load", "Loading")], [Phase("load", "Loading"), ANSWER]]

    def ahead(self, config, data):
        self.asked.append((config, data))
        yield from self.told

    def saved_run(self, run_id):
        return self.shown


@pytest.fixture(scope="module")
def own_page():
    return build_page(Asked())


@pytest.fixture
def backend(own_page, monkeypatch):
    for name, value in {"asked": [], "shown": None}.items():
        monkeypatch.setattr(own_page.desk.backend, name, value)
    return own_page.desk.backend


def handlers_of(own_page) -> AheadHandlers:
    owners = [owner for fn in own_page.blocks.fns.values() if (owner := getattr(fn.fn, "__self__", None))]
    return next(owner for owner in owners if isinstance(owner, AheadHandlers))


def looks(own_page, values) -> list:
    """What the handler shows, look by look."""
    return [shown for updates in handlers_of(own_page).answer(values) for shown in updates.values()]


def test_they_are_shown(own_page, backend, gpt2_folder):
    first, shown = looks(own_page, tiny(own_page, gpt2_folder, prompts="Who?"))
    assert first == SKIP
    drawn = json.loads(shown)
    assert drawn["message"] == UNTRAINED
    (row,) = drawn["rows"]
    assert (row["prompt"], [answer["text"] for answer in row["answers"]]) == (ANSWER.prompt, ["It is", None])
    ((config, data),) = backend.asked
    assert (config.prompts, len(data.held_out)) == (("Who?",), 1)


def test_the_buttons_tell_the_shorter_time(own_page, backend, gpt2_folder, monkeypatch):
    """The first time, of a machine that has trained nothing: from the seconds of what was done ahead."""
    given = tiny(own_page, gpt2_folder, device="cpu")
    values = given | {own_page.desk.session.audit: scanned(own_page, given)[-1].kept}
    monkeypatch.setattr(
        backend, "told", [[ANSWER, Finished(0, 0, 9.0, False, {"answers before": 3.0, "first step": 6.0})]]
    )
    shown = looks(own_page, values)
    assert len(shown) == 2, "no process stands by"
    monkeypatch.setattr(backend, "readiness", lambda config, data: Ready(stands_by=True, answered=False), raising=False)
    train, both = (each["value"] for each in looks(own_page, values)[-2:])
    monkeypatch.setattr(backend, "readiness", lambda config, data: Ready(stands_by=True, answered=True))
    sooner, _ = (each["value"] for each in looks(own_page, values)[-2:])
    assert train.startswith("Train 2 steps · about ")
    assert sooner.startswith("Train 2 steps · about ")
    assert sooner != train
    assert both.startswith("Train both ways: ")
    assert " · about " in both


def test_the_buttons_tell_of_what_was_asked_for_last(own_page, backend, gpt2_folder, monkeypatch):
    """Of two settings that ask the same, such as steps, whose answers end at the same time."""
    given = tiny(own_page, gpt2_folder, device="cpu")
    audit = {own_page.desk.session.audit: scanned(own_page, given)[-1].kept}
    monkeypatch.setattr(backend, "told", [[ANSWER], [ANSWER, Finished(0, 0, 9.0, False, {"answers before": 3.0})]])
    monkeypatch.setattr(backend, "readiness", lambda config, data: Ready(stands_by=True, answered=True), raising=False)
    handlers = handlers_of(own_page)
    earlier = handlers.answer(given | audit)
    while handlers.train not in next(earlier):
        pass
    later = list(handlers.answer(tiny(own_page, gpt2_folder, device="cpu", steps=5) | audit))
    assert later[-1][handlers.train]["value"].startswith("Train 5 steps")
    assert not [updates for updates in earlier if handlers.train in updates]


def test_the_buttons_stay_as_they_are_where_the_audit_found_an_error(own_page, backend, gpt2_folder, monkeypatch):
    """They say already what is to be mended, or that nothing can be trained."""
    given = tiny(own_page, gpt2_folder, device="cpu", max_length=8, too_long="refuse")
    audit = scanned(own_page, given)[-1].kept
    assert errors(audit.findings())
    monkeypatch.setattr(backend, "readiness", lambda config, data: Ready(stands_by=True, answered=False), raising=False)
    first, shown = looks(own_page, given | {own_page.desk.session.audit: audit})
    assert first == SKIP
    assert json.loads(shown)["message"] == UNTRAINED


def test_those_of_a_run_stay(own_page, backend, gpt2_folder, monkeypatch):
    monkeypatch.setattr(backend, "shown", object())
    assert looks(own_page, tiny(own_page, gpt2_folder, run_id=RUN)) == [SKIP]
    assert len(backend.asked) == 1, "the process is ready even so"


def test_those_of_earlier_questions_go_where_none_come(own_page, backend, gpt2_folder, monkeypatch):
    monkeypatch.setattr(backend, "told", [[Finished(0, 0, 0.0, False)]])
    *_, shown = looks(own_page, tiny(own_page, gpt2_folder))
    assert json.loads(shown)["message"] == NOTHING_YET


@pytest.mark.parametrize("wrong", [{"examples": ""}, {"learning_rate": -1}])
def test_what_cannot_be_read_is_told_elsewhere(own_page, backend, gpt2_folder, wrong):
    assert looks(own_page, tiny(own_page, gpt2_folder, **wrong)) == [SKIP]
    assert backend.asked == []


def working(stop):
    yield Step(1, 2, 0.0, 0.0, 0.0)
    while not stop():
        time.sleep(0.01)
    yield Finished(1, 2, 0.0, True)


class TestBackend:
    def test_there_is_none_on_a_lent_gpu_nor_where_it_is_switched_off(self, own_page, gpt2_folder):
        values = tiny(own_page, gpt2_folder)
        for backend in (OnLentGpu(), Backend(stands_by=False), Backend()):
            assert list(backend.ahead(own_page.desk.config(values), own_page.desk.data(values))) == []

    def test_the_first_page_waits_until_a_process_can_stand_by(self, own_page, gpt2_folder, monkeypatch):
        """Or whoever opens the page as the server starts would be asked for nothing."""
        backend, values = Backend(), tiny(own_page, gpt2_folder, device="auto")
        for name in ("import_libraries", "settle", "warm", "await_imports"):
            monkeypatch.setattr(backend_module, name, lambda: None)
        monkeypatch.setattr(backend_module, "MASK_ALONE", 0.0)
        monkeypatch.setattr(backend, "prepare", lambda model: iter(()))
        monkeypatch.setattr(Standby, "ask", lambda self, *asked: iter([[ANSWER]]))
        backend.warm_later(str(gpt2_folder), 0.2)
        assert list(backend.ahead(own_page.desk.config(values), own_page.desk.data(values))) == [[ANSWER]]

    def test_it_waits_for_the_runs(self, own_page, gpt2_folder, monkeypatch):
        backend, values = Backend(), tiny(own_page, gpt2_folder, device="cpu")
        config, data = own_page.desk.config(values), own_page.desk.data(values)
        backend._standby = Standby(RunConfig(str(gpt2_folder), device="cpu"))
        monkeypatch.setattr(Standby, "ask", lambda self, *asked: iter([[ANSWER]]))
        assert list(backend.ahead(config, data)) == [[ANSWER]]
        job = backend._runs.start(RUN, working)
        assert list(backend.ahead(config, data)) == []
        job.stop()
        *_, _ = job.watch(0.01)
        assert list(backend.ahead(config, data)) == [[ANSWER]]
