"""The law of the label: the oracle of tests/law.py checked by laws of its own, then the program held against it, over
TRL's stored chat templates and llama-like vocabularies."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
from chats import STYLES
from hypothesis import given
from hypothesis import strategies as st
from law import (
    IGNORED,
    Refused,
    Sequence,
    continuation,
    disguised,
    encoded,
    forms,
    law,
    marks_of,
    rendered,
    special_names,
    trained_turns,
    trimmed,
)
from marked import BEGIN, ends_of, marked_tokenizer, names, stops_of
from masked import made_of, runs
from talks import TOOLS, call, says, system, talks, user
from tiny import INST, sentencepiece

VICUNA = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ 'ASSISTANT: ' + m.content + eos_token }}"
    "{% else %}{{ 'USER: ' + m.content + ' ' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
LLAMA_TEMPLATES = {"inst": INST, "vicuna": VICUNA} | {name: STYLES[name][0] for name in ("llama2", "mistral", "zephyr")}
SCHEMES = ("first", "always", "legacy")
FLAGS = {"merged_boundary", "prompt_not_continued", "eos_added"}
# enough to tell a template's habits; all of them run with Llama 3's words on the models' own templates
COMMON = ("one turn", "three turns", "spaces", "newlines", "typed", "reasoning twice", "a call, object", "parts")


def every_third(all_names: list[str]) -> list:
    """Every third template by default, where a test is of what hardly depends on it."""
    return [
        name if place % 3 == 0 else pytest.param(name, marks=pytest.mark.thorough)
        for place, name in enumerate(all_names)
    ]


def talks_of(name: str) -> dict[str, dict]:
    """Every talk, with a mark of the template typed in some."""
    return talks(ends_of(name)[0])


def shared_out(name: str) -> dict[str, dict]:
    """The common talks on a template and a third of the others, another third on the next template."""
    place, every = names().index(name), enumerate(talks_of(name).items())
    return {title: row for number, (title, row) in every if title in COMMON or number % 3 == place % 3}


@cache
def llama_like(template: str, scheme: str):
    return sentencepiece(scheme, chat_template=LLAMA_TEMPLATES[template])


def row_law(tokenizer, row: dict, stops: frozenset[int], turns: str = "all"):
    """The oracle's verdict on a row, None when it is refused or trains nothing."""
    messages = row.get("messages") or [*row["prompt"], *row["completion"]]
    given = {key: row[key] for key in ("tools", "documents") if key in row} | row.get("chat_template_kwargs", {})
    try:
        verdict = law(tokenizer, messages, turns, stops, len(row.get("prompt", [])), **given)
    except Refused:
        return None
    sequences = trimmed(verdict.sequences)
    return (sequences, verdict.told & FLAGS) if sequences else None


@cache
def verdict(name: str, title: str):
    """The oracle's verdict on a talk on a template."""
    return row_law(marked_tokenizer(name), talks_of(name)[title], stops_of(name))


def program(tokenizer, row: dict, stops: frozenset[int], turns: str = "all"):
    """What the program makes of a row, in the oracle's terms."""
    made = made_of(tokenizer, row, stops, turns)
    sequences = trimmed(list(made.sequences))
    return (sequences, made.flags & FLAGS) if sequences else None


def described(tokenizer, result) -> str:
    """A result as one reads it: the trained stretches of each sequence."""
    if result is None:
        return "refused"
    return f"{[[tokenizer.decode(each) for each in runs(one.labels)] for one in result[0]]} {sorted(result[1])}"


def assert_equal(
    tokenizer, rows: dict[str, dict], stops: frozenset[int], turns: str = "all", known: dict | None = None
):
    """Hold the program against the oracle, whose verdicts may be `known`."""
    wrong = []
    for name, row in rows.items():
        right = known[name] if known else row_law(tokenizer, row, stops, turns)
        made = program(tokenizer, row, stops, turns)
        if made != right:
            wrong.append(f"{name}\n  right   {described(tokenizer, right)}\n  program {described(tokenizer, made)}")
    assert not wrong, "\n" + "\n".join(wrong)


