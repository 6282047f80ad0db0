"""Weights, seeds and sizes: what is measured, what is kept on the disk, and what is refused."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from forked import Forked

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Failed, Figures, Finished, Model, Phase, StudyCell
from sftdemo.data.examples import parse_examples
from sftdemo.model import loading
from sftdemo.runs.ablation import ablate
from sftdemo.study import cells as module
from sftdemo.study.cells import BASE, CELLS, SETTINGS, Cell, drawn, read_cells, study
from sftdemo.terminal.cli import main

ROWS = [
    {"instruction": "Say hello", "output": "Hello world!"},
    {"instruction": "Count to 3", "output": "1 2 3"},
    {"instruction": "Capital of Italy?", "output": "Arr, Rome!"},
    {"instruction": "Answer with a word", "output": "word"},
    {"instruction": "Say it again", "output": "Hello!", "held_out": True},
    {"instruction": "A question", "output": "an answer", "held_out": True},
]
WEIGHTS, SEEDS, SIZES = (0.0, 1.0), (0, 1), (2, 4)
EVERY = [Cell(rows, seed, weight) for seed in SEEDS for rows in SIZES for weight in WEIGHTS]


def data_of(*rows):
    return parse_examples(json.dumps(rows or ROWS))


def of(kind, events) -> list:
    return [event for event in events if isinstance(event, kind)]


def measured(events) -> list[Cell]:
    return [Cell.of(event) for event in of(StudyCell, events)]


def by_cell(cells) -> dict[Cell, StudyCell]:
    """The cells without the seconds that they took."""
    return {Cell.of(cell): replace(cell, seconds=0.0) for cell in cells}


@pytest.fixture(scope="module")
def config(gpt2_folder):
    return RunConfig(str(gpt2_folder), steps=3, batch_size=2, max_length=128, max_new_tokens=6, learning_rate=1e-2)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """A study that nobody disturbed: its folder and its events."""
    folder = tmp_path_factory.mktemp("studies") / "whole"
    return folder, list(study(config, data_of(), folder, WEIGHTS, SEEDS, SIZES))


@pytest.fixture
def part(whole, tmp_path):
    """Gives a folder that holds the beginning of it: so many cells, and what stands behind them."""

    def copied(count: int = 9, behind: bytes = b"") -> Path:
        folder = tmp_path / "out"
        folder.mkdir()
        (folder / SETTINGS).write_bytes((whole[0] / SETTINGS).read_bytes())
        lines = (whole[0] / CELLS).read_bytes().splitlines(keepends=True)
        (folder / CELLS).write_bytes(b"".join(lines[:count]) + behind)
        return folder

    return copied


def begun(config, output, **changed):
    """The events of the same study, or of one that is different."""
    grid = {"weights": WEIGHTS, "seeds": SEEDS, "sizes": SIZES} | changed
    return study(config, data_of(), output, **grid)


def refusal(events) -> str:
    events = list(events)
    assert not of(StudyCell, events)
    assert not of(Model, events)
    assert isinstance(events[-1], Failed), events[-1]
    assert events[-1].message.endswith(".")
    return events[-1].message


class TestCells:
    def test_all_of_them_the_base_first(self, whole):
        _, events = whole
        assert {type(event) for event in events} == {Phase, Model, StudyCell, Finished}
        assert len(of(Model, events)) == 1
        assert measured(events) == [BASE, *EVERY]
        assert (events[-1].steps, events[-1].total, events[-1].stopped) == (8, 8, False)

    def test_each_tells_how_far_the_study_is(self, whole):
        phases = [event for event in of(Phase, whole[1]) if event.name == "study"]
        assert len(phases) == 1 + 8 * (1 + 3)
        assert phases[1] == Phase("study", "cell 1 of 8: weight 0, seed 0, 2 rows", 0.0)
        pattern = r"cell (\d) of 8: weight [01], seed [01], [24] rows · about \d+ s left"
        assert [int(re.fullmatch(pattern, phase.message)[1]) for phase in phases[5::4]] == [2, 3, 4, 5, 6, 7, 8]
        assert [phase.fraction for phase in phases[1:]] == pytest.approx(
            [(cell + step / 3) / 8 for cell in range(8) for step in range(4)]
        )

    def test_they_are_what_an_ablation_measures(self, whole, config, tmp_path):
        """All rows are the rows that a run has, in its order: the same weights come of it."""
        cells = by_cell(read_cells(whole[0]))
        for seed in SEEDS:
            base, *arms = of(Figures, ablate(replace(config, seed=seed), data_of(), tmp_path / str(seed), WEIGHTS))
            assert cells[BASE].figures == asdict(base)
            for weight, arm in zip(WEIGHTS, arms, strict=True):
                assert cells[Cell(4, seed, weight)].figures == asdict(arm)

    def test_no_two_are_the_same(self, whole):
        losses = [cell.figures["completion_loss"] for cell in read_cells(whole[0])]
        assert len(set(losses)) == len(losses) == 9

    def test_all_weights_train_the_same_rows(self, config, tmp_path, monkeypatch):
        seen, train_model = {}, module.train_model

        def spied(setup, model, stop, scratch):  # and with no held-out rows, which would be evaluated on the way
            key = setup.config.seed, len(setup.rows.examples)
            rows = [example.row for example in setup.rows.examples]
            seen.setdefault(key, {})[setup.config.prompt_loss_weight] = rows
            return train_model(setup, model, stop, scratch)

        monkeypatch.setattr(module, "train_model", spied)
        short = replace(config, steps=1, max_new_tokens=1)
        list(begun(short, tmp_path / "out", seeds=(0, 1, 2), sizes=(2,)))
        assert set(seen) == {(seed, 2) for seed in range(3)}
        for by_weight in seen.values():
            assert set(by_weight) == set(WEIGHTS)
            assert by_weight[0.0] == by_weight[1.0]
        assert len({tuple(seen[seed, 2][0.0]) for seed in range(3)}) > 1

    def test_each_begins_from_the_model_as_it_was(self, whole, config, tmp_path):
        """In another order, and with all rows, which is the size where none is said."""
        cells = by_cell(of(StudyCell, study(config, data_of(), tmp_path, (1.0, 0.0), (1, 0))))
        expected = by_cell(read_cells(whole[0]))
        assert cells == {cell: each for cell, each in expected.items() if cell == BASE or cell.rows == 4}

    def test_answers(self, whole):
        for cell in read_cells(whole[0]):
            asked = [(each["prompt"], each["source"]) for each in cell.answers]
            assert asked == [("Say it again", "held out"), ("A question", "held out")]
            assert sum(each["stop"] == "EOS" for each in cell.answers) == cell.figures["ended"]


class TestDraw:
    def test_fewer_are_among_more_in_their_own_order(self):
        examples = list(range(40))
        for seed in range(5):
            before = []
            for rows in range(1, 41):
                now = drawn(examples, rows, seed)
                assert (len(now), now) == (rows, sorted(now))
                assert set(before) < set(now)
                before = now
            assert before == examples

    def test_each_seed_draws_its_own(self):
        assert len({tuple(drawn(range(40), 20, seed)) for seed in range(5)}) == 5
        assert drawn(range(40), 20, 3) == drawn(range(40), 20, 3)


class TestFolder:
    def test_what_is_told_is_on_the_disk(self, whole):
        folder, events = whole
        lines = [json.loads(line) for line in (folder / CELLS).read_text(encoding="utf-8").splitlines()]
        assert lines == [event.to_dict() for event in of(StudyCell, events)]
        assert read_cells(folder) == of(StudyCell, events)
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        assert settings["rows"] == {"to train on": 4, "left out": 0, "held out": 2}
        assert settings["config"]["steps"] == 3
        assert not {"seed", "prompt_loss_weight"} & set(settings["config"])
        assert {path.name for path in folder.iterdir()} == {CELLS, SETTINGS}

    def test_a_cell_is_there_before_it_is_told(self, config, tmp_path):
        events = begun(config, tmp_path / "out")
        for event in events:
            if isinstance(event, StudyCell):
                assert read_cells(tmp_path / "out")[-1] == event
                if event.rows:
                    break
        events.close()

    def test_after_a_kill_the_rest_is_measured(self, whole, config, part):
        folder = part(4, b'{"event": "studycell", "answers": "\xc3')
        assert len(read_cells(folder)) == 4
        events = list(begun(config, folder))
        assert measured(events) == EVERY[3:]
        assert of(Phase, events)[-1].message.startswith("cell 8 of 8")
        assert (events[-1].steps, events[-1].total, events[-1].stopped) == (8, 8, False)
        assert by_cell(read_cells(folder)) == by_cell(read_cells(whole[0]))
        assert len(read_cells(folder)) == 9

    def test_a_finished_one_loads_no_model(self, whole, config, monkeypatch):
        monkeypatch.setattr(loading, "load_model", lambda *_: pytest.fail("the model is loaded"))
        before = (whole[0] / CELLS).read_bytes()
        events = list(begun(config, whole[0]))
        assert measured(events) == []
        assert (events[-1].steps, events[-1].total, events[-1].stopped) == (8, 8, False)
        assert (whole[0] / CELLS).read_bytes() == before

    def test_it_may_grow(self, config, part):
        folder = part()

        def grown(**changed):
            return measured(begun(config, folder, **changed))

        assert grown(sizes=(4,)) == []
        assert grown(sizes=(4,), weights=(0.0, 0.5, 1.0)) == [Cell(4, 0, 0.5), Cell(4, 1, 0.5)]
        assert grown(sizes=(4,), seeds=(1, 2)) == [Cell(4, 2, 0.0), Cell(4, 2, 1.0)]
        assert grown(sizes=(3, 4), seeds=(0, 2)) == [Cell(3, seed, weight) for seed in (0, 2) for weight in WEIGHTS]
        assert len(read_cells(folder)) == 9 + 2 + 2 + 4

    def test_a_cell_that_is_there_twice_counts_once(self, whole, tmp_path):
        (tmp_path / CELLS).write_bytes((whole[0] / CELLS).read_bytes() * 2)
        assert read_cells(tmp_path) == read_cells(whole[0])

    @pytest.mark.parametrize("line", ["nonsense", "[]", '{"event": "saved"}', '{"event": "failed", "message": "No."}'])
    def test_a_line_that_is_no_cell(self, config, part, line):
        folder = part(9, line.encode() + b"\n")
        assert f"ine 10 of {folder / CELLS} is no cell; delete the line" in refusal(begun(config, folder))


class TestStop:
    def test_it_keeps_what_is_finished(self, whole, config, tmp_path):
        events = []
        work = begun(config, tmp_path / "out", stop=lambda: len(of(StudyCell, events)) == 3)
        for event in work:
            events.append(event)  # one by one, since `stop` looks at them
        assert (events[-1].steps, events[-1].total, events[-1].stopped) == (2, 8, True)
        assert by_cell(read_cells(tmp_path / "out")) == by_cell(read_cells(whole[0])[:3])

    def test_a_cell_that_is_half_trained_is_none(self, whole, config, tmp_path):
        events = []
        in_the_second = pytest.approx((1 + 1 / 3) / 8)
        work = begun(config, tmp_path / "out", stop=lambda: any(e.fraction == in_the_second for e in of(Phase, events)))
        for event in work:
            events.append(event)  # one by one, since `stop` looks at them
        assert (events[-1].steps, events[-1].stopped) == (1, True)
        assert measured(events) == [BASE, EVERY[0]] == measured(read_cells(tmp_path / "out"))
        again = begun(config, tmp_path / "out")
        assert Cell.of(next(event for event in again if isinstance(event, StudyCell))) == EVERY[1]
        again.close()
        assert by_cell(read_cells(tmp_path / "out")) == by_cell(read_cells(whole[0])[:3])

    def test_before_it_begins(self, config, tmp_path):
        events = list(begun(config, tmp_path / "out", stop=lambda: True))
        assert measured(events) == []
        assert (events[-1].steps, events[-1].stopped) == (0, True)


class TestRefusals:
    @pytest.mark.parametrize(
        ("changed", "says"),
        [
            ({"weights": ()}, "There are 0 weights; two to 8 can be compared."),
            ({"weights": (0.5,)}, "There is one weight; two to 8"),
            ({"weights": [number / 10 for number in range(9)]}, "There are 9 weights; two to 8"),
            ({"weights": (0.0, 0.5, 0.5)}, "The weights 0, 0.5, 0.5 are not all different."),
            ({"weights": (0.0, 2.0)}, "prompt_loss_weight is 2; it must lie between 0 and 1."),
            ({"seeds": ()}, "There are no seeds, and nothing could be said of the spread"),
            ({"seeds": (3,)}, "There is one seed, and nothing could be said of the spread"),
            ({"seeds": (3, 3)}, "The seeds 3, 3 are not all different."),
            ({"seeds": (0, -1)}, "seed is -1; it must lie between"),
            ({"sizes": ()}, "There are no sizes; give some"),
            ({"sizes": (0, 4)}, "The size 0 trains nothing"),
            ({"sizes": (4, 4)}, "The sizes 4, 4 are not all different."),
            ({"sizes": (4, 5)}, "There are 4 rows to train on, fewer than the size 5"),
        ],
    )
    def test_grids(self, config, tmp_path, changed, says):
        assert says in refusal(begun(config, tmp_path / "out", **changed))
        assert not (tmp_path / "out").exists()

    def test_one_name_for_several_trainings(self, config, tmp_path):
        named = replace(config, report_to="trackio", set=("run_name=one",))
        assert "a study trains several times under one name" in refusal(begun(named, tmp_path / "out"))

    @pytest.mark.parametrize(
        ("rows", "says"),
        [
            (ROWS[:1] + ROWS[4:], "There is one row to train on"),
            (ROWS[:4], "No row is held out"),
            ([*ROWS[:4], {"instruction": "Why?", "held_out": True}], "No held-out row has an answer"),
            ([{"instruction": "a", "output": "b", "held_out": held} for held in (False, False, True)], "All rows ask"),
        ],
    )
    def test_examples(self, config, tmp_path, rows, says):
        assert says in refusal(study(config, data_of(*rows), tmp_path / "out"))
        assert not (tmp_path / "out").exists()

    def test_other_settings_than_it_was_begun_with(self, whole, config):
        before = {path.name: path.read_bytes() for path in whole[0].iterdir()}
        other = replace(config, learning_rate=2e-2, steps=None, epochs=1.0)
        assert refusal(begun(other, whole[0])) == (
            f"The study in {whole[0]} was begun otherwise: steps was 3 and is not set, epochs was not set and is 1.0, "
            "learning_rate was 0.01 and is 0.02; go on as it was begun, or name another folder."
        )
        assert {path.name: path.read_bytes() for path in whole[0].iterdir()} == before

    @pytest.mark.parametrize(
        "rows", [ROWS[:3] + ROWS[4:], ROWS[1::-1] + ROWS[2:], [*ROWS[:5], ROWS[5] | {"output": "another"}]]
    )
    def test_other_examples(self, whole, config, rows):
        said = refusal(study(config, data_of(*rows), whole[0], WEIGHTS, SEEDS))
        assert "was begun otherwise: the examples are others; go on as" in said

    def test_the_device_and_the_seed_are_no_difference(self, whole, config):
        other = replace(config, seed=7, device="cpu", anyway=True, prompt_loss_weight=1.0)
        assert isinstance(list(begun(other, whole[0]))[-1], Finished)

    def test_other_folders(self, config, tmp_path):
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "letter.txt").write_text("Dear")
        assert "holds files that are not an earlier run's" in refusal(begun(config, tmp_path / "full"))
        (tmp_path / "full" / "run.json").write_text("{}")
        assert f"There is a run in {tmp_path / 'full'}; name another folder" in refusal(
            begun(config, tmp_path / "full")
        )
        assert "letter.txt is a file" in refusal(begun(config, tmp_path / "full" / "letter.txt"))
        assert {path.name for path in (tmp_path / "full").iterdir()} == {"letter.txt", "run.json"}

    def test_settings_that_cannot_be_read(self, config, tmp_path):
        (tmp_path / SETTINGS).write_text("{")
        assert f"{SETTINGS} cannot be read" in refusal(begun(config, tmp_path))

    def test_a_training_that_fails_keeps_the_cells_before_it(self, config, tmp_path, monkeypatch):
        load, loaded = loading.load_model, []

        def failing(*words):
            loaded.append(words)
            if len(loaded) == 4:
                raise module.TrainingError("the model is gone.")
            return load(*words)

        monkeypatch.setattr(loading, "load_model", failing)
        assert list(begun(config, tmp_path / "out"))[-1] == Failed("The model is gone.")
        assert measured(read_cells(tmp_path / "out")) == [BASE, *EVERY[:2]]


class TestCommand:
    @pytest.fixture(autouse=True)
    def in_a_plain_terminal(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.delenv("FORCE_COLOR", raising=False)
        (tmp_path / "data.json").write_text(json.dumps(ROWS))
        handler = signal.getsignal(signal.SIGINT)
        yield
        signal.signal(signal.SIGINT, handler)

    @pytest.fixture
    def words(self, gpt2_folder):
        words = ["study", "data.json", "--model", str(gpt2_folder), "--steps", "3", "--batch-size", "2"]
        words += ["--max-length", "128", "--max-new-tokens", "6", "--learning-rate", "0.01"]
        return [*words, "--weights", "0", "1", "--seeds", "0", "1", "--sizes", "2", "4"]

    def test_for_a_person(self, capsys, words):
        assert main(words[:-1]) == 0  # with two rows alone
        out = capsys.readouterr().out
        assert re.search(r"^base: completion loss \d\.\d{3}, prompt loss", out, re.MULTILINE)
        assert len(re.findall(r"^weight [01], seed [01], 2 rows: completion loss", out, re.MULTILINE)) == 4
        assert "Saved to study: report.md" in out
        assert re.search(r"2 +│\s+0 │\s+2 │ +\d\.\d{3} ± \d\.\d{3}", out)
        assert re.search(r"2 +│\s+1 │\s+2 │ +[+-]\d\.\d{3} ± \d\.\d{3} │ +[012] of 2", out)
        assert "stopped" not in out

    def test_a_refusal(self, capsys, words, tmp_path):
        assert main([*words, "--seeds", "0"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "sftdemo: there is one seed" in err
        assert not (tmp_path / "study").exists()

    @pytest.mark.parametrize("option", [["--merge"], ["--prompt", "Why?"], ["--prompt-loss-weight", "1"]])
    def test_options_that_it_has_not(self, capsys, words, option):
        with pytest.raises(SystemExit) as raised:
            main([*words, *option])
        assert raised.value.code == 2
        assert "unrecognized arguments" in capsys.readouterr().err

    def ended_by(self, number: int, words: list[str]) -> int:
        """The exit code of a process that gets a signal after three cells."""
        with Forked("-m", "sftdemo", *words, "--json", folder=Path.cwd()) as process:
            seen = 0
            while seen < 3:
                seen += json.loads(process.out.readline())["event"] == "studycell"
            process.send_signal(number)
            code, _, _ = process.ended()
        return code

    @pytest.mark.thorough  # the next one is interrupted as well
    def test_a_process_that_is_interrupted(self, words, tmp_path):
        assert self.ended_by(signal.SIGINT, words) == 0
        assert 3 <= len(read_cells(tmp_path / "study")) < 9
        assert (tmp_path / "study" / "report.md").exists()

    def test_a_process_that_is_killed_then_one_that_is_interrupted(self, capsys, words, whole, tmp_path, monkeypatch):
        """Killed, it leaves its cells; interrupted once, its report as well. Begun anew, it measures the others."""
        assert self.ended_by(signal.SIGKILL, words) == -signal.SIGKILL
        kept = len(read_cells(tmp_path / "study"))
        assert 3 <= kept < 9
        assert not (tmp_path / "study" / "report.md").exists()

        train_model = module.train_model

        def interrupted(*words):
            signal.raise_signal(signal.SIGINT)
            return train_model(*words)

        with monkeypatch.context() as patched:
            patched.setattr(module, "train_model", interrupted)
            assert main([*words, "--json"]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["stopped"]
        assert len(read_cells(tmp_path / "study")) == kept
        assert (tmp_path / "study" / "report.md").exists()

        assert main([*words, "--json"]) == 0
        records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        cells = [record | {"seconds": 0.0} for record in records if record["event"] == "studycell"]
        assert cells == [cell.to_dict() for cell in by_cell(read_cells(whole[0])).values()][kept:]
        assert [record["event"] for record in records[-2:]] == ["saved", "finished"]
        assert by_cell(read_cells(tmp_path / "study")) == by_cell(read_cells(whole[0]))
        assert {path.name for path in (tmp_path / "study").iterdir()} == {
            CELLS, SETTINGS, "report.md", "report.json", "losses.svg", "endings.svg"
        }  # fmt: skip
