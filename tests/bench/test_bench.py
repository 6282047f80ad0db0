"""The bench on a tiny model: what it finds must be there and add up; its times are nobody's business here."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ElementTree
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import tiny_llama, tokenizer_named

from sftdemo.bench import answers, equalities, fit
from sftdemo.bench.disk import ROWS as ROWS_ON_DISK
from sftdemo.bench.disk import bench_disk, write_rows
from sftdemo.bench.estimate import FEW_TRIALS, TRIALS, Trial, bench_estimate
from sftdemo.bench.figures import spread
from sftdemo.bench.film import bench_film
from sftdemo.bench.fit import Size, bench_fit
from sftdemo.bench.growth import ALL_POINTS, FEW_POINTS, SHAPES, Point, bench_growth
from sftdemo.bench.mask import PARALLELISM, bench_mask
from sftdemo.bench.parts import QUICK, THOROUGH, USUAL, Measured, bench
from sftdemo.bench.recipes import Subject, trl_trainer
from sftdemo.bench.report import check_file, growth_svg, report, section, write_report
from sftdemo.bench.steps import TRL_ARMS, bench_steps
from sftdemo.bench.visitor import Visitor
from sftdemo.core.config import RunConfig
from sftdemo.core.errors import ConfigError, ModelError, SftdemoError, TrainingError
from sftdemo.core.events import Phase
from sftdemo.data.examples import MAX_BYTES, StreamedExamples, open_examples, parse_examples
from sftdemo.data.samples import SAMPLES
from sftdemo.model.loading import load_tokenizer
from sftdemo.model.predictions import predict_shared
from sftdemo.model.sources import ModelSource
from sftdemo.train import trainer

DOCS = Path(__file__).parents[2] / "docs"
ROWS = "\n".join(
    json.dumps({"instruction": f"Say {word} twice", "output": f"{word} {word}"})
    for word in ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("model"), deepcopy(tokenizer_named("chatml"))
    tokenizer.pad_token = tokenizer.eos_token
    tiny_llama(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    source = ModelSource("tiny", folder, "made here")
    return source, load_tokenizer(source), parse_examples(ROWS)


TINY = {"a": Size(1000, 32, 64, 2, 4, 2), "b": Size(1000, 64, 128, 2, 4, 2)}


@pytest.fixture(scope="module", autouse=True)
def little_work():
    """What is measured takes seconds, and how much of it there is changes nothing of what is told."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(answers, "NEW_TOKENS", 4)
        patched.setattr(answers, "NUMBERS", 1000)
        patched.setattr(equalities, "STEPS", 3)
        yield


def effort_of(*parts: str, **changed):
    return replace(QUICK, **{"parts": parts, "repeats": 1} | changed)


PARTS = ("answers", "mask", "equalities")


@pytest.fixture(scope="module")
def events(subject):
    """What a bench of three parts tells."""
    return list(bench(*subject, effort_of(*PARTS)))


@pytest.fixture(scope="module")
def result(events):
    """What it has found."""
    return json.loads(json.dumps(events[-1].result))


def phases_of(events) -> list[Phase]:
    phases = [event for event in events if isinstance(event, Phase)]
    fractions = [phase.fraction for phase in phases]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] < 1 / 3 < fractions[-1] < 1
    return phases


