"""Measure training steps, alternating between this program and TRL, under three templates, with LoRA and full."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from statistics import median

from ..core.config import RunConfig
from ..core.events import Phase
from ..core.held import scratch_folder
from ..model.linear_layers import is_quicker_in_bf16
from .arms import Arm, alternating_arms
from .figures import Stop, repetitions, spread
from .floor import floor
from .profile import profile
from .recipes import TEMPLATES, Subject, masked_trainer, seed_trainer, trl_trainer

WARM_UP = 3  # steps that are not timed
AFTER = 2  # memory and profile take about as long as this many steps
LIGER = "_liger"  # the end of a group's name in which TRL has the kernels of liger-kernel
TRL_ARMS = ("trl_padded", "trl_joined", "trl_bf16")


def bench_steps(
    subject: Subject,
    repeats: int,
    templates: Sequence[str] = TEMPLATES,
    lora_only: bool = False,
    stop: Stop = lambda: False,
) -> Iterator[Phase | dict]:
    """Yield phases and, at the end, {"arms", "ratios", "floors", "profiles", "differences"}. Once `stop` returns True,
    no further template or kind of training begins."""
    result = {"arms": [], "ratios": {}, "floors": {}, "profiles": {}, "differences": {}}
    groups = [(template, full, False) for template in templates for full in ((False,) if lora_only else (False, True))]
    if subject.device == "cuda" and find_spec("liger_kernel"):
        groups.append((templates[0], False, True))  # last, as its kernels stay in transformers' modules
    for number, (template, full, liger) in enumerate(groups):
        if number and stop():
            break
        name = f"{'full' if full else 'lora'}{'' if template == 'instruction' else '_' + template}"
        name += LIGER if liger else ""
        config = RunConfig(template=template, full=full, steps=10_000, device=subject.device)
        for phase in _group(subject, name, config, repeats, stop, result):
            yield replace(phase, fraction=(number + (phase.fraction or 0.0)) / len(groups))
    yield result


def _group(subject: Subject, name: str, config: RunConfig, repeats: int, stop: Stop, result: dict) -> Iterator[Phase]:
    examples, liger = subject.examples(config), name.endswith(LIGER)
    with scratch_folder() as folder:
        same = (subject.tokenizer, examples, config, folder)
        builders = {
            "trl_padded": lambda: trl_trainer(subject.model(), *same, liger=liger),
            "trl_joined": lambda: trl_trainer(subject.model(), *same, joined=True, liger=liger),
            "ours": lambda: masked_trainer(subject.model(), *same),
        }
        if subject.device == "cpu" and is_quicker_in_bf16():  # then it is what `ours` trains in
            float32 = replace(config, precision="float32")
            builders["ours_float32"] = lambda: masked_trainer(subject.model(), *same[:2], float32, folder)
            builders["trl_bf16"] = lambda: trl_trainer(subject.model(), *same, joined=True, bf16=True)
        if name == "full":
            builders["seed_recipe"] = lambda: seed_trainer(subject.model(), *same)
        steps = WARM_UP + repeats
        yield Phase("bench", f"{name}: loading {len(builders)} models", 0.0)
        with alternating_arms(builders) as arms:
            for number in repetitions(repeats, stop, WARM_UP):
                yield Phase("bench", f"{name}: step {number + 1} of {steps}", number / (steps + AFTER))
                for arm in arms.values():
                    arm.step()
            timed = len(arms["ours"].seconds)
            yield Phase("bench", f"{name}: memory and losses", steps / (steps + AFTER))
            _compare(name, arms, examples, config, result)
            result["profiles"][name] = profile(arms["ours"])
            result["floors"][name] = floor(arms["ours"], examples, config)
            step = {arm: median(arms[arm].seconds[WARM_UP:timed]) for arm in arms}
            for ratio, seconds in (("step", step["ours"]), ("trl", min(step[arm] for arm in TRL_ARMS if arm in step))):
                result["ratios"][f"{ratio}_{name}_vs_floor"] = round(seconds / result["floors"][name]["seconds"], 3)


def _compare(name: str, arms: dict[str, Arm], examples, config: RunConfig, result: dict) -> None:
    result["differences"][name] = {
        arm: arms[arm].difference(arms["trl_padded"]) for arm in arms if arm not in ("trl_padded", "seed_recipe")
    }
    trained = sum(example.trained for example in examples) / len(examples)  # mean tokens per row
    seconds = {arm: median(arms[arm].seconds[WARM_UP:]) for arm in arms}
    memory = {arm: arms[arm].memory() for arm in arms}
    for arm in arms.values():
        rows = 2 if arm.name == "seed_recipe" else config.batch_size
        result["arms"].append(
            {
                "group": name,
                "arm": arm.name,
                "seconds": spread(arm.seconds[WARM_UP:-1]),
                "trained_tokens_per_second": round(rows * trained / seconds[arm.name], 1),
                "memory_mb": memory[arm.name],
                "losses": arm.losses,
            }
        )
    best = min((arm for arm in TRL_ARMS if arm in arms), key=lambda arm: seconds[arm])
    ratios = result["ratios"]
    ratios[f"step_{name}_vs_trl"] = round(seconds[best] / seconds["ours"], 3)
    ratios["memory_vs_trl" if name == "lora" else f"memory_{name}_vs_trl"] = round(memory["ours"] / memory[best], 3)
    if "ours_float32" in arms:
        ratios[f"step_{name}_vs_float32"] = round(seconds["ours_float32"] / seconds["ours"], 3)
    if name == "full":
        ratios["vs_seed_recipe"] = round(seconds["seed_recipe"] / 2 / (seconds["ours"] / config.batch_size), 3)
