"""What a program can ask the page's server for, by name: plain values in, plain JSON out, with the page's own limits.

Each method of `Api` is an endpoint for gradio_client and, where it is asked for, a tool of the Model Context Protocol.
Whatever cannot be done is a `gr.Error` with a sentence; its title is the error's class, such as "DataError".
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import gradio as gr

from ..core.config import DEFAULT_MODEL, DEFAULT_TEMPLATE, RunConfig
from ..core.errors import ConfigError, DataError, SftdemoError
from ..core.events import Answer, Failed
from ..core.json_files import read_object
from ..core.limits import is_public, read_limits
from ..core.settings_file import check_values
from ..data.examples import ParsedExamples
from ..data.hold_out import hold_out
from ..data.problems import Problem, group_problems
from ..data.templates import template_of
from ..mask.view import to_json, totals
from ..model.devices import choose_device
from ..runs.folder import RECORD
from ..runs.public import public_record
from ..runs.queue import Queued, Turn
from .backend import Backend
from .controls import PAGE_SETTINGS, decides_mask
from .guard import is_global
from .places import sentence
from .reading import paginate, read
from .state import View, audit_of

_KINDS = {str: "a text", int: "a whole number", float: "a number", dict: "an object", list: "a list of texts"}
_SETTINGS = [name for name in PAGE_SETTINGS if name not in ("model", "template")]
_OF_THE_MASK = [name for name in _SETTINGS if decides_mask([name])]
Json = dict[str, Any]


class Api:
    """The endpoints over the models and runs of the server."""

    def __init__(self, backend: Backend):
        self._backend = backend
        self._starting = threading.Lock()
        self._last: dict[str, str] = {}  # by visitor, the key of the run that is under way or waits

    def mask(
        self,
        text: str = "",
        model: str = DEFAULT_MODEL,
        template: str = DEFAULT_TEMPLATE,
        settings: Json | None = None,
        page: int = 0,
    ) -> Json:
        """Show which tokens of each row are trained: a label is the token's own id, or -100 where it is not trained.

        Args:
            text: The rows, as JSON, JSON Lines or CSV.
            model: The model whose tokenizer is used: a Hub id, a folder on the server or a GGUF file.
            template: The name of a template, "chat" for the model's own, or a text with {instruction} in it.
            settings: Further settings that decide the mask, by their names, such as {"max_length": 256}.
            page: Which page of the rows, from 0.

        Returns:
            The rows with their tokens, input_ids, labels and flags; the number of pages; what was refused, and notes.
        """
        with _told():
            _check_kinds({"page": int}, page=page)
            view = self._view(text, _config(model, template, settings, _OF_THE_MASK))
            if not 0 <= page < max(len(view.pages), 1):
                raise DataError(f"page is {_shown(page)}; the rows fill {len(view.pages)}, counted from 0.")
            rows, problems = view.masker.tokenize(view.page(page)[1])
            shown = {"rows": [to_json(row, view.config.prompt_loss_weight) for row in rows], "pages": len(view.pages)}
            return shown | _aside(view, problems)

    def audit(
        self,
        text: str = "",
        model: str = DEFAULT_MODEL,
        template: str = DEFAULT_TEMPLATE,
        settings: Json | None = None,
    ) -> Json:
        """Look all rows over before a training, and tell what is wrong with them, why it matters and what to do.

        Args:
            text: The rows, as JSON, JSON Lines or CSV.
            model: The model whose tokenizer is used: a Hub id, a folder on the server or a GGUF file.
            template: The name of a template, "chat" for the model's own, or a text with {instruction} in it.
            settings: Further settings that decide the mask, by their names, such as {"max_length": 256}.

        Returns:
            The findings, the totals, the hash of the mask, what was refused, and notes.
        """
        with _told():
            view = self._view(text, _config(model, template, settings, _OF_THE_MASK))
            problems: list[Problem] = []
            *_, (audit, _) = audit_of(view, problems)
            held_out = len(view.data.held_out)
            counted: Json = {"examples": audit.examples, "tokens": audit.tokens, "trained": audit.trained}
            counted |= {"totals": totals(audit, held_out, view.config.prompt_loss_weight)}
            counted |= {"mask_hash": str(audit.mask_hash), "findings": [each.to_dict() for each in audit.findings()]}
            return counted | _aside(view, problems)

    def compare_tokenizers(
        self,
        text: str = "",
        model: str = DEFAULT_MODEL,
        other_model: str = DEFAULT_MODEL,
        template: str = DEFAULT_TEMPLATE,
        other_template: str = DEFAULT_TEMPLATE,
        settings: Json | None = None,
        row: int = 0,
    ) -> Json:
        """Show the same row under two models' tokenizers, or under two templates.

        Args:
            text: The rows, as JSON, JSON Lines or CSV.
            model: The first model: a Hub id, a folder on the server or a GGUF file.
            other_model: The second model.
            template: The first template's name, "chat" for the model's own, or a text with {instruction} in it.
            other_template: The second template.
            settings: Further settings that decide the mask, by their names, for both.
            row: Which row, from 0.

        Returns:
            For each of the two ways its model, its template and the row's sequences; what was refused, and notes.
        """
        with _told():
            _check_kinds({"row": int}, row=row)
            asked = [(model, template), (other_model, other_template)]
            configs = [_config(*way, settings, _OF_THE_MASK) for way in asked]
            views = [self._view(text, config) for config in configs]
            example = views[0].example(row)
            if example is None:
                raise DataError(f"there is no row {_shown(row)} to train on; rows are counted from 0.")
            ways, problems = [], list[Problem]()
            for view, config in zip(views, configs, strict=True):
                rows, wrong = view.masker.tokenize([example])
                way = {"model": config.model, "template": config.template}
                ways.append(way | {"rows": [to_json(each, config.prompt_loss_weight) for each in rows]})
                problems += wrong
            return {"ways": ways} | _aside(views[0], problems)

    def train(
        self,
        text: str = "",
        model: str = DEFAULT_MODEL,
        template: str = DEFAULT_TEMPLATE,
        settings: Json | None = None,
        mask_hash: str = "",
        request: gr.Request | None = None,
    ) -> Iterator[Json]:
        """Train a model on the server, after the runs before it, and tell each event. It goes on if nobody listens.

        Args:
            text: The rows, as JSON, JSON Lines or CSV.
            model: The model to train: a Hub id, a folder on the server or a GGUF file.
            template: The name of a template, "chat" for the model's own, or a text with {instruction} in it.
            settings: Further settings, by their names, such as {"steps": 20, "batch_size": 4}.
            mask_hash: Train only if the mask has this hash, which the audit tells.

        Returns:
            Each event, with the run's key under "run" from "started" on. The last is "finished", or "failed".
        """
        with _told():
            _check_kinds({"mask_hash": str}, mask_hash=mask_hash)
            config = _config(model, template, settings, _SETTINGS)
            template_of(config)
            data = _read(text).data
            for phase in self._backend.fetch_weights(config.model):
                yield phase.to_dict()
            choose_device(config.device)
            key, seen = self._start(_visitor(request), config, data, mask_hash or None), 0
            yield {"event": "started", "run": key}
            place = None
            for events in self._backend.watch(key):
                if events and isinstance(events[-1], Queued):  # it stands for no event of the run
                    if events[-1] != place:
                        place = events[-1]
                        yield {"run": key} | place.to_dict()
                    continue
                for event in events[seen:]:
                    yield {"run": key} | _without_path(event.to_dict())
                seen = len(events)

    def _start(self, visitor: str, config: RunConfig, data: ParsedExamples, mask_hash: str | None) -> str:
        """Start a run, of which a visitor may have one at a time, and return its key."""
        with self._starting:
            self._last = {name: key for name, key in self._last.items() if self._backend.is_running(key)}
            turn = Turn(own=[self._last[visitor]] if visitor in self._last else [])
            self._last[visitor] = key = self._backend.start(config, data, (), mask_hash, turn)
        return key

    def result(self, run: str = "") -> Json:
        """Tell what became of a run: its answers before and after, its losses, its settings and its conclusion.

        Args:
            run: The key of the run, as the training told it.

        Returns:
            The state, "running", "failed" or "finished", with the record of a run that is finished.
        """
        with _told():
            _check_kinds({"run": str}, run=run)
            if self._backend.is_running(run):
                return {"run": run, "state": "running"}
            saved = self._backend.saved_run(run)
            if saved is not None:
                return {"run": run, "state": "finished", "record": public_record(read_object(saved.folder / RECORD))}
            last = [events[-1] for events in self._backend.watch(run)]
            if last and isinstance(last[-1], Failed):
                return {"run": run, "state": "failed", "message": last[-1].message}
            raise DataError(f"there is no run {_shown(run)} any more.")

    def generate(
        self, run: str = "", prompts: list[str] | None = None, strength: float = 1.0, weight: float | None = None
    ) -> Json:
        """Answer prompts greedily with the model of a run, and then the prompts that the run itself compared.

        Args:
            run: The key of the run, as the training told it.
            prompts: What is asked.
            strength: How far the adapter is turned up: 0 is the model before training, 1 the trained one, 1.5 the most.
            weight: Of a run that trained several models, the prompt-loss weight of the one that answers.

        Returns:
            The answers in the order of the prompts, then those to the run's own prompts.
        """
        with _told():
            prompts, strength = [] if prompts is None else prompts, _float(strength)
            weight = None if weight is None else _float(weight)
            _check_kinds({"run": str, "prompts": list, "strength": float}, run=run, prompts=prompts, strength=strength)
            _check_kinds({"weight": float}, weight=0.0 if weight is None else weight)
            limits = read_limits()
            limits.check_settings(RunConfig(prompts=tuple(prompts)))
            limits.check_text(sum(map(len, prompts)))
            answers = []
            for event in self._backend.answers_at(run, strength, prompts, weight, "auto"):
                if isinstance(event, Answer):
                    answers.append(event.to_dict() | {"typed": len(answers) < len(prompts)})
                if isinstance(event, Failed):
                    raise SftdemoError(event.message)
            return {"answers": answers}

    def _view(self, text: str, config: RunConfig) -> View:
        """Return the examples under the settings, once the tokenizer is here."""
        template, reading = template_of(config), _read(text)
        for _ in self._backend.prepare(config.model):
            pass
        tokenizer, stop_ids = self._backend.tokenizer(config.model), self._backend.stop_ids(config.model)
        config = replace(config, max_length=self._backend.max_length(config.model, config.max_length))
        data = hold_out(reading.data, config)
        return View(config, template, tokenizer, stop_ids, data, data.train, paginate(data.train), reading.choice)


def name_endpoints(backend: Backend) -> None:
    """Give the page that is being built an endpoint for each method of `Api`."""
    api = Api(backend)
    for endpoint in (api.mask, api.audit, api.compare_tokenizers, api.result):
        gr.api(endpoint, api_name=endpoint.__name__, concurrency_limit=4)
    gr.api(api.train, api_name="train", concurrency_limit=None)
    gr.api(api.generate, api_name="generate", concurrency_limit=4)


@contextmanager
def _told() -> Iterator[None]:
    """Hand an error on as Gradio's clients show it: its sentence, with the class as its title."""
    try:
        yield
    except SftdemoError as error:
        raise gr.Error(sentence(error), title=type(error).__name__, print_exception=False) from error