class TestSteps:
    @pytest.fixture(scope="class")
    def result(self, subject):
        *phases, result = bench_steps(Subject(*subject), repeats=2, templates=("instruction",))
        assert phases_of(phases) == phases
        return json.loads(json.dumps(result))

    def test_ratios(self, result):
        medians = {(arm["group"], arm["arm"]): arm["seconds"]["median"] for arm in result["arms"]}
        for group in ("lora", "full"):
            best = min(seconds for (of, arm), seconds in medians.items() if of == group and arm in TRL_ARMS)
            assert result["ratios"][f"step_{group}_vs_trl"] == pytest.approx(best / medians[group, "ours"], rel=0.1)
            floor = result["floors"][group]["seconds"]
            assert result["ratios"][f"step_{group}_vs_floor"] == pytest.approx(medians[group, "ours"] / floor, rel=0.1)
            assert result["ratios"][f"trl_{group}_vs_floor"] == pytest.approx(best / floor, rel=0.1)
        assert {"memory_vs_trl", "vs_seed_recipe"} <= result["ratios"].keys()

    def test_the_arms_learn_the_same(self, result):
        for arms in result["differences"].values():
            assert arms["ours"]["losses_relative"] < 1e-3
            assert arms["ours"]["weights_absolute"] < 1e-2

    @pytest.mark.parametrize(("bf16", "precision"), [(False, "no"), (True, "bf16")])
    def test_trl_under_autocast(self, subject, tmp_path, bf16, precision):
        _, tokenizer, _ = subject
        config = RunConfig(device="cpu")
        examples = Subject(*subject).examples(config)
        trainer = trl_trainer(Subject(*subject).model(), tokenizer, examples, config, str(tmp_path), bf16=bf16)
        assert trainer.accelerator.mixed_precision == precision

    def test_losses_and_memory_of_each_arm(self, result):
        assert [arm["arm"] for arm in result["arms"][:3]] == ["trl_padded", "trl_joined", "ours"]
        for arm in result["arms"]:
            assert len(arm["losses"]) >= 5
            assert arm["memory_mb"] >= 0
            assert arm["seconds"]["least"] <= arm["seconds"]["median"] <= arm["seconds"]["most"]

    def test_the_profile_adds_up(self, result):
        for profile in result["profiles"].values():
            parts = sum(seconds for part, seconds in profile.items() if part != "step")
            assert parts == pytest.approx(profile["step"], rel=0.5)
            assert {"embed", "attention", "mlp", "head", "backward", "clip", "optimizer", "rest"} <= profile.keys()

    def test_the_floor_counts_multiply_adds(self, subject, result):
        lora, full = result["floors"]["lora"], result["floors"]["full"]
        assert lora["positions"] == full["positions"]
        assert lora["kept"] < lora["positions"]
        assert full["gflop"] >= lora["gflop"]


class TestEqualities:
    def test_are_met(self, result):
        found = result["equalities"]
        assert found["equal"]
        assert found["isolation_nats"] == 0
        assert set(found["differences"]) == {"instruction_lora", "instruction_full", "chat_lora", "chat_full"}

    def test_a_wrong_loss_is_seen(self, subject, monkeypatch):
        def wrong(model, rows, device, prompt_loss_weight):
            logits, targets, weights = predict_shared(model, rows, device, prompt_loss_weight)
            return 3 * logits, targets, weights

        monkeypatch.setattr(trainer, "predict_shared", wrong)
        *_, last = bench(*subject, effort_of("equalities", equal=("instruction",)))
        assert not last.result["equalities"]["equal"]


class TestEstimate:
    @pytest.fixture(scope="class")
    def found(self, gpt2_folder):
        small = {"steps": 2, "max_new_tokens": 2}
        trials = (
            Trial("ready", "pirate", small, asked=2),
            Trial("both ways", "pirate", small, asked=1, stands_by=False, weights=(0.0, 1.0)),
        )
        *phases, found = bench_estimate(str(gpt2_folder), tokenizer_named("gpt2"), trials)
        assert [phase.fraction for phase in phases] == [0, 0.5]
        return found

    def test_each_run_has_its_promise(self, found):
        assert [each["run"] for each in found["runs"]] == ["ready", "both ways"]
        assert all(each["promised"] > 0 and each["taken"] > 0 for each in found["runs"])
        assert "load" in found["runs"][1]["parts"]
        assert found["ratios"] == {"estimates_within_20_percent": found["within"] / 2}

    def test_it_is_told(self, found):
        assert f"Within 20 %: {found['within']} of 2." in section({"estimate": found}, "estimate")

    def test_the_trials_are_varied(self):
        assert len({each.name for each in TRIALS}) == len(TRIALS) == 10
        assert {each.sample for each in FEW_TRIALS} < {each.sample for each in TRIALS}
        assert all(RunConfig(**each.settings) for each in TRIALS)


