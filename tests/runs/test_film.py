"""The film of a run: its frames against the run's own answers and losses, and against a run that was stopped there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from sftdemo.core.config import RunConfig
from sftdemo.core.errors import ConfigError
from sftdemo.core.events import Comparison, Failed, FilmEnded, FilmRow, Finished, Frame, Step, TokenLosses
from sftdemo.data.examples import parse_examples
from sftdemo.runs.ablation import ablate
from sftdemo.runs.film import film, has_film
from sftdemo.runs.output import check_output
from sftdemo.runs.revisit import token_losses
from sftdemo.runs.run import run
from sftdemo.runs.wording import moments
from sftdemo.study.cells import study

TEXT = """{"instruction": "Say hello", "output": "Hello world!"}
{"instruction": "Count to 3", "output": "1 2 3"}
{"instruction": "Capital of Italy?", "output": "Rome!", "held_out": true}
{"instruction": "Say nothing", "held_out": true}
"""
WEIGHTS = "adapter_model.safetensors"


def of(kind, events) -> list:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture(scope="module")
def config(gpt2_folder) -> RunConfig:
    settings = {"max_length": 256, "steps": 12, "batch_size": 2, "learning_rate": 5e-2, "max_new_tokens": 6}
    return RunConfig(str(gpt2_folder), film=True, device="cpu", **settings)


@pytest.fixture(scope="module")
def played(config, tmp_path_factory):
    """A run's folder and events, a copy of the adapters that it kept, and the events of its film."""
    folder = tmp_path_factory.mktemp("film") / "run"
    trained = list(run(config, parse_examples(TEXT), folder))
    assert isinstance(trained[-1], Finished), trained[-1]
    kept = {path.name: load_file(path / WEIGHTS) for path in (folder / "film").iterdir()}
    return folder, trained, kept, list(film(folder, "cpu"))


def test_each_second_step_of_twelve_is_kept(played):
    _, _, kept, events = played
    assert set(kept) == {"step-0", "step-2", "step-4", "step-6", "step-8", "step-10"}
    assert [frame.step for frame in of(Frame, events)] == [0, 2, 4, 6, 8, 10, 12]
    assert isinstance(events[-1], Finished)


def test_a_frame_is_a_run_that_was_stopped_there(played, config, tmp_path):
    _, _, kept, events = played
    steps = []  # a step is told of after `stop` was asked

    def stop() -> bool:
        return len(steps) >= 3

    work = run(replace(config, film=False), parse_examples(TEXT), tmp_path / "out", stop)
    comparisons = []
    for event in work:
        steps += of(Step, [event])
        comparisons += of(Comparison, [event])
    assert len(steps) == 4
    stopped = load_file(tmp_path / "out" / WEIGHTS)
    assert stopped.keys() == kept["step-4"].keys()
    assert all(torch.equal(stopped[name], kept["step-4"][name]) for name in stopped)
    frame = next(frame for frame in of(Frame, events) if frame.step == 4)
    assert [(prompt, answer, stop) for prompt, _, answer, stop in frame.answers] == [
        (each.prompt, each.after, each.after_stop) for each in comparisons
    ]


def test_it_begins_and_ends_as_the_run_did(played):
    folder, trained, _, events = played
    first, *_, last = of(Frame, events)
    pairs = [(each.before, each.after) for each in of(Comparison, trained)]
    assert [(one[2], other[2]) for one, other in zip(first.answers, last.answers, strict=True)] == pairs
    assert first.answers != last.answers
    scored = of(TokenLosses, token_losses(folder, "cpu"))[0]
    assert first.losses[0] == pytest.approx(scored.losses[0], abs=1e-3)
    assert last.losses[0] == pytest.approx(scored.losses[1], abs=1e-3)
    assert last.ranks[0] == scored.ranks[1]
    assert (last.begun, last.ended) == (scored.ranks[1][-6] == 1, scored.ranks[1][-1] == 1)  # R o m e ! EOS
    (row,) = of(FilmRow, events)
    assert (row.question, row.tokens) == ("Capital of Italy?", scored.tokens)


