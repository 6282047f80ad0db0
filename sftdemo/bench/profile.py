"""Measure where the time of a step goes."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from statistics import median
from unittest.mock import patch

from .arms import Arm
from .figures import now

STEPS = 3
_PARTS = {"self_attn": "attention", "attn": "attention", "attention": "attention", "mlp": "mlp"}


def profile(arm: Arm) -> dict[str, float]:
    """Take `STEPS` steps and return the median seconds of each phase, by clocks around the modules.

    "other forward" is norms, residuals and the loss; "rest" is Python, the data and the Trainer. The clocks themselves
    cost about a millisecond, on a GPU more: they wait for it.
    """
    spent: defaultdict[str, float] = defaultdict(float)
    steps = []
    model, trainer = arm.model, arm.trainer
    with ExitStack() as stack:
        for name, module in model.named_modules():
            part = _PARTS.get(name.rpartition(".")[2])
            part = "embed" if module is model.get_input_embeddings() else part
            part = "head" if module is model.get_output_embeddings() else part
            if part:
                _clock_module(stack, module, part, spent)
        _clock(stack, trainer, "compute_loss", "forward", spent)
        _clock(stack, trainer.accelerator, "backward", "backward", spent)
        _clock(stack, trainer.accelerator, "clip_grad_norm_", "clip", spent)
        _clock(stack, trainer.optimizer, "step", "optimizer", spent)
        for _ in range(STEPS):
            spent.clear()
            seconds = arm.step()
            inner = sum(spent[part] for part in ("embed", "attention", "mlp", "head"))
            known = sum(spent[part] for part in ("forward", "backward", "clip", "optimizer"))
            other = {"other forward": spent.pop("forward") - inner, "rest": seconds - known}
            steps.append(dict(spent) | other | {"step": seconds})
    return {part: round(median(step[part] for step in steps), 4) for part in steps[0]}


def _clock_module(stack: ExitStack, module, part: str, spent: dict[str, float]) -> None:
    begins: list[float] = []

    def before(*_) -> None:
        begins.append(now())

    def after(*_) -> None:
        spent[part] += now() - begins.pop()

    stack.callback(module.register_forward_pre_hook(before).remove)
    stack.callback(module.register_forward_hook(after).remove)


def _clock(stack: ExitStack, owner: object, name: str, part: str, spent: dict[str, float]) -> None:
    work = getattr(owner, name)

    def timed(*args, **kwargs):
        begin = now()
        try:
            return work(*args, **kwargs)
        finally:
            spent[part] += now() - begin

    stack.enter_context(patch.object(owner, name, timed))
