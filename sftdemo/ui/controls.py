"""The page's inputs, and how their values become a `RunConfig`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import isfinite

import gradio as gr

from ..config import DEFAULT_MODEL, DEVICES, RunConfig
from ..errors import ConfigError
from ..samples import SAMPLES
from ..templates import CHAT, NAMED_TEMPLATES
from .widgets import progress, progress_widget

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


@dataclass(frozen=True)
class Session:
    """What a visit keeps beside the inputs: the long file that was opened, the masks made by hand, the page of rows
    that is shown, the row whose token was chosen last, and the last audit of all rows."""

    opened: gr.State
    masks: gr.State
    page: gr.State
    picked: gr.State
    audit: gr.State

    def all(self) -> list:
        return list(vars(self).values())


def session() -> Session:
    """An empty one."""
    return Session(gr.State(None), gr.State({}), gr.State(0), gr.State(0), gr.State(None))


@dataclass(frozen=True)
class Sources:
    """Where examples come from: the samples, an upload, and the card that stands for an opened long file."""

    sample: gr.Dropdown
    upload: gr.UploadButton
    card: gr.Group
    status: gr.HTML
    close: gr.Button


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


def example_inputs() -> tuple[Sources, gr.Textbox]:
    """Where the examples come from, and their text."""
    with gr.Row(equal_height=True):
        sample = gr.Dropdown(
            [(sample.title, sample.name) for sample in SAMPLES],
            value=SAMPLES[0].name,
            label="Start from a sample",
            scale=3,
            elem_id="sample",
        )
        upload = gr.UploadButton(
            "Open a file", file_types=[".json", ".jsonl", ".csv"], size="sm", scale=1, min_width=110, elem_id="upload"
        )
    examples = gr.Textbox(
        value=SAMPLES[0].path.read_text(encoding="utf-8"),
        label="Examples: JSON, JSON Lines or CSV",
        lines=16,
        max_lines=24,
        elem_id="examples",
        elem_classes="examples",
    )
    with gr.Group(visible=False, elem_id="opened") as card:
        status = progress_widget("opened-status", progress("idle", ""))
        close = gr.Button("Close the file, back to the text", size="sm", elem_id="close-file")
    return Sources(sample, upload, card, status, close), examples


def weight_setting() -> gr.Slider:
    """How much the prompt counts in the loss."""
    return gr.Slider(
        0,
        1,
        value=RunConfig().prompt_loss_weight,
        step=0.01,
        label="Prompt-loss weight",
        info="0 masks the prompt; 1 trains it like the answer, as plain fine-tuning does",
        elem_id="weight",
    )


def mask_settings() -> tuple:
    """Model, template, max length and turns, in a closed accordion."""
    with gr.Accordion("Model, prompt template, max length", open=False):
        model = gr.Dropdown(
            list(MODELS),
            value=DEFAULT_MODEL,
            label="Model",
            info="From the list" if is_public() else "From the list, or a folder, a GGUF file, any Hub id",
            allow_custom_value=not is_public(),
            elem_id="model",
        )
        template = gr.Radio(
            [*NAMED_TEMPLATES, (f"{CHAT} (the model's own)", CHAT), CUSTOM],
            value="instruction",
            label="Prompt template",
            elem_id="template",
        )
        custom = gr.Textbox(
            CUSTOM_EXAMPLE,
            label="Custom template",
            info="{instruction} is where the instruction goes; {input}, if wanted, the input",
            lines=2,
            visible=False,
            elem_id="custom",
        )
        max_length = gr.Number(
            RunConfig().max_length, label="Max length, tokens a row", precision=0, elem_id="max-length"
        )
        turns = gr.Radio(
            [("every assistant turn", "all"), ("only the last", "last")],
            value="all",
            label="In conversations (messages), train",
            elem_id="turns",
        )
    template.change(lambda choice: gr.update(visible=choice == CUSTOM), template, custom, api_visibility="private")
    return model, template, custom, max_length, turns


def training_settings() -> tuple:
    """How to train, in a closed accordion. The defaults are the ones measured on the samples."""
    defaults = RunConfig()
    with gr.Accordion("Training settings", open=False):
        with gr.Row():
            method = gr.Radio(
                [("LoRA adapter", "lora"), ("all weights", "full")], value="lora", label="Train", elem_id="method"
            )
            steps = gr.Number(defaults.steps, label="Steps", precision=0, elem_id="steps")
            batch_size = gr.Number(defaults.batch_size, label="Batch size", precision=0, elem_id="batch-size")
            learning_rate = gr.Textbox(
                "", label="Learning rate", placeholder="2e-3 LoRA, 1e-4 all", elem_id="learning-rate"
            )
        with gr.Row():
            lora_r = gr.Number(defaults.lora_r, label="LoRA rank", precision=0)
            max_new_tokens = gr.Number(defaults.max_new_tokens, label="Answer length, tokens", precision=0)
            seed = gr.Number(defaults.seed, label="Seed", precision=0)
            device = gr.Dropdown(list(DEVICES), value=defaults.device, label="Device")
        packing = gr.Checkbox(
            False,
            label="Packing: rows full of whole examples that do not see each other; batch size counts rows",
        )
        against = gr.Slider(
            0, 1, value=1.0, step=0.01, label="Both ways: the prompt-loss weight of the second model", elem_id="against"
        )
    return method, steps, learning_rate, batch_size, lora_r, packing, seed, max_new_tokens, device, against