def test_answers(result):
    assert result["answers"]["tokens"]["ours"] > 0
    assert result["ratios"]["answers_vs_one_at_a_time"] > 0


def test_mask(subject, result):
    assert result["mask"]["rows"] == len(subject[2].train)
    assert result["ratios"]["mask_vs_tokenizers"] > 0
    *_, made = bench(*subject[:2], effort=effort_of("mask"), rows=40)
    assert made.result["mask"]["rows"] == 40


def test_the_tokenizer_alone_has_its_own_threads(subject, monkeypatch):
    """`prepare` turns them off; ours, which are compared with it, are none of the library's."""
    seen, backend = [], subject[1].backend_tokenizer

    class Watched:
        def encode_batch(self, texts, **settings):
            seen.append(os.environ.get(PARALLELISM, "on"))
            return backend.encode_batch(texts, **settings)

        def __getattr__(self, name):
            return getattr(backend, name)

    tokenizer = deepcopy(subject[1])
    monkeypatch.setattr(type(tokenizer), "backend_tokenizer", Watched())
    monkeypatch.setenv(PARALLELISM, "false")
    list(bench_mask(list(subject[2].train), tokenizer, RunConfig(), repeats=1))
    assert set(seen) == {"on"}
    assert os.environ[PARALLELISM] == "false"


class TestFilm:
    def test_runs_with_and_without_are_timed(self, subject):
        *phases, found = bench_film(subject[0], subject[2], repeats=1)
        assert [phase.message for phase in phases] == [f"the default run {arm} a film" for arm in ("without", "with")]
        assert min(each["least"] for each in found["seconds"].values()) > 0
        without, filmed = (found["seconds"][arm]["median"] for arm in ("without", "with"))
        assert found["ratios"]["film_training"] == pytest.approx(filmed / without, rel=0.01)
        assert found["mb"] > 0
        assert "The film" in section({"film": found}, "film")

    def test_a_run_that_fails_is_told(self, subject, tmp_path):
        with pytest.raises(TrainingError, match="nothing-here"):
            list(bench_film(ModelSource("none", tmp_path / "nothing-here", "not there"), subject[2], 1))


class TestDisk:
    @pytest.mark.thorough
    def test_peaks_are_of_the_training_alone(self, subject):
        ballast = b"x" * 2**30  # MiB that must not be counted
        *phases, found = bench_disk(subject[0], rows=6)
        assert [phase.message for phase in phases] == ["6 rows", "60 rows"]
        few, many = found["files"]
        assert (few["rows"], many["rows"]) == (6, 60)
        for file in (few, many):
            assert 100 < file["peak_mib"] < len(ballast) / 2**20
            assert file["seconds"] > 0
        expected = many["peak_mib"] / few["peak_mib"]
        assert found["ratios"]["disk_memory_over_10x_rows"] == pytest.approx(expected, rel=0.01)

    def test_both_files_are_too_large_to_be_held(self, tmp_path):
        file = write_rows(tmp_path / "rows.jsonl", ROWS_ON_DISK)
        few = file.stat().st_size
        *_, last = file.read_bytes().splitlines(keepends=True)
        assert few - len(last) <= MAX_BYTES < few
        assert isinstance(open_examples(file).train, StreamedExamples)

    def test_a_training_that_fails(self, tmp_path):
        with pytest.raises(RuntimeError, match="nothing-here"):
            list(bench_disk(ModelSource("none", tmp_path / "nothing-here", "not there"), rows=6))

    def test_stopped_it_has_one_file_and_no_ratio(self, subject, monkeypatch):
        monkeypatch.setattr("sftdemo.bench.disk._peak", lambda *words: 2**20)
        *_, found = bench_disk(subject[0], rows=6, stop=lambda: True)
        assert [file["rows"] for file in found["files"]] == [6]
        assert found["ratios"] == {}

    def test_it_takes_too_long_for_what_is_done_unasked(self):
        assert "disk" not in QUICK.parts
        assert set(THOROUGH.parts) - set(USUAL.parts) == {"precision", "estimate", "fit", "disk"}


