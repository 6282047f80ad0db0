from __future__ import annotations

import json
from dataclasses import replace

import pytest
from desk import named

from sftdemo.core.events import (
    Arm,
    Before,
    Comparison,
    Conclusion,
    Failed,
    Figures,
    Finished,
    HeldOut,
    Model,
    Phase,
    Prepared,
    Saved,
    Step,
    Weights,
)
from sftdemo.ui.run_state import POINTS, summarize

BEGUN = [
    Phase("load", "Loading the model"),
    Model("gpt2", "local folder", "CPU (2 threads)", "float32", 124),
    Phase("train", "Training"),
    Prepared(2, 1040, 11, 4, 2_500_000, ["row 3: no answer"], rows_a_step=8, rows=2),
]
PAIR = Comparison("Why?", "no", "Arr", "length", "EOS", "typed")
SAVED = Saved("runs/1", "adapter")


def steps(count: int, total: int | None = None) -> list[Step]:
    return [Step(index, total or count, 10 / index, index, (total or count) - index) for index in range(1, count + 1)]


def status(*events) -> dict:
    return json.loads(summarize(events).status)


def test_before_anything_has_happened():
    state = summarize([])
    assert (json.loads(state.status)["state"], state.done, state.losses, state.saved) == ("working", False, [], None)


def test_a_phase_shows_its_message_and_how_far_it_is():
    shown = status(Phase("model", "Fetching"), Phase("model", "Converting", 0.25))
    assert (shown["state"], shown["title"], shown["fraction"]) == ("working", "Converting", 0.25)
    assert status(Phase("model", "Fetching"))["fraction"] is None


def test_training():
    state = summarize([*BEGUN, *steps(2, total=4)])
    shown = json.loads(state.status)
    assert (shown["state"], shown["title"], shown["fraction"]) == ("working", "Training: step 2 of 4", 0.5)
    assert "loss 5.000" in shown["detail"]
    assert "2 s" in shown["detail"]
    assert (state.losses, state.total, state.done) == ([(1, 10.0), (2, 5.0)], 4, False)


def test_answers_before_the_training_are_kept_as_they_come():
    answers = [Before("Why?", "no", "length", "typed"), Before("How?", "", "EOS", "held out")]
    assert summarize([*BEGUN, *answers, *steps(1)]).before == answers


def test_notes_stay_to_the_end():
    for last in (steps(1), [Phase("after", "Answering")], [Finished(4, 4, 9.0, False)], [Failed("no")]):
        notes = "\n".join(status(*BEGUN, *last)["notes"])
        assert "gpt2 · local folder · CPU (2 threads), float32" in notes
        assert "2 examples, 1,040 tokens, 11 of them trained; 2.5 million weights learn" in notes
        assert "4 steps of 8 are 4 epochs of your 2 rows" in notes
        assert "left out: row 3: no answer" in notes


@pytest.mark.parametrize(
    ("last", "shown", "saved"),
    [
        ([*steps(4), PAIR, SAVED, Finished(4, 4, 9.4, False)], ("done", "Done", "4 steps, 9 s in all"), True),
        (
            [*steps(2, total=4), PAIR, SAVED, Finished(2, 4, 9.0, True)],
            ("done", "Stopped after step 2 of 4; what it learned is kept", "2 steps, 9 s in all"),
            True,
        ),
        ([Finished(0, 0, 1.0, True)], ("idle", "Stopped before the first step; nothing was trained.", ""), False),
        ([*steps(2), Failed("The loss became nan.")], ("failed", "The loss became nan.", ""), False),
    ],
    ids=["done", "stopped", "stopped before the first step", "failed"],
)
def test_the_end(last, shown, saved):
    state = summarize([*BEGUN, *last])
    status = json.loads(state.status)
    assert (status["state"], status["title"], status["detail"]) == shown
    assert (state.done, state.saved, state.comparisons) == (True, "runs/1" if saved else None, [PAIR] * saved)


