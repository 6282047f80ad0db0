"""A run from its settings to its results: load, answer, train, answer again, compare, save. A generator of events."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path

from . import __version__, processes
from .audit import Audit, errors
from .config import DEFAULT_TEMPLATE, RunConfig
from .errors import ConfigError, DataError, ModelError, SftdemoError, TrainingError, sentence
from .events import Answer, Before, Comparison, Event, Failed, Finished, Phase, Prepared, Saved, Step, from_dict
from .examples import Example, Message, ParsedExamples, Problem, StreamedExamples, question_text, to_record
from .models import (
    choose_device,
    effective_max_length,
    load_model,
    load_tokenizer,
    located,
    model_event,
    uses_bf16,
)
from .storage import RowFile, written_whole
from .templates import RenderedPrompt, get_template, render_prompt
from .tokenization import FLAGS, MaskedExample, mask_examples

RECORD = "run.json"  # marks a folder as one of ours
EVENTS = "events.jsonl"
MAX_TRAINING_QUESTIONS = 3


def run(
    config: RunConfig, data: ParsedExamples, output: str | Path, stop: Callable[[], bool] = lambda: False
) -> Iterator[Event]:
    """Does the whole job and saves it to `output`; the last event is `Finished` or `Failed`.

    "Before" is answered before anything is trained or attached, with the weights as they were loaded. A run that is
    stopped keeps what it has learned up to then. `output` is replaced only when all is done, and only if it is empty
    or an earlier run's. Of several processes, the first one answers, tells and saves, and the others only train;
    whichever fails first tells of it.
    """
    begin = time.perf_counter()
    events = []
    try:
        # Windows does not delete a file that is mapped into memory
        with tempfile.TemporaryDirectory(prefix="sftdemo-", ignore_cleanup_errors=True) as scratch:
            for event in _run(config, data, Path(output), stop, begin, scratch):
                if not processes.is_first():
                    continue
                events.append(event)
                if isinstance(event, Finished) and event.steps:
                    _write_events(Path(output), events)
                yield event
    except SftdemoError as error:
        if processes.speaks():
            yield Failed(sentence(error))


def _run(
    config: RunConfig, data: ParsedExamples, output: Path, stop: Callable[[], bool], begin: float, scratch: str
) -> Iterator[Event]:
    first = processes.is_first()
    _check_shares(config)
    if first:
        check_output(output)
    device = choose_device(config.device)
    with processes.first_here_first():
        source = yield from located(config.model)
    if source.base is not None:
        raise TrainingError(f"{source.name} is a LoRA adapter; train on a model, or on a run saved with merge.")
    yield Phase("load", "Loading the model")
    tokenizer = load_tokenizer(source)
    config = replace(config, max_length=effective_max_length(config.max_length, source))
    examples, left_out = _trainable(config, data, tokenizer, scratch)
    questions = _questions(config, data, tokenizer)
    model = load_model(source, device)
    yield model_event(source, model, "bf16" if uses_bf16(device) else "float32")

    from .generation import generate

    prompts = [prompt for _, prompt, _ in questions]
    if first:
        yield Phase("before", f"Answering {len(prompts)} prompts before training")
        before = generate(model, tokenizer, prompts, config.max_new_tokens, stop)
        for (text, _, kind), result in zip(questions, before, strict=True):
            yield Before(text, result.answer, result.stop, kind)
    steps = Step(0, 0, 0.0, 0.0, 0.0)
    if not processes.anyone(stop()):
        model, steps = yield from _trained(model, tokenizer, examples, left_out, config, stop, scratch, steps)
    if steps.step and first:
        yield Phase("after", f"Answering the same {len(prompts)} prompts after training")
        after = generate(model, tokenizer, prompts, config.max_new_tokens)
        comparisons = _compare(questions, before, after)
        yield from comparisons
        yield Phase("save", f"Saving to {output}")
        yield _save(config, data, source, model, tokenizer, output, steps, comparisons)
    yield Finished(
        steps.step, steps.total, time.perf_counter() - begin, stopped=not steps.step or steps.step < steps.total
    )


def _trained(model, tokenizer, examples, left_out, config, stop, scratch, steps: Step) -> Iterator[Event]:
    """Relays the training's events; returns the trained model and the last step."""
    from .training import train

    yield Phase("train", "Training")
    with closing(train(model, tokenizer, examples, config, stop, scratch)) as training:
        while True:
            try:
                event = next(training)
            except StopIteration as end:
                return end.value, steps
            if isinstance(event, Step):
                steps = event
            yield replace(event, left_out=left_out) if isinstance(event, Prepared) else event


