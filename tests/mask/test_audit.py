"""What the audit finds, by rows made for it and by rows that only look alike."""

from __future__ import annotations

import json
import pickle
from copy import deepcopy
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from masked import fresh_tokens
from tiny import CHATML, byte_level, tokenizer_named

from sftdemo.data.examples import Problem, parse_examples
from sftdemo.data.templates import get_template
from sftdemo.mask.audit import LOW_SHARE, ROWS_NAMED, Audit
from sftdemo.mask.checks import CHECKS, SEVERITIES, Finding, errors
from sftdemo.mask.labels import Masker

# One token a character, a BOS before and an EOS after: a row of `instruction` and `output` has their lengths + 3.
PLAIN = "{instruction}\n"
UNSTOPPED = (
    "{% for m in messages %}{{ m.role }}:\n{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:\n{% endif %}"
)


ODD = {
    "unstopped": UNSTOPPED,
    "thoughtful": CHATML.replace("assistant\n{%", "assistant\n<think>\n{%"),
    "unasked": CHATML.partition("{% if")[0],
}


@cache
def tokenizer_of(name: str):
    if name == "without_eos":
        tokenizer = deepcopy(tokenizer_named("characters"))
        tokenizer.eos_token = None
        return tokenizer
    if name == "padded":
        tokenizer = deepcopy(tokenizer_named("characters"))
        tokenizer.pad_token = tokenizer.eos_token
        return tokenizer
    if name in ODD:
        return byte_level("<|im_end|>", "<|im_start|>", chat_template=ODD[name])
    return tokenizer_named(name)


def audited(
    *rows, name="characters", spec=PLAIN, max_length=100, batch_size=8, turns="all", stop_ids=(), too_long="cut"
) -> Audit:
    data = parse_examples(json.dumps(rows))
    assert not data.problems
    audit = Audit(batch_size, max_length, data.held_out)
    masker = Masker(tokenizer_of(name), get_template(spec, turns), max_length, frozenset(stop_ids), too_long)
    assert not [masked for _, masked in audit.review(data.train, masker) if isinstance(masked, Problem)]
    return audit


def found(*rows, **settings) -> dict[str, Finding]:
    findings = audited(*rows, **settings).findings()
    assert len({finding.check for finding in findings}) == len(findings)
    return {finding.check: finding for finding in findings}


def row(instruction: str, output: str, **more) -> dict:
    return {"instruction": instruction, "output": output} | more


def marked(text: str, *trained, eos: bool = True) -> dict:
    return {"mask": {"text": text, "trained": [list(span) for span in trained], "eos": eos}}


def user(content: str, **more) -> dict:
    return {"role": "user", "content": content} | more


def assistant(content: str, **more) -> dict:
    return {"role": "assistant", "content": content} | more


def chat(*contents: str) -> dict:
    roles = ["user", "assistant"] * len(contents)
    turns = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    return {"messages": turns}


GOOD = row("a", "good answer")
VERBATIM = {"prompt": "a\n", "completion": "bc"}
EMPTY_PROMPT = {"prompt": "", "completion": "Hello world!"}
TALK = chat("a", "b", "c", "d e")
CHATML_NAMED = {"name": "chatml"}


def ready(prompt: str, answer: str, end: tuple[int, ...] = (129,), ends: bool = True, **more) -> dict:
    """A row that came tokenised: one token a character, and an EOS that is trained if it `ends`."""
    ids, length = [*map(ord, prompt + answer), *end], len(prompt)
    labels = [-100] * length + ids[length:]
    if end and not ends:
        labels[-1] = -100
    return {"input_ids": ids, "labels": labels} | more


READY = ready("a\n", "bc")
PADDED = ready("a", "bcd", attention_mask=[1, 1, 1, 1, 0])

ASKED = "Q: a\nA:\n"  # in the template of these rows
JOINED = {name: ready(ASKED, "b")[name] + ready("Q: c\nA:\n", "d")[name] for name in READY}
KNOWN = {"spec": "Q: {instruction}\nA:\n"}