def _visitor(request: gr.Request | None) -> str:
    """Return the address that a call comes from; a session costs nothing, and is no visitor. On a Space its proxies add
    it to what the caller may have made up: it is the last of the internet's. Elsewhere anyone may send that header, and
    uvicorn has read it from the proxies that it believes (`FORWARDED_ALLOW_IPS`: https://uvicorn.dev/settings/#http)."""
    if request is None:
        return ""
    told = request.headers.get("x-forwarded-for", "").split(",") if is_public() else []
    known = [address.strip() for address in told if is_global(address.strip())]
    return known[-1] if known else (request.client.host if request.client else "")


def _read(text: str) -> Any:
    _check_kinds({"text": str}, text=text)
    return read(text, None)


def _config(model: str, template: str, settings: Json | None, allowed: Iterable[str]) -> RunConfig:
    """Return the settings, which must be among those allowed, and within the limits."""
    more = {} if settings is None else settings
    _check_kinds({"model": str, "template": str, "settings": dict}, model=model, template=template, settings=more)
    for name in more:
        if name in PAGE_SETTINGS and name not in allowed:
            reason = "is an argument of its own" if name in ("model", "template") else "decides nothing of the mask"
            raise ConfigError(f"{name} {reason}; the settings here are {', '.join(allowed)}.")
    values = check_values(more)
    unknown = next((name for name in values if name not in allowed), None)
    if unknown is not None:
        raise ConfigError(f"{unknown} is a setting of the terminal only; the settings here are {', '.join(allowed)}.")
    config = RunConfig(model=model, template=template, **values)
    read_limits().check_settings(config)
    return config