class TestOracle:
    """The oracle by laws that it was not made from."""

    @pytest.mark.parametrize("name", names())
    def test_ids_are_the_tokenizers_own_where_nothing_was_typed(self, name):
        tokenizer = marked_tokenizer(name)
        for row in (talks(BEGIN)["three turns"], talks(BEGIN)["spaces"], talks(BEGIN)["whole thought in content"]):
            text = tokenizer.apply_chat_template(row["messages"], tokenize=False) if _renders(tokenizer, row) else "é"
            hidden = marks_of(tokenizer).sub(lambda mark: special_names(tokenizer).get(mark[0], mark[0]), text)
            right = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert encoded(tokenizer, text) == right
            assert disguised(tokenizer, True).encode(hidden, add_special_tokens=False).ids == right

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_a_llama_like_tokenizer_in_disguise_is_the_same(self, scheme):
        tokenizer = llama_like("inst", scheme)
        text = "<s>[INST] Hello  world [/INST] A 🙂 word </s><s>[INST]x[/INST]"
        names = special_names(tokenizer)
        hidden = marks_of(tokenizer).sub(lambda mark: names[mark[0]], text)
        right = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert disguised(tokenizer, True).encode(hidden, add_special_tokens=False).ids == right
        word = tokenizer.convert_ids_to_tokens(continuation(tokenizer, "hello</s>"))
        assert not word[0].startswith("▁")
        assert word[-1] == "</s>"

    @pytest.mark.parametrize("name", names())
    def test_each_turn_is_trained_once_after_the_ids_of_its_prompt(self, name):
        tokenizer, stops = marked_tokenizer(name), stops_of(name)
        for title in ("one turn", "three turns", "reasoning twice", "weights"):
            messages = talks(BEGIN)[title]["messages"]
            verdict = law(tokenizer, messages, stops=stops)
            wanted = trained_turns(messages)
            assert sum(len(runs(each.labels)) for each in verdict.sequences) == len(wanted)
            if "prompt_not_continued" in verdict.told or not _renders(tokenizer, {"messages": messages[:1]}):
                continue
            answers = {(each.input_ids, start) for each in verdict.sequences for start in _starts(each)}
            for index in wanted:
                asked = tokenizer(
                    rendered(tokenizer, _form(tokenizer, messages[:index]), True), add_special_tokens=False
                )["input_ids"]
                fitting = [(ids, start) for ids, start in answers if list(ids[:start]) == asked]
                assert fitting, (title, index)
                answers -= set(fitting[:1])
            assert not answers

    @pytest.mark.parametrize("name", names())
    def test_a_trained_stretch_says_what_the_answer_says_and_stops(self, name):
        tokenizer, stops = marked_tokenizer(name), stops_of(name)
        messages = talks(BEGIN)["three turns"]["messages"]
        verdict = law(tokenizer, messages, stops=stops)
        said = [stretch for each in verdict.sequences for stretch in runs(each.labels)]
        for message, stretch in zip(messages[1::2], said, strict=True):
            assert message["content"] in tokenizer.decode(stretch)
            assert stretch[-1] in stops
            assert not stops & set(stretch[:-1])

    @pytest.mark.parametrize("name", names())
    def test_what_was_typed_is_no_special_token_and_is_not_lost(self, name):
        tokenizer, stops, mark = marked_tokenizer(name), stops_of(name), ends_of(name)[0]
        for title in ("typed", "typed in reasoning", "typed in a call"):
            typed, harmless = row_law(tokenizer, talks(mark)[title], stops), None
            for word in ("harmless", "mark-less"):
                harmless = row_law(tokenizer, talks(word)[title], stops)
                assert (typed is None) == (harmless is None)
                if typed:
                    assert _special_ids(tokenizer, typed) == _special_ids(tokenizer, harmless)
            if typed and title == "typed":
                text = "".join(tokenizer.decode(ids) for each in typed[0] for ids in runs(each.labels))
                assert text.count(mark) == 2 + sum(
                    stretch.count(tokenizer.eos_token_id) for each in typed[0] for stretch in runs(each.labels)
                )

    @pytest.mark.parametrize("name", names())
    def test_no_two_sequences_could_be_one(self, name):
        for made in (verdict(name, title) for title in shared_out(name)):
            sequences = made[0] if made else []
            assert all(each.labels[0] == IGNORED for each in sequences)
            assert all(label in (IGNORED, token) for each in sequences for token, label in zip(*each, strict=True))
            for earlier, later in pairwise(sequences):
                begin = _starts(later)[0]
                assert later.input_ids[: len(earlier.input_ids)] != earlier.input_ids or begin < len(earlier.input_ids)


