"""Lay out the inputs: the source of the examples, the model and its template, and the training settings."""

from __future__ import annotations

from collections.abc import Callable, Collection

import gradio as gr
from gradio.components import Component

from ...core.config import FULL_RATE, LORA_RATE
from ...core.limits import MODELS, is_public
from ...data.files import FILE_TYPES
from ...data.samples import SAMPLES
from ...data.templates import CHAT, NAMED_TEMPLATES
from ..controls import CUSTOM, CUSTOM_EXAMPLE, PAGE_SETTINGS, setting_input
from ..widgets import progress, progress_widget
from .columns import ColumnsPanel
from .handlers import PRIVATE

IN_A_ROW = 5  # inputs of the training settings, whose labels then have one line each


class Sources:
    """The sources of examples: the samples, an upload, the text, and the card that replaces the text while a long file
    is open."""

    def __init__(self):
        with gr.Row(equal_height=True):
            self.sample = gr.Dropdown(
                [(sample.title, sample.name) for sample in SAMPLES],
                value=SAMPLES[0].name,
                label="Start from a sample",
                scale=3,
                min_width=240,
                elem_id="sample",
            )
            self.upload = gr.UploadButton(
                "Open a file",
                file_types=list(FILE_TYPES),
                size="sm",
                scale=1,
                min_width=110,
                elem_id="upload",
            )
        with gr.Row(equal_height=True, elem_id="hub-row"):
            self.hub = gr.Textbox(
                label="or a data set on the Hub",
                placeholder="owner/name, or owner/name@revision/config[split]",
                max_lines=1,
                scale=3,
                min_width=200,
                elem_id="hub",
            )
            self.open_hub = gr.Button("Open", size="sm", scale=1, min_width=110, elem_id="open-hub")
        self.hub_status = progress_widget("hub-status", progress("idle", ""))
        with gr.Group(visible=False, elem_id="opened") as self.card:
            self.status = progress_widget("opened-status", progress("idle", ""))
            self.close = gr.Button("Close it, back to the text", size="sm", elem_id="close-file")
        self.columns = ColumnsPanel()
        self.examples = gr.Textbox(
            value=SAMPLES[0].path.read_text(encoding="utf-8"),
            label="Examples: JSON, JSON Lines or CSV; others by Open a file",
            lines=16,
            max_lines=24,
            elem_id="examples",
            elem_classes="examples",
        )


def mask_settings() -> dict[str, Component]:
    """Lay out model, template, max length and the settings of conversations in a closed accordion."""
    with gr.Accordion("Model, prompt template, max length", open=False, elem_id="mask-settings"):
        inputs = {
            "model": setting_input(
                "model",
                gr.Dropdown,
                choices=list(MODELS),
                info="From the list"
                if is_public()
                else "From the list, or a folder (a tokenizer alone draws the mask), a GGUF file, any Hub id",
                allow_custom_value=not is_public(),
                elem_id="model",
            ),
            "template": setting_input(
                "template",
                gr.Radio,
                choices=[*NAMED_TEMPLATES, (f"{CHAT} (the model's own)", CHAT), CUSTOM],
                elem_id="template",
            ),
            "custom": gr.Textbox(
                CUSTOM_EXAMPLE,
                label="Custom template",
                info="{instruction} is where the instruction goes; {input}, if wanted, the input",
                lines=2,
                visible=False,
                elem_id="custom",
            ),
            "max_length": setting_input("max_length", elem_id="max-length"),
            "too_long": setting_input("too_long", elem_id="too-long"),
            "turns": setting_input("turns", elem_id="turns"),
            "chat_template_kwargs": setting_input(
                "chat_template_kwargs",
                info="What the model's own chat template is given besides the messages",
                placeholder='{"enable_thinking": false}',
                elem_id="chat-template-kwargs",
            ),
        }
    template, custom = inputs["template"], inputs["custom"]
    shown = PRIVATE | {"trigger_mode": "multiple"}
    template.change(lambda choice: gr.update(visible=choice == CUSTOM), template, custom, **shown)
    return inputs


def training_settings(placed: Collection[str], last: Callable[[], None]) -> dict[str, Component]:
    """Lay out every setting that is not `placed` elsewhere in a closed accordion, then what `last` lays out, and return
    the settings by name."""
    with gr.Accordion("Training settings", open=False, elem_id="training-settings"):
        with gr.Row():
            inputs = {
                "full": setting_input("full", elem_id="method"),
                "steps": setting_input("steps", elem_id="steps"),
                "epochs": setting_input("epochs", gr.Textbox, value="", elem_id="epochs"),
                "batch_size": setting_input("batch_size", elem_id="batch-size"),
                "learning_rate": setting_input(
                    "learning_rate",
                    gr.Textbox,
                    value="",
                    placeholder=f"{LORA_RATE:g} LoRA, {FULL_RATE:g} all",
                    elem_id="learning-rate",
                ),
            }
        left = dict.fromkeys(["lora_r", "max_new_tokens", "seed", "device", *PAGE_SETTINGS])
        left = [name for name in left if name not in (*placed, *inputs, "set")]
        written = [name for name in left if PAGE_SETTINGS[name].kind is not bool]
        for beside in (written[:IN_A_ROW], written[IN_A_ROW:]):
            with gr.Row():
                inputs |= {name: setting_input(name) for name in beside}
        inputs |= {name: setting_input(name) for name in left if PAGE_SETTINGS[name].kind is bool}
        inputs["set"] = setting_input("set", placeholder="weight_decay=0.01\nlora.alpha=64", elem_id="set")
        inputs["against"] = gr.Slider(
            0, 1, value=1.0, step=0.01, label="Both ways: the prompt-loss weight of the second model", elem_id="against"
        )
        last()
    steps, epochs = inputs["steps"], inputs["epochs"]
    steps.input(None, steps, epochs, js="() => ''", **PRIVATE)
    either = f"(epochs, steps) => (epochs ?? '').trim() ? null : steps ?? {steps.value}"
    epochs.change(None, [epochs, steps], steps, js=either, **PRIVATE)
    return inputs
