"""Keep what is known of a base model before a run: its tokenizer, its weights as loaded, their hash and its answers.

A process that stands by for a run (`standby`) has all this before the run is asked for; any other has nothing. A run
gets the same from a `Base` either way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import distributed
from ..core.config import RunConfig
from ..core.events import Answer, Model, Phase
from ..model.devices import choose_device
from ..model.four_bits import is_in_four_bits
from ..model.loading import OpenModel, effective_max_length, open_model, weights_sha256
from ..model.sources import ModelSource, find_local
from .memory import tell_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..data.templates import RenderedPrompt
    from ..mask.labels import MaskedExample
    from ..model.scoring import RowScores

_Files = frozenset[tuple[Path, int, int]]


class Base:
    """What is known of one model; nothing at first. What changed on the disk is read anew."""

    def __init__(self) -> None:
        self._opened: OpenModel | None = None
        self._files: _Files = frozenset()
        self._model: PreTrainedModel | None = None
        self._hash = ""
        self._has_practised = False
        self._answers: dict[tuple[tuple[RenderedPrompt, ...], int], list[Answer]] = {}
        self._scores: dict[tuple[MaskedExample, ...], list[RowScores]] = {}

    def open(self, config: RunConfig) -> Generator[Phase, None, OpenModel]:
        """Find the model of `config` with its tokenizer.

        Raises:
            ModelError: as `open_model` does.
        """
        known = self._opened
        if known is not None and find_local(config.model) == known.source and _files_of(known.source) == self._files:
            length = effective_max_length(config.max_length, known.source)
            return replace(known, config=replace(config, max_length=length))
        self.__init__()
        self._opened = yield from open_model(config)
        self._files = _files_of(self._opened.source)
        return self._opened

    def model(self, opened: OpenModel) -> Generator[Model, None, PreTrainedModel]:
        """Return the weights of the model that was opened last, loaded to be trained. They stay those of the base until
        they are handed out by `take`.

        Raises:
            ModelError: as `OpenModel.load` does.
        """
        there = self._model
        wanted = opened.config
        if there is not None and (there.device.type, is_in_four_bits(there)) != (
            choose_device(wanted.device).type,
            wanted.load_in_4bit,
        ):
            there = None
        self._model = yield from opened.load(trains=True, loaded=there)
        if there is None:
            self._hash = weights_sha256(self._model) if distributed.is_first() else ""  # the others tell none
            self._answers, self._scores, self._has_practised = {}, {}, False
        return self._model

    def practise(self) -> float | None:
        """Take a step of a training ahead, once with each model that was loaded (`train.practice`), but not with an
        adapter that is trained on, nor in 4 bits. Returns the seconds of the step; None if it takes none.

        Raises:
            TrainingError: if there is no memory for it, and as `practise` does.
        """
        from ..train.practice import practice_rows, practise

        opened, model = self._opened, self._model
        if opened is None or model is None or self._has_practised or opened.source.base or is_in_four_bits(model):
            return None
        self._has_practised = True
        lora = replace(opened.config, full=False)
        tell_memory(lora, opened.source, practice_rows(model, lora), model.device.type)
        return practise(model, opened.tokenizer, opened.config)

    def take(self, opened: OpenModel) -> Generator[Model, None, tuple[PreTrainedModel, str]]:
        """Return the weights, which may then be changed, and their SHA-256.

        Raises:
            ModelError: as `OpenModel.load` does.
        """
        model = yield from self.model(opened)
        self._model = None
        return model, self._hash

    def answers(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[RenderedPrompt],
        max_new_tokens: int,
        stop: Callable[[], bool],
    ) -> list[Answer]:
        """Return the answers of the model before it is trained, as [`generate`] does. Those that were not stopped are
        kept, as long as no others are asked for."""
        from ..model.generation import generate

        key = (tuple(prompts), max_new_tokens)
        if key not in self._answers:
            found = generate(model, tokenizer, prompts, max_new_tokens, stop)
            if any(answer.stop == "stopped" for answer in found):
                return found
            self._answers = {key: found}
        return self._answers[key]

    def scores(
        self, model: PreTrainedModel, rows: Sequence[MaskedExample], stop: Callable[[], bool]
    ) -> list[RowScores]:
        """Return the losses of held-out rows before the model is trained, as [`judge`] does. Those of all rows are
        kept, as long as no others are asked for."""
        from ..model.scoring import judge

        key = tuple(rows)
        if key not in self._scores:
            found = judge(model, rows, stop)
            if len(found) < len(rows):
                return found
            self._scores = {key: found}
        return self._scores[key]


def _files_of(source: ModelSource) -> _Files:
    """Return the path, size and time of each file of a model."""
    folders = [each.folder for each in (source, source.base) if each is not None]
    paths = (path for folder in folders for path in folder.iterdir())
    return frozenset((path, stat.st_size, stat.st_mtime_ns) for path in paths for stat in [path.stat()])