class TestFit:
    @pytest.mark.thorough
    def test_what_is_told_is_about_what_is_taken(self, subject):
        *phases, found = bench_fit(Subject(*subject), TINY)
        assert [phase.message for phase in phases] == ["a model of a", "a model of b"]
        for model in found["models"]:
            assert 0.5 * model["told_gb"] < model["taken_gb"] < 1.5 * model["told_gb"]

    def test_the_training_is_the_one_that_was_told_of(self, subject, monkeypatch):
        asked = []
        monkeypatch.setattr("sftdemo.bench.fit._peak", lambda *words: asked.append(words) or 150_000_000)
        *_, found = bench_fit(Subject(*subject), TINY, stop=lambda: True)
        (model,) = found["models"]  # stopped after the first
        assert (model["size"], model["taken_gb"]) == ("a", 0.15)
        assert 30_000 < model["weights"] < 60_000
        assert found["ratios"] == {"fit_a_taken_vs_told": pytest.approx(0.15 / model["told_gb"], rel=0.01)}
        ((command, file, *words),) = asked
        assert (command, file, words[words.index("--steps") + 1]) == ("train", str(SAMPLES[0].path), "2")

    def test_a_program_that_fails(self):
        with pytest.raises(RuntimeError, match="nonsense"):
            fit._peak("nonsense")


class TestVisitor:
    @pytest.fixture
    def drawn_mask(self, monkeypatch):
        """What a visitor of a page on a machine of its own gets, with methods of its backend replaced, and what the
        page brings along for the next one."""
        from desk import only_a_cpu

        from sftdemo.ui import build
        from sftdemo.ui.backend import Backend

        only_a_cpu(monkeypatch)

        def visit(**methods) -> tuple[dict, dict | None]:
            page = build(type("Replaced", (Backend,), methods)())
            _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", ssr_mode=False)
            try:
                mask = Visitor(address.rstrip("/")).draw_mask()
                return mask, Visitor(address.rstrip("/")).brought_mask
            finally:
                page.close()

        return visit

    def test_it_gets_the_mask_that_the_page_opens_with(self, subject, drawn_mask):
        mask, brought = drawn_mask(source=lambda self, name: subject[0])
        assert brought == mask | {"waiting": True}
        trained = [example.row for example in parse_examples(SAMPLES[0].path.read_text(encoding="utf-8")).train]
        assert [row["row"] for row in mask["rows"]] == trained
        assert all(row["trained"] for row in mask["rows"])

    @pytest.mark.parametrize(
        ("error", "says"),
        [(ModelError("the Hub is out of reach."), "without a mask"), (ZeroDivisionError(), "get_ready failed")],
        ids=["no mask", "a handler that breaks"],
    )
    def test_a_page_without_a_mask_is_an_error(self, drawn_mask, error, says):
        def prepare(self, name):
            raise error
            yield

        with pytest.raises(RuntimeError, match=says):
            drawn_mask(source=lambda self, name: None, prepare=prepare)


@pytest.mark.parametrize(
    ("parts", "settings", "says"),
    [
        (("steps", "speed"), {}, "'speed' is no part of the bench; choose of equalities, steps,"),
        (("mask",), {"rows": 7}, "at least 8 --rows"),
        (("mask",), {"repeats": 0}, "1 of --repeats"),
    ],
)
def test_refused(subject, parts, settings, says):
    effort = effort_of(*parts, repeats=settings.pop("repeats", 1))
    with pytest.raises(ConfigError, match=says):
        list(bench(*subject, effort, **settings))


