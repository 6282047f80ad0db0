"""Watch how the run that is shown has learned, step by step."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from ...core.errors import SftdemoError
from ...core.events import Failed, FilmRow, Frame, Phase
from ..places import sentence
from ..results import film_frames, film_message
from ..state import Desk
from ..widgets import widget
from .handlers import PRIVATE, Updates

_ABOUT = "The held-out answers and the loss of their tokens, from step 0 to the last."
_NO_RUN = "No finished run is shown yet; train first, or show an earlier run."


class FilmPanel:
    """The components of the accordion, closed at first."""

    def __init__(self):
        with gr.Accordion("Watch it learn, step by step", open=False, elem_id="film-door"):
            self.develop = gr.Button("Play the film of this run", elem_id="develop")
            self.film = widget("film", film_message(_ABOUT))


class FilmHandlers:
    """Develop the film of the shown run, and show each frame as it comes."""

    def __init__(self, desk: Desk, panel: FilmPanel, run_id: gr.BrowserState):
        self.desk, self.panel, self.run_id = desk, panel, run_id

    def wire(self, saved: gr.State) -> None:
        """Connect components and handlers. `saved` changes with the run that is shown."""
        panel, device = self.panel, self.desk.controls.device
        shown = [panel.develop, panel.film]
        played = panel.develop.click(self.play, [self.run_id, device], shown, concurrency_limit=4, **PRIVATE)
        saved.change(self.reset, None, shown, **PRIVATE)
        self.run_id.change(None, cancels=played, **PRIVATE)  # once: of two at a time Gradio (6.31) fails one

    def reset(self) -> Updates:
        """Take the film of the last run away when another is shown."""
        return {self.panel.develop: gr.update(interactive=True), self.panel.film: film_message(_ABOUT)}

    def play(self, run_id: str | None, device: str) -> Iterator[Updates]:
        """Show the frames of the run. The first time, each adapter that was kept answers and scores once."""
        button, film = self.panel.develop, self.panel.film
        ready = gr.update(interactive=True)
        rows: list[FilmRow] = []
        frames: list[Frame] = []
        yield {button: gr.update(interactive=False), film: film_message("Looking for the film…")}
        try:
            for event in self.desk.backend.film(run_id, device):
                match event:
                    case Failed():
                        raise SftdemoError(event.message)
                    case FilmRow():
                        rows.append(event)
                    case Frame():
                        frames.append(event)
                        yield {film: film_frames(rows, frames, "")}
                    case Phase() if frames:
                        yield {film: film_frames(rows, frames, f"{event.message}…")}
                    case Phase():
                        yield {film: film_message(f"{event.message}…")}
            yield {button: ready, film: film_frames(rows, frames, "", whole=True)}
        except SftdemoError as error:
            message = sentence(error) if run_id else _NO_RUN
            yield {button: ready, film: film_message(message, failed=True)}
