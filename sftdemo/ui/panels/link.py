"""Open the view that a link shows, or the one that the browser kept, and make a link to the view as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from ...core.errors import SftdemoError
from ..kept import Kept, settings_of, to_keep
from ..lesson import lessons
from ..link import DOORS, Linked, from_link, is_link, link_of
from ..places import sentence
from ..state import Desk
from ..widgets import to_json, widget
from ..words import LANGUAGES, say, say_all
from .handlers import PRIVATE, Updates
from .keep import KeepHandlers
from .lesson import LessonHandlers
from .mask import MaskHandlers

_QUIET = "While this view is open, edits are not kept by a reload: what you had comes back without the link."


def link_view(notes: tuple[str, ...] = (), door: str = "", query: str = "", made: int = 0) -> str:
    """Return the value of the widget: what is said of a link, which panel to open, and a link that was `made`, which
    counts them."""
    titles = [(name, say(lesson.title)) for name, lesson in lessons().items()]
    panels = {name: [door, say(tab)] for name, (door, tab) in DOORS.items()}
    told = {"notes": say_all(notes), "open": door, "query": query, "made": made}
    return to_json(told | {"doors": panels, "lessons": titles, "languages": LANGUAGES})


class LinkPanel:
    """The buttons at the page's head. The event of `link` is `copy` (with the open panel and what else the browser
    knows). `row` is the row that a link shows once the rows are there."""

    def __init__(self):
        self.link = widget("link", link_view())
        self.row = gr.State(None)
        self.made = gr.State(0)


class LinkHandlers:
    """Fill the page from a link, and make one."""

    def __init__(
        self, desk: Desk, panel: LinkPanel, keeping: KeepHandlers, masking: MaskHandlers, learning: LessonHandlers
    ):
        self.desk, self.panel, self.keeping, self.masking, self.learning = desk, panel, keeping, masking, learning

    def wire(self, page: gr.Blocks, scans: list) -> None:
        """Connect components and handlers. `scans` are the events after which all rows have been looked over."""
        controls, session, panel, out = self.desk.controls, self.desk.session, self.panel, self.masking.out
        everything = {*controls.all(), *session.all(), panel.made}
        outputs = [*self.keeping.outputs(), panel.link, panel.row, self.learning.panel.card, self.learning.panel.place]
        page.load(self.open, self.keeping.panel.store, outputs, **PRIVATE)
        panel.link.copy(self.copy, everything, [panel.link, panel.made], **PRIVATE)
        shown = [out.mask, session.page, session.picked, out.only, session.only, panel.row]
        for scan in scans:
            scan.then(self.show_row, {*everything, panel.row}, shown, **PRIVATE)

    def open(self, value: object, request: gr.Request) -> Updates:
        """Show the lesson or the view that a link asks for; without one, bring back what the browser kept."""
        query: Mapping[str, str] = dict(request.query_params)
        updates, notes = self.learning.enter(query)
        if is_link(query):
            return updates | self.show(from_link(query, self.desk.controls), notes)
        return (updates or self.keeping.restore(value)) | ({self.panel.link: link_view(notes)} if notes else {})

    def show(self, linked: Linked, notes: tuple[str, ...] = ()) -> Updates:
        """Show a view, and tell the `notes` before what is said of it. What the browser kept stays there as it was, and
        nothing is kept while the view is shown."""
        kept = linked.kept
        updates: Updates = self.keeping.fill(Kept(kept.text, kept.masks, kept.columns, kept.settings, kept.hub))
        updates |= {self.panel.link: link_view((*notes, *kept.notes, _QUIET), linked.door), self.panel.row: linked.row}
        return updates | ({self.keeping.sources.sample: linked.sample} if linked.sample else {})

    def copy(self, values: dict, event: gr.EventData) -> Updates:
        """Make a link to the view as it is, which the browser copies."""
        controls, session, panel = self.desk.controls, self.desk.session, self.panel
        settings = {name: values[each] for name, each in settings_of(controls).items()}
        sources = values[controls.examples] or "", values[session.opened], values[session.masks]
        more: dict[str, Any] = {"row": values[session.picked] or "", "open": str(event.open or "")}
        more |= {"lesson": str(event.lesson or ""), "step": str(event.step or "")}
        made = values[panel.made] + 1
        try:
            query = link_of(to_keep(*sources, values[session.columns], settings), controls, more)
        except SftdemoError as error:
            return {panel.link: link_view((sentence(error),), made=made), panel.made: made}
        return {panel.link: link_view(query=query, made=made), panel.made: made}

    def show_row(self, values: dict) -> Updates:
        """Show the row of a link, once."""
        row = values[self.panel.row]
        if row is None:
            return {self.panel.row: gr.skip()}
        return self.masking.go_to(values, _Row(row)) | {self.panel.row: None}


class _Row(gr.EventData):
    """What a widget sends to go to a row."""

    def __init__(self, row: int):
        super().__init__(None, {"row": row})
