"""Make the components that show the results of runs: answers side by side, figures, losses by token, earlier runs.

Their values are JSON to be drawn in the browser, as in `widgets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import gradio as gr

from ..core.events import Answer, Before, Columns, Comparison, Figures, FilmRow, Frame, TokenLosses
from ..core.text import duration, plural
from ..mask.view import visible
from ..runs.checkpoint import Begun
from ..runs.history import PastRun, setting_text
from ..runs.labels import MOST_NAME, MOST_NOTE
from ..runs.wording import column_name, figure_rows, moments
from .start import model_words, when
from .widgets import KINDS, to_json, widget
from .words import say, say_all

MOST_SHOWN = 60  # characters of a setting in a list
MINUS = "\N{MINUS SIGN}"
Column = tuple[str | None, str]  # an answer, None while it is not known, and why it ended


def compare_widget(elem_id: str, message: str) -> gr.HTML:
    """Return a table of the answers of several models, the base first."""
    return widget("compare", comparison([], message), elem_id)


def comparison(
    rows: Sequence[Comparison | Columns | Before],
    message: str,
    arms: Sequence[float] = (),
    before: str = "before",
    conclusion: str = "",
) -> str:
    """Return prompts with their answers before and, once they are known, after training. For an ablation, whose arms'
    weights are `arms`, return the answers of the base and of each arm."""
    names = [column_name(weight) for weight in (None, *arms)] if arms else [before, "after"]
    return answers_side_by_side(names, [(row.prompt, row.source, _columns(row)) for row in rows], message, conclusion)


def answers_side_by_side(
    names: Sequence[str],
    rows: Sequence[tuple[str, str, Sequence[Column]]],
    message: str,
    conclusion: str = "",
    settings: Sequence[tuple[str, str, str]] = (),
) -> str:
    """Return answers with a column for each of `names`. Each row is (prompt, source or "", columns). The `message`
    stands above them, with the `settings` of two runs as (name, value, value), and the `conclusion` below."""
    drawn = [
        {"prompt": prompt, "source": source, "answers": [{"text": text, "stop": stop} for text, stop in columns]}
        for prompt, source, columns in rows
    ]
    told = {"message": say(message), "conclusion": say(conclusion)}
    shown = [(say(name.replace("_", " ")), *map(_short, values)) for name, *values in settings]
    return to_json({"columns": say_all(names), "rows": drawn, "settings": shown} | told)


def _columns(row: Comparison | Columns | Before) -> list[Column]:
    match row:
        case Before():
            return [(row.answer, row.stop), (None, "")]
        case Comparison():
            return [(row.before, row.before_stop), (row.after, row.after_stop)]
    return list(zip(row.answers, row.stops, strict=True))


def answers_at_strength(
    strength: float, answers: Sequence[Answer], known: Sequence[Comparison | Columns], arm: int
) -> str:
    """Return the answers with the adapter at some strength, between those without it and those with it as trained.
    `known` are the answers of the run, and `arm` is the index of the trained model, from 0."""
    by_prompt = {row.prompt: _columns(row) for row in known}
    rows = []
    for answer in answers:
        off, on = (columns[0], columns[1 + arm]) if (columns := by_prompt.get(answer.prompt)) else ((None, ""),) * 2
        rows.append((answer.prompt, "", [off, (answer.answer, answer.stop), on]))
    message = "The same weights, the same prompts; only how much of the adapter is added to the base changes."
    return answers_side_by_side(["off: the base", f"at {strength:g}", "on: as it was trained"], rows, message)


def figures_table(figures: Sequence[Figures]) -> str:
    """Return the figures of an ablation, with a column for the base and one for each arm."""
    if not figures:
        return to_json({"columns": [], "rows": [], "notes": []})
    notes = [
        "Sums over all held-out tokens divided by their number, so they do not depend on batches. One seed is one "
        "draw: python -m sftdemo study repeats this over several seeds, weights and sizes."
    ]
    columns = [column_name(each.prompt_loss_weight) for each in figures]
    rows = [(say(name), say(unit), cells) for name, unit, cells in figure_rows(figures)]
    return to_json({"columns": say_all(columns), "rows": rows, "notes": say_all(notes)})


def losses_message(message: str, failed: bool = False) -> str:
    """Return a view of the losses without rows."""
    return to_json({"names": [], "rows": [], "message": say(message), "opens": [], "idea": "", "failed": failed})


def losses_rows(rows: Sequence[TokenLosses], more: str = "") -> str:
    """Return rows of tokens, each token with its loss, rank and likelier tokens under every model. `more` says what
    goes on, while there are more rows to come."""
    weights = rows[0].weights
    names = ["before", "after"] if len(weights) == 2 else [column_name(each) for each in weights]
    message = (
        "How surprising each token is to the model that read the tokens before it. Prompt tokens have a loss as well; "
        "masking leaves it out of the training."
    )
    by_weight = sorted((weight or 0.0, model) for model, weight in enumerate(weights) if model)
    light, heavy = (by_weight[0][1], by_weight[-1][1]) if len(by_weight) > 1 else (0, 1)
    told = {"opens": [heavy, light], "idea": say(_difference(rows, names, heavy, light)), "failed": False}
    words = {"names": say_all(names), "message": say(message), "more": say(more)}
    return to_json(words | {"rows": [_row(row) for row in rows]} | told)


def _difference(rows: Sequence[TokenLosses], names: Sequence[str], heavy: int, light: int) -> str:
    """Say by how much the losses of two models differ on all tokens of prompts, and on all of answers."""
    differences: dict[bool, list[float]] = {False: [], True: []}
    for row in rows:
        pairs = zip(row.tokens[1:], row.losses[heavy], row.losses[light], strict=True)
        for (_, _, _, is_trained, _), more, less in pairs:
            differences[bool(is_trained)].append(more - less)
    means = {of: sum(each) / len(each) for of, each in differences.items() if each}
    figures = {of: f"{mean:+.2f}".replace("-", MINUS) for of, mean in means.items()}
    told = [
        say(f"{figures[of]} on the {what}") for of, what in ((False, "prompts"), (True, "answers")) if of in figures
    ]
    both = f" {say('and')} ".join(told)
    return (
        f"{names[heavy]} {MINUS} {names[light]}, in nats a token on average over these rows: {both}. "
        f"Blue tokens are likelier under {names[heavy]}, orange ones less likely; pale ones are alike."
    )


def _row(row: TokenLosses) -> dict:
    tokens = [[text, KINDS[kind], index, int(trained), breaks] for text, kind, index, trained, breaks in row.tokens]
    likeliest = [
        [[[visible(text), round(share, 5)] for text, share in place] for place in model] for model in row.likeliest
    ]
    rounded = [[round(loss, 4) for loss in model] for model in row.losses]
    about = {"row": row.row, "source": row.source, "tokens": tokens, "losses": rounded, "ranks": row.ranks}
    return about | {"likeliest": likeliest}


def film_message(message: str, failed: bool = False) -> str:
    """Return a film without frames."""
    return to_json({"arms": [], "rows": [], "message": say(message), "failed": failed})


def film_frames(rows: Sequence[FilmRow], frames: Sequence[Frame], message: str, whole: bool = False) -> str:
    """Return the frames of a film, arm by arm, as far as they are known. With `whole`, all are, and the moments are
    told."""
    arms = [list(group) for _, group in groupby(frames, key=lambda frame: frame.prompt_loss_weight)]
    drawn = [
        {
            "name": say(column_name(arm[0].prompt_loss_weight)),
            "moments": [say(f"{each[0].upper()}{each[1:]}.") for each in moments(arm)] if whole else [],
            "frames": [frame.to_dict() for frame in arm],
        }
        for arm in arms
    ]
    tokens = [
        {
            "row": row.row,
            "question": row.question,
            "tokens": [[text, KINDS[kind], index, int(on), breaks] for text, kind, index, on, breaks in row.tokens],
        }
        for row in rows
    ]
    return to_json({"arms": drawn, "rows": tokens, "message": say(message), "failed": False})


def history(
    runs: Sequence[PastRun], problems: Sequence[str], shown: str | None, message: str, begun: Sequence[Begun] = ()
) -> str:
    """Return summaries of earlier runs, in the given order, after those that have `begun` and were killed. `shown` is
    the name of the run that the page shows, and `problems` are sentences on runs that cannot be read."""
    drawn = [*map(_summary_of_begun, begun), *map(_summary, runs)]
    most = {"most_name": MOST_NAME, "most_note": MOST_NOTE}
    return to_json({"runs": drawn, "problems": say_all(problems), "shown": shown, "message": say(message)} | most)


def run_title(run: PastRun) -> str:
    """Return a run's name, if it has one, its model, weights and number of rows in a few words."""
    called = [f"“{run.label.name}”"] if run.label.name else []
    what = f"{say(run.rows)}: {model_words(run.model)}" if run.rows else model_words(run.model)
    begun = [say("trained on")] if run.start else []
    names = f" {say('against')} ".join(say(column_name(weight)) for weight in run.weights)
    return ", ".join([*called, what, *begun, names, say(f"{run.examples} {plural(run.examples, 'row')}")])


