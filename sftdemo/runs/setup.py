"""Turn the settings and the examples into the rows to train on and the questions to ask before and after."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from itertools import chain
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import distributed
from ..core.config import SETTINGS, RunConfig
from ..core.errors import ConfigError, DataError, ModelError, TrainingError
from ..core.events import Event
from ..core.json_files import read_object
from ..core.limits import Limits
from ..core.until import Until
from ..data.chat import render_prompt
from ..data.examples import Example, ParsedExamples, Problem, StreamedExamples
from ..data.questions import Question, questions_of, shape_of
from ..data.row_file import RowFile
from ..data.templates import RenderedPrompt, Template, template_of
from ..mask.audit import Audit
from ..mask.checks import CHECKS, errors
from ..mask.labels import MaskedExample
from ..model.devices import choose_device
from ..model.loading import OpenModel
from .base import Base
from .folder import ModelToSave, RunFolder
from .memory import tell_memory
from .prompt_template import TrainedPrompt
from .work import planned_steps, tokens_a_step

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NEVER = Until(lambda: False)
COMPARED = 50  # prompts whose ids are compared with those that the saved chat template gives


@dataclass(frozen=True)
class Rows:
    """The sequences to train on (`examples`), the rows that are not trained and why (`left_out`), the hash of the whole
    mask (`labels.MaskHash`), the ids that are trained as the end of an answer (`ends`), and how many `tokens` the
    sequences have."""

    examples: list[MaskedExample] | RowFile
    left_out: tuple[Problem, ...]
    mask_hash: str
    ends: frozenset[int]
    tokens: int


@dataclass(frozen=True)
class Asked(OpenModel):
    """A model with the questions asked before and after a training (`questions`), and the prompts that it reads for
    them (`prompts`)."""

    questions: list[Question]
    prompts: list[RenderedPrompt]

    def held_out_rows(self, examples: Iterable[Example]) -> list[MaskedExample]:
        """Return the held-out rows that have an answer, with the mask that they would be trained with."""
        answered = [example for example in examples if example.is_answered]
        masked = [row for row in self.masker.mask(answered) if not isinstance(row, Problem)]
        return [row for row in chain.from_iterable(masked) if row.trained]


@dataclass(frozen=True)
class Setup(Asked):
    """Everything a training run needs except the model's weights.

    Args:
        rows (`Rows`):
            The rows to train on.
        shape (`str`):
            How the rows are written: `"instruction"`, `"prompt"` or `"messages"`.
    """

    rows: Rows
    shape: str

    def to_save(self, model: PreTrainedModel | PeftModel, film: Path | None) -> ModelToSave:
        """Return the trained model with what a run's folder needs besides."""
        prompt, some = TrainedPrompt(template_of(self.config), self.shape, self.tokenizer), self.questions[:COMPARED]
        chat_template = prompt.to_jinja(some)
        same = prompt.count_same(chat_template, some)
        return ModelToSave(model, self.tokenizer, self.rows.ends, chat_template, same, film)


def set_up(
    config: RunConfig,
    data: ParsedExamples,
    folder: RunFolder,
    scratch: str,
    shown: str | None = None,
    stop: Until = NEVER,
    limits: Limits | None = None,
    trainings: int = 1,
    base: Base | None = None,
) -> Generator[Event, None, Setup]:
    """Check everything that can be checked before the model's weights are loaded. Yields phases and returns a `Setup`.

    Args:
        scratch (`str`):
            A folder for rows that stay on the disk.
        shown (`str`, *optional*):
            The hash of the mask that was shown to the user. If the hash of the rows' mask differs, they are refused.
        stop (`Until`, *optional*):
            Whether the run is to end.
        limits (`Limits`, *optional*), trainings (`int`, *optional*, defaults to 1):
            What a visitor may do, and how many times the rows are trained.
        base (`Base`, *optional*):
            What is known of the model already.

    Raises:
        SftdemoError: if the settings, the examples, the model or the output folder cannot be used.
        Stopped: if `stop` returns true.
    """
    _check_shares(config)
    if distributed.is_first():
        folder.check()
    device = choose_device(config.device)  # report a missing device before anything is downloaded
    if config.set or config.report_to != "none":
        from ..train.settings import check_settings

        check_settings(config, device, scratch)
    with distributed.first_here_first():
        opening = (base or Base()).open(config)  # several processes end together, at a step
        opened = yield from stop.heeded(opening) if distributed.count() == 1 else opening
    opened = fit_adapter(opened)
    rows = rows_to_train(opened, data, scratch, stop)
    if shown is not None and shown != rows.mask_hash:
        raise TrainingError(
            f"the mask to be trained (sha256 {rows.mask_hash[:12]}…) is not the one that was shown ({shown[:12]}…), so "
            "nothing was trained; wait until the mask is drawn anew, and press again."
        )
    asked = ask(opened, questions_of(opened.config, data), limits)
    if limits is not None:
        limits.check_training(trainings * _tokens_to_train(opened.config, rows))
    memory = tell_memory(opened.config, opened.source, rows.examples, device.type)
    if memory is not None and distributed.is_first():
        yield memory
    return Setup(**vars(asked), rows=rows, shape=shape_of(data.train[0]))


