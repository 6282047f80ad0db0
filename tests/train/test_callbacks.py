from __future__ import annotations

import os
import sys
import threading

import pytest
import torch

from sftdemo.train.callbacks import in_turns


def drained(items) -> tuple[list, object]:
    """All items, and what the generator returned."""
    found = []
    while True:
        try:
            found.append(next(items))
        except StopIteration as end:
            return found, end.value


@pytest.mark.parametrize("count", [0, 1, 5])
def test_what_is_emitted_and_the_result(count):
    def work(emit):
        for number in range(count):
            assert emit(number) is None
        return "done"

    assert drained(in_turns(work)) == (list(range(count)), "done")


def test_what_is_emitted_may_be_none():
    assert drained(in_turns(lambda emit: [emit(None), emit(False)])) == ([None, False], [None, None])


def test_the_work_stands_still_while_the_caller_has_an_item():
    seen = []

    def work(emit):
        for number in range(3):
            seen.append(f"made {number}")
            emit(number)
        seen.append("end")

    items = in_turns(work)
    assert seen == []
    for number in items:
        seen.append(f"used {number}")
    assert seen == ["made 0", "used 0", "made 1", "used 1", "made 2", "used 2", "end"]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("after", [0, 2])
def test_an_exception_comes_after_the_items_before_it(kind, after):
    def work(emit):
        for number in range(after):
            emit(number)
        raise kind("here")

    items = in_turns(work)
    assert [next(items) for _ in range(after)] == list(range(after))
    with pytest.raises(kind, match="here"):
        next(items)
    with pytest.raises(StopIteration):
        next(items)


def test_the_traceback_names_the_line_in_the_work():
    def work(emit):
        emit(1)
        raise ZeroDivisionError

    items = in_turns(work)
    next(items)
    with pytest.raises(ZeroDivisionError) as caught:
        next(items)
    assert caught.traceback[-1].name == "work"


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="no team of OpenMP threads to see")
def test_who_waits_keeps_no_threads_for_computing(two_threads):
    def threads() -> int:
        numbers = torch.ones(500, 500)
        (numbers @ numbers).sin_()
        return len(os.listdir("/proc/self/task"))

    def work(emit):
        for _ in range(3):
            emit(threads())

    alone = threads()
    during = []
    for count in in_turns(work):
        during.append(count)
        assert threads() == alone + 1  # the work's thread, without its team
    assert during == [alone + 1] * 3


def test_each_thread_has_turns_of_its_own():
    found = {}

    def consume(name):
        found[name] = list(in_turns(lambda emit: [emit(threading.get_ident()) for _ in range(100)]))

    threads = [threading.Thread(target=consume, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(found[name]) == 100 and len(set(found[name])) == 1 for name in range(4))


def test_closing_lets_the_work_go_on_to_its_end():
    seen = []

    def work(emit):
        for number in range(4):
            emit(number)
            seen.append(number)
        seen.append("end")

    items = in_turns(work)
    assert next(items) == 0
    items.close()
    assert seen == [0, 1, 2, 3, "end"]


def test_closing_before_the_first_item_does_not_begin_the_work():
    begun = []
    in_turns(lambda emit: begun.append(1)).close()
    assert begun == []


def test_an_exception_while_it_is_closed_comes_through():
    def work(emit):
        emit(1)
        emit(2)
        raise ValueError("late")

    items = in_turns(work)
    next(items)
    with pytest.raises(ValueError, match="late"):
        items.close()


def test_an_exception_thrown_in_comes_back_when_the_work_is_done():
    seen = []

    def work(emit):
        emit(1)
        emit(2)
        seen.append("end")

    items = in_turns(work)
    next(items)
    with pytest.raises(KeyError):
        items.throw(KeyError("mine"))
    assert seen == ["end"]


def test_nested():
    def inner(emit):
        for number in range(3):
            emit(number)
        return "inner"

    def outer(emit):
        found = []
        items = in_turns(inner)
        while True:
            try:
                item = next(items)
            except StopIteration as end:
                return [*found, end.value]
            found.append(item)
            emit(item * 10)

    assert drained(in_turns(outer)) == ([0, 10, 20], [0, 1, 2, "inner"])


def test_two_side_by_side_and_one_resumed_within_another():
    """The work comes back to whoever asked last, who need not be who asked first."""
    numbers = in_turns(lambda emit: [emit(number) for number in range(6)])
    assert next(numbers) == 0
    assert list(in_turns(lambda emit: [emit(next(numbers)) for _ in range(3)])) == [1, 2, 3]
    assert next(numbers) == 4


class TestGradients:
    """torch keeps no_grad per thread, so what one side sets does not reach the other."""

    def test_the_consumers_no_grad_does_not_reach_the_work(self):
        def work(emit):
            for _ in range(2):
                emit(torch.is_grad_enabled())

        with torch.no_grad():
            assert list(in_turns(work)) == [True, True]

    def test_the_consumers_no_grad_between_two_items_does_not(self):
        weight = torch.ones(2, requires_grad=True)

        def work(emit):
            for _ in range(3):
                loss = (weight * 3).sum()
                emit(loss.item())
                loss.backward()

        for _ in in_turns(work):
            with torch.no_grad():
                assert not (weight * 2).requires_grad
        assert weight.grad.tolist() == [9, 9]

    def test_the_works_no_grad_stays_there(self):
        def work(emit):
            with torch.no_grad():
                emit(torch.is_grad_enabled())

        for enabled in in_turns(work):
            assert not enabled
            assert torch.is_grad_enabled()
