"""The page's inputs, and how their values become a `RunConfig`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import isfinite

import gradio as gr

from ..core.config import DEFAULT_MODEL, RunConfig
from ..core.errors import ConfigError

MODELS = (
    DEFAULT_MODEL,
    "HuggingFaceTB/SmolLM2-135M",
    "HuggingFaceTB/SmolLM2-360M-Instruct",
    "Qwen/Qwen2.5-0.5B-Instruct",
    "gpt2",
)
CUSTOM = "custom"
CUSTOM_EXAMPLE = "Q: {instruction}\nA:\n"
# A public Space trains on a shared machine: models from the list, and runs that end.
PUBLIC_MOST = {"steps": 200, "epochs": 20, "max_length": 1024, "batch_size": 32, "max_new_tokens": 128}


def is_public() -> bool:
    """Whether the page runs as a Hugging Face Space."""
    return "SPACE_ID" in os.environ


@dataclass(frozen=True)
class Controls:
    """The inputs that decide what is shown and trained."""

    examples: gr.Textbox
    model: gr.Dropdown
    template: gr.Radio
    custom: gr.Textbox
    max_length: gr.Number
    turns: gr.Radio
    prompt_loss_weight: gr.Slider
    prompts: gr.Textbox
    anyway: gr.Checkbox
    method: gr.Radio
    steps: gr.Number
    learning_rate: gr.Textbox
    batch_size: gr.Number
    lora_r: gr.Number
    packing: gr.Checkbox
    seed: gr.Number
    max_new_tokens: gr.Number
    device: gr.Dropdown
    against: gr.Slider

    def all(self) -> list:
        return list(vars(self).values())

    def config(self, values: dict) -> RunConfig:
        """The settings that `values` (component: value) hold.

        Raises:
            ConfigError: for a value that is not a number, is out of range, or is not allowed on a public page.
        """
        template = values[self.template]
        config = RunConfig(
            model=values[self.model] or "",
            template=values[self.custom] if template == CUSTOM else template,
            turns=values[self.turns],
            max_length=_whole("max length", values[self.max_length]),
            steps=_whole("steps", values[self.steps]),
            learning_rate=_rate(values[self.learning_rate]),
            batch_size=_whole("batch size", values[self.batch_size]),
            packing=bool(values[self.packing]),
            full=values[self.method] == "full",
            lora_r=_whole("LoRA rank", values[self.lora_r]),
            prompt_loss_weight=float(values[self.prompt_loss_weight] or 0),
            seed=_whole("seed", values[self.seed]),
            device=values[self.device],
            max_new_tokens=_whole("answer length", values[self.max_new_tokens]),
            prompts=tuple(line.strip() for line in (values[self.prompts] or "").splitlines() if line.strip()),
            anyway=bool(values[self.anyway]),
        )
        check_public(config)
        return config

    def other_weight(self, values: dict) -> float:
        """The prompt-loss weight of the arm that the chosen one is compared with."""
        return float(values[self.against] or 0)


def _whole(name: str, value: float | None) -> int:
    if value is None or not isfinite(value) or value != int(value):
        raise ConfigError(f"{name} is {'empty' if value is None else value}; write a whole number.")
    return int(value)


def _rate(text: str) -> float | None:
    if not (text or "").strip():
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"the learning rate is {text!r}; write a number such as 2e-3, or leave it empty.") from None


def check_public(config: RunConfig) -> None:
    """Refuses on a public page what it does not offer.

    Raises:
        ConfigError: naming the setting and the limit.
    """
    if not is_public():
        return
    if config.model not in MODELS:
        raise ConfigError(f"this public page offers {', '.join(MODELS)}; run it on your own machine for other models.")
    for name, most in PUBLIC_MOST.items():
        value = getattr(config, name)
        if value is not None and value > most:
            raise ConfigError(
                f"{name} is {value:g}; this public page allows {most:g}. Run it on your own machine for more."
            )
    if len(config.prompts) > 16:
        raise ConfigError(f"there are {len(config.prompts)} prompts to compare; this public page allows 16.")
