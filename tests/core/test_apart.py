"""What comes with a model runs in a process of its own, and is ended in time."""

from __future__ import annotations

import pytest

from sftdemo.core.apart import Apart, ApartError

CHAT = {"conversations": [[{"role": "user", "content": "Hi \u2028 é"}]], "add_generation_prompt": True}


@pytest.fixture(scope="module")
def apart():
    process = Apart()
    yield process
    process.close()


def render(apart: Apart, template: str, seconds: float = 20.0, most: int = 1000):
    return apart.ask("render", seconds, template=template, arguments=CHAT, most=most)


def test_it_renders(apart):
    assert render(apart, "{{ messages[0].content }}{% if add_generation_prompt %}:{% endif %}") == ["Hi \u2028 é:"]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ 1/0 }}", "division by zero"),
        ("{{ 'a' + 1 }}", "can only concatenate str"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "maximum recursion depth exceeded"),
        ("{{ 'a' * (10**9 * 2) }}", "it takes too much memory"),
        ("{{ 'a' * 2000 }}", "it writes 2,000 characters, and the limit is 1,000"),
        ("{% if", "unexpected 'end of template'"),
    ],
)
def test_what_fails_is_told_and_does_not_end_it(apart, template, says):
    with pytest.raises(ApartError, match=f"^{says}") as error:
        render(apart, template)
    assert not error.value.stopped
    assert render(apart, "b") == ["b"]


@pytest.mark.parametrize("work", ["{% for i in range(99999) %}{% for j in range(99999) %}", "{{ 9**(9**9) }}"])
def test_what_does_not_come_to_an_end_is_ended(apart, work):
    """Loops, and one operation that no signal handler of Python interrupts."""
    render(apart, "b")
    with pytest.raises(ApartError, match=r"^it takes more than 1 seconds") as error:
        render(apart, work + "{% endfor %}" * work.count("{% for"), seconds=1)
    assert error.value.stopped
    assert render(apart, "b") == ["b"]
