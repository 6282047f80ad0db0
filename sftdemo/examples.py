"""Reads instruction/output examples from pasted text or a file: JSON array, JSON Lines or CSV.

Three shapes, told apart row by row: `instruction`/`output` with an optional `input` (Alpaca's), `prompt`/`completion`
(used verbatim) and `messages` (chat). A row may carry `held_out: true`: it is never trained, its prompt is answered
before and after the training.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import DataError

MAX_BYTES = 64 * 2**20
ROLES = ("system", "user", "assistant", "tool")
_SHAPES = '"instruction" and "output", "prompt" and "completion", or "messages"'
_SHAPE_COLUMNS = (("messages",), ("prompt", "completion"), ("instruction", "input", "output"))


@dataclass(frozen=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """One row, in one of three shapes: `messages`, a verbatim `prompt`, or an `instruction` with its `input`.

    `row` counts from 0 over all rows of the source, refused ones included. `line` is the row's line in JSON Lines,
    counted from 1. A held-out row may have an empty `completion`.
    """

    row: int
    completion: str
    instruction: str = ""
    input: str = ""
    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    held_out: bool = False
    line: int | None = None


@dataclass(frozen=True)
class Problem:
    """A row that was refused, and the sentence that says why and what to write instead."""

    row: int
    line: int | None
    message: str

    def __str__(self) -> str:
        where = f"row {self.row}" if self.line is None else f"row {self.row} (line {self.line})"
        return f"{where}: {self.message}"


@dataclass(frozen=True)
class ParsedExamples:
    """What a source held: the rows to train on, the held-out ones, the refused ones, and remarks on the rest."""

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


class _Refused(Exception):
    """Why a row is refused; caught in `parse_examples`, which knows the row."""


def read_examples(path: str | Path) -> ParsedExamples:
    """Reads a UTF-8 file, with or without a byte-order mark.

    Raises:
        DataError: when the file cannot be read, is larger than `MAX_BYTES` (checked before it is read), is not
            UTF-8, or holds no row at all.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes; the limit is {MAX_BYTES:,}. Split the file.")
        with path.open("rb") as file:  # a pipe says 0 bytes: read no more than the limit from it either
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{path} has more than {MAX_BYTES:,} bytes, the limit. Split the file.")
    try:
        return parse_examples(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} is not UTF-8: byte 0x{data[error.start]:02x} in line {line}. Save the file as UTF-8."
        ) from error


def parse_examples(text: str) -> ParsedExamples:
    """Reads pasted text. Good rows survive beside bad ones; every refusal names its row.

    Raises:
        DataError: when the text is longer than `MAX_BYTES` or holds no row at all.
    """
    if len(text) > MAX_BYTES:
        raise DataError(f"the text has {len(text):,} characters; the limit is {MAX_BYTES:,}. Split it.")
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise DataError(f"there are no examples yet. Write rows with {_SHAPES}, as a JSON array, JSON Lines or CSV.")
    train, held_out, problems, ignored, notes = [], [], [], {}, []
    for row, line, record in _records(text):
        if isinstance(record, _Refused):
            problems.append(Problem(row, line, str(record)))
            continue
        try:
            example, unused = _example(row, line, record)
        except _Refused as reason:
            problems.append(Problem(row, line, str(reason)))
            continue
        for column in unused:
            ignored[column] = ignored.get(column, 0) + 1
        (held_out if example.held_out else train).append(example)
        left_out = _turns_left_out(record)
        if left_out:
            notes.append(f"row {row}: {left_out} turn(s) after the last assistant turn are left out.")
    if ignored:
        columns = ", ".join(f"{name!r} ({count} rows)" for name, count in ignored.items())
        notes.insert(0, f"columns not used: {columns}.")
    return ParsedExamples(tuple(train), tuple(held_out), tuple(problems), tuple(notes))


def _records(text: str) -> Iterator[tuple[int, int | None, object]]:
    """Yields (row, line, record); a `_Refused` in the record's place for what could not be parsed."""
    start = text.lstrip()[0]
    if start == "[":
        yield from _json_array(text)
    elif start == "{":
        yield from _json_lines(text)
    else:
        yield from _csv(text)


