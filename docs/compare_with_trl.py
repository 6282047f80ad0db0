"""What TRL trains of a conversation, next to what generation asks for: the table in trl.md.

    python docs/compare_with_trl.py                 # the table
    python docs/compare_with_trl.py qwen3 gptoss    # those templates, every difference with its text

TRL's side is its own `SFTTrainer`, made on a tiny model for each conversation; the other side is the rule in
tests/law.py, which shares no code with TRL or with sftdemo. Nothing is downloaded.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import NamedTuple

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from law import IGNORED, Refused, Sequence, common, forms, law
from marked import ends_of, marked_tokenizer, names, stops_of
from talks import says, talks, user
from tiny import tiny_llama

MESSAGES = ("one turn", "three turns", "spaces", "empty turns", "reasoning twice", "a call, object", "emoji")
LISTS = ("one completion", "two completions")
ALWAYS = ("typed", "weights")
# in the order in which the page explains them
KINDS = (
    *("end", "history", "answer", "left out", "between turns"),
    *("header", "after the end", "boundary", "no exact answer", "switched off", "refused"),
)


class Turn(NamedTuple):
    """A trained stretch: what stands before it, and the ids that are trained."""

    context: tuple[int, ...]
    answer: tuple[int, ...]


class Compared(NamedTuple):
    """What one conversation trains on both sides, and the kinds of difference."""

    right: list[str]
    trl: list[str]
    kinds: set[str]


def rows_of(name: str) -> dict[str, dict]:
    """The conversations, in the form that the template wants: content as parts, an object of arguments or a text."""
    tokenizer, rows = marked_tokenizer(name), talks(ends_of(name)[0])
    rows["one completion"] = {"prompt": [user("Name a fruit.")], "completion": [says("A cherry.")]}
    chosen = {}
    for title in (*MESSAGES, *LISTS, *ALWAYS):
        row = dict(rows[title])
        for key in ("messages", "prompt", "completion"):
            if key in row:
                row[key] = next(forms(tokenizer, row[key]))
        chosen[title] = row
    return chosen


# --- The two sides ---------------------------------------------------------------------------------------------------


def turns_of(sequences: list[Sequence]) -> list[Turn]:
    """The trained stretches of sequences."""
    turns = []
    for ids, labels in sequences:
        begin = None
        for place, label in enumerate((*labels, IGNORED)):
            if label != IGNORED and begin is None:
                begin = place
            elif label == IGNORED and begin is not None:
                turns.append(Turn(tuple(ids[:begin]), tuple(ids[begin:place])))
                begin = None
    return turns


def right_side(name: str, row: dict) -> tuple[list[Turn], set[str]] | None:
    """The turns by the rule, and what has to be told of them; None when the template refuses the row."""
    messages = row.get("messages") or [*row["prompt"], *row["completion"]]
    tools = {"tools": row["tools"]} if "tools" in row else {}
    try:
        verdict = law(marked_tokenizer(name), messages, stops=stops_of(name), first=len(row.get("prompt", [])), **tools)
    except Refused:
        return None
    return turns_of(verdict.sequences), verdict.told


@cache
def _model(name: str):
    return tiny_llama(marked_tokenizer(name))


def trl_side(name: str, row: dict) -> list[Sequence] | None:
    """TRL's training sequence; None when the template refuses the row."""
    from datasets import Dataset
    from jinja2 import TemplateError
    from trl import SFTConfig, SFTTrainer

    listed = "prompt" in row
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            assistant_only_loss=not listed,
            completion_only_loss=listed,
            max_length=None,
            use_cpu=True,
            bf16=False,
            report_to=[],
        )
        try:
            trainer = SFTTrainer(
                _model(name), settings, train_dataset=Dataset.from_list([row]), processing_class=marked_tokenizer(name)
            )
        except (TemplateError, TypeError):
            return None
    return [Sequence(tuple(each["input_ids"]), tuple(each["labels"])) for each in trainer.train_dataset]


# --- Their difference ------------------------------------------------------------------------------------------------


