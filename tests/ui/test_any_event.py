"""Whatever a script may send to a handler of the page is answered, or refused in one of our own sentences, and soon.

Some cases run with all tests; `make hold` tries 10,000, and `make hold HOLD_CASES=200000` more.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import gradio as gr
import pytest
from data.test_any_value import KEYS
from desk import ROWS, build_page, tiny
from gradio.exceptions import Error
from gradio.helpers import special_args
from hypothesis import given
from hypothesis import strategies as st
from serving import awaited
from starlette.datastructures import Headers

from sftdemo.core.config import DEFAULT_MODEL
from sftdemo.core.environment import settle
from sftdemo.core.errors import SftdemoError
from sftdemo.runs.jobs import BusyError
from sftdemo.ui.backend import Backend
from sftdemo.ui.calls import CheckedPage, kept, sent

SECONDS = 1.0  # of processor time, of a handler of a page with three rows
REQUEST = gr.Request(headers=Headers({}), query_params={}, session_hash="visit")
FETCHED = ("model", "hub")  # a name that is looked for on the Hub, in a process of its own
PARTS = ("row", "page", "part", "line", "check", "tokens", "trained", "run", "runs", "name", "note", "open", "lesson")
PARTS += ("step", "mend", "template", "said", "link", "text")
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from([10**400, "0" * 32]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
LIKELY = st.integers(-1, 3) | st.sampled_from(["0", "", "any", "duplicates", "0a" * 16, [0, 1], ["0a" * 16] * 2])
EVENTS = st.dictionaries(st.sampled_from(PARTS), LIKELY | ANY, max_size=6) | ANY
HELD = LIKELY | ANY | st.dictionaries(KEYS, ANY, max_size=3)


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # what Gradio makes of a toast without a page


class Idle(Backend):
    """A backend in which nothing is started."""

    def start(self, *_):
        raise BusyError("another run is under way.")

    go_on = start

    def _relay(self, *_):
        raise BusyError("another run is under way.")
        yield


@pytest.fixture(scope="module")
def served(llama_folder):
    """A page whose libraries are imported, which is when its server settles."""
    page = build_page(Idle())
    settle()
    return page


def answered(fn: Any, inputs: list[Any], event: object) -> None:
    """Call a handler as Gradio does. What a component does not take is refused by Gradio."""
    try:
        pairs = zip(fn.inputs, inputs, strict=True)
        taken = [kept(block, block.preprocess(value)) for block, value in pairs]
    except Exception:
        return
    values: list[Any] = [dict(zip(fn.inputs, taken, strict=True))] if fn.inputs_as_dict else taken
    try:
        values = special_args(fn.fn, values, REQUEST, gr.EventData(None, sent(event)), None)[0]
        result = fn.fn(*values)
        if hasattr(result, "__next__"):
            for _ in zip(result, range(20)):  # noqa: B905
                pass
    except (Error, SftdemoError):
        return


def check_handlers(served, folder) -> None:
    handlers = [fn for fn in served.blocks.fns.values() if fn.fn is not None and fn.api_visibility == "private"]
    usual = tiny(served, folder)

    @given(st.sampled_from(handlers), st.data())
    def holds(fn, data):
        inputs = []
        for block in fn.inputs:
            is_sent = not block.stateful or isinstance(block, gr.BrowserState)
            may_change = is_sent and getattr(block, "elem_id", None) not in FETCHED
            value = usual.get(block, block.value)
            same = st.just(str(folder) if value == DEFAULT_MODEL else value)
            inputs.append(data.draw(same if not may_change else st.one_of(*[same] * 6, HELD)))
        begin = time.process_time()
        answered(fn, inputs, data.draw(EVENTS))
        assert time.process_time() - begin < SECONDS

    holds()


def test_any_event_is_answered(served, llama_folder):
    assert len(ROWS) == 3
    check_handlers(served, llama_folder)


@pytest.mark.hold
def test_ten_thousand_events_are_answered(served, llama_folder):
    check_handlers(served, llama_folder)


def picked(event: gr.EventData) -> int:
    return event.row


def test_an_event_is_checked_on_its_way_through_gradio():
    with CheckedPage() as page:
        page.load(picked, None, gr.State())
    (handler,) = page.fns.values()

    def told(data: object) -> object:
        called = page.call_function(handler, [], None, None, "", gr.EventData(None, data), False, None, None)
        return awaited(called)["prediction"]

    assert [told(None), told({}), told({"row": 3})] == [0, 0, 3]
    with pytest.raises(Error, match='row is "x"; the page'):
        told({"row": "x"})


def test_at_most_one_handler_of_an_event_waits_for_its_turn(ui):
    """Gradio sends what one has waited for to all of them anew: two would keep each other going for good. What a state
    sends goes to each by itself."""
    late = [fn for fn in ui.blocks.fns.values() if fn.fn and fn.trigger_mode == "always_last"]
    shown = {number for number, block in ui.blocks.blocks.items() if not isinstance(block, gr.State)}
    waiting = Counter(target for fn in late for target in fn.targets if target[0] in shown)
    assert set(waiting.values()) == {1}
