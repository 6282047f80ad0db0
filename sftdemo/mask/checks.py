"""Everything that can be wrong with a row or with the data: one table for the flags of a mask and the audit's findings.

To add a check, add an entry to `CHECKS`. Detect it in `labels.flags_of` if it concerns one row, or in `audit.Audit` if
it concerns several.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ..core.text import plural

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Check:
    """Something that the audit looks for: its severity, what it is, why it matters, and what to do about it."""

    severity: str
    what: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return self.told("")

    def told(self, details: str) -> str:
        """Return the check as sentences, with the details of the row that it is about, if there are any."""
        return f"{self.what}{f': {details}' if details else ''}. {self.why} {self.remedy}"


# In the order in which findings of one severity are told.
CHECKS = {
    "nothing_trained": Check(
        "error",
        "no token is trained",
        "A row without a trained token teaches nothing, so it is left out.",
        "Write an answer, or train a token in its mask.",
    ),
    "prompt_too_long": Check(
        "error",
        "the prompt alone reaches max length",
        "Nothing of the answer is left, so the row is left out.",
        "Raise max length, or shorten the prompt.",
    ),
    "too_long": Check(
        "error",
        "the row has more tokens than max length",
        "It would be cut, and you chose to refuse that (--too-long refuse).",
        "Raise max length, shorten the row, or choose to cut or to drop such rows.",
    ),
    "prompt_not_continued": Check(
        "error",
        "the chat template writes an answer after another text than generation sees",
        "There is nothing exact to train: it is shown as trained from where the two texts part.",
        "Give the template arguments, such as --chat-template-kwargs '{\"enable_thinking\": false}', write the answer's"
        " reasoning as reasoning_content, or choose a model with another chat template.",
    ),
    "no_eos": Check(
        "error",
        "the tokenizer has no EOS",
        "The model never learns to stop, and rambles on.",
        "Choose another model.",
    ),
    "mask_not_used": Check(
        "error",
        "a hand-made mask belongs to another text",
        "The row or the template has changed since, so the usual mask is used instead of yours.",
        "Mark the row anew, or go back to the text it was made for.",
    ),
    "padding_trained": Check(
        "error",
        "padding is trained",
        "The model learns to go on after the end of its answer, and to write padding.",
        "Give padding the label that the loss skips, or an attention_mask of 0 and no label of its own.",
    ),
    "stop_differs": Check(
        "warning",
        "the model does not stop at the token that is trained as the end",
        "With its own settings it would go on after it. So the saved generation config stops there as well.",
        "Nothing here. Where the model is served with other settings, add the id to its eos_token_id.",
    ),
    "answer_cut": Check(
        "warning",
        "the answer is cut by max length",
        "Its end and EOS are never trained: the model learns to break off, not to stop.",
        "Raise max length, or shorten the row.",
    ),
    "eos_cut": Check(
        "warning",
        "EOS is cut by max length",
        "The answer is whole, but the row never teaches the model to stop.",
        "Raise max length by one token.",
    ),
    "end_untrained": Check(
        "warning",
        "EOS is never trained",
        "It stands after the answer and has no label, so the row never teaches the model to stop.",
        "Prepare the rows with a padding token other than EOS, or with masks that reach over the end of a turn.",
    ),
    "end_missing": Check(
        "warning",
        "the last answer ends without EOS",
        "The row was cut, or EOS was never added: it teaches the model to break off, not to stop.",
        "Prepare it with EOS, or with a greater max length.",
    ),
    "mask_early": Check(
        "warning",
        "the labels begin early, inside the prompt",
        "The model learns to write the end of its own prompt, which it is always given.",
        "Begin the labels at the first token after the prompt.",
    ),
    "mask_late": Check(
        "warning",
        "the labels begin late: the answer's first token has none",
        "The token that begins an answer is the one that must be learned most; the model goes on with its own.",
        "Begin the labels at the first token after the prompt.",
    ),
    "examples_joined": Check(
        "warning",
        "a row holds several examples that see each other",
        "Nothing says where one ends, so that the next is read after it, which it will not be when it is asked.",
        "Add position_ids that begin anew or seq_lengths, or leave each example in a row of its own.",
    ),
    "thinking_open": Check(
        "warning",
        "the answer opens <think> and never closes it",
        "The model learns to think to the end of its answer, and to give none.",
        "Write </think> where the thought ends, and the answer after it.",
    ),
    "mask_on_tokens": Check(
        "warning",
        "a hand-made mask stands beside tokens",
        "A row that came tokenised keeps its own labels, so the mask is not used.",
        "Change the row's labels instead.",
    ),
    "eos_untrained": Check(
        "warning",
        "EOS is not trained, by a hand-made mask",
        "The row never teaches the model to stop.",
        "Train its last token again.",
    ),
    "eos_typed": Check(
        "warning",
        "the answer ends in a special token's text",
        "Typed text stays text, and the real EOS is added by itself: the model learns to write these letters out.",
        "Delete them from the answer.",
    ),
    "role_marker": Check(
        "warning",
        "an answer contains what marks another turn",
        "It is trained as text: the model learns to write the next turn itself.",
        "Cut the answer before it, or make it a turn of its own.",
    ),
    "text_not_shown": Check(
        "warning",
        "the chat template does not show a part of the conversation",
        "The model neither reads nor learns it.",
        "Write it into the content, or choose a model whose chat template shows it.",
    ),
    "eos_added": Check(
        "warning",
        "the chat template puts no token at the end of an answer, so EOS is added",
        "The model learns to stop there, with a token that its template never writes.",
        "Choose a model whose chat template ends every turn, if that is not meant.",
    ),
    "no_generation_prompt": Check(
        "warning",
        "the chat template ignores add_generation_prompt",
        "Generation does not see the header of an answer, so the header is trained as its beginning.",
        "Choose a model whose chat template asks for an answer.",
    ),
    "two_user_turns": Check(
        "warning",
        "two user turns follow each other",
        "In between an answer may be missing.",
        "Join them, or add the answer.",
    ),
    "merged_boundary": Check(
        "warning",
        "a token merges across the end of the prompt",
        "Prompt and answer are tokenised apart, so that training sees what generation sees; other tools do not,"
        " and lose the answer's first token.",
        "End the template in a single newline, and begin answers with neither a space nor a newline.",
    ),
    "conflicting_answers": Check(
        "warning",
        "the same prompt has different answers",
        "Apart from case, spacing and closing punctuation the prompts are one: the model learns a mixture.",
        "Keep one of them, or tell the prompts apart.",
    ),
    "held_out_trained": Check(
        "warning",
        "a held-out prompt is trained as well",
        "The comparison after the training then shows memory, not learning.",
        "Take it out of either.",
    ),
    "empty_completion": Check(
        "warning",
        "the answer is empty or only whitespace",
        "The model learns to say nothing.",
        "Write an answer, or delete the row.",
    ),
    "empty_prompt": Check(
        "warning",
        "the prompt has no token",
        "Nothing predicts the answer's first token, so it is not trained.",
        "Write a prompt.",
    ),
    "low_share": Check(
        "warning",
        "few of all tokens are trained",
        "Nearly all of a step's work goes into prompts, and few tokens carry what is learned.",
        "Shorten the template or the prompts.",
    ),
    "all_trained": Check(
        "note",
        "all of the text is trained",
        "There is no prompt: each token is learned from those before it, as in pretraining.",
        "Nothing, if that is meant. Else write a prompt and an answer.",
    ),
    "first_labelled": Check(
        "note",
        "the first token has a label",
        "Nothing stands before it that could predict it, so no loss counts it, and it is shown as not trained.",
        "Nothing.",
    ),
    "packed_row": Check(
        "note",
        "a row holds several examples",
        "Each is a sequence of its own here, as none may see another.",
        "Nothing.",
    ),
    "padding_left_out": Check(
        "note",
        "a row holds padding",
        "The tokens whose attention_mask is 0 are left out: no other token sees them.",
        "Nothing.",
    ),
    "duplicates": Check(
        "note",
        "the same example stands there more than once",
        "It weighs as often as it stands there.",
        "Delete the copies, unless that is meant.",
    ),
    "history_rewritten": Check(
        "note",
        "a conversation needs several sequences",
        "Once another turn follows, the chat template writes an earlier one differently, so each sequence has exactly"
        " what generation sees before the answers that are trained in it.",
        "Nothing, if every turn is to be trained; the last turn alone (--turns last) needs one.",
    ),
    "begins_with_answer": Check(
        "note",
        "the conversation begins with an assistant turn",
        "Nothing asks for it, so it is read and not trained.",
        "Put the user's turn before it, if it is to be trained.",
    ),
    "turns_left_out": Check(
        "note",
        "turns after the last answer are left out",
        "Nothing is learned from them.",
        "Add the answer to them, or delete them.",
    ),
    "field_not_shown": Check(
        "note",
        "the chat template does not show a key of a message",
        "The model does not read it.",
        "Nothing, if it is not meant for the model.",
    ),
    "special_text": Check(
        "note",
        "the text looks like a special token",
        "It is tokenised as plain text: nothing that is typed becomes special.",
        "Nothing, if it is meant as text.",
    ),
    "made_by_hand": Check(
        "note",
        "a mask was made by hand",
        "Its own tokens are trained, in place of the answer.",
        "Nothing, if that is meant.",
    ),
    "padding": Check(
        "note",
        "padding would fill much of each batch",
        "A trainer that pads each batch to its longest row computes these positions and throws them away.",
        "Nothing here: with most models this trainer pads in attention only. Elsewhere turn on packing, or sort"
        " the rows by length.",
    ),
}


@dataclass(frozen=True)
class Finding:
    """What a check found in the data.

    Args:
        check (`str`):
            A key of `CHECKS`.
        severity (`str`):
            `"error"` (training is refused unless the user insists), `"warning"` or `"note"`.
        what, why, remedy (`str`):
            What was found, why it matters, and what to do.
        count (`int`):
            The number of rows concerned; 0 for a finding about the data as a whole.
        rows (`tuple[int, ...]`):
            The first of them, at most `audit.ROWS_NAMED`.
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
        """Return the rows, such as " (rows 3, 7 and 12 more)". Empty for a finding about the data as a whole."""
        if not self.count:
            return ""
        named = ", ".join(map(str, self.rows[:5]))
        more = f" and {self.count - 5:,} more" if self.count > 5 else ""
        return f" ({plural(self.count, 'row')} {named}{more})"

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as a dictionary that JSON can hold."""
        return asdict(self) | {"rows": list(self.rows)}


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings for which training is refused."""
    return [finding for finding in findings if finding.severity == "error"]