@pytest.mark.parametrize("count", [1, 2, 299, 300, 301, 599, 601, 10_000])
def test_the_curve_is_thinned_but_keeps_both_ends(count):
    losses = summarize([*BEGUN, *steps(count)]).losses
    assert POINTS == 300
    assert len(losses) <= POINTS + 1
    assert len(losses) >= min(count, POINTS // 2)
    assert (losses[0], losses[-1]) == ((1, 10.0), (count, 10 / count))
    assert losses == sorted(set(losses))


class TestBothWays:
    HELD_OUT = (HeldOut(0, 4.0, 3.0, 60, 97), HeldOut(2, 1.0, 5.0, 60, 97))
    FIRST = (Arm(0, [0.0, 1.0]), Prepared(2, 40, 11, 2, 7, []), HELD_OUT[0], *steps(2), HELD_OUT[1])

    def test_each_arm_has_its_name_and_its_share_of_the_bar(self):
        shown = status(*self.FIRST[:3], *steps(1, total=2))
        assert shown["title"] == "masked (1 of 2): Training: step 1 of 2"
        assert shown["fraction"] == 0.25
        shown = status(*self.FIRST, Arm(1, [0.0, 1.0]), *steps(1, total=2))
        assert shown["title"] == "unmasked (2 of 2): Training: step 1 of 2"
        assert shown["fraction"] == 0.75

    def test_what_held_out_rows_say_of_each(self):
        state = summarize([*self.FIRST, Arm(1, [0.0, 1.0]), self.HELD_OUT[0]])
        first, second = self.HELD_OUT
        assert state.held_out == [("masked", first), ("masked", second), ("unmasked", first)]
        assert state.arm_names == ["masked", "unmasked"]
        assert json.loads(state.strip)["curves"] == [[4.0, 1.0], [4.0]]

    def test_the_picture_has_all_arms_from_its_first_point(self, ui):
        pictures = named(ui, ui.running._show_arm_curves(summarize(self.FIRST)))
        for name, first in (("answers", 4.0), ("prompts", 3.0)):
            picture = pictures[f"{name}_curve"]
            frame = picture["value"]
            assert list(picture["color_map"]) == ["masked", "unmasked"]
            assert frame[frame["arm"] == "unmasked"][["step", name]].values.tolist() == [[0, first]]
            assert len(frame[frame["arm"] == "masked"]) == 2

    def test_what_all_arms_share_is_said_once(self):
        notes = status(*self.FIRST, Arm(1, [0.0, 1.0]), self.FIRST[1])["notes"]
        assert len([note for note in notes if "2 examples" in note]) == 1

    def test_a_training_by_itself_has_no_curves_of_arms_but_a_conclusion(self):
        state = summarize([*BEGUN, self.HELD_OUT[0], *steps(1), self.HELD_OUT[1], Conclusion("It was lowered.")])
        assert (state.held_out, state.conclusion) == ([], "It was lowered.")

    def test_the_arms_that_were_saved(self):
        base = Figures(None, 2.5, 4.25, 60, 97, 6, 0, 3, 32.0)
        masked = replace(base, prompt_loss_weight=0.0)
        told = (base, masked, Weights("aa", "aa", False), Saved("runs/1", "ablation"), Finished(2, 4, 9.0, True))
        state = summarize([*self.FIRST, *told])
        assert (state.arms, state.figures, state.saved) == ([0.0], [base, masked], "runs/1")
        assert json.loads(state.status)["notes"][-1].endswith("unchanged")


class TestStrip:
    """What is in sight at the window's edge."""

    def strip(self, *events) -> dict:
        return json.loads(summarize([*BEGUN, *events]).strip)

    def test_while_it_trains(self):
        shown = self.strip(Before("Why?", "no " * 100, "length", "typed"), *steps(100, total=200))
        assert (shown["title"], shown["phase"], shown["fraction"]) == ("Training: step 100 of 200", "Training", 0.5)
        assert shown["detail"].endswith("about 2 min of training left")
        assert (len(shown["curves"][0]) <= 60, shown["answers"]) == (True, 0)
        assert (shown["pair"]["after"], len(shown["pair"]["before"])) == (None, 161)

    def test_at_the_end(self):
        shown = self.strip(*steps(4), PAIR, SAVED, Finished(4, 4, 7200.0, False))
        assert (shown["state"], shown["title"], shown["answers"]) == ("done", "Done", 1)
        assert shown["detail"] == "4 steps, 2.0 h in all"
        assert shown["pair"] == {"prompt": "Why?", "before": "no", "after": "Arr"}
