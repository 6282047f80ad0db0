from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import chatml, expected, plain
from strategies import SENTENCEPIECE, prose, texts
from tiny import MAKERS, llama3, tokenizer_named
from tokenizers import pre_tokenizers

from sftdemo.core.errors import DataError
from sftdemo.data.examples import Example, Message
from sftdemo.data.templates import Template, get_template
from sftdemo.mask.boundary import Boundary, Remedy, inspect_boundary, newline_remedy
from sftdemo.mask.labels import Masker

SPACE, NEWLINE = "Q: {instruction} A: ", "Q: {instruction}\nA:\n"
# a space before a word is part of the word's token for all of these
GROUPS = [
    ("gpt2", "llama3"),
    ("appends_eos", "chatml", "digits", "spaces_added", "trimming"),
    (*SENTENCEPIECE, "characters"),
    ("unigram",),
]
MERGING = ["gpt2", "appends_eos", "llama3", "digits", "trimming"]


def boundary_of(answer: str, spec: str = SPACE, name: str = "gpt2", **shape) -> Boundary:
    example = Example(5, answer, **(shape or {"instruction": "Say hello"}))
    return inspect_boundary(example, Masker(tokenizer_named(name), get_template(spec), 10_000))


def shown(boundary: Boundary, lane: str) -> list[str]:
    return [boundary.text[piece.begin : piece.end] for piece in getattr(boundary, lane)]


def ids(boundary: Boundary, lane: str) -> list[int]:
    return [piece.id for piece in getattr(boundary, lane)]


def begins_text(tokenizer) -> list[int]:
    """BOS, where the tokenizer puts one."""
    return [tokenizer.bos_token_id] if tokenizer.bos_token_id in tokenizer("")["input_ids"] else []


def is_part(part: list[int], whole: list[int]) -> bool:
    return any(whole[start : start + len(part)] == part for start in range(len(whole) - len(part) + 1))


def check_lanes(boundary: Boundary, prompt: str, answer: str) -> None:
    """Each lane is whole, and all of them show the same stretch of the text."""
    assert (boundary.text, boundary.at) == (prompt + answer, len(prompt))
    for lane in ("alone", "together", "used"):
        pieces = getattr(boundary, lane)
        assert all(first.end == second.begin for first, second in pairwise(pieces)), lane
        assert all(piece.begin <= piece.end for piece in pieces)
    alone, together, used = ("".join(shown(boundary, lane)) for lane in ("alone", "together", "used"))
    assert together == used
    assert used.startswith(alone)
    if boundary.alone:
        assert boundary.alone[-1].end == boundary.at
    assert boundary.used[: len(boundary.alone)] == boundary.alone


