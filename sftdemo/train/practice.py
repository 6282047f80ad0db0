"""Take a step of a training ahead, so that the first step of a run waits neither for memory nor for threads.

Importing this module takes about 9 s on 2 cores, so import it where it is used.
"""

from __future__ import annotations

from copy import deepcopy

from torch.nn import Parameter
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..core.config import RunConfig
from ..core.events import Step
from ..core.held import scratch_folder
from ..mask.labels import IGNORE_INDEX, MaskedExample
from ..model.prefix_sharing import agree_alike
from .loop import train

ROWS, LENGTH = 8, 40  # tokens of a row, half of them trained: about a batch of the samples


def practise(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: RunConfig) -> float:
    """Train an adapter for one step, on rows without a meaning, and forget it. Returns the seconds of the step.

    The model stays as it is: what is trained is a twin that has its weights, and nothing else, in common with it.

    Args:
        config (`RunConfig`):
            Only `model`, `device`, `precision` and `max_length` are used.

    Raises:
        TrainingError: as `train` does.
    """
    settings = RunConfig(model=config.model, device=config.device, precision=config.precision, steps=1)
    twin = deepcopy(model, {id(weight): Parameter(weight.data, False) for weight in model.parameters()})
    seconds = 0.0
    with scratch_folder() as scratch:
        for event in train(twin, tokenizer, practice_rows(model, config), settings, lambda: False, scratch):
            seconds = event.seconds if isinstance(event, Step) else seconds
    agree_alike(model, twin)
    return seconds


def practice_rows(model: PreTrainedModel, config: RunConfig) -> list[MaskedExample]:
    """Return the rows of the step, none of which begins as another does."""
    vocabulary, length = model.config.get_text_config().vocab_size, min(LENGTH, config.max_length)
    rows = [tuple((row + place) % vocabulary for place in range(length)) for row in range(ROWS)]
    masked = (IGNORE_INDEX,) * (length // 2)
    return [MaskedExample(row, ids, masked + ids[length // 2 :], (), ()) for row, ids in enumerate(rows)]
