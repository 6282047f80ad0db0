"""Load the settings of a run from a file into the page's inputs."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from ...core.config import RunConfig
from ...core.errors import ConfigError
from ...core.settings_file import read_settings
from ...core.text import plural
from ..controls import PAGE_SETTINGS
from ..places import sentence
from ..state import Desk
from ..widgets import progress, progress_widget
from .handlers import PRIVATE, Updates


class SettingsPanel:
    """The button that opens a file of settings, and what became of it. `place` puts both where it is called."""

    def __init__(self):
        self.upload = gr.UploadButton(
            "Load settings from a file",
            file_types=[".yaml", ".yml"],
            size="sm",
            elem_id="load-settings",
            render=False,
        )
        self.status = progress_widget("settings-status", progress("idle", ""))
        self.status.unrender()

    def place(self) -> None:
        """Lay both out."""
        self.upload.render()
        self.status.render()


class SettingsHandlers:
    """Fill the inputs from a file."""

    def __init__(self, desk: Desk, panel: SettingsPanel):
        self.desk, self.panel = desk, panel

    def wire(self) -> None:
        """Connect components and handlers."""
        controls, panel = self.desk.controls, self.panel
        inputs = [getattr(controls, name) for name in (*PAGE_SETTINGS, "custom")]
        panel.upload.upload(self.load, panel.upload, [*inputs, panel.status], **PRIVATE)

    def load(self, path: str | None) -> Updates:
        """Fill every input from the file, or from the defaults where the file says nothing; tell what is refused."""
        if path is None:  # no file came with the event
            return {self.panel.status: gr.skip()}
        name = Path(path).name
        try:
            settings = read_settings(path)
            unused = [each for each in settings if each not in PAGE_SETTINGS]
            config = RunConfig(**{each: value for each, value in settings.items() if each in PAGE_SETTINGS})
            values = self.desk.controls.held(config)
            held = self.desk.controls.config(values)
        except ConfigError as error:
            return {self.panel.status: progress("failed", sentence(error).replace(path, name))}
        lost = [each for each in PAGE_SETTINGS if getattr(held, each) != getattr(config, each)]
        notes = [f"Not among this page's settings, so not used: {', '.join(unused)}."] if unused else []
        notes += [f"This page's input cannot hold all of: {', '.join(lost)}."] if lost else []
        count = len(settings) - len(unused)
        title = f"{count} {plural(count, 'setting')} from {name}"
        return values | {self.panel.status: progress("done", title, "the others are at their defaults", notes=notes)}