# (check, rows, the rows it names, rows like them on which it says nothing, settings, other settings for the latter)
CASES = [
    ("nothing_trained", [GOOD, VERBATIM | marked("a\nbc", eos=False)], [1], [GOOD, VERBATIM | marked("a\nbc")], {}, {}),
    ("nothing_trained", [{"prompt": "", "completion": ""}], [0], None, {"name": "gpt2"}, {"name": "characters"}),
    ("prompt_too_long", [GOOD, row("x" * 28, "b"), GOOD], [1], [row("x" * 27, "b")], {"max_length": 30}, {}),
    ("too_long", [GOOD, row("a", "x" * 27), row("x" * 40, "b")], [1, 2], [row("a", "x" * 26)], {
        "max_length": 30, "too_long": "refuse"
    }, {"too_long": "cut"}),
    ("no_eos", [GOOD, row("b", "c")], [0, 1], None, {"name": "without_eos"}, {"name": "characters"}),
    ("mask_not_used", [GOOD, VERBATIM | marked("a\nbd", (2, 3))], [1], [VERBATIM | marked("a\nbc", (2, 3))], {}, {}),
    ("answer_cut", [row("a", "x" * 28), GOOD, GOOD], [0], [row("a", "x" * 27), GOOD, GOOD], {"max_length": 30}, {}),
    ("eos_cut", [row("a", "x" * 27), GOOD, GOOD], [0], [row("a", "x" * 26), GOOD, GOOD], {"max_length": 30}, {}),
    ("eos_cut", [row("a", "x" * 27), GOOD, GOOD], [0], [row("a", "x" * 28), GOOD, GOOD], {"max_length": 30}, {}),
    ("eos_untrained", [GOOD, VERBATIM | marked("a\nbc", (2, 4), eos=False)], [1], [VERBATIM | marked("a\nbc")], {}, {}),
    ("eos_typed", [row("a", "x </s>"), row("b", "y</s> \n")], [0, 1], [row("a", "x </s> y"), row("b", "</s")], {}, {}),
    ("eos_added", [TALK, chat("a", "b")], [0, 1], None, {"name": "unstopped"}, {"name": "chatml"}),
    ("history_rewritten", [TALK, chat("a", "b")], [0], None, {"name": "unstopped"}, {"name": "chatml"}),
    ("history_rewritten", [TALK], [0], None, {"name": "unstopped"}, {"name": "unstopped", "turns": "last"}),
    ("prompt_not_continued", [GOOD, TALK], [1], None, {"name": "thoughtful"}, {"name": "chatml"}),
    ("no_generation_prompt", [GOOD, TALK], [1], None, {"name": "unasked"}, {"name": "chatml"}),
    ("stop_differs", [GOOD, row("b", "c")], [0, 1], None, {"stop_ids": {7}}, {"stop_ids": {7, 129}}),
    ("role_marker", [row("a", "b\n### Response:\nc"), row("b", "c <s> d")], [0, 1], [
        row("a", "b ### Response: c"), row("b <s> c", "d</s>")
    ], {"spec": "instruction", "max_length": 500}, {}),
    ("text_not_shown", [TALK, {"messages": [user("a"), assistant("b", thinking="c")]}], [1], [
        {"messages": [user("a"), assistant("b", thinking="")]}
    ], {"name": "chatml"}, {}),
    ("field_not_shown", [TALK, {"messages": [user("a", name="bob"), assistant("b")]}], [1], [TALK], CHATML_NAMED, {}),
    ("two_user_turns", [TALK, {"messages": [user("a"), user("b"), assistant("c")]}], [1], [TALK], CHATML_NAMED, {}),
    ("begins_with_answer", [TALK, {"messages": [assistant("a"), *TALK["messages"]]}], [1], [TALK], CHATML_NAMED, {}),
    ("turns_left_out", [TALK, {"messages": [user("a"), assistant("b"), user("c")]}], [1], [TALK], CHATML_NAMED, {}),
    ("merged_boundary", [row("a", "hello"), row("b", "\n")], [0], None, {"name": "gpt2", "spec": "{instruction} "}, {
        "name": "gpt2", "spec": "{instruction}\n"
    }),
    ("conflicting_answers", [GOOD, row("b", "c"), row("a", "other")], [0, 2], [GOOD, row("aa", "other")], {}, {}),
    ("held_out_trained", [GOOD, row("b", "c", held_out=True), row("B!", "d")], [2], [
        GOOD, row("b", "c", held_out=True), row("bb", "d"), row("c", "e", held_out=True)
    ], {}, {}),
    ("empty_completion", [row("a", ""), GOOD, row("b", " \n\t")], [0, 2], [row("a", "."), row("b", " x")], {}, {}),
    ("empty_prompt", [EMPTY_PROMPT, GOOD], [0], None, {"name": "gpt2"}, {"name": "characters"}),
    ("empty_prompt", [EMPTY_PROMPT], [0], [EMPTY_PROMPT | {"prompt": " "}], {"name": "gpt2"}, {}),
    ("low_share", [row("x" * 89, "y" * 9)], [], [row("x" * 88, "y" * 9)], {"max_length": 200}, {}),
    ("duplicates", [GOOD, row("b", "c"), GOOD], [0, 2], [GOOD, row("a", "good answers")], {}, {}),
    ("special_text", [row("a <s>", "b c"), row("</s>", "c")], [0, 1], [row("a < s>", "b"), row("b", "</s> c")], {}, {}),
    ("made_by_hand", [GOOD, VERBATIM | marked("a\nbc", (2, 3))], [1], [GOOD, VERBATIM], {}, {}),
    ("padding_trained", [READY, ready("d\n", "e", (129, 129)), PADDED], [1, 2], [
        READY, ready("a", "bcd", ends=False, attention_mask=[1, 1, 1, 1, 0])
    ], {"name": "padded"}, {}),
    ("end_untrained", [GOOD, READY, ready("d\n", "e", ends=False)], [2], [READY], {}, {}),
    ("end_missing", [GOOD, READY, ready("d\n", "e", ())], [2], [ready("d\n", "e", (129, 10))], {}, {}),
    ("mask_early", [GOOD, ready(ASKED[:-1], "\nbc"), ready("Q: a\n", "A:\nbc")], [1, 2], [
        ready(ASKED, "bc"), ready("Q: a\nB:", "\nbc"), ready("Q: A:\n", "A:\n"[:2])
    ], KNOWN, {}),
    ("mask_late", [GOOD, ready(ASKED + "b", "cd")], [1], [
        ready(ASKED, "bcd"), ready(ASKED + "\n", "cd"), ready(ASKED + "bc", "d"), ready("Q: a\nB:\nb", "cd")
    ], KNOWN, {}),
    ("examples_joined", [GOOD, JOINED], [1], [
        JOINED | {"seq_lengths": [10, 10]}, ready(ASKED, "bQ: "), ready("b", "c", (129, *map(ord, "Q: ")))
    ], KNOWN, {}),
    ("thinking_open", [GOOD, row("a", "<think>b")], [1], [
        row("a", "<think>b</think>c"), row("a", "a <think> b")
    ], {}, {}),
    ("mask_on_tokens", [GOOD, READY | marked("a\nbc", (0, 1))], [1], [VERBATIM | marked("a\nbc", (2, 3))], {}, {}),
    ("all_trained", [GOOD, {"text": "b"}, {"input_ids": [100, 129]}], [1, 2], [EMPTY_PROMPT, READY], {}, {}),
    ("first_labelled", [GOOD, READY, ready("", "de")], [2], [READY, {"text": "b"}], {}, {}),
    ("packed_row", [READY, ready("", "de", seq_lengths=[1, 2])], [1], [ready("", "de", seq_lengths=[3])], {}, {}),
    ("padding_left_out", [READY, ready("d", "", attention_mask=[1, 0])], [1], [
        ready("d", "e", attention_mask=[1, 1, 1])
    ], {}, {}),
    ("padding", [row("a", "x" * 6), row("b", "x" * 29)], [], [row("a", "x" * 14), row("b", "x" * 30)], {}, {}),
    ("padding", [row("a", "x" * 6), row("b", "x" * 29)], [], None, {}, {"batch_size": 1}),
]  # fmt: skip


