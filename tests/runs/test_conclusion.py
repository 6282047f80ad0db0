"""What a run's events come to in words, in every direction that they can point."""

from __future__ import annotations

from math import inf, nan

import pytest

from sftdemo.core.events import Arm, Comparison, Event, Figures, Finished, HeldOut, Prepared, Step
from sftdemo.runs.conclusion import conclusion

DOUBT = " One seed: that alone proves little; `study` repeats it."


def both(*columns: tuple[float | None, float, float], steps: tuple[int, ...] = (12, 12), total: int = 12, prompts=97):
    """The events of an ablation with these columns: weight, loss on the answers, loss on the prompts."""
    planned = [weight for weight, *_ in columns[1:]] + [0.9] * (len(steps) - len(columns) + 1)
    events: list[Event] = []
    for index, count in enumerate(steps):
        events.append(Arm(index, [weight or 0.0 for weight in planned]))
        events += [Step(step, total, 1.0, 1.0, 1.0) for step in range(1, count + 1)]
    return events + [
        Figures(weight, answers, asked, 93, prompts, 6, 6, None, 9.0) for weight, answers, asked in columns
    ]


def one(before: float, after: float, *pairs: Comparison, step: int = 12) -> list[Event]:
    """The events of a training by itself."""
    held_out = [HeldOut(0, before, 3.0, 93, 97), Step(step, 12, 1.0, 1.0, 0.0), HeldOut(step, after, 6.0, 93, 97)]
    return [Prepared(2, 40, 11, 12, 7, []), *held_out, *pairs]


def pair(before: str, after: str, stops: str = "length EOS", source: str = "held out") -> Comparison:
    return Comparison("Why?", before, after, *stops.split(), source)


BASE = (None, 2.871, 2.5)


class TestBothWays:
    @pytest.mark.parametrize(
        ("masked", "unmasked", "words"),
        [
            (
                (0.7859, 6.3),
                (0.8301, 3.3),
                ", masking lowered the loss from 0.830 (unmasked) to 0.786; the prompts' loss rose from 2.500 before "
                "the training to 6.300 (masked), because nobody asked for them, and is 3.300 (unmasked).",
            ),
            (
                (0.9, 2.1),
                (0.8, 3.3),
                ", masking raised the loss from 0.800 (unmasked) to 0.900; the prompts' loss fell from 2.500 before "
                "the training to 2.100 (masked), though nobody asked for them, and is 3.300 (unmasked).",
            ),
            (
                (0.80041, 2.50041),
                (0.80039, 3.3),
                ", masked and unmasked come to the same loss, to three decimals: 0.800; the prompts' loss stayed at "
                "2.500 (masked), and is 3.300 (unmasked).",
            ),
        ],
        ids=["lowered", "raised", "the same"],
    )
    @pytest.mark.parametrize("turned", [False, True], ids=["masked first", "unmasked first"])
    def test_each_direction(self, masked, unmasked, words, turned):
        arms = [(0.0, *masked), (1.0, *unmasked)]
        told = both(BASE, *(arms[::-1] if turned else arms))
        assert conclusion(told) == f"On 93 held-out answer tokens{words}{DOUBT}"

    def test_weights_between(self):
        told = conclusion(both(BASE, (0.1, 0.7, 3.0), (0.5, 0.8, 2.0)))
        assert "a prompt weight of 0.1 lowered the loss from 0.800 (prompt weight 0.5) to 0.700; " in told
        end = "2.500 before the training to 3.000 (prompt weight 0.1), and is 2.000 (prompt weight 0.5). One seed"
        assert f"the prompts' loss rose from {end}" in told
        told = conclusion(both(BASE, (0.1, 0.7, 2.0), (0.5, 0.8, 3.0)))
        assert (
            "fell from 2.500 before the training to 2.000 (prompt weight 0.1), and is 3.000 (prompt weight 0.5)."
            in told
        )

    def test_more_than_two(self):
        told = conclusion(both(BASE, (0.0, 0.8, 4.0), (0.1, 0.7, 3.0), (1.0, 0.9, 1.0), steps=(12,) * 3))
        assert (
            "tokens the lowest loss of 3 weights is 0.700, prompt weight 0.1; the highest is 0.900, unmasked; the "
            "prompts' loss rose from 2.500 before the training to 4.000 (masked), because nobody asked for them, "
            "and is 1.000 (unmasked)." in told
        )

    def test_no_training_that_is_better_than_none(self):
        told = conclusion(both((None, 0.5, 2.5), (0.0, 0.8, 4.0), (1.0, 0.9, 1.0)))
        assert "Before any training it was 0.500: none of the trainings has lowered that. One seed" in told
        assert "Before" not in conclusion(both(BASE, (0.0, 0.8, 4.0), (1.0, 3.9, 1.0)))

    def test_rows_without_a_prompt(self):
        told = conclusion(both(BASE, (0.0, 0.8, 0.0), (1.0, 0.9, 0.0), prompts=0))
        assert told == f"On 93 held-out answer tokens, masking lowered the loss from 0.900 (unmasked) to 0.800.{DOUBT}"

    @pytest.mark.parametrize("loss", [nan, inf])
    def test_one_that_has_diverged(self, loss):
        told = conclusion(both(BASE, (0.0, 0.8, 4.0), (1.0, loss, 1.0)))
        assert told.startswith("The loss is not a number (unmasked), so nothing can be compared: ")
        assert "0.800" not in told

    def test_stopped_in_the_first_arm(self):
        told = conclusion(both(BASE, (0.0, 0.8, 4.0), steps=(5,)))
        assert told == (
            "Stopped before there was anything to compare: on 93 held-out answer tokens the loss is 0.800 masked, and "
            "2.871 before the training."
        )

    def test_stopped_in_the_second_arm(self):
        told = conclusion(both(BASE, (0.0, 0.8, 4.0), (1.0, 0.9, 1.0), steps=(12, 5)))
        assert "the loss is 0.800 masked, 0.900 unmasked, but the trainings were not equally long" in told
        assert "(steps: 12 masked, 5 unmasked)" in told
        assert "lowered" not in told

    def test_stopped_between_two_arms(self):
        told = conclusion(both(BASE, (0.0, 0.8, 4.0), (1.0, 0.9, 1.0), steps=(12, 12, 0)))
        assert "masking lowered" in told
        assert " Stopped: 1 of 3 weights not trained." in told