def test_what_is_developed_is_kept_in_place_of_the_adapters(played):
    folder, _, _, events = played
    assert has_film(folder)
    assert not (folder / "film").exists()
    assert of(Frame, film(folder)) == of(Frame, events)
    assert of(FilmRow, film(folder)) == of(FilmRow, events)


def test_an_ablation_has_one_for_each_arm(config, tmp_path):
    *_, last = ablate(replace(config, steps=2), parse_examples(TEXT), tmp_path / "out")
    assert isinstance(last, Finished), last
    frames = of(Frame, film(tmp_path / "out", "cpu"))
    assert [(frame.prompt_loss_weight, frame.step) for frame in frames] == [
        (weight, step) for weight in (0.0, 1.0) for step in (0, 1, 2)
    ]
    first, second = frames[:3], frames[3:]
    assert first[0].losses == second[0].losses
    assert first[2].losses != second[2].losses
    assert (tmp_path / "out/film.json").is_file()


class TestRefusals:
    def test_a_run_without_one(self, config, tmp_path):
        *_, last = run(replace(config, film=False, steps=1), parse_examples(TEXT), tmp_path / "out")
        assert isinstance(last, Finished)
        (last,) = film(tmp_path / "out")
        assert isinstance(last, Failed)
        assert "has kept no film; train with --film" in last.message

    def test_one_that_cannot_be_read(self, tmp_path):
        (tmp_path / "film.json").write_text("{")
        (last,) = film(tmp_path)
        assert isinstance(last, Failed)
        assert "Delete it, and train the run again with --film" in last.message

    @pytest.mark.parametrize("name", ["full", "merge"])
    def test_what_saves_no_adapter(self, config, name):
        with pytest.raises(ConfigError, match=f"film keeps an adapter, and {name} saves none"):
            replace(config, **{name: True})

    def test_a_study(self, config, tmp_path):
        (last,) = study(config, parse_examples(TEXT), tmp_path / "study")
        assert isinstance(last, Failed)
        assert last.message.startswith("film keeps the adapters of a run, and a study saves none")


def test_a_full_disk_ends_the_film_and_not_the_training(config, tmp_path, monkeypatch):
    save = PeftModel.save_pretrained

    def fails(self, folder, **words):
        if folder.endswith("step-4"):
            raise OSError(28, "No space left on device")
        save(self, folder, **words)

    monkeypatch.setattr(PeftModel, "save_pretrained", fails)
    events = list(run(config, parse_examples(TEXT), tmp_path / "out"))
    assert of(FilmEnded, events) == [FilmEnded(4, "No space left on device")]
    assert isinstance(events[-1], Finished)
    with monkeypatch.context() as patched:
        patched.setattr("sftdemo.runs.film.write_whole", lambda *_: fails(None, "step-4"))
        shown = list(film(tmp_path / "out", "cpu"))
        told, last = shown[-2:]
    assert told.message.startswith("The film is not kept: ")
    assert told.message.endswith("No space left on device. Free space, or name another folder.")
    assert isinstance(last, Finished)
    assert of(Frame, shown) == of(Frame, film(tmp_path / "out", "cpu"))
    assert (tmp_path / "out" / "film.json").is_file()
    check_output(tmp_path / "out", overwrite=True)  # a film that is developed keeps no run from being replaced
    assert [frame.step for frame in of(Frame, shown)] == [0, 2, 12]


def frame_with(step: int, begun: int, ended: int, rows: int = 4) -> Frame:
    return Frame(step, 0.0, [], 1.0, 1.0, begun, ended, [[0.0]] * rows, [[1]] * rows)


@pytest.mark.parametrize(
    ("begun", "told"),
    [
        ([0, 1, 3, 4], "from step 4 on (3 of them)"),
        ([0, 4, 2, 3], "from step 6 on (3 of them)"),  # a half is not most, and it must last
        ([3, 3, 3, 3], "from the beginning"),
        ([4, 4, 4, 0], "never becomes the likeliest"),
    ],
)
def test_the_moments(begun, told):
    first, second = moments([frame_with(2 * at, count, 4) for at, count in enumerate(begun)])
    assert first.startswith("the answer's first token")
    assert told in first
    assert "from the beginning" in second


def test_no_moments_without_a_held_out_answer():
    assert moments([]) == moments([frame_with(0, 0, 0, rows=0)]) == []