class TestChecks:
    @pytest.mark.parametrize(("check", "rows", "named", "_like", "settings", "_other"), CASES)
    def test_fires(self, check, rows, named, _like, settings, _other):
        finding = found(*rows, **settings)[check]
        assert (finding.count, list(finding.rows)) == (len(named), named)
        assert finding.check == check
        assert finding.what.startswith(CHECKS[check].what) or check in ("low_share", "padding")
        assert all(text[0].isalpha() or text[0] == "(" for text in (finding.what, finding.why, finding.remedy))
        assert (finding.why[-1], finding.remedy.rstrip(")")[-1]) == (".", ".")
        assert json.loads(json.dumps(finding.to_dict())) == finding.to_dict()
        assert finding.to_dict()["rows"] == named

    @pytest.mark.parametrize(("check", "rows", "_named", "like", "settings", "other"), CASES)
    def test_does_not_fire(self, check, rows, _named, like, settings, other):
        assert check not in found(*(like or rows), **settings | other)

    def test_every_check_is_here(self):
        assert {check for check, *_ in CASES} == set(CHECKS)

    def test_a_good_row_has_no_finding(self):
        assert found(GOOD) == {}
        assert Audit(8, 100).findings() == []

    def test_severities(self):
        severities = {check: found(*rows, **settings)[check].severity for check, rows, _, _, settings, _ in CASES}
        assert [check for check, severity in severities.items() if severity == "error"] == [
            *(
                "nothing_trained",
                "prompt_too_long",
                "too_long",
                "no_eos",
                "mask_not_used",
                "prompt_not_continued",
                "padding_trained",
            )
        ]
        assert [check for check, severity in severities.items() if severity == "note"] == [
            *("history_rewritten", "field_not_shown", "begins_with_answer", "turns_left_out"),
            *("duplicates", "special_text", "made_by_hand"),
            *("all_trained", "first_labelled", "packed_row", "padding_left_out", "padding"),
        ]

    @pytest.mark.parametrize(("check", "end"), [("end_untrained", (129,)), ("end_missing", ())])
    def test_an_end_that_most_rows_lack_is_an_error(self, check, end):
        rows = [ready("a\n", str(number), end, ends=False) for number in range(3)]
        assert found(*rows)[check].severity == "error"
        assert str(found(*rows)[check]).startswith(f"{CHECKS[check].what}: ")

    @pytest.mark.parametrize(("check", "length"), [("answer_cut", 40), ("eos_cut", 27)])
    @pytest.mark.parametrize(
        ("cut", "rows", "severity"),
        [(1, 3, "warning"), (1, 2, "error"), (2, 4, "error"), (1, 1, "error"), (9, 19, "warning")],
    )
    def test_a_cut_is_an_error_where_half_of_the_rows_have_it(self, check, length, cut, rows, severity):
        data = [row(str(index), "x" * (length if index < cut else 9)) for index in range(rows)]
        finding = found(*data, max_length=30)[check]
        assert (finding.severity, finding.count) == (severity, cut)

    def test_the_worst_comes_first(self):
        findings = audited(
            row("a", "x" * 60),
            row("a </s>", ""),
            row("a </s>", ""),
            row("x" * 60, "b"),
            VERBATIM | marked("other"),
            row("held", "a", held_out=True),
            row("HELD", "b </s>"),
            row("a", "b" * 30),
            max_length=40,
            batch_size=1,
        ).findings()
        assert [finding.check for finding in findings] == [
            *("prompt_too_long", "mask_not_used"),
            *("answer_cut", "eos_typed", "conflicting_answers", "held_out_trained", "empty_completion"),
            *("duplicates", "special_text"),
        ]
        ranks = [(SEVERITIES.index(finding.severity), list(CHECKS).index(finding.check)) for finding in findings]
        assert ranks == sorted(ranks)
        assert [finding.check for finding in errors(findings)] == ["prompt_too_long", "mask_not_used"]

    def test_a_cut_that_is_an_error_comes_before_warnings(self):
        rows = [row("a", "x" * 27), row("b", "x" * 27), row("c", "x" * 40), row("d", "x" * 20)]
        findings = audited(*rows, max_length=30).findings()
        assert [(finding.severity, finding.check) for finding in findings] == [
            ("error", "eos_cut"),
            ("warning", "answer_cut"),
        ]

    def test_one_cause_is_told_once(self):
        assert set(found(row("x" * 40, "b"), GOOD, max_length=30)) == {"prompt_too_long"}
        assert set(found(row("a", "x" * 40), GOOD, GOOD, max_length=30)) >= {"answer_cut"}
        assert "eos_cut" not in found(row("a", "x" * 40), GOOD, max_length=30)
        assert "special_text" not in found(row("a", "x </s>"))
        for long in (row("x" * 40, "b"), row("c", "x" * 40), row("c", "x" * 27)):
            assert set(found(long, GOOD, max_length=30, too_long="refuse")) == {"too_long"}