class TestPartByPart:
    def test_each_is_told_as_soon_as_it_is_measured(self, events):
        measured = [event for event in events if isinstance(event, Measured)]
        assert [each.part for each in measured] == list(PARTS)
        assert [set(PARTS) & set(each.result) for each in measured] == [set(PARTS[:count]) for count in (1, 2, 3)]
        assert [each.result.get("unfinished") for each in measured] == [["mask", "equalities"], ["equalities"], None]
        assert all(each.seconds > 0 for each in measured)
        assert set(measured[0].result["ratios"]) < set(measured[1].result["ratios"])
        assert events[-1] is measured[-1]

    def test_how_far_it_is(self, events):
        phases = phases_of(events)
        assert phases[0].message == "answers, part 1 of 3: repetition 0 of 1"
        assert {phase.message.split(":")[0] for phase in phases} == {
            f"{part}, part {number} of 3" for number, part in enumerate(PARTS, 1)
        }

    def test_a_phase_that_knows_no_share(self, subject, monkeypatch):
        """As when the model is looked for, before the page is started."""
        phases = [Phase("model", "Looking for it"), Phase("bench", "half", 0.5), {}]
        monkeypatch.setattr("sftdemo.bench.parts._measure", lambda *_: iter(phases))
        events = bench(*subject, effort_of("answers", "start"))
        fractions = [event.fraction for event in events if isinstance(event, Phase)]
        assert fractions == [0.0, 0.25, 0.5, 0.75]

    def test_a_part_that_is_asked_for_twice_is_measured_once(self, subject):
        events = bench(*subject, effort_of("mask", "mask"))
        assert len([event for event in events if isinstance(event, Measured)]) == 1


class TestStop:
    """What is under way goes on to its end, and is told."""

    def stopped(self, subject, *parts: str, at: str, effort=QUICK) -> list[Measured]:
        """All that is measured when a stop comes while a phase says `at`."""
        seen, measured = [], []
        effort = replace(effort, parts=parts, repeats=4)
        for event in bench(*subject, effort, stop=lambda: any(at in message for message in seen)):
            if isinstance(event, Measured):
                measured.append(event)
            else:
                seen.append(event.message)
        return measured

    def test_between_parts(self, subject):
        few = replace(QUICK, equal=("instruction",))
        (measured,) = self.stopped(subject, "equalities", "answers", at="isolation", effort=few)
        assert measured.part == "equalities"
        assert measured.result["unfinished"] == ["answers"]

    def test_after_a_repetition(self, subject):
        (measured,) = self.stopped(subject, "answers", "mask", at="repetition 2 of 4")
        assert len(measured.result["answers"]["tokens_per_second"]["ours"]["all"]) == 2
        assert measured.result["unfinished"] == ["answers", "mask"]
        assert "Not measured, or not in full: answers, mask." in report(measured.result)

    def test_one_repetition_is_timed_at_least(self, subject):
        (measured,) = self.stopped(subject, "answers", at="repetition 0 of 4")
        assert len(measured.result["answers"]["tokens_per_second"]["ours"]["all"]) == 1

    def test_after_an_arms_steps(self, subject):
        (measured,) = self.stopped(subject, "steps", at="lora: step 5", effort=replace(QUICK, full=True))
        arms = measured.result["arms"]
        assert {arm["group"] for arm in arms} == {"lora"}
        assert {len(arm["seconds"]["all"]) for arm in arms} == {2}
        assert measured.result["unfinished"] == ["steps"]
        assert "## A training step" in report(measured.result)


class TestGrowth:
    @pytest.fixture
    def measured(self, subject, monkeypatch):
        """The points that were measured, by a bench that measures nothing."""
        points = []

        def measure(_, point, steps):
            points.append((point, steps))
            return {"tokens": 1, "seconds": spread([1.0]), "memory_mb": 1.0}

        monkeypatch.setattr("sftdemo.bench.growth._measure", measure)
        return points

    @pytest.mark.parametrize("axes", [FEW_POINTS, ALL_POINTS], ids=["few", "all"])
    def test_each_point_once_on_all_its_axes(self, subject, measured, axes):
        *phases, rows = bench_growth(Subject(*subject), 2, axes)
        assert [(row["axis"], row["value"]) for row in rows] == [
            (axis, value) for axis, values in axes.items() for value in values
        ]
        assert len(measured) == len(set(measured)) == len(phases)
        assert measured.count((Point(), 2)) == 1
        assert len(rows) == len(measured) + 3  # the point that four axes have in common

    def test_a_point_of_each_kind(self, subject, monkeypatch):
        monkeypatch.setitem(SHAPES, "30M", (32, 64, 2, 2, 2))
        axes = {"rows": (2,), "packed length": (128,), "model": ("30M",)}
        *_, rows = bench_growth(Subject(*subject), 1, axes)
        assert [(row["value"], row["tokens"]) for row in rows] == [(2, 128), (128, 2048), ("30M", 512)]
        assert all(len(row["seconds"]["all"]) == 1 and row["memory_mb"] >= 0 for row in rows)

    def test_stopped_after_a_point(self, subject, measured):
        *_, rows = bench_growth(Subject(*subject), stop=lambda: len(measured) == 3)
        assert [(row["axis"], row["value"]) for row in rows if row["axis"] == "tokens a row"] == [
            ("tokens a row", 32),
            ("tokens a row", 64),
            ("tokens a row", 128),
        ]
        assert len(measured) == 3


