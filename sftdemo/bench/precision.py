"""Compare what a run learns in bf16 with what it learns in float32: on every sample, with several seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

from ..core.config import RunConfig
from ..core.errors import SftdemoError
from ..core.events import Failed, HeldOut, Phase, Prepared, Step
from ..data.samples import SAMPLES
from .figures import Stop
from .samples import SampleResult, measure

PRECISIONS = ("float32", "bf16")
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Learned:
    """What one run learned: the held-out answers in the sample's style, out of `held_out`, the loss on the held-out
    answers' tokens, measured in float32, the hash of the mask, and the seconds of its steps."""

    sample: str
    seed: int
    precision: str
    held_out: int
    styled: int
    loss: float
    mask_hash: str
    seconds: float


_SAMPLES = SAMPLES[:5]  # those of single instructions; the others would take as long again


def bench_precision(model: str, stop: Stop = lambda: False, device: str = "cpu") -> Iterator[Phase | dict]:
    """Train every sample with each of `SEEDS` in both precisions. Yield phases and, at the end, {"runs", "samples",
    "passed", "ratios"}: bf16 passes if no fewer answers have the style, the mean losses of each sample are less apart
    than the losses of its seeds in float32, and the masks are the same. Stopped, it judges the seeds that it finished;
    before there is one, it yields {}."""
    runs: list[Learned] = []
    whole: list[Learned] = []  # of the seeds that are finished
    total = len(_SAMPLES) * len(SEEDS) * len(PRECISIONS)
    for seed in SEEDS:
        for sample in _SAMPLES:
            for precision in PRECISIONS:
                if stop():
                    yield judged(whole) if whole else {}
                    return
                yield Phase("bench", f"{sample.name}, seed {seed}, {precision}", len(runs) / total)
                config = RunConfig(model=model, seed=seed, precision=precision, device=device)
                runs.append(_learned(sample.name, config))
        whole = list(runs)
    yield judged(whole)


def _learned(sample: str, config: RunConfig) -> Learned:
    losses, prepared, step = None, None, None
    for item in measure([sample], [config.seed], config):
        match item:
            case HeldOut():
                losses = item
            case Prepared():
                prepared = item
            case Step():
                step = item
            case Failed():
                raise SftdemoError(f"the run on {sample} failed: {item.message}")
            case SampleResult() if losses and prepared and step:
                return Learned(
                    sample=sample,
                    seed=config.seed,
                    precision=config.precision,
                    held_out=item.held_out,
                    styled=item.after,
                    loss=losses.completion_loss,
                    mask_hash=prepared.mask_hash,
                    seconds=step.seconds,
                )
    raise SftdemoError(f"the run on {sample} has no result.")


def judged(runs: Sequence[Learned]) -> dict:
    """Return the result of the bench for finished runs."""
    samples = [
        _compared([run for run in runs if run.sample == name]) for name in dict.fromkeys(run.sample for run in runs)
    ]
    styled = {name: sum(each["styled"][name] for each in samples) for name in PRECISIONS}
    seconds = {name: sum(run.seconds for run in runs if run.precision == name) for name in PRECISIONS}
    return {
        "runs": [vars(run) for run in runs],
        "samples": samples,
        "passed": styled["bf16"] >= styled["float32"]
        and all(each["apart"] < each["spread"] and each["same_mask"] for each in samples),
        "ratios": {"training_float32_vs_bf16": round(seconds["float32"] / seconds["bf16"], 3)},
    }


def _compared(runs: Sequence[Learned]) -> dict:
    """Return what the runs on one sample learned in both precisions."""
    of = {name: [run for run in runs if run.precision == name] for name in PRECISIONS}
    losses = {name: mean(run.loss for run in found) for name, found in of.items()}
    seeds = [run.loss for run in of["float32"]]
    return {
        "sample": runs[0].sample,
        "held_out": sum(run.held_out for run in of["float32"]),
        "styled": {name: sum(run.styled for run in found) for name, found in of.items()},
        "loss": {name: round(loss, 4) for name, loss in losses.items()},
        "apart": round(abs(losses["bf16"] - losses["float32"]), 4),
        "spread": round(max(seeds) - min(seeds), 4),
        "same_mask": len({run.mask_hash for run in runs}) == 1,
    }