SAME = [
    ("Say hello", "say  HELLO"),
    ("Say hello", " Say\n\thello "),
    ("Say hello", "Say hello."),
    ("Say hello?", "say hello !"),
    ("?", " ?"),
    ('Say "hello"', 'Say "hello'),
    ("Straße", "STRASSE"),
]
OTHER = [
    ("2+2", "2-2"),
    ("2 + 2", "2+2"),
    ("?", "."),
    (".5", "5"),
    ("it's", "its"),
    ("1,5", "1.5"),
    ("Say hello", "Sayhello"),
    ("résumé", "resume"),
    ("a\0b", "a b"),
]


class TestSamePrompt:
    """Two prompts are one where only case, spacing or closing punctuation tells them apart."""

    @pytest.mark.parametrize(("first", "second"), SAME)
    def test_same(self, first, second):
        assert found(row(first, "x"), row(second, "x"))["duplicates"].rows == (0, 1)
        assert found(row(first, "x"), row(second, "y"))["conflicting_answers"].rows == (0, 1)
        assert found(row(first, "x"), row(second, "y", held_out=True))["held_out_trained"].rows == (0,)

    @pytest.mark.parametrize(("first", "second"), OTHER)
    def test_not_the_same(self, first, second):
        for answers in ("xx", "xy"):
            rows = [row(text, answer) for text, answer in zip((first, second), answers, strict=True)]
            assert not {"duplicates", "conflicting_answers"} & set(found(*rows))
        assert "held_out_trained" not in found(row(first, "x"), row(second, "x", held_out=True))

    def test_the_answer_counts_to_the_letter(self):
        assert found(row("a", "Yes"), row("a", "yes"))["conflicting_answers"].rows == (0, 1)

    def test_the_columns_are_told_apart(self):
        rows = [
            row("a b", "x"),
            row("a", "x", input="b"),
            row("", "x", input="a b"),
            {"prompt": "a b", "completion": "x"},
        ]
        assert "duplicates" not in found(*rows)

    def test_in_a_chat_every_turn_counts(self):
        rows = [chat("a", "b", "c", "x"), chat("a", "b", "C?", "x"), chat("z", "b", "c", "x"), chat("c", "x")]
        assert found(*rows, name="chatml")["duplicates"].rows == (0, 1)
        turns = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
        told = {"messages": [*turns, {"role": "assistant", "content": "x"}]}
        assert "duplicates" not in found(told, chat("a b", "x"), name="chatml")

    def test_a_row_in_three_copies_counts_three(self):
        finding = found(row("b", "c"), GOOD, GOOD, row("c", "d"), GOOD)["duplicates"]
        assert (finding.count, finding.rows) == (3, (1, 2, 4))

    def test_copies_and_other_answers(self):
        findings = found(GOOD, row("a", "other"), row("a", "other"), GOOD, row("a", "third"), row("b", "c"))
        assert findings["duplicates"].rows == (0, 1, 2, 3)
        assert findings["conflicting_answers"].rows == (0, 1, 2, 3, 4)

    def test_rows_are_named_in_their_order(self):
        rows = [row(str(index), "x") for index in range(30)]
        finding = found(*rows, *rows)["duplicates"]
        assert (finding.count, finding.rows) == (60, tuple(range(ROWS_NAMED)))

    def test_a_held_out_prompt_counts_each_time_it_is_trained(self):
        rows = [row("a", "b"), row("q", "x", held_out=True), row("Q?", "c"), row("q", "d")]
        assert found(*rows)["held_out_trained"].rows == (2, 3)

    def test_held_out_chat_without_an_answer(self):
        asked = {"messages": [{"role": "user", "content": "a"}], "held_out": True}
        assert found(asked, chat("A!", "b"), name="chatml")["held_out_trained"].rows == (1,)


