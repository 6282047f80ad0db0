"""Tables and lines that fit."""

from __future__ import annotations

import pytest
from rich.console import Console
from rich.text import Text

from sftdemo.terminal.console import indented, print_table
from sftdemo.terminal.remarks import between_words, remark

HEAD = ["Prompt", "base", "masked", "prompt weight 0.1", "prompt weight 0.5", "unmasked"]
ROW = ["Why? (training)", *["an extraordinarily long answer"] * 5]


def table(width: int, head, rows, piped: bool = False, **settings) -> list[str]:
    console = Console(width=width, color_system=None, soft_wrap=piped)
    with console.capture() as capture:
        print_table(console, "The title", head, rows, **settings)
    return capture.get().splitlines()


def words_of(lines: list[str]) -> set[str]:
    return {word for line in lines for word in line.replace("│", " ").replace("┃", " ").split()}


@pytest.mark.parametrize("width", [60, 80, 103, 104, 120, 200])
@pytest.mark.parametrize("ratios", [(), (2, *[4] * 5)], ids=["numbers", "answers"])
def test_no_word_is_broken(width, ratios):
    lines = table(width, HEAD, [ROW, ROW], ratios=ratios)
    assert set(" ".join(ROW).split()) <= words_of(lines)
    assert max(map(len, lines)) <= width
    assert ("┃" in lines[2]) == (width >= 104)  # 10 + 5 * 15, and 19 between them


FIGURES = ["16", "0.5", "2.508 ± 0.027", "1.976 ± 0.008", "12 of 18"]
FIGURES_HEAD = ["rows", "weight", "completion loss", "prompt loss", "ended"]


def test_a_figure_stays_with_its_spread():
    """58 columns hold all figures, and 16 are between them; one less, and they are a list."""
    wide, narrow = (table(width, FIGURES_HEAD, [FIGURES], numbers=True) for width in (60, 59))
    assert [line for line in wide if "2.508 ± 0.027 │ 1.976 ± 0.008 │ 12 of 18" in line]
    assert max(map(len, wide)) <= 60
    assert "completion loss: 2.508 ± 0.027" in narrow


def test_in_a_pipe_a_table_of_figures_is_as_wide_as_they_are():
    lines = table(30, FIGURES_HEAD, [FIGURES], piped=True, numbers=True)
    assert [line for line in lines if "2.508 ± 0.027 │ 1.976 ± 0.008 │ 12 of 18" in line]


def test_what_does_not_fit_side_by_side_is_a_list():
    assert table(60, HEAD[:2], [["Why?", Text("x" * 70)]])[:4] == ["The title", "", "Prompt: Why?", "base: "]


def test_columns_share_a_line():
    top = table(100, ["Prompt", "Before", "After"], [["a", "b", "c"]], ratios=[2, 4, 4])[1]
    assert [len(part) for part in top.strip("┏┓").split("┳")] == [20, 38, 38]


def test_lines_end_between_words():
    assert between_words("one two three", 8) == "one two\nthree"
    assert between_words("step    1  loss", 80) == "step    1  loss"
    assert between_words("to /a/path/that/is/long now", 8) == "to\n/a/path/that/is/long\nnow"
    assert between_words("a\n\nwell-known word", 8) == "a\n\nwell-known\nword"


@pytest.mark.parametrize(("soft_wrap", "lines"), [(False, ["  [one] two", "  three"]), (True, ["  [one] two three"])])
def test_all_that_an_indented_line_breaks_into_is_indented(soft_wrap, lines):
    console = Console(width=12, color_system=None, soft_wrap=soft_wrap)
    with console.capture() as capture:
        indented(console, "[one] two three")
    assert capture.get().splitlines() == lines


def test_a_remark_cannot_steer_the_terminal(capsys):
    remark("sftdemo: no\x1b[31m\x9b1m.jsonl cannot be read\nat all")
    assert capsys.readouterr().err == "sftdemo: no\\x1b[31m\\x9b1m.jsonl cannot be read\nat all\n"
