"""The settings of a run, checked when they are made."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import isfinite

from .errors import ConfigError

DEFAULT_MODEL = "SmolLM2-135M-Instruct"
DEFAULT_TEMPLATE = "instruction"
DEVICES = ("auto", "cuda", "mps", "cpu")
TURNS = ("all", "last")
STUDY_WEIGHTS, STUDY_SEEDS = (0.0, 0.01, 0.1, 0.5, 1.0), (0, 1, 2)
BENCH_PARTS = ("equalities", "steps", "answers", "click", "start", "growth", "disk", "mask")

# (low, high, unit) of every numeric setting. The highs keep a mistyped zero from asking for a day of work.
LIMITS: dict[str, tuple[float, float, str]] = {
    "max_length": (8, 32_768, "tokens"),
    "steps": (1, 1_000_000, "optimizer steps"),
    "epochs": (0.01, 1_000, "passes over the examples"),
    "learning_rate": (1e-8, 1.0, ""),
    "batch_size": (1, 1_024, "examples, or packed rows, a step"),
    "lora_r": (1, 512, "LoRA's rank"),
    "prompt_loss_weight": (0.0, 1.0, ""),
    "seed": (0, 2**32 - 1, ""),
    "max_new_tokens": (1, 4_096, "tokens an answer"),
}


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run, apart from the examples.

    Args:
        model (`str`, *optional*, defaults to `"SmolLM2-135M-Instruct"`):
            A name that [`resolve`] understands: the default, a folder, a GGUF file or a Hub id.
        template (`str`, *optional*, defaults to `"instruction"`):
            A name that [`get_template`] understands, or a custom template's text.
        turns (`str`, *optional*, defaults to `"all"`):
            Which assistant turns of a conversation are trained: `"all"`, or only the `"last"`.
        max_length (`int`, *optional*, defaults to 512):
            Tokens an example keeps at most; with packing also the length of a packed row.
        steps, epochs (*optional*):
            How long to train: one or the other, `steps=12` if neither is given.
        learning_rate (`float`, *optional*):
            Defaults to 2e-3 for LoRA and 1e-4 for full fine-tuning.
        batch_size (`int`, *optional*, defaults to 8):
            Examples an optimizer step sees; with packing, packed rows.
        packing (`bool`, *optional*, defaults to `False`):
            Put several whole examples into a row of `max_length` (TRL's `bfd`), each attending to itself only.
        full (`bool`, *optional*, defaults to `False`):
            Train every weight instead of a LoRA adapter.
        lora_r (`int`, *optional*, defaults to 16):
            The adapter's rank. It sits on all linear layers, with alpha twice the rank.
        prompt_loss_weight (`float`, *optional*, defaults to 0.0):
            How much a token counts in the loss that the mask does not train: 0 is masked, 1 is plain fine-tuning.
        merge (`bool`, *optional*, defaults to `False`):
            Save the adapter merged into the weights.
        max_new_tokens (`int`, *optional*, defaults to 32):
            Length at which an answer is cut.
        prompts (`tuple[str, ...]`, *optional*):
            Instructions to answer before and after, besides the held-out rows of the data.
        anyway (`bool`, *optional*, defaults to `False`):
            Train even where the audit finds an error.

    Raises:
        ConfigError: for a value outside `LIMITS`, an unknown device, or settings that exclude each other.
    """

    model: str = DEFAULT_MODEL
    template: str = DEFAULT_TEMPLATE
    turns: str = "all"
    max_length: int = 512
    steps: int | None = None
    epochs: float | None = None
    learning_rate: float | None = None
    batch_size: int = 8
    packing: bool = False
    full: bool = False
    lora_r: int = 16
    prompt_loss_weight: float = 0.0
    merge: bool = False
    seed: int = 0
    device: str = "auto"
    max_new_tokens: int = 32
    prompts: tuple[str, ...] = ()
    anyway: bool = False

    def __post_init__(self) -> None:
        if self.steps is not None and self.epochs is not None:
            raise ConfigError("steps and epochs both say how long to train; give one of them.")
        if self.full and self.merge:
            raise ConfigError("merge joins a LoRA adapter into the weights; full fine-tuning has no adapter to merge.")
        if self.device not in DEVICES:
            raise ConfigError(f"device is {self.device!r}; choose one of {', '.join(DEVICES)}.")
        if self.turns not in TURNS:
            raise ConfigError(f"turns is {self.turns!r}; choose one of {', '.join(TURNS)}.")
        if not self.model.strip():
            raise ConfigError("model is empty; name a folder, a GGUF file or a Hub id, or leave it out.")
        for name in LIMITS:
            check_limit(name, getattr(self, name))
        if self.steps is None and self.epochs is None:
            object.__setattr__(self, "steps", 12)
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", 1e-4 if self.full else 2e-3)

    def to_dict(self) -> dict:
        """The settings as JSON can hold them."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"prompts": list(self.prompts)}

    def command_line(self, data: str, weights: Sequence[float] = ()) -> str:
        """The shell command that repeats the run on the file `data`, or with `weights` the ablation; settings at their
        defaults are left out."""
        plain, words = RunConfig(full=self.full), ["python", "-m", "sftdemo", "ablate" if weights else "train", data]
        names = ["model", "turns", "max_length", "learning_rate", "batch_size", "seed", "device", "max_new_tokens"]
        names += [] if weights else ["prompt_loss_weight"]
        names += [] if self.full else ["lora_r"]
        options = [(name, getattr(self, name)) for name in names if getattr(self, name) != getattr(plain, name)]
        if self.template != plain.template:
            escaped = self.template.replace("\\", r"\\").replace("\n", r"\n").replace("\t", r"\t")
            options.append(("template", escaped))
        options.append(("steps", self.steps) if self.steps is not None else ("epochs", self.epochs))
        options += [("prompt", prompt) for prompt in self.prompts]
        for name, value in options:
            option = f"--{name.replace('_', '-')}"
            words += [f"{option}={value}"] if str(value).startswith("-") else [option, str(value)]
        switches = [f"--{name}" for name in ("packing", "full", "merge", "anyway") if getattr(self, name)]
        words += ["--weights", *(f"{weight:g}" for weight in weights)] if weights else []
        return shlex.join(words + switches)


def check_limit(name: str, value: float | None) -> None:
    """Refuses a number outside `LIMITS[name]`; `None` (not set) passes.

    Raises:
        ConfigError: naming the setting, the value and the range.
    """
    if value is None:
        return
    low, high, unit = LIMITS[name]
    if not isfinite(value) or not low <= value <= high:
        raise ConfigError(f"{name} is {value:g}; it must lie between {low:g} and {high:g}{' ' + unit if unit else ''}.")