def _aside(view: View, problems: Iterable[Problem]) -> Json:
    """Return what is told beside the rows: those refused or held out, and what was read otherwise than it says."""
    refused = [str(group) for group in group_problems((*view.data.problems, *problems))]
    notes = list(view.data.notes)
    if view.choice is not None and view.choice.columns:
        pairs = ", ".join(f"{theirs} as {ours}" for ours, theirs in view.choice.columns.items())
        notes.append(f"the columns are not known; read is {pairs}.")
    return {"held_out": len(view.data.held_out), "refused": refused, "notes": notes}


def _without_path(event: Json) -> Json:
    """Return an event without its place on the server: Gradio's clients take what has a path for a file to fetch."""
    return {name: value for name, value in event.items() if name != "path"}


def _check_kinds(kinds: Mapping[str, type], **values: Any) -> None:
    """Check that each value is of its kind.

    Raises:
        ConfigError: for the first that is not.
    """
    for name, kind in kinds.items():
        value = values[name]
        is_list_of_others = kind is list and isinstance(value, list) and not all(isinstance(x, str) for x in value)
        if type(value) is not kind or is_list_of_others:
            raise ConfigError(f"{name} is {_shown(value)}; write {_KINDS[kind]}.")


def _float(value: Any) -> Any:
    """Return a whole number as JSON has it as a float; another value as it is."""
    return float(value) if type(value) is int and abs(value) < 10**9 else value


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