def _json_array(text: str) -> Iterator[tuple[int, None, object]]:
    decoder, space = json.JSONDecoder(), re.compile(r"\s*")
    position = space.match(text, text.index("[") + 1).end()
    row = 0
    while position < len(text) and text[position] != "]":
        try:
            record, position = decoder.raw_decode(text, position)
            position = space.match(text, position).end()
            if position < len(text) and text[position] not in ",]":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
            yield row, None, record
            if position < len(text) and text[position] == ",":
                position = space.match(text, position + 1).end()
        except (json.JSONDecodeError, RecursionError) as error:
            yield row, None, _not_json(error)
            # go on at the next line that opens an object, so that one slip does not take the rows below it along
            following = re.compile(r"\n\s*(?=\{)").search(text, max(position, getattr(error, "pos", position)))
            position = following.end() if following else len(text)
        row += 1
    if text[position + 1 :].strip():
        yield row, None, _Refused("stands after the closing ]. Put every row inside one array.")


def _json_lines(text: str) -> Iterator[tuple[int, int | None, object]]:
    try:  # one object over several lines is one row
        record = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        pass
    else:
        yield 0, 1, record
        return
    row = 0
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            yield row, line, json.loads(content)
        except (json.JSONDecodeError, RecursionError) as error:
            yield row, line, _not_json(error, in_line=True)
        row += 1


def _not_json(error: Exception, in_line: bool = False) -> _Refused:
    if isinstance(error, RecursionError):
        return _Refused("the JSON is nested too deeply; a row is a flat object.")
    where = f"column {error.colno}" if in_line else f"line {error.lineno}, column {error.colno}"
    return _Refused(f"not valid JSON at {where}: {error.msg}. Mind quotes, commas and escaped newlines (\\n).")


def _csv(text: str) -> Iterator[tuple[int, None, object]]:
    first_line = text.lstrip().split("\n", 1)[0]
    delimiter = max(",;\t", key=first_line.count)
    csv.field_size_limit(MAX_BYTES)
    reader = csv.DictReader(io.StringIO(text.lstrip("\n\r "), newline=""), delimiter=delimiter, strict=True)
    header = reader.fieldnames or []
    if not any(set(columns) & set(header) for columns in _SHAPE_COLUMNS):
        raise DataError(
            f"the text is neither JSON nor CSV with known columns: its first line is {_short(first_line)}. "
            f"Begin with [ or {{, or with a header line such as instruction,output."
        )
    row = 0
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield row, None, _Refused(f'not valid CSV near line {reader.line_num}: {error}. Quote cells with ".')
            return
        if None in record:
            record = _Refused(
                f'has {len(header) + len(record[None])} cells, the header {len(header)}. Quote cells with ".'
            )
        else:
            record = {name: value for name, value in record.items() if value is not None}
            if isinstance(record.get("messages"), str):
                try:
                    record["messages"] = json.loads(record["messages"])
                except (json.JSONDecodeError, RecursionError) as error:
                    record = _not_json(error)
        yield row, None, record
        row += 1


def _example(row: int, line: int | None, record: object) -> tuple[Example, list[str]]:
    """The example in a parsed record, and the names of the columns it does not use."""
    if not isinstance(record, dict):
        raise _Refused(f"is {_kind(record)}, not an object. Write {_SHAPES}.")
    held_out = _held_out(record)
    shape = next((columns for columns in _SHAPE_COLUMNS if columns[0] in record), None)
    if shape is None:
        found = ", ".join(map(_short, record)) or "no column"
        raise _Refused(f"has {found}; expected {_SHAPES}.")
    if shape == ("prompt", "completion") and isinstance(record["prompt"], list):  # TRL's conversational form
        completion = record.get("completion", [])
        if not isinstance(completion, list):
            raise _Refused('"prompt" is a list of messages, so "completion" must be one too.')
        fields = _chat(record["prompt"] + completion, held_out)
    elif shape == ("messages",):
        fields = _chat(record["messages"], held_out)
    elif shape == ("prompt", "completion"):
        fields = {"prompt": _text(record, "prompt"), "completion": _answer(record, "completion", held_out)}
    else:
        fields = {
            "instruction": _text(record, "instruction"),
            "input": "" if record.get("input") is None else _text(record, "input"),
            "completion": _answer(record, "output", held_out),
        }
    unused = [name for name in record if name not in (*shape, "held_out")]
    return Example(row=row, line=line, held_out=held_out, **fields), unused


