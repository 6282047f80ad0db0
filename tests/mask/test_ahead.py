from __future__ import annotations

import threading
from itertools import count

import pytest

from sftdemo.mask.ahead import AHEAD, THREADS, work_ahead


@pytest.mark.parametrize("number", range(2 * AHEAD))
def test_results_come_in_the_order_of_the_items(number):
    done = [threading.Event() for _ in range(number + 1)]

    def work(item):
        if item % 2 == 0:  # so that each second item is done before the one ahead of it
            done[item + 1].wait(0.05)
        done[item].set()
        return -item

    assert list(work_ahead(work, range(number))) == [-item for item in range(number)]


def test_threads_work_at_the_same_time():
    together = threading.Barrier(THREADS, timeout=60)
    results = work_ahead(lambda item: together.wait() is not None, range(THREADS))
    assert list(results) == [True] * THREADS


def test_takes_no_more_items_than_it_needs_ahead_and_takes_them_itself():
    taken = []

    def items():
        for item in count():
            taken.append(threading.current_thread())
            yield item

    results = work_ahead(str, items())
    assert taken == []
    for number in range(3):
        assert next(results) == str(number)
        assert len(taken) == number + 1 + AHEAD
    results.close()
    assert set(taken) == {threading.current_thread()}


def test_an_error_comes_where_its_result_would_and_ends_the_rest():
    begun, results = [], work_ahead(lambda item: begun.append(item) or 6 // (2 - item), range(100))
    assert [next(results), next(results)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(begun) <= 3 + AHEAD
    assert list(results) == []


def test_no_thread_is_left_when_nobody_takes_the_rest():
    before, results = set(threading.enumerate()), work_ahead(str, range(100))
    next(results)
    assert set(threading.enumerate()) > before
    results.close()
    assert set(threading.enumerate()) <= before