def ask(opened: OpenModel, questions: list[Question], limits: Limits | None = None) -> Asked:
    """Render the questions for a model.

    Raises:
        TrainingError: if there are more than the limits allow.
        TemplateError: if a question cannot be rendered.
    """
    if limits is not None:
        limits.check_questions(len(questions), opened.config.max_new_tokens)
    prompts = render_questions(questions, template_of(opened.config), opened.tokenizer)
    return Asked(opened.config, opened.source, opened.tokenizer, questions, prompts)


def fit_adapter(opened: OpenModel) -> OpenModel:
    """Return the model with the settings that fit the adapter to train on, if it is one: the rank is the adapter's own.

    Raises:
        ModelError: if the adapter's configuration cannot be read.
        TrainingError: if the adapter is not LoRA, or if the settings ask for another rank or for all weights.
    """
    source, config = opened.source, opened.config
    if source.base is None:
        return opened
    known = read_object(source.folder / "adapter_config.json")
    kind, rank = known.get("peft_type"), known.get("r")
    if not (isinstance(kind, str) and isinstance(rank, int)):
        raise ModelError(f"the adapter_config.json of {source.name} does not say what it is.")
    if kind != "LORA":
        raise TrainingError(f"{source.name} is an adapter of the kind {kind}; only LoRA adapters are trained on.")
    if config.full:
        raise TrainingError(
            f"{source.name} is a LoRA adapter, and full trains all weights. Train the adapter on, without full, or "
            "name a run that was saved with merge."
        )
    if config.lora_r not in (rank, SETTINGS["lora_r"].default):
        raise TrainingError(
            f"lora_r is {config.lora_r}, and the adapter in {source.name} has rank {rank}, which stays. "
            "Leave lora_r out."
        )
    return replace(opened, config=replace(config, lora_r=rank))


def render_questions(
    questions: list[Question], template: Template, tokenizer: PreTrainedTokenizerBase
) -> list[RenderedPrompt]:
    """Return the prompt that the model reads for each question.

    Raises:
        TemplateError: if a question cannot be rendered.
    """
    return [render_prompt(question.example, template, tokenizer) for question in questions]


def _check_shares(config: RunConfig) -> None:
    if config.batch_size % distributed.count():
        raise ConfigError(
            f"batch_size is {config.batch_size}, which {distributed.count()} processes cannot share evenly; choose a "
            f"multiple of {distributed.count()}."
        )


def _tokens_to_train(config: RunConfig, rows: Rows) -> int:
    """Return about how many tokens all steps of a training compute."""
    examples, tokens = len(rows.examples), rows.tokens
    return planned_steps(config, examples, tokens) * ceil(tokens_a_step(config, examples, tokens))


def rows_to_train(opened: OpenModel, data: ParsedExamples, scratch: str, stop: Until = NEVER) -> Rows:
    """Mask and audit the rows. If the rows are streamed from the disk, their masks are kept on the disk as well.

    Raises:
        DataError: if there is no row to train on.
        TrainingError: if no row has a token to train, or if the audit finds an error and `config.anyway` is not set.
        Stopped: if `stop` returns true.
    """
    if not data.train:
        reason = f" The first refused: {data.problems[0]}" if data.problems else ""
        raise DataError(f"there is no example to train on ({len(data.held_out)} held out).{reason}")
    config = opened.config
    audit = Audit(config.batch_size, config.max_length, data.held_out)
    examples: list[MaskedExample] | RowFile = []
    if isinstance(data.train, StreamedExamples):
        examples = RowFile(Path(scratch) / "rows.arrow")
    left_out, tokens = list(data.problems), 0
    alone = distributed.count() == 1  # several processes end together, at a step
    for example, sequences in audit.review(data.train, opened.masker):
        if alone:
            stop.check()
        if isinstance(sequences, Problem):
            left_out.append(sequences)
            continue
        for masked in sequences:
            tokens += len(masked.input_ids) if masked.trained else 0
            if not masked.trained:
                left_out.append(Problem(example.row, example.line, str(CHECKS["nothing_trained"])))
            elif isinstance(examples, RowFile):
                examples.add(masked.input_ids, masked.labels, masked.trained)
            else:
                examples.append(masked)
    if not examples:
        raise TrainingError(f"no row has a token to train. {left_out[0]}")
    found = errors(audit.findings())
    if found and not config.anyway:
        raise TrainingError(f"the audit found an error: {found[0]} Or train anyway (--anyway).")
    return Rows(examples, tuple(left_out), str(audit.mask_hash), frozenset(audit.ends), tokens)
