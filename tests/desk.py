"""The page without a browser: its handlers over a backend, its components as keys of the values that they get."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace

import gradio as gr
import pytest

from sftdemo.mask.audit import Audit
from sftdemo.runs.jobs import BusyError
from sftdemo.ui import build
from sftdemo.ui.backend import Backend
from sftdemo.ui.panels.edits import EditHandlers
from sftdemo.ui.panels.film import FilmHandlers
from sftdemo.ui.panels.history import HistoryHandlers
from sftdemo.ui.panels.laboratory import LaboratoryHandlers
from sftdemo.ui.panels.losses import LossesHandlers
from sftdemo.ui.panels.mask import MaskHandlers
from sftdemo.ui.panels.revisit import RevisitHandlers
from sftdemo.ui.panels.sources import SourceHandlers
from sftdemo.ui.panels.take_away import TakeAwayHandlers
from sftdemo.ui.panels.train import RunHandlers
from sftdemo.ui.state import Desk

ROWS = [
    {"instruction": "Say hello", "output": "Hello world!"},
    {"instruction": "Count to 3", "output": "1 2 3"},
    {"instruction": "Capital of Italy?", "output": "Rome!", "held_out": True},
]
TEXT = json.dumps(ROWS)
SKIP = gr.skip()
TRAINED, CUT = 1, 2  # a token's bits, as in helpers.js
EVIL = ["<script>alert(1)</script>", "${1+1}", "{{value}}", "<img src=x onerror=alert(1)>", "</script>`'\"\\"]


class OnLentGpu(Backend):
    """A backend whose runs go on in this process, as on a ZeroGPU Space."""

    def __init__(self):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("sftdemo.ui.saved_runs.on_zero_gpu", lambda: True)
            patched.setattr("sftdemo.ui.zero_gpu.gpu_work", lambda: lambda _, stop, work, *more: work(*more, stop=stop))
            super().__init__()


class Busy(Backend):
    def start(self, config, data, weights=(), shown=None, turn=None):
        raise BusyError("another run is under way.")

    def _relay(self, work, *arguments):
        raise BusyError("another run is under way.")
        yield

    def _saved(self, run_id):
        return None


@dataclass(frozen=True)
class Page:
    """The page, and the handlers that it has wired to its components."""

    blocks: gr.Blocks
    desk: Desk
    masking: MaskHandlers
    opening: SourceHandlers
    running: RunHandlers
    laboratory: LaboratoryHandlers
    revisit: RevisitHandlers
    history: HistoryHandlers
    taking: TakeAwayHandlers
    film: FilmHandlers
    edits: EditHandlers
    losses: LossesHandlers

    def values(self, **changed: object) -> dict:
        """What the page's inputs hold when nothing but `changed` was touched: a control, a part of the session, or
        `is_open`, the laboratory's door."""
        inputs = vars(self.desk.controls) | vars(self.desk.session) | {"is_open": self.laboratory.panel.is_open}
        inputs |= {"own_runs": self.running.out.own_runs, "run_id": self.running.out.run_id}
        inputs |= {name: getattr(self.revisit.panel, name) for name in ("on", "strength", "arm", "prompt")}
        inputs |= {"losses_open": self.losses.panel.is_open, "losses_of": self.losses.panel.of}
        values = {component: component.value for component in inputs.values()}
        return values | {inputs[name]: value for name, value in changed.items()}


def build_page(backend: Backend) -> Page:
    """A page of its own."""
    blocks = build(backend)
    owners = {type(owner): owner for fn in blocks.fns.values() if (owner := getattr(fn.fn, "__self__", None))}
    masking = owners[MaskHandlers]
    kinds = (SourceHandlers, RunHandlers, LaboratoryHandlers, RevisitHandlers, HistoryHandlers)
    kinds += (TakeAwayHandlers, FilmHandlers, EditHandlers, LossesHandlers)
    others = (owners[kind] for kind in kinds)
    return Page(blocks, masking.desk, masking, *others)


