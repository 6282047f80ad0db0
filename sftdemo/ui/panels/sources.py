"""Where examples come from: a sample, a file that is opened, a data set on the Hub, and the choice of their columns."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any

import gradio as gr

from ...core.errors import DataError
from ...core.text import file_size, plural
from ...data.examples import FIRST_ROWS
from ...data.files import read_file
from ...data.hub import HUB, FetchedRows, is_hub
from ...data.samples import get_sample, sample_of
from ..places import sentence
from ..reading import fetch_hub, read
from ..state import EDITABLE, Desk
from ..toasts import refusal
from ..widgets import progress
from .columns import chosen
from .examples import Sources
from .handlers import PRIVATE, Updates

LOOK = 0.5  # seconds between two reports while the Hub is read


class SourceHandlers:
    """Take examples from where the person points."""

    def __init__(self, desk: Desk, sources: Sources):
        self.desk, self.sources = desk, sources

    def wire(self) -> None:
        """Connect components and handlers."""
        controls, session, sources = self.desk.controls, self.desk.session, self.sources
        opened = [
            *(controls.examples, session.opened, session.columns, session.page, session.only),
            *(sources.card, sources.status, sources.hub_status, sources.sample),
        ]
        # Gradio (6.31) tells of an input whenever someone leaves the menu, and of no selection by the keyboard.
        sources.sample.select(self.take_sample, sources.sample, opened, **PRIVATE)
        shown = [sources.sample, controls.examples, session.opened]
        sources.sample.change(self.change_sample, shown, opened, **PRIVATE)
        sources.upload.upload(self.open_file, sources.upload, opened, **PRIVATE)
        asked = [sources.open_hub.click, sources.hub.submit]
        read_hub = gr.on(asked, self.open_hub, sources.hub, [*opened, sources.open_hub], concurrency_limit=4, **PRIVATE)
        sources.close.click(self.close, None, opened, **PRIVATE)
        others = [sources.sample.select, sources.sample.change, sources.upload.upload, sources.close.click]
        waiting = [sources.open_hub, sources.hub_status]
        gr.on(others, self.end_reading, None, waiting, cancels=[read_hub], **PRIVATE)
        for choice in sources.columns.inputs():
            choice.input(chosen, sources.columns.inputs(), session.columns, **PRIVATE)

    def take_sample(self, name: str) -> Updates:
        """Return a sample's text."""
        return self.show_source(text=get_sample(name).path.read_text(encoding="utf-8"))

    def change_sample(self, name: str | None, text: str | None, opened: object) -> Updates:
        """Return a sample's text where another one stands: the menu follows what is opened, too."""
        if name is None or (opened is None and sample_of(text or "") == name):
            return {self.sources.sample: gr.skip()}
        return self.take_sample(name)

    def open_file(self, path: str | None) -> Updates:
        """Return the text of an uploaded file, or the file itself if it is a table or long; one that is not read is
        told."""
        if path is None:  # no file came with the event
            return {self.sources.status: gr.skip()}
        try:
            data = read("", path).data
            content = read_file(Path(path))
        except DataError as error:
            raise refusal(str(error).replace(path, Path(path).name)) from error
        if isinstance(content, str) and len(content) <= EDITABLE:
            return self.show_source(text=content)
        rows, size = len(data.train) + len(data.held_out) + len(data.problems), Path(path).stat().st_size
        title = f"{Path(path).name}: {rows:,} {plural(rows, 'row')}, {file_size(size)}"
        why = "too long to be edited here" if isinstance(content, str) else "a table, not a text to be edited here"
        return self.show_source(opened=path) | {self.sources.status: progress("done", title, why)}

    def open_hub(self, name: str) -> Iterator[Updates]:
        """Read the first rows of a data set on the Hub, and show them in place of the text. What fails is said at the
        field, and all else stays as it is."""
        status, button = self.sources.hub_status, self.sources.open_hub
        source = (name or "").strip()
        source = source if is_hub(source) else f"{HUB}{source}"
        said, ready = f"Reading the first rows of {source.removeprefix(HUB)}", gr.update(interactive=True)
        yield {status: progress("working", said), button: gr.update(interactive=False)}
        pool = ThreadPoolExecutor(1)
        try:
            future = pool.submit(fetch_hub, source)
            while not wait_for([future], timeout=LOOK).done:
                yield {status: progress("working", said)}
            rows = future.result()
            read("", str(rows.source))
        except DataError as error:
            yield {status: progress("failed", sentence(error)), button: ready}
        else:
            where = f"a data set on the Hub, at commit {str(rows.source.revision)[:12]}"
            shown = progress("done", f"{source.removeprefix(HUB)}: {_count(rows)}", where)
            yield self.show_source(opened=str(rows.source)) | {self.sources.status: shown, button: ready}
        finally:
            pool.shutdown(wait=False)  # a page that was closed does not wait for the Hub

    def end_reading(self) -> Updates:
        """Tell no more of a data set on the Hub: its last report may have come after the other source."""
        return {self.sources.open_hub: gr.update(interactive=True), self.sources.hub_status: progress("idle", "")}

    def close(self) -> Updates:
        """Go back to the text box, as it was."""
        return self.show_source()

    def show_source(self, text: str | None = None, opened: str | None = None) -> Updates:
        """Return the text box with a new text, or with the one it has; or in its place the card of what is opened. The
        menu of samples names the one that is shown, if one is."""
        session = self.desk.session
        box: dict[str, Any] = {"visible": opened is None} | ({} if text is None else {"value": text})
        is_other = text is not None or opened is not None
        named: Updates = {self.sources.sample: gr.update(value=sample_of(text or ""))} if is_other else {}
        return named | {
            self.desk.controls.examples: gr.update(**box),
            session.opened: opened,
            session.columns: None,
            session.page: 0,
            session.only: "",
            self.sources.card: gr.update(visible=opened is not None),
            self.sources.hub_status: progress("idle", ""),
        }


def _count(rows: FetchedRows) -> str:
    count = len(rows.records)
    if count == FIRST_ROWS:
        return f"the first {count:,} rows"
    return f"all {count:,} {plural(count, 'row')}"
