"""What is made of a study's cells: figures against ones computed by hand, and a report that no answer can break."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt
from pandas.testing import assert_frame_equal

from sftdemo.core.events import Conclusion, Failed, Finished, Saved, StudyCell
from sftdemo.data import samples
from sftdemo.study.cells import CELLS, SETTINGS
from sftdemo.study.plots import endings_svg, losses_svg
from sftdemo.study.report import (
    ENDINGS,
    LOSSES,
    RECORD,
    REPORT,
    conclusion_of,
    frame_of,
    judge_of,
    markdown,
    paired,
    paired_table,
    reported,
    summary,
    summary_table,
    write_report,
)

MACHINE = {"processor": "An | engine", "cores": 2}
STUDY = {
    "model": {"name": "tiny", "copy": "local folder"},
    "rows": {"to train on": 8, "left out": 0, "held out": 2},
    "config": {"steps": 12, "batch_size": 4, "full": False, "packing": False},
}
COMMAND = "python -m sftdemo study 'my ```rows``` | <b>.json'"
HOSTILE = (
    "```\n# A heading\n| a | b |\n|---|---|\n<script>alert(1)</script>",
    "`````text\n| x |\n~~~\n````` \x1b[31m red",
    "<img src=x onerror=alert(1)> ![](http://x/y.png)\r\n\r\n# B\r",
    "",
    "    ```\n\t```\n> quoted\n- item",
)


def cell(
    rows, seed, weight, completion, prompt=2.0, ended=1, ran_on=0, tokens=6.0, answers=("Arr!", "No")
) -> StudyCell:
    figures = {
        "prompt_loss_weight": weight,
        "completion_loss": completion,
        "prompt_loss": prompt,
        "completion_tokens": 60,
        "prompt_tokens": 97,
        "answers": len(answers),
        "ended": ended,
        "ran_on": ran_on,
        "mean_tokens": tokens,
    }
    told = [{"prompt": f"Why {n}?", "source": "held out", "answer": a, "stop": "EOS"} for n, a in enumerate(answers)]
    return StudyCell(rows, seed, 12 if rows else 0, figures, told, 20.0)


BASE = cell(0, None, None, 3.0, 2.5, ended=0, ran_on=2, tokens=32.0)
MASKED = [cell(4, 0, 0.0, 1.0, 3.0, 1), cell(4, 1, 0.0, 1.2, 3.5, 1), cell(4, 2, 0.0, 1.4, 4.0, 0, 1, 12.0)]
PLAIN = [cell(4, 0, 1.0, 0.9, 1.0, 2), cell(4, 1, 1.0, 1.3, 1.5, 1), cell(4, 2, 1.0, 1.1, 2.0, 2)]
FEW = [BASE, *MASKED, *PLAIN]


def row_of(frame, **wanted) -> dict:
    (row,) = [row for row in frame.to_dict("records") if all(row[name] == value for name, value in wanted.items())]
    return row


def text_of(cells, judge=None) -> str:
    return markdown(cells, frame_of(cells, judge), STUDY, MACHINE, COMMAND)


def parsed(text: str) -> list:
    return MarkdownIt("commonmark").enable("table").parse(text)


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table."""
    found, kind = [], []
    for token in parsed(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and kind[-1:] in (["th_open"], ["td_open"]):
            found[-1][-1].append(token.content)
        kind.append(token.type)
    return found


class TestFigures:
    def test_mean_and_deviation_over_the_seeds(self):
        table = summary(frame_of(FEW))
        assert len(table) == 2
        masked = row_of(table, rows=4, weight=0.0)
        assert masked["seeds"] == 3
        assert masked["completion_loss"] == pytest.approx(1.2)
        assert masked["completion_loss_sd"] == pytest.approx(0.2)  # of 1.0, 1.2, 1.4, divided by 3 - 1
        assert masked["prompt_loss"] == pytest.approx(3.5)
        assert masked["prompt_loss_sd"] == pytest.approx(0.5)
        assert (masked["ended"], masked["ran_on"], masked["answers"]) == (2, 1, 6)
        assert masked["mean_tokens"] == pytest.approx(8.0)

    def test_differences_are_taken_within_a_seed(self):
        difference = row_of(paired(frame_of(FEW)), rows=4, weight=1.0)
        assert difference["seeds"] == 3
        assert difference["completion_loss"] == pytest.approx(-0.1)  # of -0.1, +0.1 and -0.3
        assert difference["completion_loss_sd"] == pytest.approx(0.2)
        assert difference["completion_loss_better"] == 2
        assert difference["prompt_loss"] == pytest.approx(-2.0)
        assert difference["prompt_loss_sd"] == pytest.approx(0.0)
        assert difference["prompt_loss_better"] == 3
        assert difference["ended"] == pytest.approx(1.0)  # of +1, 0 and +2
        assert difference["ended_better"] == 2

    def test_the_order_of_the_cells_plays_no_part(self):
        for table in (paired, summary):
            assert_frame_equal(table(frame_of(FEW[::-1])), table(frame_of(FEW)))

    def test_a_seed_without_a_partner_is_no_pair(self):
        cells = [BASE, *MASKED, cell(4, 0, 1.0, 0.5), cell(4, 9, 1.0, 0.1), cell(8, 1, 1.0, 0.2)]
        difference = paired(frame_of(cells))
        assert len(difference) == 1
        assert row_of(difference, rows=4, weight=1.0)["seeds"] == 1
        assert row_of(difference, rows=4, weight=1.0)["completion_loss"] == pytest.approx(-0.5)
        assert row_of(summary(frame_of(cells)), rows=4, weight=1.0)["seeds"] == 2

    def test_sizes_are_kept_apart(self):
        cells = [*FEW, *(cell(8, seed, weight, 0.5 - weight / 4) for seed in range(2) for weight in (0.0, 1.0))]
        assert row_of(paired(frame_of(cells)), rows=8, weight=1.0)["completion_loss"] == pytest.approx(-0.25)
        assert row_of(paired(frame_of(cells)), rows=4, weight=1.0)["completion_loss"] == pytest.approx(-0.1)

    def test_answers_in_the_style(self):
        def judge(answer, stop):
            return stop == "EOS" and answer.startswith("Arr")

        table = summary(frame_of(FEW, judge))
        assert row_of(table, weight=0.0)["styled"] == 3
        assert summary_table(frame_of(FEW, judge))[0][-1] == "in the style"
        assert [line[-1] for line in summary_table(frame_of(FEW, judge))[1]] == ["1 of 2", "3 of 6", "3 of 6"]


class TestTables:
    def test_summary(self):
        head, lines = summary_table(frame_of(FEW))
        assert head == ["rows", "weight", "seeds", "completion loss", "prompt loss", "ended", "ran on", "tokens"]
        assert lines == [
            ["", "base", "", "3.000", "2.500", "0 of 2", "2 of 2", "32.0"],
            ["4", "0", "3", "1.200 ± 0.200", "3.500 ± 0.500", "2 of 6", "1 of 6", "8.0"],
            ["4", "1", "3", "1.100 ± 0.200", "1.500 ± 0.500", "5 of 6", "0 of 6", "6.0"],
        ]

    def test_differences(self):
        head, (line,) = paired_table(frame_of(FEW))
        assert head[3:5] == ["completion loss, difference", "lower with"]
        assert line[:5] == ["4", "1", "3", "-0.100 ± 0.200", "2 of 3"]
        assert line[5:] == ["-2.000 ± 0.000", "3 of 3", "+1.000 ± 1.000", "2 of 3"]

    def test_of_one_seed_no_deviation_is_told(self):
        cells = [BASE, MASKED[0], PLAIN[0]]
        assert "±" not in json.dumps([summary_table(frame_of(cells))[1], paired_table(frame_of(cells))[1]])
        assert "One seed shows no more than that seed" in text_of(cells)

    def test_without_a_question_to_run_on_to(self):
        cells = [BASE, *MASKED, *PLAIN]
        cells = [StudyCell(**(vars(each) | {"figures": each.figures | {"ran_on": None}})) for each in cells]
        assert "ran on" not in summary_table(frame_of(cells))[0]
        assert "Ran on" not in endings_svg(frame_of(cells))
        assert "Ran on" in endings_svg(frame_of(FEW))


class TestMarkdown:
    def test_the_tables_are_in_it(self):
        text = text_of(FEW)
        differences, losses = tables(text)
        for found, made in ((differences, paired_table(frame_of(FEW))), (losses, summary_table(frame_of(FEW)))):
            assert found == [made[0], *made[1]]
        headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
        assert headings == [
            "What was measured",
            "The difference to masked prompts",
            "Losses and endings",
            "Answers",
            "Settings and machine",
        ]

    def test_what_was_measured(self):
        text = text_of(FEW)
        assert "Weights 0, 1; seeds 0, 1, 2; rows 4: 6 of 6 cells." in text
        assert "in 12 steps of up to 4 rows. A seed decides which rows are drawn and the order of the rows and" in text
        assert "(60 tokens of completion, 97 of prompt) and answers the same 2 prompts" in text
        assert "not measured" not in text
        assert "all of 3 seeds would still agree on a direction in 25.0% of such comparisons" in text

    def test_a_step_sees_all_accumulated_batches(self):
        settings = STUDY | {"config": STUDY["config"] | {"set": ["gradient_accumulation_steps=3"]}}
        assert "steps of up to 12 rows." in markdown(FEW, frame_of(FEW, None), settings, MACHINE, COMMAND)

    def test_what_is_not_measured_yet(self):
        text = text_of(FEW[:-1])
        assert "5 of 6 cells." in text
        assert "The other cells are not measured" in text

    def test_without_weight_0(self):
        text = text_of([BASE, *PLAIN])
        assert "No weight can be compared with weight 0 on the same seed and rows." in text
        assert len(tables(text)) == 1

    def test_large_numbers_are_written_out(self):
        cells = [BASE, *(cell(12345678, seed, w, 1.0) for seed in (1, 4000000000) for w in (0.0, 0.01))]
        assert "Weights 0, 0.01; seeds 1, 4000000000; rows 12,345,678: 4 of 4" in text_of(cells)

    def test_answers_of_the_first_seed_with_the_most_rows(self):
        cells = [*FEW, *(cell(8, seed, w, 1.0, answers=(f"{seed} {w}", "x")) for w in (1.0, 0.0) for seed in (5, 3))]
        answers = [token.content for token in parsed(text_of(cells)) if token.type == "fence" and token.info == "text"]
        assert answers[:4] == ["Why 0?\n", "Arr!\n", "3 0.0\n", "3 1.0\n"]
        assert answers[4:] == ["Why 1?\n", "No\n", "x\n", "x\n"]
        assert "Greedy answers with seed 3 and 8 rows." in text_of(cells)

    @pytest.mark.parametrize("hostile", HOSTILE)
    def test_an_answer_stays_in_its_block(self, hostile):
        plain = parsed(text_of(FEW))
        cells = [
            cell(each.rows, each.seed, each.figures["prompt_loss_weight"], 1.0, answers=(hostile, hostile))
            for each in FEW
        ]
        for each in cells:
            for told in each.answers:
                told["prompt"] = hostile
        tokens = parsed(text_of(cells))
        assert [token.type for token in tokens] == [token.type for token in plain]
        assert not [token for token in tokens if token.type.startswith("html")]
        shown = hostile.replace("\r", r"\x0d").replace("\x1b", r"\x1b")
        texts = [token.content for token in tokens if token.type == "fence" and token.info == "text"]
        assert texts == [shown + "\n"] * 8

    def test_so_does_the_command(self):
        (command,) = [token.content for token in parsed(text_of(FEW)) if token.type == "fence" and token.info == "bash"]
        assert command == COMMAND + "\n"


class TestPlots:
    SIZES = (2, 4, 8, 16, 32, 64, 128, 256)  # one more than there are colours

    @pytest.fixture(scope="class")
    def many(self):
        return frame_of(
            [
                BASE,
                *(
                    cell(n, s, w, 1 + w + s / 10 + n / 999)
                    for n in self.SIZES
                    for s in range(3)
                    for w in (0.0, 0.01, 1.0)
                ),
            ]
        )

    @pytest.fixture(scope="class")
    def drawn(self, many):
        return losses_svg(many), endings_svg(many)

    def test_well_formed_and_the_same_each_time(self, many, drawn):
        for picture in drawn:
            assert ElementTree.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"
        assert (losses_svg(many), endings_svg(many)) == drawn

    def test_axes_are_labelled(self, drawn):
        losses, endings = drawn
        assert losses.count("nats per token") == 2
        assert losses.count("prompt-loss weight (0: masked)") == 2
        assert losses.count(">0.01<") == 2
        assert endings.count("% of the answers") == 2
        for name in ("Held-out completions", "Held-out prompts", "base", *(f"{n} rows" for n in self.SIZES)):
            assert f">{name}<" in losses

    def test_each_size_has_its_own_colour_and_marker(self, many, monkeypatch):
        from matplotlib.axes import Axes

        drawn, errorbar = [], Axes.errorbar

        def spied(place, *values, **words):
            drawn.append((place, *values, words["color"], words["marker"]))
            return errorbar(place, *values, **words)

        monkeypatch.setattr(Axes, "errorbar", spied)
        losses_svg(many)
        first = [each for each in drawn if each[0] is drawn[0][0]]
        assert len(drawn) == 2 * len(first) == 2 * len(self.SIZES)
        assert len({each[4:] for each in first}) == len(self.SIZES)
        assert len({each[4] for each in first[:7]}) == len({each[5] for each in first[:7]}) == 7
        _, at, means, (below, above), *_ = first[0]
        assert list(means) == pytest.approx([1.1 + 2 / 999, 1.11 + 2 / 999, 2.1 + 2 / 999])
        assert [*below, *above] == pytest.approx([0.1] * 6)
        assert [round(x) for x in at] == [0, 1, 2]

    def test_shares_are_of_the_answers(self, monkeypatch):
        from matplotlib.axes import Axes

        drawn = []
        monkeypatch.setattr(Axes, "scatter", lambda place, x, y, **_: drawn.append(sorted(y)))
        endings_svg(frame_of(FEW))
        assert drawn == [[0, 50, 50, 50, 100, 100], [0, 0, 0, 0, 0, 50]]


class TestFiles:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        (tmp_path / SETTINGS).write_text(json.dumps(STUDY))
        (tmp_path / CELLS).write_text("".join(json.dumps(each.to_dict()) + "\n" for each in FEW))
        return tmp_path

    def test_they_are_written_whole(self, folder, monkeypatch):
        for draw in (losses_svg, endings_svg):
            monkeypatch.setattr(f"sftdemo.study.report.{draw.__name__}", draw)
        write_report(folder, COMMAND)
        assert {path.name for path in folder.iterdir()} == {SETTINGS, CELLS, REPORT, RECORD, LOSSES, ENDINGS}
        text = (folder / REPORT).read_text(encoding="utf-8")
        for name in re.findall(r"!\[[^]]*\]\((.*?)\)", text):
            picture = ElementTree.parse(folder / name).getroot()
            assert "prompt-loss weight (0: masked)" in list(picture.itertext())
        assert '"threads"' in text

    def test_json_holds_the_figures(self, folder):
        def refuse(word):
            raise AssertionError(word)

        write_report(folder, COMMAND)
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"), parse_constant=refuse)
        assert (record["command"], record["study"]) == (COMMAND, STUDY)
        assert {"processor", "torch"} <= set(record["machine"])
        (difference,) = record["paired"]
        assert (difference["rows"], difference["weight"], difference["seeds"]) == (4, 1.0, 3)
        assert difference["completion_loss"] == pytest.approx(-0.1)
        assert [each["seed"] for each in record["measured"]] == [None, 0, 1, 2, 0, 1, 2]
        assert record["measured"][0]["styled"] is None
        assert record["summary"][0]["completion_loss_sd"] == pytest.approx(0.2)

    def test_one_seed_is_json_as_well(self, folder):
        (folder / CELLS).write_text("".join(json.dumps(each.to_dict()) + "\n" for each in (BASE, MASKED[0])))
        write_report(folder, COMMAND)
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        assert record["summary"][0]["completion_loss_sd"] is None
        assert record["paired"] == []

    def test_a_report_follows_the_cells(self, folder):
        done, saved = Finished(6, 6, 1.0, stopped=False), Saved(str(folder), "study")
        concluded = Conclusion(conclusion_of(FEW, frame_of(FEW)))
        assert list(reported(iter([FEW[-1], done]), folder, COMMAND)) == [FEW[-1], concluded, saved, done]
        assert concluded.words in (folder / REPORT).read_text(encoding="utf-8")
        assert json.loads((folder / RECORD).read_text(encoding="utf-8"))["conclusion"] == concluded.words
        assert (folder / REPORT).exists()

    def test_also_where_nothing_was_left_to_measure_or_it_was_stopped(self, folder):
        done = Finished(6, 8, 1.0, stopped=True)
        assert list(reported(iter([done]), folder, COMMAND))[2:] == [done]
        assert (folder / REPORT).exists()

    def test_also_where_it_failed_later_on(self, folder):
        events = list(reported(iter([FEW[-1], Failed("No.")]), folder, COMMAND))
        assert [events[0], *events[2:]] == [FEW[-1], Saved(str(folder), "study"), Failed("No.")]
        assert (folder / REPORT).exists()

    def test_but_not_where_it_was_refused(self, folder):
        assert list(reported(iter([Failed("No.")]), folder, COMMAND)) == [Failed("No.")]
        assert not (folder / REPORT).exists()

    def test_nor_of_the_base_alone(self, folder):
        done = Finished(0, 6, 1.0, stopped=True)
        (folder / CELLS).write_text(json.dumps(BASE.to_dict()) + "\n")
        assert list(reported(iter([BASE, done]), folder, COMMAND)) == [BASE, done]
        assert not (folder / REPORT).exists()

    def test_one_that_cannot_be_written_is_a_failure(self, folder):
        (folder / LOSSES).mkdir()
        (*_, last) = reported(iter([Finished(6, 6, 1.0, stopped=False)]), folder, COMMAND)
        assert isinstance(last, Failed)
        assert last.message.startswith("The report cannot be written to")


class TestJudge:
    def test_a_samples_file_by_any_path(self, monkeypatch):
        monkeypatch.chdir(samples.SAMPLE_DATA)
        for path in ("pirate.jsonl", samples.SAMPLE_DATA / "pirate.jsonl", "../sample_data/pirate.jsonl"):
            judge = judge_of(path)
            assert judge("Arr, matey!", "EOS")
            assert not judge("Arr, matey!", "length")
            assert not judge("Hello.", "EOS")
        assert judge_of("reviews.jsonl")("Happy customer.", "EOS")

    def test_any_other_file_has_none(self, tmp_path):
        (tmp_path / "pirate.jsonl").write_text("{}")
        assert judge_of(tmp_path / "pirate.jsonl") is None
