"""Write a run as one HTML page, for a handout or an issue: what it has shown, its answers, its loss, its mask."""

from __future__ import annotations

import io
import re
from base64 import b64encode
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import ModelError
from ..core.events import Arm, Columns, Comparison, Event, Figures, Finished, HeldOut, Phase, Prepared, Step
from ..core.files import write_whole
from ..core.json_files import read_object
from ..core.palette import LINES
from ..core.text import duration, epochs
from ..data.examples import open_examples
from ..mask.audit import Audit
from ..mask.document import audit_section, document, mask_section
from ..mask.view import mask_sentence, totals
from ..model.loading import open_model
from ..runs.card import base_name
from ..runs.conclusion import conclusion
from ..runs.folder import EXAMPLES, RECORD, load_events
from ..runs.public import public_record
from ..runs.revisit import read_run
from ..runs.wording import column_name, figure_rows, trained_words
from .film_page import SCRIPT, STYLE, film_section

Kind = TypeVar("Kind", bound=Event)
Curve = tuple[str, list[int], list[float]]  # a name, the steps, the losses


def write_handout(run: Path, output: Path) -> Generator[Phase]:
    """Write a run or an ablation as one HTML file, which needs no other.

    Raises:
        SftdemoError: if the run cannot be read, or if it has no events.
        OSError: if the file cannot be written.
    """
    saved, events = read_run(run), load_events(run)
    if not events:
        raise ModelError(f"{run} is an arm of an ablation, without events of its own; name the ablation's folder.")
    record = read_object(run / RECORD)
    # the run's own tokenizer, for which no base is needed
    opened = yield from open_model(replace(saved.config, model=str(saved.arms[0][1])), weights=False)
    yield Phase("export", "Masking the rows")
    data = open_examples(run / EXAMPLES)
    audit = Audit(saved.config.batch_size, opened.config.max_length, data.held_out)
    for _ in audit.review(data.train, opened.masker):
        pass
    weight = _weight(record)
    words = totals(audit, len(data.held_out), weight)
    film = yield from film_section(run)
    moving = 'id="film"' in film
    sections = [*_shown(record, events, film), mask_section(data.train, opened.masker, words, weight)]
    sections.append(audit_section(audit.findings(), data.problems))
    title, more = f"{base_name(record)}, fine-tuned with sftdemo", (SCRIPT, STYLE) if moving else ("", "")
    write_whole(output, document(title, sections, *more))


def _of(kind: type[Kind], events: Sequence[Event]) -> list[Kind]:
    return [event for event in events if isinstance(event, kind)]


def _shown(record: dict[str, Any], events: Sequence[Event], film: str) -> Iterator[str]:
    """Yield the sections on what a run has shown, its `film` among them, as HTML."""
    figures = _of(Figures, events)
    concluded = record.get("conclusion") or conclusion(events)  # a run of an earlier version has none
    words = re.sub("`(.+?)`", r"<code>\1</code>", escape(concluded))
    yield f'<p class="lead">{words}</p>'
    yield f"<h2>What was trained</h2>\n<dl>{''.join(_facts(record, events))}</dl>"
    yield "<h2>Answers, before and after</h2>\n" + "\n".join(_answers(events, figures))
    yield film
    if figures:
        yield _figures(figures)
    if curves := _curves(events):
        yield _picture(curves, "The loss on the held-out answers" if figures else "The loss on the trained tokens")
    yield f"<h2>Repeat it</h2>\n<pre>{escape(public_record(record)['command'])}</pre>"


def _weight(record: dict[str, Any]) -> float:
    """Return the prompt-loss weight of a run; 0 of an ablation, whose arms share no more than the mask."""
    return 0.0 if record["kind"] == "ablation" else record["config"]["prompt_loss_weight"]


def _facts(record: dict[str, Any], events: Sequence[Event]) -> Iterator[str]:
    prepared, finished = _of(Prepared, events)[0], _of(Finished, events)[-1]
    counted = trained_words(replace(prepared, prompt_loss_weight=_weight(record)))
    tokens = f"{prepared.tokens:,} tokens in {prepared.examples:,} examples, {counted}"
    weights = record["arms"] if record["kind"] == "ablation" else [record["kind"]]
    steps = f"{finished.steps:,} of {finished.total:,}, in {duration(finished.seconds)}"
    facts = {"model": f"{base_name(record)} ({record['model']['copy']})", "saved as": ", ".join(weights)}
    facts |= {"rows": record["data"]["source"]} if record["data"] else {}
    facts |= {"mask": f"{tokens}; {mask_sentence(prepared.mask_hash)}", "steps": steps}
    if prepared.rows:
        packed = prepared.rows < prepared.examples
        facts["steps"] += f": {epochs(prepared.steps, prepared.rows_a_step, prepared.rows, packed)}"
    facts |= {"finished": record["finished"], "sftdemo": record["sftdemo"]}
    return (f"<dt>{name}</dt><dd>{escape(words)}</dd>" for name, words in facts.items())


def _answers(events: Sequence[Event], figures: Sequence[Figures]) -> Iterator[str]:
    for each in events:
        match each:
            case Comparison():
                columns = [("before", each.before, each.before_stop), ("after", each.after, each.after_stop)]
            case Columns():
                names = [column_name(column.prompt_loss_weight) for column in figures]
                columns = list(zip(names, each.answers, each.stops, strict=True))
            case _:
                continue
        drawn = "".join(
            f'<div><span class="soft">{name} \u00b7 {escape(stop)}</span>\n{escape(answer)}</div>'
            for name, answer, stop in columns
        )
        source = f'<span class="soft">({escape(each.source)})</span>'
        yield f'<div class="answers"><div class="prompt">{escape(each.prompt)} {source}</div>{drawn}</div>'


def _figures(figures: Sequence[Figures]) -> str:
    head = "".join(f'<th scope="col">{column_name(each.prompt_loss_weight)}</th>' for each in figures)
    lines = "".join(
        f'<tr><th scope="row">{name}, {unit}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for name, unit, cells in figure_rows(figures)
    )
    table = f'<div class="wide"><table><tr><th></th>{head}</tr>{lines}</table></div>'
    return f"<h2>On held-out rows, which no arm is trained on</h2>\n{table}"


def _curves(events: Sequence[Event]) -> list[Curve]:
    """Return the loss of each step or, of an ablation, each arm's on the held-out answers."""
    curves: list[Curve] = []
    for event in events:
        match event:
            case Arm():
                curves.append((column_name(event.prompt_loss_weight), [], []))
            case HeldOut() if curves:
                curves[-1][1].append(event.step)
                curves[-1][2].append(event.completion_loss)
    if curves:
        return curves
    steps = _of(Step, events)
    return [("", [step.step for step in steps], [step.loss for step in steps])] if steps else []


def _picture(curves: Sequence[Curve], what: str) -> str:
    """Return a plot, of which `what` is the title, as an image in the page's own text."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "sftdemo", "font.family": "sans-serif"}):
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        place = figure.subplots()
        for (name, steps, losses), colour in zip(curves, LINES, strict=False):
            place.plot(steps, losses, color=colour, label=name, marker="o" if len(losses) < 40 else "")
        place.set(xlabel="step", ylabel="loss, nats a token", ylim=(0, None))
        place.grid(alpha=0.3)
        if len(curves) > 1:
            place.legend()
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    svg = b64encode(file.getvalue().encode()).decode()
    return f'<h2>{what}</h2>\n<img src="data:image/svg+xml;base64,{svg}" alt="{what}, step by step">'
