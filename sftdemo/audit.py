"""Looks the masked rows over before anything is trained: what is wrong, where, why it matters, what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from .examples import Example
from .packing import padded
from .prefixes import Sharing
from .tokenization import MaskedExample

ROWS_NAMED = 20
LOW_SHARE = 0.10  # of all tokens: below it a step's work goes almost all into prompts
HIGH_PADDING = 0.30  # of all positions, when batches are padded
MOSTLY = 0.5  # of the rows: what then is a pattern of the data and not a slip
SEVERITIES = ("error", "warning", "note")

# check: (severity, what, why, remedy)
_CHECKS = {
    "nothing_trained": (
        "error",
        "no token is trained",
        "A row without a trained token teaches nothing, so it is left out.",
        "Write an answer, or train a token in its mask.",
    ),
    "prompt_too_long": (
        "error",
        "the prompt alone reaches max length",
        "Nothing of the answer is left, so the row is left out.",
        "Raise max length, or shorten the prompt.",
    ),
    "no_eos": (
        "error",
        "the tokenizer has no EOS",
        "The model never learns to stop, and rambles on.",
        "Choose another model.",
    ),
    "mask_not_used": (
        "error",
        "a hand-made mask belongs to another text",
        "The row or the template has changed since, so the usual mask is used instead of yours.",
        "Mark the row anew, or go back to the text it was made for.",
    ),
    "answer_cut": (
        "warning",
        "the answer is cut by max length",
        "Its end and EOS are never trained: the model learns to break off, not to stop.",
        "Raise max length, or shorten the row.",
    ),
    "eos_cut": (
        "warning",
        "EOS is cut by max length",
        "The answer is whole, but the row never teaches the model to stop.",
        "Raise max length by one token.",
    ),
    "eos_untrained": (
        "warning",
        "EOS is not trained, by a hand-made mask",
        "The row never teaches the model to stop.",
        "Train its last token again.",
    ),
    "eos_typed": (
        "warning",
        "the answer ends in a special token's text",
        "Typed text stays text, and the real EOS is added by itself: the model learns to write these letters out.",
        "Delete them from the answer.",
    ),
    "turn_without_stop": (
        "warning",
        "an earlier assistant turn has no end token",
        "The chat template puts none there, so only the last turn teaches the model to stop.",
        "Choose a model whose chat template ends every turn.",
    ),
    "merged_boundary": (
        "warning",
        "a token merges across the end of the prompt",
        "Prompt and answer are tokenised apart, so that training sees what generation sees; other tools do not, and "
        "lose the answer's first token.",
        "End the template in a single newline.",
    ),
    "conflicting_answers": (
        "warning",
        "the same prompt has different answers",
        "Apart from case, spacing and closing punctuation the prompts are one: the model learns a mixture.",
        "Keep one of them, or tell the prompts apart.",
    ),
    "held_out_trained": (
        "warning",
        "a held-out prompt is trained as well",
        "The comparison after the training then shows memory, not learning.",
        "Take it out of either.",
    ),
    "empty_completion": (
        "warning",
        "the answer is empty or only whitespace",
        "The model learns to say nothing.",
        "Write an answer, or delete the row.",
    ),
    "empty_prompt": (
        "warning",
        "the prompt has no token",
        "Nothing predicts the answer's first token, so it is not trained.",
        "Write a prompt.",
    ),
    "low_share": (
        "warning",
        "few of all tokens are trained",
        "Nearly all of a step's work goes into prompts, and few tokens carry what is learned.",
        "Shorten the template or the prompts.",
    ),
    "duplicates": (
        "note",
        "the same example stands there more than once",
        "It weighs as often as it stands there.",
        "Delete the copies, unless that is meant.",
    ),
    "special_text": (
        "note",
        "the text looks like a special token",
        "It is tokenised as plain text: nothing that is typed becomes special.",
        "Nothing, if it is meant as text.",
    ),
    "padding": (
        "note",
        "padding would fill much of each batch",
        "A trainer that pads each batch to its longest row computes these positions and throws them away.",
        "Nothing here: with most models this trainer pads in attention only. Elsewhere turn on packing, or sort the "
        "rows by length.",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One thing to know before training.

    Args:
        check (`str`):
            Its name; a flag of `tokenization.FLAGS`, or one of the audit's own.
        severity (`str`):
            `"error"` (training is refused, unless it is asked for anyway), `"warning"` or `"note"`.
        what, why, remedy (`str`):
            What is so, why it matters, what to do.
        count (`int`):
            The rows concerned; 0 for a finding on the whole.
        rows (`tuple[int, ...]`):
            The first `ROWS_NAMED` of them.
    """

    check: str
    severity: str
    what: str
    why: str
    remedy: str
    count: int
    rows: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.what}{self.where}. {self.why} {self.remedy}"

    @property
    def where(self) -> str:
        """Such as " (rows 3, 7 and 12 more)"; nothing for a finding on the whole."""
        if not self.count:
            return ""
        named = ", ".join(map(str, self.rows[:5]))
        more = f" and {self.count - 5:,} more" if self.count > 5 else ""
        return f" ({'row' if self.count == 1 else 'rows'} {named}{more})"

    def to_dict(self) -> dict:
        return asdict(self) | {"rows": list(self.rows)}