class TestLanes:
    @pytest.mark.parametrize("names", GROUPS, ids=str)
    @given(data=st.data())
    def test_they_are_the_tokenizers(self, names, data):
        """Of texts whose special tokens the tokenizer's own call would leave plain."""
        name = data.draw(st.sampled_from(names))
        tokenizer, special = tokenizer_named(name), name != "unigram"
        spec = data.draw(st.sampled_from([SPACE, NEWLINE, "{instruction}", "{instruction} ", "instruction"]))
        asked, answer = data.draw(texts(special)), data.draw(texts(special))
        boundary = boundary_of(answer, spec, name, instruction=asked)
        prompt = spec.replace("{instruction}", asked, 1)
        if spec == "instruction":
            prompt = f"### Instruction:\n{asked}\n\n### Response:\n"
        check_lanes(boundary, prompt, answer)
        begin = begins_text(tokenizer)
        alone, together = begin + plain(tokenizer, prompt), begin + plain(tokenizer, prompt + answer)
        used, _ = expected(tokenizer, spec, asked, "", answer, 1_000_000)
        assert ids(boundary, "alone") == alone[len(alone) - len(boundary.alone) :]
        assert is_part(ids(boundary, "together"), together)
        assert is_part(ids(boundary, "used"), list(used[:-1]))
        assert boundary.merged == (together[: len(alone)] != alone or boundary.lost != "")

    @pytest.mark.parametrize("name", ["gpt2", "llama", "unigram", "spaces_added"])
    @given(data=st.data())
    def test_a_long_text_cut_anywhere(self, name, data):
        """A token of the whole may reach beyond the tokens that are near the boundary."""
        text = data.draw(prose())
        at = data.draw(st.integers(0, len(text)))
        check_lanes(boundary_of(text[at:], name=name, prompt=text[:at]), text[:at], text[at:])

    @given(asked=texts(special=False), answer=texts(special=False), name=st.sampled_from(["chatml", "digits"]))
    def test_of_a_chat(self, name, asked, answer):
        tokenizer = tokenizer_named(name)
        example = Example(5, messages=(Message("user", asked),), answer=Message("assistant", answer))
        boundary = inspect_boundary(example, Masker(tokenizer_named(name), get_template("chat"), 10_000))
        check_lanes(boundary, f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n", answer)
        assert is_part(ids(boundary, "alone"), chatml(tokenizer, asked, "", ""))
        assert is_part(ids(boundary, "together"), chatml(tokenizer, asked, "", answer))
        assert shown(boundary, "alone")[-1] == "\n"

    @pytest.mark.parametrize("name", [*MAKERS, "characters"])
    def test_some_tokens_on_either_side(self, name):
        """What a tokenizer puts before a text counts among them."""
        boundary = boundary_of("one two three four five six seven eight", NEWLINE, name)
        assert len([piece for piece in boundary.alone if piece.begin < piece.end]) == 4
        assert len([piece for piece in boundary.used[len(boundary.alone) :] if piece.begin < piece.end]) == 4

    def test_each_token_of_a_character_is_there(self):
        boundary = boundary_of("👋 hi", "{instruction}\n", instruction="👩\u200d👩")
        tokenizer = tokenizer_named("gpt2")
        assert ids(boundary, "alone")[-1] == plain(tokenizer, "\n")[0]
        assert shown(boundary, "used")[len(boundary.alone) :][:4] == ["👋", "", "", ""]
        assert is_part(plain(tokenizer, "👋"), ids(boundary, "used"))

    @pytest.mark.parametrize("name", [*MAKERS, "characters"])
    @pytest.mark.parametrize(
        ("prompt", "answer"), [("👩\u200d", "👩"), ("👋", "\u200d👋"), ("n", "\u0303 x"), ("日", "本")]
    )
    def test_a_character_of_several_parts_across_the_boundary(self, name, prompt, answer):
        boundary = boundary_of(answer, name=name, prompt=prompt)
        check_lanes(boundary, prompt, answer)
        assert "".join(shown(boundary, "used")) == prompt + answer


class TestMerge:
    @pytest.mark.parametrize("name", MERGING)
    def test_after_a_space(self, name):
        boundary = boundary_of("hello world", SPACE, name)
        assert boundary.merged
        crossing = [p for p in boundary.together if p.begin < boundary.at < p.end]
        assert [boundary.text[p.begin : p.end] for p in crossing] == [f" {boundary.lost}"]
        assert boundary.lost
        assert "hello world".startswith(boundary.lost)
        assert shown(boundary, "alone")[-1] == " "
        assert ids(boundary, "used")[: len(boundary.alone)] == ids(boundary, "alone")

    @pytest.mark.parametrize("name", [*GROUPS[0], *GROUPS[1], "characters"])
    def test_not_after_a_newline(self, name):
        boundary = boundary_of("hello world", NEWLINE, name)
        assert (boundary.merged, boundary.lost) == (False, "")
        assert boundary.together == boundary.used

    @pytest.mark.parametrize("name", ["llama", "llama_always", "llama_legacy"])
    def test_sentencepiece_after_a_space(self, name):
        boundary = boundary_of("answer", SPACE, name)
        assert boundary.merged
        assert boundary.lost == "answer"
        assert shown(boundary, "together")[-1] == " answer"

    def test_two_newlines_become_one_token(self):
        boundary = boundary_of("\nhello", "{instruction}\n", "llama3")
        assert (boundary.merged, boundary.lost) == (True, "\n")
        assert "\n\n" in shown(boundary, "together")
        assert shown(boundary, "used").count("\n") == 2

    def test_an_unknown_token_takes_its_neighbours_in(self):
        """The joint ids begin with the prompt's, and yet one of these holds a part of the answer."""
        boundary = boundary_of("]e", "{instruction}", "unigram", instruction="a[")
        tokenizer = tokenizer_named("unigram")
        alone, together = plain(tokenizer, "a["), plain(tokenizer, "a[]e")
        assert together[: len(alone)] == alone
        assert (boundary.merged, boundary.lost) == (True, "]")

    @pytest.mark.parametrize("spec", [SPACE, NEWLINE, "{instruction}"])
    @pytest.mark.parametrize("name", MAKERS)
    def test_merged_is_what_the_mask_flags(self, name, spec):
        for answer in ("hello world", " hello", "\nhello", "", " ", "7", "日本"):
            example = Example(0, answer, instruction="Count to 3")
            (row,), _ = Masker(tokenizer_named(name), get_template(spec), 1000).tokenize([example])
            boundary = inspect_boundary(example, Masker(tokenizer_named(name), get_template(spec), 10_000))
            assert boundary.merged == ("merged_boundary" in row.flags)
            assert bool(boundary.lost) <= boundary.merged
            assert is_part(ids(boundary, "used"), list(row.input_ids))

    def test_a_blank_line_of_gpt2s_kind(self):
        """Alone two newlines are a token, before a word they are two: no token reaches over, and yet the ids differ."""
        tokenizer = llama3()
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        template, example = get_template("Q: {instruction}\n\n"), Example(0, "hello", instruction="Say")
        boundary = inspect_boundary(example, Masker(tokenizer, template, 10_000))
        assert (shown(boundary, "alone")[-1], shown(boundary, "together")[-3:]) == ("\n\n", ["\n", "\n", "hello"])
        assert (boundary.merged, boundary.lost) == (True, "")
        assert "cut into other tokens than alone" in boundary.sentence
        assert "reaches" not in boundary.sentence
        assert newline_remedy([example], Masker(tokenizer, template, 10_000)) == Remedy("Q: {instruction}\n", 1, 0)

    def test_the_sentence(self):
        sentence = boundary_of("hello world", NEWLINE).sentence
        assert "the same ids alone and together" in sentence
        sentence = boundary_of("hello world", SPACE).sentence
        assert "a token reaches across the end of the prompt" in sentence
        assert "would lose 'hello' of the answer" in sentence
        assert "would lose '\\n' of the answer" in boundary_of("\nhello", "{instruction}\n", "llama3").sentence


class TestEdges:
    @pytest.mark.parametrize("name", [*MAKERS, "characters"])
    def test_an_empty_answer(self, name):
        boundary = boundary_of("", SPACE, name)
        assert boundary.at == len(boundary.text)
        assert boundary.alone == boundary.together == boundary.used != ()
        assert (boundary.merged, boundary.lost) == (False, "")

    def test_an_empty_prompt(self):
        boundary = boundary_of("hello world", prompt="")
        assert (boundary.at, boundary.alone, boundary.merged) == (0, (), False)
        assert boundary.together == boundary.used
        assert shown(boundary, "used") == ["hello", " world"]

    def test_an_empty_prompt_after_a_bos(self):
        boundary = boundary_of("hi", name="characters", prompt="")
        assert [(piece.id, piece.begin, piece.end) for piece in boundary.alone] == [(128, 0, 0)]
        assert shown(boundary, "used") == ["", "h", "i"]

    def test_nothing_at_all(self):
        boundary = boundary_of("", prompt="")
        assert (boundary.text, boundary.alone, boundary.together, boundary.used) == ("", (), (), ())
        assert not boundary.merged

    def test_text_that_looks_special_stays_text(self):
        boundary = boundary_of("<|endoftext|>", "{instruction}\n", instruction="a")
        assert tokenizer_named("gpt2").eos_token_id not in ids(boundary, "used") + ids(boundary, "together")

    def test_a_row_that_cannot_be_rendered(self):
        turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
        with pytest.raises(DataError, match="row 5: this model has no chat template"):
            boundary_of("d", messages=turns)

    @pytest.mark.parametrize("spec", [SPACE, NEWLINE])
    @pytest.mark.parametrize("name", [*MAKERS, "characters"])
    def test_as_json(self, name, spec):
        boundary = boundary_of("hello 👋", spec, name)
        record = json.loads(json.dumps(boundary.to_dict()))
        assert set(record) == {"row", "text", "at", "alone", "together", "used", "merged", "lost", "sentence"}
        assert (record["row"], record["text"], record["at"]) == (5, boundary.text, boundary.at)
        assert (record["merged"], record["lost"]) == (boundary.merged, boundary.lost)
        assert record["sentence"] == boundary.sentence
        for lane in ("alone", "together", "used"):
            assert record[lane] == [
                {"id": piece.id, "begin": piece.begin, "end": piece.end} for piece in getattr(boundary, lane)
            ]


def rows_of(*answers: str, **shape) -> list[Example]:
    return [Example(row, answer, **(shape or {"instruction": "Say"})) for row, answer in enumerate(answers)]


def merging(examples, name: str, spec: str) -> int:
    """How many rows the mask flags."""
    rows, _ = Masker(tokenizer_named(name), get_template(spec), 1000).tokenize(examples)
    return sum("merged_boundary" in row.flags for row in rows)


class TestRemedy:
    def remedy(self, examples, spec=SPACE, name="gpt2") -> Remedy | None:
        return newline_remedy(examples, Masker(tokenizer_named(name), get_template(spec), 10_000))

    @pytest.mark.parametrize("name", MERGING)
    @pytest.mark.parametrize(
        ("spec", "mended"),
        [
            (SPACE, "Q: {instruction} A:\n"),
            ("{instruction}  \t", "{instruction}\n"),
            ("{input} {instruction} ", "{input} {instruction}\n"),
        ],
    )
    def test_it_counts_what_the_mask_flags(self, name, spec, mended):
        examples = rows_of("hello", "world", "the capital", "\nand", "")
        before, after = merging(examples, name, spec), merging(examples, name, mended)
        assert self.remedy(examples, spec, name) == (Remedy(mended, before, after) if after < before else None)

    def test_it_helps(self):
        assert self.remedy(rows_of("hello", "world", "")) == Remedy("Q: {instruction} A:\n", 2, 0)

    def test_rows_with_an_input(self):
        examples = rows_of("hello", "world", instruction="Say", input="it")
        assert self.remedy(examples, "{instruction} {input} ") == Remedy("{instruction} {input}\n", 2, 0)

    def test_a_named_template_is_not_the_persons_to_mend(self):
        template = Template("instruction", "{instruction} ", "{instruction} {input} ")
        assert newline_remedy(rows_of("hello"), Masker(tokenizer_named("gpt2"), template, 10_000)) is None

    def test_some_rows_may_remain(self):
        examples = rows_of("hello", "\nhello", " hello")
        assert self.remedy(examples, "{instruction} ", "llama3") == Remedy("{instruction}\n", 2, 1)

    @pytest.mark.parametrize(
        ("examples", "spec", "name"),
        [
            (rows_of("hello"), NEWLINE, "gpt2"),
            (rows_of("hello"), SPACE, "characters"),
            (rows_of("\n\nhello"), "{instruction}\n ", "llama3"),
            (rows_of("\nhello"), "instruction", "llama3"),
            (rows_of("\nhello"), "alpaca", "llama3"),
            (rows_of("hello", messages=(Message("user", "a"),)), "chat", "chatml"),
            (rows_of("hello", prompt="Say "), SPACE, "gpt2"),
            (rows_of("hello", messages=(Message("user", "a"),)), SPACE, "gpt2"),
            ([], SPACE, "gpt2"),
        ],
        ids=["newline", "no merge", "newline merges too", "named", "alpaca", "chat", "verbatim", "refused", "no row"],
    )
    def test_none(self, examples, spec, name):
        assert self.remedy(examples, spec, name) is None

    def test_rows_that_cannot_be_rendered_are_passed_over(self):
        refused = Example(9, "x", messages=(Message("user", "a"),))
        assert self.remedy([*rows_of("hello"), refused]) == Remedy("Q: {instruction} A:\n", 1, 0)
