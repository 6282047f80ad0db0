"""Play how a run learned: its answers and the loss of every held-out token, after each step whose adapter was kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..core.errors import UNREADABLE, ModelError, TrainingError, unread, unwritten
from ..core.events import Event, FilmRow, Frame, Phase, from_dict
from ..core.files import write_whole
from ..core.json_files import read_object
from ..core.streams import Outcome, event_stream
from ..data.questions import Question, question_text, questions_of
from ..data.templates import template_of
from ..mask.labels import IGNORE_INDEX, Masker, TokenizedExample
from ..model.loading import open_model, put_adapter
from ..train.checkpoints import STEP
from .folder import FILM, RECORD
from .revisit import TOKENS, SavedRun, Stop, read_run, shown_tokens
from .setup import render_questions

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

DEVELOPED = "film.json"  # the frames, once they are developed; the adapters are then removed
MOST_QUESTIONS = 12  # answered at each frame


@dataclass(frozen=True)
class _Scene:
    """What is the same in all frames: the run, the held-out rows that are scored, and the questions that are asked."""

    saved: SavedRun
    rows: list[TokenizedExample]
    asked: list[str]  # by each of the rows
    questions: list[Question]


def has_film(folder: Path) -> bool:
    """Whether a run has kept what `film` plays."""
    return (folder / DEVELOPED).is_file() or any(folder.glob(f"**/{FILM}/{STEP}*"))


@event_stream
def film(folder: Path, device: str = "auto", stop: Stop = lambda: False) -> Generator[Event, None, Outcome]:
    """Yield a `FilmRow` for each held-out row that is scored, then a `Frame` for each step whose adapter was kept, from
    step 0 to the trained adapter; of an ablation, for one arm after the other. The last event is `Finished` or
    `Failed`.

    The first time, the frames are developed: each adapter answers the run's questions and scores the rows. Then they
    are written to `DEVELOPED` in the run's folder, and the adapters are removed.
    """
    if (folder / DEVELOPED).is_file():
        yield from _read(folder / DEVELOPED)
        return Outcome()
    saved = read_run(folder)
    if not has_film(folder):
        raise TrainingError(f"{folder} has kept no film; train with --film, which keeps the adapter after some steps.")
    told: list[Event] = []
    scene = None
    for weight, place in saved.arms:
        opened = yield from open_model(replace(saved.config, model=str(place), device=device))
        if scene is None:
            scene = _scene(saved, opened.masker)
            pairs = zip(scene.rows, scene.asked, strict=True)
            told += [FilmRow(row.row, asked, shown_tokens(row, opened.tokenizer)) for row, asked in pairs]
            yield from told
        model = yield from opened.load()
        for step, adapter in _kept(place):
            yield Phase("film", f"Developing step {step}")
            frame = _frame(cast("PeftModel", model), opened.tokenizer, adapter, scene, step, weight, stop)
            if frame is None or stop():
                return Outcome(stopped=True)
            told.append(frame)
            yield frame
    text = "".join(json.dumps(each.to_dict(), ensure_ascii=False) + "\n" for each in told)
    try:
        write_whole(folder / DEVELOPED, text)
    except OSError as error:  # it has been shown, and what it is made of is still there
        yield Phase("film", f"The film is not kept: {folder} cannot be written: {unwritten(error, 'folder')}")
        return Outcome()
    for _, place in saved.arms:
        shutil.rmtree(place / FILM, ignore_errors=True)
    return Outcome()


def _read(path: Path) -> Iterator[Event]:
    try:
        yield from [from_dict(json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except UNREADABLE as error:
        raise ModelError(
            f"{path} cannot be read: {unread(error)}. Delete it, and train the run again with --film."
        ) from error


def _scene(saved: SavedRun, masker: Masker) -> _Scene:
    """Choose the rows to score, all held-out ones with an answer up to `TOKENS` tokens, and what is asked."""
    data = saved.examples()
    rows: list[TokenizedExample] = []
    asked: list[str] = []
    for example in data.held_out:
        for row in masker.tokenize([example])[0] if example.is_answered else ():
            if row.trained and sum(len(each.input_ids) for each in [*rows, row]) <= TOKENS:
                rows.append(row)
                asked.append(question_text(example))
    return _Scene(saved, rows, asked, questions_of(saved.config, data)[:MOST_QUESTIONS])


def _kept(place: Path) -> list[tuple[int, Path]]:
    """Return the steps whose adapter is there, with its folder: those that were kept, then the trained adapter."""
    numbers = (path.name.removeprefix(STEP) for path in (place / FILM).glob(f"{STEP}*"))
    steps = sorted(int(number) for number in numbers if number.isdecimal())
    last = read_object(place / RECORD).get("steps")
    if not isinstance(last, int):
        raise ModelError(f"{place / RECORD} does not say after how many steps the run was saved.")
    return [*((step, place / FILM / f"{STEP}{step}") for step in steps if step < last), (last, place)]


def _frame(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    adapter: Path,
    scene: _Scene,
    step: int,
    weight: float,
    stop: Callable[[], bool],
) -> Frame | None:
    """Give the model an adapter, and look at it; None if it is stopped before the rows are scored."""
    from ..model.generation import generate
    from ..model.scoring import mean_losses, score

    put_adapter(model, adapter)
    config, rows = scene.saved.config, scene.rows
    scores = list(takewhile(lambda _: not stop(), score(model, rows))) if rows else []
    if len(scores) < len(rows):
        return None
    means = mean_losses(scores, rows)
    prompts = render_questions(scene.questions, template_of(config), tokenizer)
    answers = generate(model, tokenizer, prompts, config.max_new_tokens, stop, checked=False)
    ends = [_ends(row, found.ranks) for row, found in zip(rows, scores, strict=True)]
    return Frame(
        step=step,
        prompt_loss_weight=weight,
        answers=[
            [question.text, question.source, answer.answer, answer.stop]
            for question, answer in zip(scene.questions, answers, strict=True)
        ],
        completion_loss=means.completion,
        prompt_loss=means.prompt,
        begun=sum(first == 1 for first, _ in ends),
        ended=sum(last == 1 for _, last in ends),
        losses=[[round(loss, 4) for loss in found.losses] for found in scores],
        ranks=[list(found.ranks) for found in scores],
    )


def _ends(row: TokenizedExample, ranks: Sequence[int]) -> tuple[int, int]:
    """Return the ranks of the first and of the last trained token of a row."""
    trained = [rank for rank, label in zip(ranks, row.labels[1:], strict=True) if label != IGNORE_INDEX]
    return trained[0], trained[-1]