def test_spread():
    assert spread([3, 1, 2]) == {"median": 2, "least": 1, "most": 3, "all": [3, 1, 2]}


class TestReport:
    @pytest.fixture
    def growth(self):
        point = {"tokens": 512, "seconds": spread([1.0, 2.0]), "memory_mb": 3.0}
        return [{"axis": axis, "value": value} | point for axis, values in ALL_POINTS.items() for value in values]

    def test_everything_found_is_in_it(self, result, growth, tmp_path):
        result = result | {"growth": growth}
        text = report(result)
        for title in ("## Equal to TRL", "## The mask", "## How the cost of a step grows", "## Ratios"):
            assert title in text
        assert "mask_vs_tokenizers" in text
        write_report(result, tmp_path / "performance.md", "python -m sftdemo bench --only mask")
        written = (tmp_path / "performance.md").read_text(encoding="utf-8")
        assert "Made by `python -m sftdemo bench --only mask`" in written
        assert "![Seconds a step](performance.svg)" in written
        assert json.loads((tmp_path / "performance.json").read_text(encoding="utf-8")) == result
        assert sorted(file.name for file in tmp_path.iterdir()) == [
            "performance.json",
            "performance.md",
            "performance.svg",
        ]

    def test_the_written_one_is_of_the_json_beside_it(self):
        result = json.loads((DOCS / "performance.json").read_text(encoding="utf-8"))
        written = (DOCS / "performance.md").read_text(encoding="utf-8")
        told = written.partition("\nMachine: ")[2].replace("![Seconds a step](performance.svg)\n\n", "")
        assert told == report(result).partition("Machine: ")[2]

    def test_half_of_trls_step_over_the_floor(self):
        result = json.loads((DOCS / "performance.json").read_text(encoding="utf-8"))
        for group in result["steps"]["floors"]:
            result["ratios"][f"trl_{group}_vs_floor"] = 3.0
        assert "that holds for none of them." in report(result)
        result["ratios"]["trl_full_vs_floor"] = 1.5
        assert "0.75 for `full`" in report(result)
        assert "that holds for `full`." in report(result)

    def test_the_plot_is_a_picture(self, growth):
        assert ElementTree.fromstring(growth_svg(growth)).tag.endswith("svg")
        assert ElementTree.fromstring(growth_svg(growth[:2])).tag.endswith("svg")  # stopped on the first axis

    def test_what_is_missing_is_told(self, result):
        assert "Not measured" not in report(result)
        told = report(result | {"unfinished": ["steps", "disk"]})
        assert told.endswith("Not measured, or not in full: steps, disk.\n")

    @pytest.mark.parametrize("name", ["nowhere/report.md", "report.json", "report.svg", "folder"])
    def test_a_file_that_cannot_be(self, tmp_path, name):
        (tmp_path / "folder").mkdir()
        with pytest.raises(ConfigError, match="--write"):
            check_file(tmp_path / name)
        check_file(tmp_path / "report.md")

    def test_a_failing_write_is_told(self, result, tmp_path):
        with pytest.raises(SftdemoError, match=r"the report cannot be written to .*gone.* Name another file\.$"):
            write_report(result, tmp_path / "gone" / "report.md", "bench")
