"""Revisit a saved run: answer prompts with its adapter at another strength, and compute the loss of every token."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..core.config import RunConfig
from ..core.errors import UNREADABLE, ConfigError, DataError, ModelError, TrainingError, unread
from ..core.events import Event, Phase, TokenLosses
from ..core.json_files import read_object
from ..core.settings_file import read_recorded
from ..core.streams import Outcome, event_stream
from ..data.examples import ParsedExamples, read_examples
from ..data.questions import Question, question_text, questions_of, shape_of, typed_prompt
from ..data.templates import template_of
from ..mask.labels import Masker, TokenizedExample
from ..mask.view import view_tokens
from ..model.devices import choose_device
from ..model.loading import load_model, open_model, put_adapter
from ..model.sources import ModelSource, base_of, path_of, resolve
from .folder import EXAMPLES, RECORD
from .record import check_record
from .setup import render_questions

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

    from ..model.scoring import RowScores

ROWS, TOKENS = 24, 4_000  # of a run that are scored, at most
PART = 512  # tokens of rows that are scored by all adapters, before the next are
MOST_STRENGTH = 1.5  # the largest factor on the adapter
Stop = Callable[[], bool]


@dataclass(frozen=True)
class SavedRun:
    """A saved run, as read from its folder.

    Args:
        arms (`tuple[tuple[float, Path], ...]`):
            The prompt-loss weight and the folder of each trained model: one for a training run, one per arm, in order,
            for an ablation.
        kind (`str`):
            The kind of the trained models: `"adapter"`, `"merged"` or `"full"`.
        base (`str`):
            The model without any adapter: under the adapter that the run went on from, else the one it trained.
        finished (`str`):
            When it was saved, in UTC, as ISO 8601.
        rows (`str`, *optional*):
            The data set that the rows come from, if it is on the Hub.
    """

    folder: Path
    config: RunConfig
    arms: tuple[tuple[float, Path], ...]
    kind: str
    base: str
    finished: str
    rows: str | None = None

    def examples(self) -> ParsedExamples:
        """Read the examples that the run was trained on and asked.

        Raises:
            DataError: if they cannot be read.
        """
        data = read_examples(self.folder / EXAMPLES)
        if not data.train:
            raise DataError(f"{self.folder / EXAMPLES} holds none of the rows that the run was trained on.")
        return data

    def arm(self, weight: float | None) -> Path:
        """Return the folder of the model trained with this prompt-loss weight; for None, that of the first model.

        Raises:
            ConfigError: if there is no such model.
        """
        folders = dict(self.arms)
        if weight is None:
            return self.arms[0][1]
        if weight not in folders:
            known = ", ".join(f"{each:g}" for each in folders)
            raise ConfigError(
                f"{self.folder} holds no model trained with prompt-loss weight {weight:g}; it has {known}."
            )
        return folders[weight]


def read_run(folder: Path) -> SavedRun:
    """Read the record of a saved run.

    Raises:
        ModelError: if there is no run in `folder`, or if it cannot be read.
    """
    try:
        path_of(str(folder))
        record = read_object(folder / RECORD)
        check_record(folder / RECORD, record)
        config = read_recorded(record["config"])
        places = [folder / Path(name).name for name in record.get("arms", [])]
        arms = [read_object(place / RECORD) for place in places] or [record]
        for place, arm in zip(places, arms, strict=False):
            check_record(place / RECORD, arm)
        weights = [read_recorded(arm["config"]).prompt_loss_weight for arm in arms]
        pairs = tuple(zip(weights, places or [folder], strict=True))
        base, rows = base_of(record) or config.model, (record.get("data") or {}).get("source")
        datetime.fromisoformat(record["finished"])
        return SavedRun(folder, config, pairs, arms[0]["kind"], base, record["finished"], rows)
    except UNREADABLE as error:
        raise ModelError(f"there is no run that can be read in {folder}: {unread(error)}.") from error


def check_strength(strength: float) -> None:
    """Check how far an adapter is to be turned up.

    Raises:
        ConfigError: for less than 0, which is off, more than `MOST_STRENGTH`, and no number.
    """
    if not 0 <= strength <= MOST_STRENGTH:
        raise ConfigError(f"strength is {strength:g}; it must lie between 0 (off) and {MOST_STRENGTH:g}.")


@event_stream
def answers_at(
    folder: Path,
    strength: float,
    prompts: Sequence[str] = (),
    weight: float | None = None,
    device: str = "auto",
    stop: Stop = lambda: False,
) -> Generator[Event, None, Outcome]:
    """Answer `prompts` and then the run's own questions, with its adapter at `strength`: 0 is off (the base), 1 is as
    trained.

    Yields an `Answer` for each prompt. The last event is `Finished` or `Failed`. `weight` selects an arm of an
    ablation. The adapter's scaling is multiplied by `strength` (`peft.helpers.rescale_adapter_scale`). For LoRA this
    interpolates between the base's weights and the trained weights, and above 1 extrapolates (WiSE-FT, arXiv
    2109.01903).
    """
    from peft.helpers import rescale_adapter_scale

    from ..model.generation import generate

    check_strength(strength)
    saved = read_run(folder)
    if saved.kind != "adapter":
        raise TrainingError("this run has no adapter to turn up or down: its weights were trained or merged whole.")
    opened = yield from open_model(replace(saved.config, model=str(saved.arm(weight)), device=device))
    model = yield from opened.load()
    data = saved.examples()
    shape = shape_of(data.train[0])
    typed = [Question(text, typed_prompt(text, shape), "typed") for text in prompts]
    asked = typed + questions_of(saved.config, data)
    rendered = render_questions(asked, template_of(saved.config), opened.tokenizer)
    yield Phase("answer", f"Answering {len(asked)} prompts with the adapter at {strength:g}")
    # off is off, even where nothing times the adapter's weights would be NaN
    with rescale_adapter_scale(model, strength) if strength else cast("PeftModel", model).disable_adapter():
        found = generate(model, opened.tokenizer, rendered, saved.config.max_new_tokens, stop)
    for question, answer in zip(asked, found, strict=True):
        yield replace(answer, prompt=question.text)
    return Outcome(stopped=stop())


@event_stream
def token_losses(folder: Path, device: str = "auto", stop: Stop = lambda: False) -> Generator[Event, None, Outcome]:
    """Compute the loss of every token of a run's rows, by the base and by each trained model.

    Yields a `TokenLosses` for each row as it is known, at most `ROWS` rows and `TOKENS` tokens in all. Held-out rows
    with an answer come first. The last event is `Finished` or `Failed`.
    """
    saved = read_run(folder)
    chosen = choose_device(device)
    base = yield from open_model(replace(saved.config, model=saved.base))
    sources = [base.source]
    for _, place in saved.arms:
        sources.append((yield from resolve(str(place))))
    rows, told = _rows(saved, base.masker), 0
    models = _Models(sources, saved.kind == "adapter", chosen, base.config.load_in_4bit)
    for part in models.parts([row for row, _, _ in rows]):
        found = []
        for number in range(len(sources)):
            yield Phase("score", "Reading every token's loss", (told + len(part) * number / len(sources)) / len(rows))
            found.append(models.scores(number, part))
            if stop():
                return Outcome(stopped=True)
        weights = [None, *(weight for weight, _ in saved.arms)]
        yield from _told(rows[told : told + len(part)], weights, found, base.tokenizer)
        told += len(part)
    return Outcome()


class _Models:
    """The base of a run and its trained models, one at a time. Where they are adapters, the base is loaded once, and
    the first rows are scored by all of them before the next; whole weights are loaded for all rows at once.

    Args:
        sources (`list[ModelSource]`):
            The base's, and then those of the trained models.
    """

    def __init__(self, sources: list[ModelSource], are_adapters: bool, device: torch.device, four_bits: bool):
        self._sources, self._are_adapters = sources, are_adapters
        self._load = partial(load_model, device=device, four_bits=four_bits)
        self._loaded: PeftModel | None = None
        self._put = 1  # the number of the adapter that is on it

    def parts(self, rows: list[TokenizedExample]) -> list[list[TokenizedExample]]:
        """Return the rows as they are to be scored."""
        from ..model.scoring import batches

        return list(batches(rows, PART)) if self._are_adapters else [rows]

    def scores(self, number: int, rows: list[TokenizedExample]) -> list[RowScores]:
        """Return the scores of the rows by one of the models, by its number in the sources."""
        from ..model.scoring import score

        if not self._are_adapters:
            return list(score(self._load(self._sources[number]), rows))
        if self._loaded is None:
            self._loaded = cast("PeftModel", self._load(self._sources[1]))
        if number not in (0, self._put):
            put_adapter(self._loaded, self._sources[number].folder)
            self._put = number
        with nullcontext() if number else self._loaded.disable_adapter():
            return list(score(self._loaded, rows))


def _rows(saved: SavedRun, masker: Masker) -> list[tuple[TokenizedExample, str, str]]:
    """Return the rows to score, each as (row, source, question)."""
    data = saved.examples()
    asked = [(example, "held out") for example in data.held_out if example.is_answered]
    asked += [(example, "training") for example in data.train]
    chosen, tokens = [], 0
    for example, kind in islice(asked, ROWS):
        found, _ = masker.tokenize([example])
        for row in found:
            tokens += len(row.input_ids)
            if len(row.input_ids) > 1 and (tokens <= TOKENS or not chosen):
                chosen.append((row, kind, question_text(example)))
    if not chosen:
        raise ModelError(f"{saved.folder} holds no row whose tokens could be looked at.")
    return chosen


def shown_tokens(row: TokenizedExample, tokenizer: PreTrainedTokenizerBase) -> list[list[Any]]:
    """Return the tokens that a row keeps, as in `TokenLosses`."""
    kept = [token for token in view_tokens(row, tokenizer) if not token.cut]
    return [[token.text, token.kind, token.id, token.trained, token.breaks] for token in kept]


def _told(rows, weights: list[float | None], scores: list[list[RowScores]], tokenizer) -> Iterator[TokenLosses]:
    def likeliest(found) -> list:
        return [[[tokenizer.decode([index]), share] for index, share in place] for place in found.likeliest]

    for number, (row, kind, question) in enumerate(rows):
        found = [each[number] for each in scores]
        yield TokenLosses(
            row=row.row,
            source=kind,
            question=question,
            tokens=shown_tokens(row, tokenizer),
            weights=weights,
            losses=[list(each.losses) for each in found],
            ranks=[list(each.ranks) for each in found],
            likeliest=[likeliest(each) for each in found],
        )