class TestOneTraining:
    @pytest.mark.parametrize(
        ("before", "after", "words"),
        [
            (2.871, 0.7859, "lowered the loss from 2.871 to 0.786."),
            (0.5, 0.9, "raised the loss from 0.500 to 0.900: fewer steps, or a lower learning rate, may help."),
            (0.50041, 0.50039, "left the loss at 0.500, to three decimals."),
        ],
    )
    def test_each_direction(self, before, after, words):
        assert conclusion(one(before, after)) == f"On 93 held-out answer tokens the training {words}"

    def test_the_answers(self):
        pairs = pair("a", "b"), pair("a", "a", "EOS EOS"), pair("a", "c", "length length", "typed")
        assert conclusion(one(2.0, 1.0, *pairs)).endswith(
            " to 1.000. Of 3 prompts, 2 are answered otherwise than before; 2 answers end by themselves, before the "
            "training 1. One seed, and few prompts: read the answers as well."
        )
        assert "Of 1 prompt, 1 is answered otherwise than before; 1 answer ends by itself, " in conclusion(
            one(2.0, 1.0, pair("a", "b"))
        )

    def test_without_held_out_rows(self):
        told = conclusion([Step(12, 12, 1.0, 1.0, 0.0), pair("a", "b", source="training")])
        assert told.startswith(
            "No row is held out, so nothing is known of rows that were not trained; `--hold-out 0.2`"
        )
        assert "Of 1 trained prompt, " in told

    def test_without_an_answer_of_theirs(self):
        told = conclusion([Step(12, 12, 1.0, 1.0, 0.0), pair("a", "b"), pair("a", "b", source="typed")])
        assert told.startswith("No loss on held-out answers was measured: ")

    def test_stopped(self):
        told = conclusion(one(2.0, 1.0, step=3))
        assert told.startswith("Stopped after step 3 of 12. On 93 held-out answer tokens the training lowered ")

    def test_diverged(self):
        told = conclusion(one(2.0, nan))
        assert told == (
            "On 93 held-out answer tokens the loss is not a number: the training has diverged. Lower the learning rate."
        )

    @pytest.mark.parametrize("events", [[], [HeldOut(0, 2.0, 3.0, 93, 97), Finished(0, 12, 1.0, True)]])
    def test_nothing_trained(self, events):
        assert conclusion(events) == ""
