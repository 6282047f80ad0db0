"""The inputs: where examples come from, the model and its template, the training's settings."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from ...core.config import DEFAULT_MODEL, DEVICES, RunConfig
from ...data.samples import SAMPLES
from ...data.templates import CHAT, NAMED_TEMPLATES
from ..controls import CUSTOM, CUSTOM_EXAMPLE, MODELS, is_public
from ..widgets import progress, progress_widget


@dataclass(frozen=True)
class Sources:
    """Where examples come from: the samples, an upload, and the card that stands for an opened long file."""

    sample: gr.Dropdown
    upload: gr.UploadButton
    card: gr.Group
    status: gr.HTML
    close: gr.Button


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
