"""Sentences that were made from a text of the code, found again and worded in another language."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import polib
import pytest

from sftdemo.ui import catalogue as module
from sftdemo.ui.catalogue import PLACE, Catalogue, catalogue
from sftdemo.ui.words import ENGLISH, LANGUAGES

ROOT = Path(__file__).parents[2]
TEXTS = {
    "masked": "有掩码",
    "row {row}": "第 {row} 行",
    "{rows} rows": "{rows} 行",
    "left out: {reason}": "未采用：{reason}",
    "has {length} tokens, and max length is {most}. Raise it.": "有 {length} 个 token，上限 {most}。请调高。",
    "the training lowered the loss to {loss}.": "训练使 loss 降到 {loss}。",
    "One seed, and few prompts.": "只有一个种子。",
    "{what}, by up to {count} tokens": "{what}，最多 {count} 个",
    "because {why}": "因为{why}",
    "nobody asked": "没人要求",
    "{place} in the queue": "排在第 {place}",
    "it fell{why}": "它降低{why}",
}


@pytest.fixture
def small(tmp_path, monkeypatch):
    file = polib.POFile()
    file.extend(polib.POEntry(msgid=text, msgstr=words) for text, words in TEXTS.items())
    file.save(str(tmp_path / "zh.po"))
    monkeypatch.setattr(module, "LOCALE", tmp_path)
    return Catalogue("zh")


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("masked", "有掩码"),
        ("One seed, and few prompts", "只有一个种子。"),
        ("Row 1,024", "第 1,024 行"),
        ("16 rows", "16 行"),
        ("left out: has 12 tokens, and max length is 8. Raise it.", "未采用：有 12 个 token，上限 8。请调高。"),
        ("The training lowered the loss to 0.7. One seed, and few prompts.", "训练使 loss 降到 0.7。只有一个种子。"),
        ("row 3: masked", "第 3 行：有掩码"),
        ("masked, by up to 5 tokens", "有掩码，最多 5 个"),
        ("it fell, because nobody asked", "它降低，因为没人要求"),
        ("16 rows · masked · SmolLM2", "16 行 · 有掩码 · SmolLM2"),
        ("22nd in the queue", "排在第 22"),
        ("masked…", "有掩码…"),
    ],
)
def test_a_sentence_gives_its_values_back(small, sentence, said):
    assert small.say(sentence) == said


@pytest.mark.parametrize("text", ["", "Hello there", "row of trees and more", "the rows are of two kinds", "a · b"])
def test_what_is_not_known_stays_as_it_is(small, text):
    assert small.say(text) == text


def test_a_value_is_put_in_as_it_is(small):
    """What looks like a place in it is none; a sentence beyond all bounds is not looked for."""
    assert small.say("left out: {row} {0} %s") == "未采用：{row} {0} %s"
    endless = f"left out: {'row 1: ' * 900}"
    assert small.say(endless) == endless


@pytest.mark.parametrize("name", [name for name in LANGUAGES if name != ENGLISH])
class TestEachLanguage:
    def test_its_catalogue_has_all_words_of_the_page_and_no_others(self, name):
        """`make words` adds those that are new, and takes out those that are gone."""
        found = runpy.run_path(str(ROOT / "tools" / "words.py"))["all_texts"]()
        assert set(catalogue(name).texts) == set(found)

    def test_each_translation_has_places_of_its_text_only(self, name):
        for text, words in catalogue(name).texts.items():
            assert set(PLACE.findall(words)) <= set(PLACE.findall(text)), text

    def test_a_translation_is_none_of_english(self, name):
        """Names stay, and so does what a command line or a file has."""
        for text, words in catalogue(name).texts.items():
            left = re.sub(r"`[^`]*`|\"[^\"]*\"|'[^']*'|<[^>]*>|“[^”]*”|\{\w+\}|--\S+", "", words)
            assert not re.search(r"[A-Za-z]{2,}(?: [a-z]{2,}){3}", left) or text == words, words
