from __future__ import annotations

import pytest

from sftdemo.data.records import MAX_DEPTH, Huge, Refused, Repeated, checked, kind_of, short


def nested(depth: int) -> object:
    """A record with lists in each other, itself counted."""
    value: object = 1
    for _ in range(depth - 1):
        value = [value]
    return {"a": value}


FAULTS = [
    ({"a": "x\ud83d"}, '"a" has half of a character at position 1 (\\ud83d); write the character itself'),
    ({"m": [{"role": "\udc00"}]}, '"m[0].role" has half of a character at position 0'),
    ({"a\ud83d": 1}, 'has the name "a\\ud83d" with half of a character in it; write'),
    ({"m": {"\ud83d": "\ud83d"}}, '"m" has the name "\\ud83d" with half'),
    ({"a": Huge(5000)}, '"a" is a number of 5,000 digits; write a shorter one'),
    ({"a": [1, Huge(5000)]}, '"a[1]" is a number'),
    (Huge(5000), "is a number of 5,000 digits"),
    (Repeated([("a", 1), ("b", 1), ("b", 2)]), 'has "b" twice; keep one of them.'),
    ({"m": [Repeated([("a", 1), ("a", 2)])]}, '"m[0]" has "a" twice'),
    ({"a": [float("nan")]}, '"a[0]" is NaN, which JSON does not have; write a number or null.'),
    ({"a": {"b": float("-inf")}}, '"a.b" is -Infinity'),
    (nested(MAX_DEPTH), "nested too deeply"),
    (nested(50_000), "nested too deeply"),
]


@pytest.mark.parametrize(("record", "says"), FAULTS, ids=[says[:30] for _, says in FAULTS])
def test_a_value_that_breaks_things_is_refused_by_its_place(record, says):
    refused = checked(record)
    assert isinstance(refused, Refused)
    assert str(refused).startswith(says) or says in str(refused)
    str(refused).encode()


@pytest.mark.parametrize(
    "record",
    [
        {"a": "😀", "b": [1, 2.5, None, True, {"c": []}], "d": b"\xff"},
        {"a": float("nan"), "b": float("inf")},  # no text of ours: a shape refuses them, or they are not used
        nested(MAX_DEPTH - 1),
        {"a": int("9" * 4000)},
        5,
        None,
        "text",
    ],
    ids=lambda record: str(record)[:20],
)
def test_others_are_kept(record):
    assert checked(record) is record


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "null"),
        (True, "the true"),
        (1.5, "the number 1.5"),
        ("a", 'the text "a"'),
        ([], "an empty list"),
        ([1], "a list"),
        ({}, "an object"),
        (b"\xff" * 1234, "1,234 bytes that are no text"),
    ],
)
def test_kind_of(value, kind):
    assert kind_of(value) == kind


def test_short():
    assert short("a" * 60) == '"' + "a" * 60 + '"'
    assert short("a" * 61) == '"' + "a" * 59 + '…"'
    assert short("é\n") == '"é\\n"'
    assert short([1]) == '"[1]"'
    assert short("a\ud83d") == '"a\\ud83d"'
