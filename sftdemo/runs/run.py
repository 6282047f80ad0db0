"""A run from its settings to its results: load, answer, train, answer again, compare, save. A generator of events."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..core import distributed
from ..core.config import RunConfig
from ..core.errors import SftdemoError, sentence
from ..core.events import Answer, Before, Comparison, Event, Failed, Finished, Phase, Prepared, Step, Weights
from ..data.examples import ParsedExamples
from ..data.questions import typed_prompt
from ..data.templates import get_template, render_prompt
from ..model.devices import choose_device, uses_bf16
from ..model.loading import load_model, load_tokenizer, model_event, weights_sha256
from ..model.sources import located
from .folder import RunFolder, ending, record_of, way_of_asking
from .setup import Setup, set_up

Stop = Callable[[], bool]


def run(
    config: RunConfig,
    data: ParsedExamples,
    output: str | Path,
    stop: Stop = lambda: False,
    overwrite: bool = False,
) -> Iterator[Event]:
    """Does the whole job and saves it to `output`; the last event is `Finished` or `Failed`.

    "Before" is answered before anything is trained or attached, with the weights as they were loaded. A run that is
    stopped keeps what it has learned up to then. `output` is replaced only when all is done, and only if it is empty
    or, with `overwrite`, an earlier run's. Of several processes, the first one answers, tells and saves, and the others
    only train; whichever fails first tells of it.
    """
    folder = RunFolder(output, overwrite)
    return folder.relay(_run(config, data, folder, stop))


def _run(config: RunConfig, data: ParsedExamples, folder: RunFolder, stop: Stop) -> Iterator[Event]:
    begin = time.perf_counter()
    with scratch_folder() as scratch:
        setup = yield from set_up(config, data, folder, scratch)
        model = load_model(setup.source, setup.device)
        yield model_event(setup.source, model, "bf16" if uses_bf16(setup.device) else "float32")
        if distributed.is_first():
            fingerprint = weights_sha256(model)
            before = yield from answers_before(setup, model, stop)
        steps = Step(0, 0, 0.0, 0.0, 0.0)
        if not distributed.anyone(stop()):
            model, steps = yield from trained(setup, model, stop, scratch)
        if steps.step and distributed.is_first():
            after = yield from answers_after(setup, model)
            comparisons = _compare(setup, before, after)
            yield from comparisons
            yield Weights(fingerprint, weights_sha256(model), config.full)
            yield Phase("save", f"Saving to {folder}")
            found = [comparison.to_dict() for comparison in comparisons]
            results = {"steps": steps.step, "loss": steps.loss, "comparisons": found}
            record = record_of(setup.config, setup.source, setup.shape, **results)
            end = partial(ending, steps.step, steps.total, begin)
            yield from folder.save(record, data, model, setup.tokenizer, end)
            return
    yield ending(steps.step, steps.total, begin)


def scratch_folder() -> tempfile.TemporaryDirectory:
    """Windows does not delete a file that is mapped into memory: such a folder may stay."""
    return tempfile.TemporaryDirectory(prefix="sftdemo-", ignore_cleanup_errors=True)


def answers_before(setup: Setup, model, stop: Stop) -> Iterator[Event]:
    """Asks the questions of the untrained model, with an event for each answer; returns the `Answer`s."""
    from ..model.generation import generate

    yield Phase("before", f"Answering {len(setup.prompts)} prompts before training")
    before = generate(model, setup.tokenizer, setup.prompts, setup.config.max_new_tokens, stop)
    for (text, _, kind), result in zip(setup.questions, before, strict=True):
        yield Before(text, result.answer, result.stop, kind)
    return before


def answers_after(setup: Setup, model) -> Iterator[Event]:
    """Asks the same questions of the trained model; returns the `Answer`s."""
    from ..model.generation import generate

    yield Phase("after", f"Answering the same {len(setup.prompts)} prompts after training")
    return generate(model, setup.tokenizer, setup.prompts, setup.config.max_new_tokens)


def trained(setup: Setup, model, stop: Stop, scratch: str, held_out: Sequence = ()) -> Iterator[Event]:
    """Relays the training's events; returns the trained model and the last step."""
    from ..train.loop import train

    steps = Step(0, 0, 0.0, 0.0, 0.0)
    yield Phase("train", "Training")
    work = train(model, setup.tokenizer, setup.examples, setup.config, stop, scratch, held_out)
    with closing(work) as training:
        while True:
            try:
                event = next(training)
            except StopIteration as end:
                return end.value, steps
            if isinstance(event, Step):
                steps = event
            yield replace(event, left_out=setup.left_out) if isinstance(event, Prepared) else event


def fetch(name: str, stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """Brings a model onto this disk; the last event is `Finished` or `Failed`. It cannot be stopped half-way."""
    begin = time.perf_counter()
    try:
        yield from located(name)
        yield Finished(0, 0, time.perf_counter() - begin, stopped=False)
    except SftdemoError as error:
        yield Failed(sentence(error))


def answer(config: RunConfig, prompts: Sequence[str], template: str | None = None) -> Iterator[Event]:
    """Answers prompts with a model or a saved run; the last event is `Finished` or `Failed`.

    A saved run is asked in the way it was trained, unless a `template` is given: with its own template, verbatim, or
    as a chat.
    """
    begin = time.perf_counter()
    try:
        device = choose_device(config.device)
        source = yield from located(config.model)
        yield Phase("load", "Loading the model")
        tokenizer = load_tokenizer(source)
        known, shape = way_of_asking(Path(config.model))
        asked = [typed_prompt(text, shape if template is None else "instruction") for text in prompts]
        rendered = [render_prompt(example, get_template(template or known, "last"), tokenizer) for example in asked]
        model = load_model(source, device)
        yield model_event(source, model, "float32")
        from ..model.generation import generate

        yield Phase("answer", f"Answering {len(prompts)} prompts")
        for text, result in zip(prompts, generate(model, tokenizer, rendered, config.max_new_tokens), strict=True):
            yield replace(result, prompt=text)
        yield Finished(0, 0, time.perf_counter() - begin, stopped=False)
    except SftdemoError as error:
        yield Failed(sentence(error))


def _compare(setup: Setup, before: list[Answer], after: list[Answer]) -> list[Comparison]:
    return [
        Comparison(text, first.answer, second.answer, first.stop, second.stop, kind)
        for (text, _, kind), first, second in zip(setup.questions, before, after, strict=True)
    ]
