"""Lead through a lesson: fill the page for each step, and tell when what it asks for is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from ...core.errors import SftdemoError
from ...mask.audit import Audit
from ..controls import with_length
from ..kept import settings_of
from ..lesson import LESSON_SETTINGS, PLACES, Filled, Lesson, Step, is_found, is_mended, lessons
from ..link import DOORS, NAME_SHOWN
from ..state import Desk, View
from ..widgets import to_json, token_list, widget
from ..words import say, say_all
from .handlers import PRIVATE, Updates
from .sources import SourceHandlers


@dataclass(frozen=True)
class Place:
    """Where the learner is: in which lesson, at which step, from 0; whether its fault was `found` and a run `trained`
    since they came to it."""

    name: str
    index: int = 0
    found: bool = False
    trained: bool = False

    @property
    def lesson(self) -> Lesson:
        """Return the lesson."""
        return lessons()[self.name]

    @property
    def step(self) -> Step:
        """Return the step."""
        return self.lesson.steps[self.index]


def lesson_view(place: Place | None, done: Mapping[str, bool] | None = None, tokens: list | None = None) -> str:
    """Return the value of the widget: the card of a step, which of its tasks are `done`, and the `tokens` of the row
    that is to be guessed, once they are known."""
    if place is None:
        return to_json({"lesson": None})
    step = place.step
    asked = step.model_dump(
        include={"title", "text", "guess", "moves", "trains", "recorded", "losses", "ask", "write", "then"}
    )
    return to_json(
        _said(asked)
        | {
            "lesson": say(place.lesson.title),
            "name": place.name,
            "index": place.index,
            "count": len(place.lesson.steps),
            "point": step.point and PLACES[step.point],
            "open": step.open and DOORS[step.open],
            "finding": step.finding,
            "mends": [say(mend.says) for mend in step.mends],
            "done": dict(done or {}),
            "tokens": tokens,
        }
    )


def _said(asked: dict[str, Any]) -> dict[str, Any]:
    """Return a step's words in the language of the visit; what a model answered stays as it is."""
    words = {name: asked[name] and say(asked[name]) for name in ("title", "text", "write", "then")}
    if (ask := asked["ask"]) is not None:
        ask = ask | {"question": say(ask["question"]), "choices": say_all(ask["choices"])}
    return asked | words | {"ask": ask}


class LessonPanel:
    """The card, which is not there without a lesson. Its events are `go` (to a step) and `mend` (with the place of a
    mend)."""

    def __init__(self):
        self.card = widget("lesson", lesson_view(None))
        self.place = gr.State(None)


