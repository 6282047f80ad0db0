"""Measure how right the estimate on the button is: varied runs one after another, from a machine that knows nothing, as
the page would begin them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.config import RunConfig
from ..core.errors import TrainingError
from ..core.events import Event, Failed, Finished, Phase
from ..core.held import scratch_folder
from ..data.examples import ParsedExamples, read_examples
from ..data.samples import get_sample
from ..data.templates import template_of
from ..mask.audit import Audit
from ..mask.labels import Masker
from ..runs.ablation import ablate
from ..runs.estimate import NEW, RATES, estimate_seconds, learn_ahead, learn_pace, pace_for
from ..runs.jobs import Job, start_child, warm
from ..runs.run import run
from ..runs.standby import Standby
from ..runs.work import work_of
from .figures import Stop

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NEAR = 0.2  # how far an estimate may be off


@dataclass(frozen=True)
class Trial:
    """A run of a sample: its settings, how many of the sample's held-out rows are asked, and whether it begins in a
    process that stands by. With `weights` it is an ablation."""

    name: str
    sample: str
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    asked: int = 6
    stands_by: bool = True
    weights: tuple[float, ...] = ()


_TWO_MORE = ("What is the capital of Japan?", "Why is the sky blue?")
TRIALS = (
    Trial("the first, as the page opens", "pirate"),
    Trial("new process", "pirate", {"steps": 6}, stands_by=False),
    Trial("Alpaca's preamble", "json_answers", {"template": "alpaca", "steps": 8}, asked=3),
    Trial("chat, long answers", "json_answers", {"template": "chat", "steps": 20, "max_new_tokens": 64}, asked=4),
    Trial("not masked, one question", "greek", {"prompt_loss_weight": 1.0, "steps": 10}, asked=1),
    Trial("all weights", "pirate", {"full": True, "steps": 6}),
    Trial("rank 64, eight questions", "short_answers", {"lora_r": 64, "steps": 15, "prompts": _TWO_MORE}),
    Trial("short answers, new process", "reviews", {"steps": 12, "max_new_tokens": 16}, stands_by=False),
    Trial("both ways", "pirate", {"steps": 6}, weights=(0.0, 1.0)),
    Trial("small batches", "pirate", {"batch_size": 2, "steps": 4, "prompt_loss_weight": 0.1}, asked=2),
)
FEW_TRIALS = (TRIALS[0], TRIALS[1], TRIALS[8])


def bench_estimate(
    model: str,
    tokenizer: PreTrainedTokenizerBase,
    trials: Sequence[Trial] = TRIALS,
    stop: Stop = lambda: False,
    device: str = "cpu",
) -> Iterator[Phase | dict]:
    """Yield phases and, at the end, {"runs", "within", "ratios"}: for each run the seconds that were promised before
    the click, None where no estimate was given, and those that it took, with its parts; and how many were promised
    within `NEAR`. What each run has taken is learned, apart from what is known of this machine.

    Raises:
        TrainingError: if a run fails.
    """
    warm()
    runs: list[dict[str, Any]] = []
    with scratch_folder() as folder:
        for number, trial in enumerate(trials):
            if stop():
                break
            yield Phase("bench", f"estimates: run {number + 1} of {len(trials)}: {trial.name}", number / len(trials))
            config = RunConfig(model=model, device=device, **trial.settings)
            runs.append({"run": trial.name} | _tried(trial, config, tokenizer, Path(folder) / str(number)))
    within = sum(each["promised"] is not None and abs(each["ratio"] - 1) <= NEAR for each in runs)
    ratios = {"estimates_within_20_percent": round(within / len(runs), 2)} if runs else {}
    yield {"runs": runs, "within": within, "ratios": ratios}


def _tried(trial: Trial, config: RunConfig, tokenizer: PreTrainedTokenizerBase, folder: Path) -> dict[str, Any]:
    """Return what was promised of a run and what it took. The paces are kept beside its `folder`."""
    rates, data = folder.with_name(RATES), read_examples(get_sample(trial.sample).path)
    data = replace(data, held_out=data.held_out[: trial.asked])
    work = work_of(config, _audit(config, data, tokenizer), data, trial.weights)
    standby, ready, told = Standby(config), NEW, list[Event]()
    try:
        if trial.stands_by:
            *_, told = standby.ask(config, data)
            learn_ahead(config, config.device, work, told, rates)
            ready = standby.readiness(config, data)
        pace = pace_for(config, config.device, rates)
        promised = pace and estimate_seconds(config, work, pace, ready)
        filmed = replace(config, film=not config.full)
        weights = {"weights": trial.weights} if trial.weights else {"may_go_on": True}
        begin = time.perf_counter()
        job = Job(
            partial(ablate if trial.weights else run, filmed, data, folder, **weights),
            start=standby.start if trial.stands_by else start_child,
        )
        events = list(job.new_events(interval=0.01))
        taken = time.perf_counter() - begin
    finally:
        standby.end()
    spent = _spent(events[-1])
    learn_pace(config, config.device, work, ready, events, rates)
    told = {"promised": None, "ratio": None}
    if promised:
        told = {"promised": round(promised, 1), "ratio": round(promised / taken, 2)}
    return told | {"taken": round(taken, 1), "parts": spent}


def _audit(config: RunConfig, data: ParsedExamples, tokenizer: PreTrainedTokenizerBase) -> Audit:
    audit = Audit(config.batch_size, config.max_length, data.held_out)
    for _ in audit.review(data.train, Masker(tokenizer, template_of(config), config.max_length)):
        pass
    return audit


def _spent(last: Event) -> dict[str, float]:
    if isinstance(last, Failed):
        raise TrainingError(last.message)
    assert isinstance(last, Finished)
    return last.parts