def _missing(
    turn: Turn, ids: tuple[int, ...], labels: tuple[int, ...], stops: frozenset[int], merged: bool
) -> str | None:
    """How TRL's sequence trains a right turn: None when it does, else the kind of difference."""
    begin = len(turn.context)
    if ids[:begin] != turn.context:
        if common(list(ids), list(turn.context)) < begin - 1:
            return "history"
        return "boundary" if merged else "answer"
    for place, token in enumerate(turn.answer, begin):
        if place >= len(ids) or ids[place] != token:
            last = place == begin + len(turn.answer) - 1
            return "end" if last and token in stops else "answer"
        if labels[place] == IGNORED:
            return "left out"
    return None


def _extra(turns: list[Turn], ids: tuple[int, ...], labels: tuple[int, ...], place: int, listed: bool) -> str | None:
    """Why a token that TRL trains is none of a right turn: None where `_missing` tells of it already."""
    wholes = [(len(turn.context), turn.context + turn.answer) for turn in turns]
    if any(begin <= place < len(whole) and ids[:place] == whole[:place] for begin, whole in wholes):
        return None
    ends = [len(whole) for _, whole in wholes if ids[: len(whole) - 1] == whole[:-1]]
    last = max((end for end in ends if end <= place), default=None)
    directly = last is not None and IGNORED not in labels[last : place + 1]
    if directly and (not listed or last == max(ends)):
        return "after the end"
    begins = [begin for begin, whole in wholes if ids[:begin] == whole[:begin] and place < begin]
    return "header" if not listed and any(IGNORED not in labels[place:begin] for begin in begins) else None


def kinds_of(name: str, right: list[Turn], told: set[str], made: list[Sequence], listed: bool) -> set[str]:
    """The kinds of difference between the right turns and TRL's sequence."""
    ((ids, labels),) = made
    kinds = {_missing(turn, ids, labels, stops_of(name), "merged_boundary" in told) for turn in right}
    trained = [place for place, label in enumerate(labels) if label != IGNORED]
    kinds |= {_extra(right, ids, labels, place, listed) for place in trained}
    if listed and len(right) > len(turns_of(made)):
        kinds.add("between turns")
    kinds |= {"no exact answer"} if "prompt_not_continued" in told else {None}
    more = len(trained) > sum(len(turn.answer) for turn in right)
    return kinds - {None} or ({"switched off"} if more else set())


def compared(name: str, row: dict) -> Compared | None:
    """Both sides of a conversation; None when both refuse it."""
    tokenizer, right, made = marked_tokenizer(name), right_side(name, row), trl_side(name, row)
    if right is None and made is None:
        return None
    if right is None or made is None:
        return Compared(["refused"] * (right is None), ["refused"] * (made is None), {"refused"})
    turns, told = right
    return Compared(
        [tokenizer.decode(turn.answer) for turn in turns],
        [tokenizer.decode(turn.answer) for turn in turns_of(made)],
        kinds_of(name, turns, told, made, "prompt" in row),
    )


# --- The page --------------------------------------------------------------------------------------------------------


def templates() -> list[str]:
    """The stored templates that have a variant for training."""
    trained = set(names(training=True))
    return [name for name in names() if f"{name}_training" in trained]


def cell(results: list[Compared | None]) -> str:
    kinds = set().union(*(result.kinds for result in results if result))
    ordered = [kind for kind in KINDS if kind in kinds]
    return ", ".join(ordered) or "equal"


def line(name: str) -> str:
    """A template's line of the table."""
    rows = rows_of(name)
    cells = [cell([compared(name, rows[title]) for title in titles]) for titles in (MESSAGES, LISTS)]
    return f"| {name} | {cells[0]} | {cells[1]} |"


def details(name: str) -> str:
    """Every conversation of a template, with what both sides train."""
    texts = [f"## {name}"]
    for title, row in rows_of(name).items():
        result = compared(name, row)
        if result is None:
            texts.append(f"{title}: the template refuses it")
            continue
        texts.append(f"{title}: {cell([result])}")
        if result.kinds:
            texts += [f"  right {result.right!r}", f"  TRL   {result.trl!r}"]
    return "\n".join(texts)


def quiet() -> None:
    """Neither progress bars nor the libraries' advice."""
    import datasets

    datasets.disable_progress_bars()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def main(chosen: list[str]) -> None:
    quiet()
    if chosen:
        print("\n\n".join(details(name) for name in chosen))
        return
    print("| template | `assistant_only_loss` | `completion_only_loss` |\n|---|---|---|")
    for name in templates():
        print(line(name), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
