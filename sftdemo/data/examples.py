"""Reads instruction/output examples from pasted text or a file: JSON array, JSON Lines or CSV.

Three shapes, told apart row by row: `instruction`/`output` with an optional `input` (Alpaca's), `prompt`/`completion`
(used verbatim) and `messages` (chat). A row may carry `held_out: true`: it is never trained, its prompt is answered
before and after the training. A row may also carry a `mask` made by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..core.errors import DataError
from .records import MAX_BYTES, SHAPE_COLUMNS, Refused, file_lines, kind_of, short, split_lines, split_records

ROLES = ("system", "user", "assistant", "tool")
_SHAPES = '"instruction" and "output", "prompt" and "completion", or "messages"'


@dataclass(frozen=True)
class Message:
    """A turn of a conversation. `role` is one of `ROLES`."""

    role: str
    content: str


@dataclass(frozen=True)
class HandMask:
    """A mask made by hand: which characters of a row's whole text are trained, instead of the answer.

    Args:
        text (`str`):
            The text that was marked, prompt and completion. On any other text the mask is not used.
        trained (`tuple[tuple[int, int], ...]`):
            (begin, end) in `text`, in order, not touching. A token that holds one of these characters is trained.
        eos (`bool`):
            Whether the EOS that ends the completion is trained.
    """

    text: str
    trained: tuple[tuple[int, int], ...]
    eos: bool

    @classmethod
    def of(cls, text: str, characters: set[int], eos: bool) -> HandMask:
        """The mask that trains the characters with these positions."""
        edges = [i for i in range(len(text) + 1) if (i in characters) != (i - 1 in characters)]
        return cls(text, tuple(zip(edges[::2], edges[1::2], strict=True)), eos)

    def to_record(self) -> dict:
        return {"text": self.text, "trained": [list(span) for span in self.trained], "eos": self.eos}


@dataclass(frozen=True, slots=True)
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
    mask: HandMask | None = None


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

    train: Sequence[Example]
    held_out: tuple[Example, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


class StreamedExamples(Sequence[Example]):
    """The rows to train on of a JSON Lines file that are read anew each time someone goes through them. Only rows
    near the beginning should be asked for by their index."""

    def __init__(self, path: Path, count: int):
        self._path, self._count = path, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Example]:
        return _Reading().train(split_lines(file_lines(self._path)))

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        begin, end, step = (index if isinstance(index, slice) else slice(index, index + 1)).indices(self._count)
        rows = list(islice(self, begin, end, step))
        return rows if isinstance(index, slice) else rows[0]


def open_examples(path: str | Path) -> ParsedExamples:
    """As `read_examples`; but of a file named `.jsonl` with more than `MAX_BYTES`, the rows to train on stay on the
    disk (`StreamedExamples`), and there is no limit. Raises as `read_examples` does."""
    path = Path(path)
    if path.suffix != ".jsonl" or not path.is_file() or path.stat().st_size <= MAX_BYTES:
        return read_examples(path)
    reading = _Reading()
    count = sum(1 for _ in reading.train(split_lines(file_lines(path))))
    return reading.result(StreamedExamples(path, count))


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
    reading = _Reading()
    return reading.result(tuple(reading.train(split_records(text))))


class _Reading:
    """Goes through records and keeps what is not trained: the rows held out, the refused ones, the remarks."""

    def __init__(self):
        self._held_out, self._problems, self._ignored, self._notes = [], [], {}, []

    def train(self, records: Iterable[tuple[int, int | None, object]]) -> Iterator[Example]:
        """The examples to train on."""
        for row, line, record in records:
            try:
                if isinstance(record, Refused):
                    raise record
                example, unused = _example(row, line, record)
            except Refused as reason:
                self._problems.append(Problem(row, line, str(reason)))
                continue
            for column in unused:
                self._ignored[column] = self._ignored.get(column, 0) + 1
            left_out = _turns_left_out(record)
            if left_out:
                self._notes.append(f"row {row}: {left_out} turn(s) after the last assistant turn are left out.")
            if example.held_out:
                self._held_out.append(example)
            else:
                yield example

    def result(self, train: Sequence[Example]) -> ParsedExamples:
        columns = ", ".join(f"{name!r} ({count} rows)" for name, count in self._ignored.items())
        notes = [f"columns not used: {columns}."] * bool(columns) + self._notes
        return ParsedExamples(train, tuple(self._held_out), tuple(self._problems), tuple(notes))


def _example(row: int, line: int | None, record: object) -> tuple[Example, list[str]]:
    """The example in a parsed record, and the names of the columns it does not use."""
    if not isinstance(record, dict):
        raise Refused(f"is {kind_of(record)}, not an object. Write {_SHAPES}.")
    held_out = _held_out(record)
    shape = next((columns for columns in SHAPE_COLUMNS if columns[0] in record), None)
    if shape is None:
        found = ", ".join(map(short, record)) or "no column"
        raise Refused(f"has {found}; expected {_SHAPES}.")
    if shape == ("prompt", "completion") and isinstance(record["prompt"], list):  # TRL's conversational form
        completion = record.get("completion", [])
        if not isinstance(completion, list):
            raise Refused('"prompt" is a list of messages, so "completion" must be one too.')
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
    unused = [name for name in record if name not in (*shape, "held_out", "mask")]
    return Example(row=row, line=line, held_out=held_out, mask=_mask(record.get("mask")), **fields), unused


def _mask(value: object) -> HandMask | None:
    if value is None or value == "":  # the latter in CSV
        return None
    wanted = '{"text": …, "trained": [[begin, end], …], "eos": true}'
    if not isinstance(value, dict) or not isinstance(value.get("text"), str) or "trained" not in value:
        raise Refused(f'"mask" is {kind_of(value)}; write {wanted}, or leave it out.')
    characters: set[int] = set()
    for span in value["trained"] if isinstance(value["trained"], list) else [value["trained"]]:
        numbers = isinstance(span, list) and len(span) == 2 and all(type(number) is int for number in span)
        if not numbers or not 0 <= span[0] < span[1] <= len(value["text"]):
            raise Refused(
                f'"mask" trains {short(span)}; write [begin, end] with 0 ≤ begin < end ≤ {len(value["text"])}, '
                'characters of its "text".'
            )
        characters.update(range(*span))
    eos = value.get("eos", True)
    if not isinstance(eos, bool):
        raise Refused(f'"mask" has "eos" {short(eos)}; write true or false.')
    return HandMask.of(_checked(value["text"], "mask.text"), characters, eos)


def _text(record: dict, name: str) -> str:
    value = record[name]
    if not isinstance(value, str):
        raise Refused(f'"{name}" is {kind_of(value)}; write a string: "{name}": "…".')
    return _checked(value, name)


def _checked(value: str, name: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Refused(
            f'"{name}" has half of a character at position {error.start} (\\u{ord(value[error.start]):04x}); '
            "write the character itself or both halves of its escape."
        ) from None
    return value


def _answer(record: dict, name: str, held_out: bool) -> str:
    """A string, or a list of strings joined by a blank line."""
    if record.get(name) is None:
        if held_out:
            return ""
        raise Refused(f'has no "{name}"; write the answer to learn: "{name}": "…".')
    value = record[name]
    if not isinstance(value, list):
        return _text(record, name)
    if not value:
        raise Refused(f'"{name}" is an empty list; write at least one string in it.')
    for index, part in enumerate(value):
        if not isinstance(part, str):
            raise Refused(f'"{name}"[{index}] is {kind_of(part)}; write a string.')
    return _checked("\n\n".join(value), name)


def _chat(turns: object, held_out: bool) -> dict:
    """Splits a conversation at its last assistant turn, which is the completion."""
    messages = _messages(turns)
    answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
    if held_out and (not messages or messages[-1].role != "assistant"):
        return {"messages": tuple(messages), "completion": ""}
    if not answers:
        raise Refused('"messages" has no turn with "role": "assistant", so there is nothing to learn; add the answer.')
    if answers[-1] == 0:
        raise Refused('"messages" begins with its only assistant turn; put the user\'s turn before it.')
    return {"messages": tuple(messages[: answers[-1]]), "completion": messages[answers[-1]].content}


def _messages(turns: object) -> list[Message]:
    if not isinstance(turns, list) or not turns:
        raise Refused(f'"messages" is {kind_of(turns)}; write a list of {{"role": …, "content": …}}.')
    messages = []
    for index, turn in enumerate(turns):
        if not isinstance(turn, dict) or not isinstance(turn.get("content"), str):
            raise Refused(f'"messages"[{index}] has no text; write {{"role": "user", "content": "…"}}.')
        if turn.get("role") not in ROLES:
            raise Refused(f'"messages"[{index}] has the role {short(turn.get("role"))}; use {", ".join(ROLES)}.')
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
        raise Refused(f'"held_out" is {short(value)}; write true or false.')
    return bool(value)


def to_record(example: Example) -> dict:
    """The example as a row that `parse_examples` reads back."""
    if example.prompt is not None:
        record = {"prompt": example.prompt, "completion": example.completion}
    elif example.messages:
        turns = [{"role": turn.role, "content": turn.content} for turn in example.messages]
        answered = bool(example.completion) or not example.held_out
        record = {"messages": [*turns, {"role": "assistant", "content": example.completion}] if answered else turns}
    else:
        record = {"instruction": example.instruction, "input": example.input, "output": example.completion}
        record = {name: value for name, value in record.items() if value or name != "input"}
    held_out = {"held_out": True} if example.held_out else {}
    return record | held_out | ({"mask": example.mask.to_record()} if example.mask else {})
