"""What comes late of a visit changes nothing that is shown."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sftdemo.ui.panels.order import Order

OLD, NEW = {"rows": "a", "weight": 0.01}, {"rows": "a", "weight": 1}
VISIT, OTHER = SimpleNamespace(session_hash="one"), SimpleNamespace(session_hash="another")


@pytest.fixture
def order():
    return Order(SimpleNamespace(all=lambda: ["rows", "weight"]))


def test_one_of_a_kind_ends_those_before(order):
    first, ahead, other = (
        order.begin(what, OLD, visit) for what, visit in (("scan", VISIT), ("ahead", VISIT), ("scan", OTHER))
    )
    assert first()
    second = order.begin("scan", OLD, VISIT)
    assert [each() for each in (first, second, ahead, other)] == [False, True, True, True]


def test_what_follows_an_older_drawing_is_late_once_the_newer_is_followed(order):
    order.draw(OLD, VISIT)
    order.draw(NEW, VISIT)
    newer = order.begin("scan", NEW, VISIT)
    late = [order.begin(what, OLD, VISIT) for what in ("scan", "ahead")]
    assert newer()
    assert not any(each() for each in late)
    assert order.begin("scan", OLD, OTHER)()


def test_it_is_not_late_before_that_nor_once_it_is_drawn_anew(order):
    order.draw(OLD, VISIT)
    order.draw(NEW, VISIT)
    earlier = order.begin("scan", OLD, VISIT)
    assert earlier()
    assert order.begin("scan", NEW, VISIT)()
    assert not earlier()
    order.draw(OLD, VISIT)
    assert order.begin("scan", OLD, VISIT)()
    assert not order.begin("scan", NEW, VISIT)()


def test_a_scan_that_comes_late_shows_nothing(ui, values):
    given = {name: values(steps=steps) for name, steps in (("old", 5), ("new", 7))}
    for each in given.values():
        ui.masking.draw(each, VISIT)
    *_, shown = ui.masking.scan(given["new"], VISIT)
    assert "7 steps" in shown[ui.masking.out.train]["value"]
    assert list(ui.masking.scan(given["old"], VISIT)) == [{ui.masking.out.totals: {"__type__": "update"}}]
