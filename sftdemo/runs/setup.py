"""From the settings and the examples to what is trained, and to what is asked before and after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import distributed
from ..core.config import RunConfig
from ..core.errors import ConfigError, DataError, TrainingError
from ..core.events import Event, Phase
from ..data.examples import ParsedExamples, Problem, StreamedExamples
from ..data.questions import questions_rendered, shape_of
from ..data.row_file import RowFile
from ..data.templates import RenderedPrompt, get_template
from ..mask.audit import Audit
from ..mask.checks import FLAGS, errors
from ..mask.labels import MaskedExample, mask_examples
from ..model.devices import choose_device
from ..model.loading import effective_max_length, load_tokenizer
from ..model.sources import ModelSource, located
from .folder import RunFolder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Setup:
    """What a training needs apart from the model's weights.

    Args:
        config (`RunConfig`):
            Its `max_length` is no more than the model has positions.
        examples (`list[MaskedExample]` or `RowFile`):
            What is trained; `left_out` has a sentence for each row that is not.
        questions (`list[tuple[str, RenderedPrompt, str]]`):
            What is asked before and after: what to show, the prompt, where it comes from (`Comparison.source`).
        shape (`str`):
            How the rows are written: `"instruction"`, `"prompt"` or `"messages"`.
    """

    config: RunConfig
    device: torch.device
    source: ModelSource
    tokenizer: PreTrainedTokenizerBase
    examples: list[MaskedExample] | RowFile
    left_out: list[str]
    questions: list[tuple[str, RenderedPrompt, str]]
    shape: str

    @property
    def prompts(self) -> list[RenderedPrompt]:
        return [prompt for _, prompt, _ in self.questions]


def set_up(config: RunConfig, data: ParsedExamples, folder: RunFolder, scratch: str) -> Iterator[Event]:
    """Checks everything before the first weight is loaded; phases, and as return value the `Setup`.

    Raises:
        SftdemoError: for settings, examples, a model or an output that cannot be used.
    """
    check_shares(config)
    if distributed.is_first():
        folder.check()
    device = choose_device(config.device)
    with distributed.first_here_first():
        source = yield from located(config.model)
    if source.base is not None:
        raise TrainingError(f"{source.name} is a LoRA adapter; train on a model, or on a run saved with merge.")
    yield Phase("load", "Loading the model")
    tokenizer = load_tokenizer(source)
    config = replace(config, max_length=effective_max_length(config.max_length, source))
    examples, left_out = trainable(config, data, tokenizer, scratch)
    questions = questions_rendered(config, data, tokenizer)
    return Setup(config, device, source, tokenizer, examples, left_out, questions, shape_of(data.train[0]))


def check_shares(config: RunConfig) -> None:
    if config.batch_size % distributed.count():
        raise ConfigError(
            f"batch_size is {config.batch_size}, which {distributed.count()} processes cannot share evenly; choose a "
            f"multiple of {distributed.count()}."
        )


def trainable(
    config: RunConfig, data: ParsedExamples, tokenizer, scratch: str
) -> tuple[list[MaskedExample] | RowFile, list[str]]:
    """The examples that will be trained, and a sentence for each row that will not. Of rows that were left on the disk
    the examples are as well.

    Raises:
        TrainingError: where nothing is left, or the audit finds an error and `config.anyway` is not set.
    """
    if not data.train:
        reason = f" The first refused: {data.problems[0]}" if data.problems else ""
        raise DataError(f"there is no example to train on ({len(data.held_out)} held out).{reason}")
    audit = Audit(config.batch_size, config.max_length, data.held_out)
    examples: list[MaskedExample] | RowFile = []
    if isinstance(data.train, StreamedExamples):
        examples = RowFile(Path(scratch) / "rows.arrow")
    left_out = [str(problem) for problem in data.problems]
    template = get_template(config.template, config.turns)
    for example, masked in zip(
        data.train, mask_examples(data.train, tokenizer, template, config.max_length), strict=True
    ):
        if isinstance(masked, Problem):
            left_out.append(str(masked))
            continue
        audit.add(example, masked)
        if masked.trained and isinstance(examples, RowFile):
            examples.add(masked.input_ids, masked.labels, masked.trained)
        elif masked.trained:
            examples.append(masked)
        else:
            left_out.append(f"row {example.row}: {FLAGS['nothing_trained']}")
    if not examples:
        raise TrainingError(f"no row has a token to train. {left_out[0]}")
    found = errors(audit.findings())
    if found and not config.anyway:
        raise TrainingError(f"the audit found an error: {found[0]} Or train anyway (--anyway).")
    return examples, left_out