def _renders(tokenizer, row: dict) -> bool:
    try:
        return bool(rendered(tokenizer, row["messages"], False))
    except Refused:
        return False


def _form(tokenizer, messages: list[dict]) -> list[dict]:
    return next(forms(tokenizer, messages))


def _starts(sequence: Sequence) -> list[int]:
    """Where the trained stretches begin."""
    pairs = zip((IGNORED, *sequence.labels), sequence.labels, strict=False)
    return [place for place, (before, label) in enumerate(pairs) if before == IGNORED != label]


def _special_ids(tokenizer, made) -> list[list[int]]:
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    return [[token for token in each.input_ids if token in special] for each in made[0]]


class TestProgram:
    """The program, held against the oracle."""

    @pytest.mark.parametrize("which", [shared_out, pytest.param(talks_of, marks=pytest.mark.thorough)])
    @pytest.mark.parametrize("name", names())
    def test_talks_on_every_template(self, name, which):
        rows = which(name)
        known = {title: verdict(name, title) for title in rows}
        assert_equal(marked_tokenizer(name), rows, stops_of(name), known=known)

    def test_every_talk_is_on_some_template(self):
        assert {title for name in names() for title in shared_out(name)} == talks_of(names()[0]).keys()

    @pytest.mark.parametrize("name", every_third(names()))
    def test_the_last_turn_alone(self, name):
        rows = {title: talks_of(name)[title] for title in COMMON}
        assert_equal(marked_tokenizer(name), rows, stops_of(name), "last")

    @pytest.mark.parametrize("name", every_third(names(training=True)))
    def test_templates_for_training_are_templates_too(self, name):
        rows = {title: talks_of(name)[title] for title in COMMON}
        assert_equal(marked_tokenizer(name), rows, stops_of(name))

    @pytest.mark.parametrize("name", every_third(names()))
    def test_words_that_take_newlines_along(self, name):
        rows = {title: talks_of(name)[title] for title in COMMON}
        assert_equal(marked_tokenizer(name, "gpt2"), rows, stops_of(name))

    @pytest.mark.parametrize("name", every_third(names()))
    def test_only_the_tokenizers_eos_is_known(self, name):
        rows = {title: talks_of(name)[title] for title in ("one turn", "three turns")}
        assert_equal(marked_tokenizer(name), rows, frozenset())

    @pytest.mark.parametrize("scheme", SCHEMES)
    @pytest.mark.parametrize("template", LLAMA_TEMPLATES)
    def test_llama_like_vocabularies(self, template, scheme):
        assert_equal(llama_like(template, scheme), talks("</s>"), frozenset())


PIECES = ["A", "b", " ", "  ", "\n", "\n\n", "12", "-", "'s", "é", "🙂", "日本", "a word", ".", "<think>", "</think>\n"]


@st.composite
def random_talks(draw, mark: str):
    """A conversation of users and assistants, with what may go with their turns."""
    text = st.lists(st.sampled_from([*PIECES, mark]), max_size=4).map("".join)
    messages = [system(draw(text))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append(user(draw(text)))
        more = draw(
            st.fixed_dictionaries(
                {}, optional={"reasoning_content": text.filter(str.strip), "weight": st.sampled_from([0, 1])}
            )
        )
        if draw(st.integers(0, 4)) == 0:
            more["tool_calls"] = [call({"city": draw(text)})]
            messages += [says(draw(text), **more), {"role": "tool", "tool_call_id": "c1", "content": draw(text)}]
            more = {}
        messages.append(says(draw(text), **more))
    return messages


@given(st.data())
def test_any_talk(data):
    name = data.draw(st.sampled_from(names()))
    messages = data.draw(random_talks(ends_of(name)[0]))
    row = {"messages": messages} | ({"tools": TOOLS} if any("tool_calls" in each for each in messages) else {})
    tokenizer = marked_tokenizer(name, data.draw(st.sampled_from(["llama3", "gpt2"])))
    assert_equal(tokenizer, {name: row}, stops_of(name), data.draw(st.sampled_from(["all", "last"])))


@given(st.data())
def test_any_talk_on_a_llama_like_vocabulary(data):
    tokenizer = llama_like(data.draw(st.sampled_from(list(LLAMA_TEMPLATES))), data.draw(st.sampled_from(SCHEMES)))
    assert_equal(tokenizer, {"talk": {"messages": data.draw(random_talks("</s>"))}}, frozenset())