def fetch(name: str, stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """Brings a model onto this disk; the last event is `Finished` or `Failed`. It cannot be stopped half-way."""
    begin = time.perf_counter()
    try:
        yield from located(name)
        yield Finished(0, 0, time.perf_counter() - begin, stopped=False)
    except SftdemoError as error:
        yield Failed(sentence(error))


def load_events(folder: Path) -> list[Event]:
    """The events of a saved run, in order; none where `folder` holds no run."""
    path = folder / EVENTS
    if not path.is_file():
        return []
    return [from_dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


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
        known, shape = _way_of_asking(Path(config.model))
        asked = [typed_prompt(text, shape if template is None else "instruction") for text in prompts]
        rendered = [render_prompt(example, get_template(template or known, "last"), tokenizer) for example in asked]
        model = load_model(source, device)
        yield model_event(source, model, "float32")
        from .generation import generate

        yield Phase("answer", f"Answering {len(prompts)} prompts")
        for text, result in zip(prompts, generate(model, tokenizer, rendered, config.max_new_tokens), strict=True):
            yield Answer(text, result.answer, result.stop)
        yield Finished(0, 0, time.perf_counter() - begin, stopped=False)
    except SftdemoError as error:
        yield Failed(sentence(error))


def _way_of_asking(folder: Path) -> tuple[str, str]:
    """The template and the shape of the examples that a run was trained with; the defaults for any other model."""
    if not (folder / RECORD).is_file():
        return DEFAULT_TEMPLATE, "instruction"
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return record["config"]["template"], record["shape"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder / RECORD} does not say how the run was trained ({error}).") from error


def _check_shares(config: RunConfig) -> None:
    if config.batch_size % processes.count():
        raise ConfigError(
            f"batch_size is {config.batch_size}, which {processes.count()} processes cannot share evenly; choose a "
            f"multiple of {processes.count()}."
        )


def check_output(output: Path) -> None:
    """Refuses a folder that cannot be written, or that holds something other than an earlier run.

    Raises:
        TrainingError: before any work is done.
    """
    if output.exists() and not output.is_dir():
        raise TrainingError(f"{output} is a file; name a folder to save to.")
    if output.exists() and any(output.iterdir()) and not (output / RECORD).is_file():
        raise TrainingError(f"{output} holds files that are not an earlier run's; name another folder to save to.")
    try:
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output.absolute().parent):
            pass
    except OSError as error:
        raise TrainingError(f"{output} cannot be written: {error.strerror or error}.") from error


def _trainable(
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


def questions_asked(config: RunConfig, data: ParsedExamples) -> list[tuple[str, Example, str]]:
    """What is answered before and after, as (what to show, the example, where it comes from): typed prompts and
    held-out rows, or without any a few training rows."""
    asked = [(typed_prompt(text, _shape(data.train[0])), "typed") for text in config.prompts]
    asked += [(example, "held out") for example in data.held_out]
    asked = asked or [(example, "training") for example in data.train[:MAX_TRAINING_QUESTIONS]]
    questions = [(question_text(example), example, kind) for example, kind in asked]
    texts = {text for text, _, _ in questions}
    trained = {text for text in map(question_text, data.train) if text in texts}
    return [(text, example, "training" if text in trained else kind) for text, example, kind in questions]


def _questions(config: RunConfig, data: ParsedExamples, tokenizer) -> list[tuple[str, RenderedPrompt, str]]:
    template = get_template(config.template, "last")
    asked = questions_asked(config, data)
    return [(text, render_prompt(example, template, tokenizer), kind) for text, example, kind in asked]


def _shape(example: Example) -> str:
    if example.prompt is not None:
        return "prompt"
    return "messages" if example.messages else "instruction"


def typed_prompt(text: str, shape: str) -> Example:
    """A typed prompt in the shape of the examples: a verbatim "prompt", a user's turn of "messages", "instruction"."""
    if shape == "messages":
        return Example(-1, "", messages=(Message("user", text),))
    return Example(-1, "", prompt=text) if shape == "prompt" else Example(-1, "", instruction=text)


def _compare(questions, before: list[Answer], after: list[Answer]) -> list[Comparison]:
    return [
        Comparison(text, first.answer, second.answer, first.stop, second.stop, kind)
        for (text, _, kind), first, second in zip(questions, before, after, strict=True)
    ]


def _save(config, data, source, model, tokenizer, output: Path, steps: Step, comparisons) -> Saved:
    from safetensors import SafetensorError

    kind = "full" if config.full else "merged" if config.merge else "adapter"
    if kind == "merged":
        model = model.merge_and_unload()
    record = {
        "sftdemo": __version__,
        "kind": kind,
        "model": {"name": source.name, "copy": source.copy, "hub_id": source.hub_id},
        "config": config.to_dict(),
        "shape": _shape(data.train[0]),
        "steps": steps.step,
        "loss": steps.loss,
        "comparisons": [comparison.to_dict() for comparison in comparisons],
    }
    try:
        with written_whole(output) as folder:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            (folder / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")
            with (folder / "examples.jsonl").open("w", encoding="utf-8") as file:
                for example in chain(data.train, data.held_out):
                    file.write(json.dumps(to_record(example), ensure_ascii=False) + "\n")
            (folder / "README.md").write_text(_card(record), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"the model could not be saved to {output}: {error}.") from error
    return Saved(str(output), kind)


def _card(record: dict) -> str:
    loader = "AutoPeftModelForCausalLM" if record["kind"] == "adapter" else "AutoModelForCausalLM"
    package = "peft" if record["kind"] == "adapter" else "transformers"
    return f"""# {record["model"]["name"]}, fine-tuned with sftdemo

Trained {record["steps"]} steps on the completions of `examples.jsonl`, prompts masked. Saved: {record["kind"]}.
The model underneath: {record["model"]["name"]} ({record["model"]["copy"]}). Settings and answers: `{RECORD}`.

```python
from {package} import {loader}
model = {loader}.from_pretrained(".")
```

or `python -m sftdemo generate . --prompt "..."`.
"""


def _write_events(output: Path, events: list[Event]) -> None:
    lines = "".join(json.dumps(event.to_dict(), ensure_ascii=False) + "\n" for event in events)
    (output / EVENTS).write_text(lines, encoding="utf-8")
