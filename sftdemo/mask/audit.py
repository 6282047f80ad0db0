"""Check the masked rows before training. Each finding says what is wrong, where, why it matters and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from ..core.text import plural
from ..data.examples import Example, Problem
from .checks import CHECKS, SEVERITIES, Finding
from .encoding import Span
from .labels import MaskedExample, Masker, MaskHash, trained_spans
from .layouts import Sharing, padded

ROWS_NAMED = 20
LOW_SHARE = 0.10  # of all tokens; below it, almost all the work of a step goes into prompts
HIGH_PADDING = 0.30  # of all positions, if batches are padded
MOSTLY = 0.5  # of the rows; above it, the cause is the data as a whole and not a slip in a few rows


class Audit:
    """Collect masked rows one by one and derive the findings. Only a few numbers per row are kept, no text, and the
    input_ids of the current batch.

    `examples`, `tokens`, `trained` and `mask_hash` cover all rows. The lists have an item for each sequence with a
    trained token, because no other is trained. `rows` are their row numbers and `lengths` their numbers of tokens
    before `max_length` cuts them. `spans` are the runs of trained tokens within those lengths. `fresh` counts the
    tokens that no earlier sequence of the same batch has computed; see `Sharing`. `ends` are all ids that are trained
    as the end of an answer.

    Args:
        batch_size, max_length (`int`):
            Sequences per step, and the most tokens that a sequence keeps. They set the share of padding and `fresh`.
        held_out (`Iterable[Example]`, *optional*):
            Examples whose prompts are answered before and after training, and which must not be trained.
    """

    def __init__(self, batch_size: int, max_length: int, held_out: Iterable[Example] = ()):
        self.batch_size, self.max_length = batch_size, max_length
        self.examples = self.tokens = self.trained = 0
        self.mask_hash = MaskHash()
        self.rows: list[int] = []
        self.lengths: list[int] = []
        self.spans: list[tuple[Span, ...]] = []
        self.fresh: list[int] = []
        self._sharing = Sharing(batch_size)
        self.ends: set[int] = set()
        self._found: dict[str, list[int]] = {}
        self._details: dict[str, tuple[str, int]] = {}  # the first, and how many there are
        self._most_cut, self._eos = 0, False
        self._asked = {hash(_prompt_key(example)) for example in held_out}
        self._answers: dict[int, list[tuple[int, int]]] = {}  # hash of a prompt -> (row, hash of its answer)

    def review(
        self, examples: Sequence[Example], masker: Masker
    ) -> Iterator[tuple[Example, tuple[MaskedExample, ...] | Problem]]:
        """Mask and check the examples. Yield each with its sequences, or with the reason why it has none."""
        for example, masked in zip(examples, masker.mask(examples), strict=True):
            for sequence in () if isinstance(masked, Problem) else masked:
                self.add(example, sequence)
            yield example, masked

    def add(self, example: Example, masked: MaskedExample) -> None:
        """Check one more sequence. Those of a row must come in order."""
        trained = masked.trained
        self.ends.update(masked.ends)
        self.tokens += len(masked.input_ids)
        self.trained += trained
        self.mask_hash.add(masked)
        if trained:
            self.rows.append(example.row)
            self.lengths.append(len(masked.input_ids) + masked.cut)
            self.spans.append(trained_spans(masked.labels + masked.cut_labels))
            self.fresh.append(self._sharing.add(masked.input_ids))
        checks = set(masked.flags)
        if "too_long" in checks:
            checks -= {"prompt_too_long", "nothing_trained", "answer_cut", "eos_cut"}
        if "prompt_too_long" in checks:
            checks -= {"nothing_trained", "answer_cut", "eos_cut"}
        if "answer_cut" in checks:
            checks.discard("eos_cut")
            self._most_cut = max(self._most_cut, masked.cut - ("no_eos" not in checks))
            self._eos |= "no_eos" not in checks
        if checks & {"eos_typed", "role_marker"}:
            checks.discard("special_text")
        if masked.part == 0:
            self.examples += 1
            prompt, answer = hash(_prompt_key(example)), hash((example.completion, example.answer, example.tokens))
            if prompt in self._asked:
                checks.add("held_out_trained")
            self._answers.setdefault(prompt, []).append((example.row, answer))
        for check, details in masked.notes:
            first, count = self._details.get(check, (details, 0))
            self._details[check] = first, count + 1
        for check in checks:
            self._note(check, example.row)

    def _note(self, check: str, row: int) -> None:
        rows = self._found.setdefault(check, [])
        if rows[-1:] != [row]:  # or it is another sequence of the same row
            rows.append(row)

    def findings(self) -> list[Finding]:
        """Return the findings so far: first whether the trained model will stop, then the most severe."""
        found = [self._finding(check, rows) for check, rows in self._found.items()]
        for check, rows in self._repeated().items():
            if rows:
                found.append(self._finding(check, sorted(rows)))
        if self.tokens and 0 < self.trained / self.tokens < LOW_SHARE:
            share = f"only {self.trained / self.tokens:.1%} of all tokens are trained"
            found.append(self._finding("low_share", [], share))
        padding = padded(self.lengths, self.batch_size, self.max_length)
        if len(self.lengths) > 1 and 1 - padding.fill > HIGH_PADDING:
            share = f"padded, {1 - padding.fill:.0%} of all positions would be padding"
            found.append(self._finding("padding", [], share))
        order = list(CHECKS)
        return sorted(
            found,
            key=lambda each: (each.check != "stop_differs", SEVERITIES.index(each.severity), order.index(each.check)),
        )

    def flagged(self, check: str | None = None) -> frozenset[int]:
        """Return the rows of one finding, or by default of all."""
        found = self._found | self._repeated()
        return frozenset(found.get(check, ()) if check else chain.from_iterable(found.values()))

    def _repeated(self) -> dict[str, list[int]]:
        """Return the rows that occur more than once, and the rows whose prompt has a different answer elsewhere."""
        duplicates: list[int] = []
        conflicting: list[int] = []
        for rows in self._answers.values():
            if len(rows) > 1:
                copies = Counter(answer for _, answer in rows)
                duplicates += [row for row, answer in rows if copies[answer] > 1]
                conflicting += [row for row, _ in rows] if len(copies) > 1 else []
        return {"duplicates": duplicates, "conflicting_answers": conflicting}

    def _finding(self, check: str, rows: list[int], what: str = "") -> Finding:
        known = CHECKS[check]
        severity, count = known.severity, len(rows)
        if check in ("answer_cut", "eos_cut", "end_untrained", "end_missing") and count >= MOSTLY * self.examples:
            severity = "error"
        if check == "answer_cut":
            tokens = f"{self._most_cut:,} {plural(self._most_cut, 'token')}"
            what = f"{known.what}, by up to {tokens}{' and EOS' if self._eos else ''}"
        if check in self._details:
            details, times = self._details[check]
            more = f"{details} (and {times - 1:,} more)"
            what = f"{known.what}: {more if times > 1 else details}"
        return Finding(check, severity, what or known.what, known.why, known.remedy, count, tuple(rows[:ROWS_NAMED]))


def _prompt_key(example: Example) -> str:
    """Return a key that is equal for prompts that a reader would call the same. Only case, whitespace and punctuation
    at the end are ignored, since "2+2" and "2-2" differ in one character."""
    if example.tokens:
        return repr(example.tokens.prompt_ids)
    if example.whole:
        return example.completion
    parts = [message.text + message.extra for message in example.messages]
    parts += [example.context] if example.context else []
    parts = parts or [example.prompt or "", example.instruction, example.input]
    return "\0".join(_bare(" ".join(part.split()).casefold()) for part in parts)


def _bare(text: str) -> str:
    return text.rstrip(" .?!:;,\"'") or text
