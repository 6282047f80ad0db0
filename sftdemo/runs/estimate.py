"""Estimate how long a run takes: what it will compute is counted (`work`), and how fast this machine does it was
measured by earlier runs, part by part (`parts`). What none has measured yet is guessed from what some have."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median

from ..core.config import RunConfig
from ..core.curves import EVALUATIONS
from ..core.events import Before, Comparison, Event, Finished
from ..core.files import cache_folder, write_whole
from . import parts
from .work import Work

RATES = "rates.json"
_MOST = 1e9  # seconds: more is no measurement
_LOG = logging.getLogger(__name__)
_BATCH = 16  # prompts that are answered together, as `generation.BATCH_SIZE`

# What things cost beside each other, in the default model on a CPU. A position passes the layers, and where it predicts
# a token the head, and the loss over the whole vocabulary; a step takes about as long as `_STEP` more positions.
_HEAD, _STEP = 0.4, 20
# One more token of an answer costs 1, for each further prompt beside it `_BESIDE`, and reading one token of a prompt
# `_READ`; answers take about as long as `_START` more tokens.
_BESIDE, _READ, _START = 0.055, 0.03, 4

# Measured with the default model in float32 on 2 cores of an AMD EPYC with AVX2: seconds, of a step for each position,
# of answers for each token as above, of judging for each token.
_FIRST_GUESS = {
    "load": 1.6,
    "set-up new": 3.0,
    "set-up ready": 1.0,
    "set-up again": 0.8,
    "step lora": 0.0056,
    "step full": 0.0075,
    "answer before": 0.068,
    "answer lora": 0.085,
    "answer full": 0.068,
    "judge": 0.002,
    "save lora": 0.6,
    "save full": 1.5,
}
# A step of practice (`train.practice`) has 8 rows of 40 tokens, half of them trained; a process's first takes longer.
_PRACTICE, _COLD = _STEP + 312 + _HEAD * 160, 1.5


@dataclass(frozen=True)
class Ready:
    """What is done of a run before it begins: whether it begins in a process that has loaded the model (`stands_by`),
    and whether the questions are answered there already, and the held-out rows judged (`answered`)."""

    stands_by: bool = False
    answered: bool = False


NEW = Ready()


@dataclass(frozen=True)
class Pace:
    """The seconds that each kind of work takes, by the names of the first guess: those that were measured, and the
    guess, which is as far off in what was not measured as in what was."""

    measured: Mapping[str, float]

    def __getitem__(self, name: str) -> float:
        if name in self.measured:
            return self.measured[name]
        alike = [each for each in self.measured if each.split()[0] == name.split()[0]]
        known = [self.measured[each] / _guess(each) for each in alike or self.measured]
        return _guess(name) * (median(known) if known else 1.0)


def _guess(name: str) -> float:
    return _FIRST_GUESS[" ".join(name.split()[:2])]  # without the precision


def pace_for(config: RunConfig, device: str, file: Path | None = None) -> Pace | None:
    """Return the pace of runs of this model on this device. It is None as long as none was measured, except for the
    default model on a CPU.

    Args:
        file (`Path`, *optional*):
            Where paces are kept. Defaults to `RATES` in the cache.
    """
    measured = _read(file).get(_key(config, device), {})
    is_guessed = device == "cpu" and config.model == RunConfig().model
    return Pace(measured) if measured or is_guessed else None


def estimate_seconds(config: RunConfig, work: Work, pace: Pace, ready: Ready = NEW) -> float:
    """Return the seconds from the click to the saved model, or to all models of an ablation."""
    kind, trainings = _kind(config), len(work.weights)
    seconds = 0.0 if ready.stands_by else pace["load"]
    if not ready.answered:
        seconds += pace["answer before"] * _answering(work, work.new_tokens) + pace["judge"] * work.held_out
    seconds += pace[_set_up(ready)] + (trainings - 1) * pace["set-up again"]
    seconds += pace[_step(config)] * work.steps * sum(_a_step(work, weight) for weight in work.weights)
    seconds += pace["judge"] * work.held_out * (trainings + _evaluations(work))
    answer = min(work.new_tokens, work.answer + 1)
    return seconds + trainings * (pace[f"answer {kind}"] * _answering(work, answer) + pace[f"save {kind}"])


def learn_pace(
    config: RunConfig, device: str, work: Work, ready: Ready, events: Sequence[Event], file: Path | None = None
) -> None:
    """Keep what a finished run has measured, which its `events` tell, for later estimates: where something was known,
    the mean of both. A failure to keep it is only logged: the run itself is good."""
    spent = _spent(events)
    if parts.STEPS in spent or parts.SAVE in spent:
        _keep(config, device, _measured(config, work, ready, events, spent), file)


def learn_ahead(config: RunConfig, device: str, work: Work, events: Sequence[Event], file: Path | None = None) -> None:
    """Keep what a process that stands by has measured, for the estimate of the first run on this machine."""
    known, spent = pace_for(config, device, file), _spent(events)
    found = _answer_before(work, events, spent)
    if parts.FIRST_STEP in spent:
        found[_step(RunConfig(precision=config.precision))] = spent[parts.FIRST_STEP] / _COLD / _PRACTICE
    _keep(config, device, {name: each for name, each in found.items() if not known or name not in known.measured}, file)


def _spent(events: Sequence[Event]) -> Mapping[str, float]:
    ended = events[-1] if events else None
    return ended.parts if isinstance(ended, Finished) and not ended.stopped else {}


def _answer_before(work: Work, events: Sequence[Event], spent: Mapping[str, float]) -> dict[str, float]:
    """Return the pace of the answers before a training, if it is known how long they are: one was cut."""
    is_cut = any(isinstance(event, Before) and event.stop == "length" for event in events)
    return {"answer before": spent[parts.BEFORE] / _answering(work, work.new_tokens)} if is_cut else {}


def _measured(
    config: RunConfig, work: Work, ready: Ready, events: Sequence[Event], spent: Mapping[str, float]
) -> dict[str, float]:
    """Return the pace of the work of one run, from the seconds of its parts. An ablation saves each of its models in
    between, so that the answers after it and the saving are not told apart."""
    kind, trainings, found = _kind(config), len(work.weights), dict[str, float]()
    if not ready.stands_by:
        found["load"] = spent[parts.LOAD]
    if not ready.answered:
        found |= _answer_before(work, events, spent)
    if work.held_out:
        found["judge"] = spent[parts.JUDGE_AFTER] / trainings / work.held_out
    if work.steps > 1:
        judging = found.get("judge", 0.0) * work.held_out * _evaluations(work)
        units = sum(_a_step(work, weight) for weight in work.weights)
        found[_step(config)] = max(0.0, spent[parts.STEPS] - judging) / (work.steps - 1) / units
        if trainings == 1:
            beginning = spent[parts.SET_UP] + spent[parts.FIRST_STEP]
            found[_set_up(ready)] = max(spent[parts.SET_UP], beginning - found[_step(config)] * units)
    if trainings == 1:
        found[f"save {kind}"] = spent[parts.SAVE]
        if work.questions:
            is_cut = any(isinstance(event, Comparison) and event.after_stop == "length" for event in events)
            answer = work.new_tokens if is_cut else min(work.new_tokens, work.answer + 1)
            found[f"answer {kind}"] = spent[parts.AFTER] / _answering(work, answer)
    return found


def _a_step(work: Work, weight: float) -> float:
    return _STEP + work.positions + _HEAD * (work.positions if weight else work.trained)


def _answering(work: Work, new_tokens: float) -> float:
    batches = ceil(work.questions / _BATCH)
    beside = work.questions - batches
    return _START + new_tokens * (batches + _BESIDE * beside) + _READ * work.questions * work.prompt


def _evaluations(work: Work) -> int:
    """Return how many times the held-out rows are judged while the trainings of an ablation go on."""
    trainings = len(work.weights)
    return 0 if trainings == 1 else trainings * ((work.steps - 1) // ceil(work.steps / EVALUATIONS))


def _kind(config: RunConfig) -> str:
    return "full" if config.full else "lora"


def _set_up(ready: Ready) -> str:
    return "set-up ready" if ready.stands_by else "set-up new"


def _step(config: RunConfig) -> str:
    precision = "" if config.precision == "auto" else f" {config.precision}"
    return f"step {_kind(config)}{precision}"


def _key(config: RunConfig, device: str) -> str:
    return f"{device}|{config.model}"


def _keep(config: RunConfig, device: str, found: Mapping[str, float], file: Path | None) -> None:
    if not found:
        return
    rates, key = _read(file), _key(config, device)
    known = rates.get(key, {})
    rates[key] = known | {name: round((known.get(name, each) + each) / 2, 6) for name, each in found.items()}
    path = file or cache_folder() / RATES
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(rates, indent=1))
    except OSError as error:
        _LOG.warning("How long this run took cannot be kept for the next one's estimate: %s", error)


def _read(file: Path | None) -> dict[str, dict[str, float]]:
    """Return the measured paces by key; empty if the file is missing or unreadable. Invalid entries are dropped, and
    those of earlier versions."""
    try:
        found = json.loads((file or cache_folder() / RATES).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    paces = found.items() if isinstance(found, dict) else ()
    return {key: _valid(pace) for key, pace in paces if isinstance(pace, dict)}


def _valid(pace: Mapping[str, object]) -> dict[str, float]:
    return {
        name: float(each)
        for name, each in pace.items()
        if isinstance(each, int | float)
        and not isinstance(each, bool)
        and 0 < each < _MOST
        and " ".join(name.split()[:2]) in _FIRST_GUESS
    }