class LessonHandlers:
    """Go through a lesson."""

    def __init__(self, desk: Desk, panel: LessonPanel, opening: SourceHandlers, saved: gr.State):
        self.desk, self.panel, self.opening, self.saved = desk, panel, opening, saved

    def wire(self, filled: list, scans: list) -> None:
        """Connect components and handlers. `filled` are the components that a view fills; `scans` are the events after
        which all rows have been looked over."""
        panel = self.panel
        everything = {*self.desk.controls.all(), *self.desk.session.all(), panel.place}
        outputs = [*filled, panel.card, panel.place]
        panel.card.go(self.go, panel.place, outputs, **PRIVATE)
        panel.card.mend(self.mend, panel.place, outputs, **PRIVATE)
        for event in (*(scan.then for scan in scans), panel.place.change):
            event(self.look, everything, [panel.card, panel.place], **PRIVATE)
        self.saved.change(self.tell_trained, {panel.place, self.desk.run_id}, panel.place, **PRIVATE)

    def enter(self, query: Mapping[str, str]) -> tuple[Updates, tuple[str, ...]]:
        """Return the lesson that the page's address asks for, and what is said of one that there is not."""
        name, number = query.get("lesson", ""), query.get("step", "1")
        if not name:
            return {}, ()
        if name not in lessons():
            return {}, (f"There is no lesson {name[:NAME_SHOWN]}; there are {', '.join(lessons())}.",)
        count = len(lessons()[name].steps)
        at = int(number) if number.isascii() and number.isdigit() and len(number) < 4 else 0
        notes = () if 1 <= at <= count else (f"This lesson has the steps 1 to {count}; it begins at the first.",)
        place = Place(name, at - 1 if 1 <= at <= count else 0)
        last = next((step for step in place.lesson.steps[place.index :: -1] if step.fills), place.step)
        return self._fill(place, last) | self._show(place), notes

    def go(self, place: Place | None, event: gr.EventData) -> Updates:
        """Show another step, with its rows and settings if it has any."""
        if place is None:
            return {self.panel.place: gr.skip()}
        place = Place(place.name, min(max(int(event.step), 0), len(place.lesson.steps) - 1))
        return (self._fill(place, place.step) if place.step.fills else {}) | self._show(place)

    def mend(self, place: Place | None, event: gr.EventData) -> Updates:
        """Change what a mend changes. Whether that was right, the next audit tells."""
        if place is None or not 0 <= int(event.mend) < len(place.step.mends):
            return {self.panel.place: gr.skip()}
        mend = place.step.mends[int(event.mend)]
        return self._source(place.step if mend.content is None else mend) | self._settings(
            place.lesson.settings | place.step.settings | mend.settings
        )

    def look(self, values: dict) -> Updates:
        """Tell which tasks of the step are done."""
        place, panel = values[self.panel.place], self.panel
        if place is None:
            return {panel.place: gr.skip()}
        audit, view = values[self.desk.session.audit], self._view(values)
        refused = _refused(view, audit)
        found = place.found or (view is not None and is_found(place.step, audit, refused))
        done = {
            "moves": self._moved(place, values),
            "trains": place.trained,
            "finding": found and view is not None and is_mended(place.step, audit, refused),
        }
        updates: Updates = {panel.card: lesson_view(place, done, self._tokens(place, view))}
        return updates if found == place.found else updates | {panel.place: replace(place, found=found)}

    def tell_trained(self, values: dict) -> Updates:
        """Note that a run has been saved."""
        place = values[self.panel.place]
        if place is None or place.trained or self.desk.backend.saved_run(values[self.desk.run_id]) is None:
            return {self.panel.place: gr.skip()}
        return {self.panel.place: replace(place, trained=True)}

    def _show(self, place: Place) -> Updates:
        return {self.panel.card: lesson_view(place), self.panel.place: place}

    def _fill(self, place: Place, step: Step) -> Updates:
        return self._source(step) | self._settings(place.lesson.settings | step.settings)

    def _source(self, filled: Filled) -> Updates:
        """Return the text of a step, without masks that were made by hand."""
        if filled.content is None:
            return {}
        return self.opening.show_source(text=filled.content) | {self.desk.session.masks: {}}

    def _settings(self, settings: Mapping[str, Any]) -> Updates:
        """Return these settings, and the defaults of all others that a lesson can have."""
        inputs = settings_of(self.desk.controls)
        defaults = {name: getattr(inputs[name], "value") for name in LESSON_SETTINGS}  # noqa: B009
        return {inputs[name]: value for name, value in with_length(defaults | dict(settings)).items()}

    def _moved(self, place: Place, values: dict) -> bool:
        moves = place.step.moves
        if not moves:
            return False
        component: Any = settings_of(self.desk.controls)[moves]
        return values[component] != (place.lesson.settings | place.step.settings).get(moves, component.value)

    def _view(self, values: dict) -> View | None:
        try:
            return self.desk.view(values)
        except SftdemoError:  # the mask's place says what is wrong
            return None

    def _tokens(self, place: Place, view: View | None) -> list | None:
        example = None if view is None or place.step.guess is None else view.example(place.step.guess)
        if view is None or example is None:
            return None
        rows, _ = view.masker.tokenize([example])
        return token_list(rows[0], view.tokenizer) if rows else None


def _refused(view: View | None, audit: Audit | None) -> int:
    """Return how many rows are refused, where they are read or where they are masked."""
    if view is None or audit is None:
        return 0
    return len(view.data.problems) + len(view.data.train) - audit.examples