def _summary(run: PastRun) -> dict:
    told = {name: value for name, value in run.settings.items() if (name, value) != ("steps", run.steps)}
    settings = ", ".join(f"{say(name.replace('_', ' '))} {_short(setting_text(value))}" for name, value in told.items())
    what = "held-out loss on the answers" if run.figures else "loss on the trained tokens"
    ends = ", ".join(f"{curve[0]:.2f} → {curve[-1]:.2f}" for curve in run.curves if curve)
    return {
        "id": run.name,
        "when": say(when(run.finished)),
        "title": run_title(run),
        "detail": say(f"{run.steps} {plural(run.steps, 'step')}, {duration(run.seconds)}")
        + (f" · {settings}" if settings else ""),
        "result": say(f"{what}: {ends} · {_endings(run)}"),
        "curve": say(f"{what}, step by step: {ends}"),
        "curves": [[round(loss, 4) for loss in curve] for curve in run.curves],
        "name": run.label.name,
        "note": run.label.note,
        "go_on": "" if run.left is None else say(f"Go on: {run.left:,} {plural(run.left, 'step')} left"),
        "is_saved": True,
    }


def _summary_of_begun(begun: Begun) -> dict:
    rows, steps = len(begun.data.train), begun.config.steps
    return {
        "id": begun.folder.name,
        "when": say("not finished"),
        "title": say(
            f"{model_words(begun.config.model)}, {column_name(begun.config.prompt_loss_weight)}, {rows:,} "
            f"{plural(rows, 'row')}"
        ),
        "detail": say(
            f"It was killed; the last checkpoint is that of step {begun.step}{f' of {steps}' if steps else ''}."
        ),
        "result": "",
        "curve": "",
        "curves": [],
        "name": "",
        "note": "",
        "go_on": say("Go on"),
        "is_saved": False,
    }


def _short(value: str) -> str:
    text = value.replace("\n", "↵")
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "…"


def _endings(run: PastRun) -> str:
    columns = [_columns(each) for each in run.comparisons]
    names = [say(column_name(weight)) for weight in (None, *run.weights)]
    ended = [sum(column[index][1] == "EOS" for column in columns) for index in range(len(names))]
    counts = ", ".join(f"{name} {count}" for name, count in zip(names, ended, strict=True))
    return f"answers that ended by themselves, of {len(columns)}: {counts}"