def _text(record: dict, name: str) -> str:
    value = record[name]
    if not isinstance(value, str):
        raise _Refused(f'"{name}" is {_kind(value)}; write a string: "{name}": "…".')
    return _checked(value, name)


def _checked(value: str, name: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _Refused(
            f'"{name}" has half of a character at position {error.start} (\\u{ord(value[error.start]):04x}); '
            "write the character itself or both halves of its escape."
        ) from None
    return value


def _answer(record: dict, name: str, held_out: bool) -> str:
    """A string, or a list of strings joined by a blank line."""
    if record.get(name) is None:
        if held_out:
            return ""
        raise _Refused(f'has no "{name}"; write the answer to learn: "{name}": "…".')
    value = record[name]
    if not isinstance(value, list):
        return _text(record, name)
    if not value:
        raise _Refused(f'"{name}" is an empty list; write at least one string in it.')
    for index, part in enumerate(value):
        if not isinstance(part, str):
            raise _Refused(f'"{name}"[{index}] is {_kind(part)}; write a string.')
    return _checked("\n\n".join(value), name)


def _chat(turns: object, held_out: bool) -> dict:
    """Splits a conversation at its last assistant turn, which is the completion."""
    messages = _messages(turns)
    answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
    if held_out and (not messages or messages[-1].role != "assistant"):
        return {"messages": tuple(messages), "completion": ""}
    if not answers:
        raise _Refused('"messages" has no turn with "role": "assistant", so there is nothing to learn; add the answer.')
    if answers[-1] == 0:
        raise _Refused('"messages" begins with its only assistant turn; put the user\'s turn before it.')
    return {"messages": tuple(messages[: answers[-1]]), "completion": messages[answers[-1]].content}


def _messages(turns: object) -> list[Message]:
    if not isinstance(turns, list) or not turns:
        raise _Refused(f'"messages" is {_kind(turns)}; write a list of {{"role": …, "content": …}}.')
    messages = []
    for index, turn in enumerate(turns):
        if not isinstance(turn, dict) or not isinstance(turn.get("content"), str):
            raise _Refused(f'"messages"[{index}] has no text; write {{"role": "user", "content": "…"}}.')
        if turn.get("role") not in ROLES:
            raise _Refused(f'"messages"[{index}] has the role {_short(turn.get("role"))}; use {", ".join(ROLES)}.')
        messages.append(Message(turn["role"], _checked(turn["content"], f"messages[{index}].content")))
    return messages


def _turns_left_out(record: dict) -> int:
    turns = record.get("messages")
    if not isinstance(turns, list) or _held_out(record):
        return 0
    roles = [turn["role"] for turn in turns]
    return roles[::-1].index("assistant")


def _held_out(record: dict) -> bool:
    value = record.get("held_out", False)
    if isinstance(value, str) and value.strip().lower() in ("true", "1", "false", "0", ""):  # CSV
        return value.strip().lower() in ("true", "1")
    if not isinstance(value, bool) and value is not None:
        raise _Refused(f'"held_out" is {_short(value)}; write true or false.')
    return bool(value)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return f"the {'number ' if not isinstance(value, bool) else ''}{json.dumps(value)}"
    if isinstance(value, str):
        return f"the text {_short(value)}"
    return {list: "an empty list" if not value else "a list", dict: "an object"}[type(value)]


def _short(value: object) -> str:
    text = value if isinstance(value, str) else str(value)
    return json.dumps(text if len(text) <= 60 else text[:59] + "…", ensure_ascii=False)