class Audit:
    """Takes masked rows one by one and keeps what the findings need: some numbers a row, no text; of the batch at hand
    the ids.

    `tokens` and `trained` count over all rows. Of the rows that have a trained token, and so are trained, `rows` are
    the numbers, `lengths` the tokens before `max_length` cuts them, `trained_tokens` those that are trained, `fresh`
    those that no earlier row of its batch has computed, as `prefixes.Sharing` counts them.

    Args:
        batch_size, max_length (`int`):
            Examples a step and tokens an example keeps, for the padding's share and `fresh`.
        held_out (`Iterable[Example]`, *optional*):
            Examples that will be asked and must not be trained.
    """

    def __init__(self, batch_size: int, max_length: int, held_out: Iterable[Example] = ()):
        self.batch_size, self.max_length = batch_size, max_length
        self.examples = self.tokens = self.trained = 0
        self.rows: list[int] = []
        self.lengths: list[int] = []
        self.trained_tokens: list[int] = []
        self.fresh: list[int] = []
        self._sharing = Sharing(batch_size)
        self._found: dict[str, tuple[int, list[int]]] = {}
        self._most_cut, self._eos = 0, False
        self._asked = {hash(_prompt_key(example)) for example in held_out}
        self._answers: dict[int, list[tuple[int, int]]] = {}  # of a prompt: its rows and their answers

    def add(self, example: Example, masked: MaskedExample) -> None:
        """Looks at one more row."""
        trained = masked.trained
        self.examples += 1
        self.tokens += len(masked.input_ids)
        self.trained += trained
        if trained:
            self.rows.append(example.row)
            self.lengths.append(len(masked.input_ids) + masked.cut)
            self.trained_tokens.append(trained)
            self.fresh.append(self._sharing.add(masked.input_ids))
        checks = set(masked.flags)
        if "prompt_too_long" in checks:
            checks -= {"nothing_trained", "answer_cut", "eos_cut"}
        if "answer_cut" in checks:
            checks.discard("eos_cut")
            self._most_cut = max(self._most_cut, masked.cut - ("no_eos" not in checks))
            self._eos |= "no_eos" not in checks
        if "eos_typed" in checks:
            checks.discard("special_text")
        prompt, answer = hash(_prompt_key(example)), hash(example.completion)
        if prompt in self._asked:
            checks.add("held_out_trained")
        self._answers.setdefault(prompt, []).append((example.row, answer))
        for check in checks:
            if check in _CHECKS:
                self._note(check, example.row)

    def _note(self, check: str, row: int) -> None:
        count, rows = self._found.setdefault(check, (0, []))
        if len(rows) < ROWS_NAMED:
            rows.append(row)
        self._found[check] = (count + 1, rows)

    def findings(self) -> list[Finding]:
        """What there is to say so far, the worst first."""
        found = [self._finding(check, count, rows) for check, (count, rows) in self._found.items()]
        for check, rows in self._repeated().items():
            if rows:
                found.append(self._finding(check, len(rows), sorted(rows)[:ROWS_NAMED]))
        if self.tokens and 0 < self.trained / self.tokens < LOW_SHARE:
            share = f"only {self.trained / self.tokens:.1%} of all tokens are trained"
            found.append(self._finding("low_share", 0, [], share))
        padding = padded(self.lengths, self.batch_size, self.max_length)
        if len(self.lengths) > 1 and 1 - padding.fill > HIGH_PADDING:
            share = f"padded, {1 - padding.fill:.0%} of all positions would be padding"
            found.append(self._finding("padding", 0, [], share))
        order = list(_CHECKS)
        return sorted(found, key=lambda finding: (SEVERITIES.index(finding.severity), order.index(finding.check)))

    def _repeated(self) -> dict[str, list[int]]:
        """The rows that stand there more than once, and those whose prompt has another answer somewhere."""
        duplicates, conflicting = [], []
        for rows in self._answers.values():
            if len(rows) > 1:
                copies = Counter(answer for _, answer in rows)
                duplicates += [row for row, answer in rows if copies[answer] > 1]
                conflicting += [row for row, _ in rows] if len(copies) > 1 else []
        return {"duplicates": duplicates, "conflicting_answers": conflicting}

    def _finding(self, check: str, count: int, rows: list[int], what: str = "") -> Finding:
        severity, usual, why, remedy = _CHECKS[check]
        if check in ("answer_cut", "eos_cut") and count >= MOSTLY * self.examples:
            severity = "error"
        if check == "answer_cut":
            tokens = f"{self._most_cut:,} {'token' if self._most_cut == 1 else 'tokens'}"
            what = f"{usual}, by up to {tokens}{' and EOS' if self._eos else ''}"
        return Finding(check, severity, what or usual, why, remedy, count, tuple(rows))


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Those that training is refused for."""
    return [finding for finding in findings if finding.severity == "error"]


def _prompt_key(example: Example) -> str:
    """What two prompts have in common that are the same to a reader. Not more: "2+2" and "2-2" differ in one sign."""
    parts = [message.content for message in example.messages]
    parts = parts or [example.prompt or "", example.instruction, example.input]
    return "\0".join(_bare(" ".join(part.split()).casefold()) for part in parts)


def _bare(text: str) -> str:
    return text.rstrip(" .?!:;,\"'") or text