@cache
def shared_page() -> Page:
    """One page for all tests that leave it as it is."""
    return build_page(OnLentGpu())


def tiny(page: Page, folder, /, **changed: object) -> dict:
    """The inputs for a short run of a tiny model."""
    short = {"model": str(folder), "examples": TEXT, "steps": 2, "max_new_tokens": 4, "max_length": 128}
    return page.values(**short | changed)


def event(**data: object) -> SimpleNamespace:
    """What a widget sends, as `gr.EventData` gives it to a handler."""
    return SimpleNamespace(**{"part": 0} | data)


def drawn(page: Page, values: dict) -> tuple[dict, dict, str]:
    """What `draw` makes of the mask, the questions and the command."""
    out, updates = page.masking.out, page.masking.draw(values)
    command = updates[out.command]
    return json.loads(updates[out.mask]), json.loads(updates[out.asked]), command and command["value"]


def leaves_with_its_run(page: Page, show: Callable, reset: Callable) -> bool:
    """Whether `reset` follows when another run is shown, and what `show` still brings of the last one is ended."""
    out, fns = page.running.out, page.blocks.fns.values()
    (showing,) = [fn for fn in fns if fn.fn == show]
    resets = {target for fn in fns if fn.fn == reset for target in fn.targets}
    ends = {target for fn in fns if showing._id in fn.cancels for target in fn.targets}
    return (out.saved._id, "change") in resets and (out.run_id._id, "change") in ends


@dataclass(frozen=True)
class Scanned:
    """What one report of `scan` changes. `kept` is the audit that the laboratory lays out."""

    totals: dict
    audit: dict | None
    train: dict
    both: dict
    anyway: dict | None
    kept: Audit | None

    @property
    def checks(self) -> list[str]:
        return [finding["check"] for finding in self.audit["findings"]]


def scanned(page: Page, values: dict) -> list[Scanned]:
    """Every report of `scan`; None for what stays as it is."""
    out, kept = page.masking.out, page.desk.session.audit
    return [
        Scanned(
            json.loads(updates[out.totals]),
            json.loads(updates[out.audit]) if out.audit in updates else None,
            *(updates.get(part) for part in (out.train, out.both, out.anyway, kept)),
        )
        for updates in page.masking.scan(values)
    ]


def trained(row: dict) -> set[int]:
    """The positions of a drawn row that are trained."""
    return {index for index, token in enumerate(row["tokens"]) if token[3] & TRAINED}


def text_of(made: str) -> str:
    """All that a widget's JSON holds, its strings as they will be drawn."""
    return json.dumps(json.loads(made), ensure_ascii=False).replace('\\"', '"').replace("\\\\", "\\")


def named(page: Page, updates: dict) -> dict:
    """What a handler changes, by the names of the components; the session's audit as `kept`."""
    owners = [page.losses.panel, page.revisit.panel, page.desk.controls, page.masking.sources, page.masking.out]
    owners += [page.running.out, page.laboratory.panel, page.desk.session]
    names = {component: name for owner in owners for name, component in vars(owner).items()}
    names[page.desk.session.audit] = "kept"
    names[page.desk.session.only] = "session_only"
    return {names[component]: update for component, update in updates.items()}


def made(page: Page, update: dict) -> str:
    """Where the file of a download button lies, once a browser has asked for it."""
    page.desk.backend.downloads.make(update["value"])
    return update["value"]


def parts(page: Page, updates: dict, *names: str) -> tuple:
    """The updates of the components with these names; None for one that stays as it is."""
    found = named(page, updates)
    assert found.keys() <= set(names)
    return tuple(found.get(name) for name in names)


def merged(page: Page, looks) -> dict:
    """The page after all updates, as (component: its last value)."""
    shown = {}
    for look in looks:
        shown |= named(page, look)
    return shown


def only_a_cpu(monkeypatch) -> None:
    """A page on a machine of its own, without a GPU."""
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