DRAWN = (
    ["a", "A!", " a", "b", "x" * 12, "x" * 17, "<s>"],
    ["", " ", "y", "Y", "y </s>", "<s> z", "z" * 8],
    [False, False, False, True],
    [False, False, True],
)


def recounted(rows: list[dict], max_length: int) -> dict[str, int]:
    """How many rows each check concerns, counted from what the rows are; shares no code with sftdemo."""
    counts = dict.fromkeys(CHECKS, 0)
    trained = [row for row in rows if not row["held_out"]]
    keys = [row["instruction"].strip().rstrip("!").lower() for row in trained]
    asked = {row["instruction"].strip().rstrip("!").lower() for row in rows if row["held_out"]}
    pairs = [(key, row["output"]) for key, row in zip(keys, trained, strict=True)]
    for key, row in zip(keys, trained, strict=True):
        text, answer = row["instruction"], row["output"]
        prompt, whole = len(text) + 2, len(text) + len(answer) + 3
        too_long = prompt >= max_length
        counts["prompt_too_long"] += too_long
        counts["answer_cut"] += not too_long and whole > max_length + 1
        counts["eos_cut"] += not too_long and whole == max_length + 1
        counts["mask_not_used"] += "mask" in row
        counts["empty_completion"] += not answer.strip()
        counts["eos_typed"] += answer.endswith("</s>")
        counts["role_marker"] += "<s>" in answer
        counts["special_text"] += "<s>" in text and "s>" not in answer
        counts["held_out_trained"] += key in asked
        counts["duplicates"] += pairs.count((key, answer)) > 1
        counts["conflicting_answers"] += len({other for asked, other in pairs if asked == key}) > 1
    return {check: count for check, count in counts.items() if count}


class TestNumbers:
    def test_at_most_so_many_rows_are_named_and_all_are_counted(self):
        finding = found(*[row(str(index), "" if index % 2 else "x") for index in range(100)])["empty_completion"]
        assert finding.count == 50
        assert finding.rows == tuple(range(1, 2 * ROWS_NAMED, 2))
        assert finding.where == " (rows 1, 3, 5, 7, 9 and 45 more)"

    @pytest.mark.parametrize(
        ("count", "where"),
        [(1, " (row 0)"), (2, " (rows 0, 1)"), (5, " (rows 0, 1, 2, 3, 4)"), (6, " (rows 0, 1, 2, 3, 4 and 1 more)")],
    )
    def test_where(self, count, where):
        finding = found(*[row(str(index), "") for index in range(count)])["empty_completion"]
        assert finding.where == where
        assert str(finding) == f"{finding.what}{where}. {finding.why} {finding.remedy}"

    @pytest.mark.parametrize(
        ("lengths", "says"),
        [
            ([26, 9, 9], "by up to 1 token and EOS"),
            ([26, 30, 9, 9, 9], "by up to 5 tokens and EOS"),
            ([1300, 9, 9], "by up to 1,275 tokens and EOS"),
        ],
    )
    def test_how_much_of_an_answer_is_cut(self, lengths, says):
        rows = [row(chr(97 + index), "x" * length) for index, length in enumerate(lengths)]
        finding = found(*rows, max_length=28)["answer_cut"]  # 3 tokens of prompt, so 25 of an answer are left
        assert finding.what == f"the answer is cut by max length, {says}"
        finding = found(*rows, max_length=28, name="without_eos")["answer_cut"]
        assert finding.what == f"the answer is cut by max length, {says.removesuffix(' and EOS')}"

    def test_the_share_that_is_trained(self):
        assert LOW_SHARE == 0.10
        finding = found(row("x" * 89, "y" * 9), row("x" * 92, "y" * 6), max_length=200)["low_share"]
        assert finding.what == f"only {(10 + 7) / (101 + 101):.1%} of all tokens are trained"
        assert finding.where == ""

    def test_the_share_that_is_trained_is_of_all_rows(self):
        assert "low_share" not in found(row("x" * 150, "y" * 9), row("x" * 9, "y" * 50), max_length=200)

    @given(st.lists(st.integers(1, 60), min_size=2, max_size=12), st.integers(1, 5), st.integers(8, 40))
    def test_padding_by_hand(self, answers, batch_size, max_length):
        rows = [row(str(index), "x" * length) for index, length in enumerate(answers)]
        lengths = [min(len(str(index)) + length + 3, max_length) for index, length in enumerate(answers)]
        positions = 0
        for begin in range(0, len(lengths), batch_size):
            batch = lengths[begin : begin + batch_size]
            positions += len(batch) * max(batch)
        share = (positions - sum(lengths)) / positions
        findings = found(*rows, batch_size=batch_size, max_length=max_length)
        if abs(share - 0.3) > 1e-9:
            assert ("padding" in findings) == (share > 0.3)
        if "padding" in findings:
            assert findings["padding"].what == f"padded, {share:.0%} of all positions would be padding"
            assert (findings["padding"].count, findings["padding"].rows) == (0, ())

    def test_rows_that_are_left_out_are_not_padded(self):
        assert "padding" not in found(*[VERBATIM | marked("a\nbc", eos=False)] * 3, row("a", "x" * 50))

    def test_totals(self):
        rows = [GOOD, VERBATIM | marked("a\nbc", eos=False), row("ab", "x" * 40), row("held", "x", held_out=True)]
        audit = audited(*rows, max_length=20)
        assert (audit.examples, audit.tokens, audit.trained) == (3, 15 + 6 + 20, 12 + 0 + 16)
        assert (audit.rows, audit.lengths, audit.spans) == ([0, 2], [15, 45], [((3, 15),), ((4, 45),)])
        assert audit.fresh == [14, 20 - 1 - 2]  # both begin with BOS and "a"

    @given(
        st.lists(st.tuples(st.sampled_from(["a", "ab", "abc" * 4, "b"]), st.sampled_from(["x", "xy", "x" * 9, "-"]))),
        st.integers(1, 5),
        st.integers(4, 20),
    )
    def test_fresh_tokens_are_those_of_the_rows_that_are_trained(self, drawn, batch_size, max_length):
        rows = [row(*pair) if pair[1] != "-" else VERBATIM | marked("a\nbc", eos=False) for pair in drawn]
        data, tokenizer = parse_examples(json.dumps(rows)), tokenizer_named("characters")
        masked = Masker(tokenizer, get_template(PLAIN), max_length).mask(data.train)
        trained = [row.input_ids for (row,) in masked if row.trained]
        audit = audited(*rows, batch_size=batch_size, max_length=max_length)
        assert audit.fresh == fresh_tokens(trained, batch_size)
        assert len(audit.fresh) == len(audit.rows)

    def test_findings_may_be_asked_for_again_while_rows_come(self):
        data = parse_examples(json.dumps([row("a", ""), row("a", ""), row("b", "")]))
        masked = Masker(tokenizer_named("characters"), get_template(PLAIN), 100).mask(data.train)
        audit, counts = Audit(8, 100), []
        for example, (masked_row,) in zip(data.train, masked, strict=True):
            audit.add(example, masked_row)
            assert audit.findings() == audit.findings()
            counts.append({finding.check: finding.count for finding in audit.findings()})
        assert counts[-1] == {"empty_completion": 3, "duplicates": 2}
        assert counts[0] == {"empty_completion": 1}

    @given(st.data())
    def test_counts_are_those_of_a_naive_recount(self, data):
        drawn = data.draw(st.lists(st.tuples(*map(st.sampled_from, DRAWN)), max_size=30))
        rows = [
            row(asked, answer, held_out=held_out) | (marked("another text") if masked else {})
            for asked, answer, held_out, masked in drawn
        ]
        max_length = data.draw(st.sampled_from([20, 21, 30, 1000]))
        findings = found(*rows, max_length=max_length) if rows else {}
        expected = recounted(rows, max_length)
        assert {check: finding.count for check, finding in findings.items() if finding.count} == expected

    def test_no_text_is_kept(self):
        secret = "correct horse battery staple"
        audit = audited(row(secret, secret), row(secret, f"{secret}!"), row(secret, "x", held_out=True))
        assert {finding.check for finding in audit.findings()} >= {"conflicting_answers", "held_out_trained"}
        kept = pickle.dumps(audit)
        assert not [word for word in secret.split() if word.encode() in kept]
