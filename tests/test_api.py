"""The public interface: its names, that asking for them is light, how a row is drawn, and docs/api.md as a program."""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stdout
from functools import cache
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text
from tiny import byte_level, tokenizer_named
from tokenizers import AddedToken

import sftdemo
from sftdemo.core import palette
from sftdemo.mask.view import view_tokens, visible
from sftdemo.terminal.mask import print_rows

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
NAMES = [name for name in sftdemo.__all__ if name != "__version__"]
FUNCTIONS = [name for name in NAMES if inspect.isfunction(getattr(sftdemo, name))]
EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</span></section></style><b>",
    "&lt;b&gt; &amp;",
    "' onmouseover='alert(1)",
    "\x1b[31mred\x1b]0;title\x07",
    "\x9b31m \x85 \x00 \x7f \r",
    "naïve 🦜 γεια",
]


def row_of(row: dict, tokenizer=None, max_length: int = 512) -> sftdemo.TokenizedExample:
    data = sftdemo.parse_examples(json.dumps([row]))
    template = sftdemo.get_template("instruction")
    examples, _ = sftdemo.Masker(tokenizer or tokenizer_named("gpt2"), template, max_length).tokenize(data.train)
    return examples[0]


@cache
def with_whole_tokens():
    """A tokenizer to which each of these texts is one token, as a model's own may have."""
    tokenizer = byte_level("<|endoftext|>")
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in EVIL])
    return tokenizer


class TestNames:
    def test_three_lists_name_the_same(self):
        """`__all__`, the table that finds a name's module, and the imports that a type checker reads."""
        tree = ast.parse((ROOT / "sftdemo" / "__init__.py").read_text(encoding="utf-8"))
        seen = {
            alias.name: f"sftdemo.{node.module}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.level
            for alias in node.names
        }
        assert sorted(NAMES) == sorted(seen)
        assert {name: f"sftdemo.{module}" for name, module in sftdemo._MODULE_OF.items()} == seen

    @pytest.mark.parametrize("name", NAMES)
    def test_each_is_what_its_module_has(self, name):
        module = sys.modules[getattr(getattr(sftdemo, name), "__module__", "sftdemo")]
        assert module.__name__.startswith("sftdemo")
        assert name in ("IGNORE_INDEX", "SAMPLES") or getattr(module, name) is getattr(sftdemo, name)

    def test_no_other_name_is_made_up(self):
        with pytest.raises(AttributeError, match="module 'sftdemo' has no attribute 'mask_exmaples'"):
            sftdemo.mask_exmaples  # noqa: B018

    def printed_by(self, code: str) -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    def test_dir_lists_them_before_they_are_asked_for(self):
        code = "import sftdemo; print(sorted(set(sftdemo.__all__) - set(dir(sftdemo))))"
        assert self.printed_by(code) == "[]\n"

    def test_asking_for_all_of_them_is_light(self):
        heavy = ["torch", "transformers", "tokenizers", "gradio", "trl", "peft", "datasets", "pandas", "numpy"]
        # a callback of transformers is a subclass of theirs, and so needs them
        light = ", ".join(name for name in sftdemo.__all__ if name != "MaskCallback")
        code = (
            "import os, sys, warnings; before = dict(os.environ), list(warnings.filters)\n"
            f"from sftdemo import {light}\n"
            f"print((dict(os.environ), list(warnings.filters)) == before, *set({heavy}) & set(sys.modules))"
        )
        assert self.printed_by(code) == "True\n"

    @pytest.mark.parametrize("name", [name for name in NAMES if name not in ("IGNORE_INDEX", "SAMPLES")])
    def test_each_says_what_it_is(self, name):
        words = getattr(sftdemo, name).__doc__
        assert words
        assert not words.startswith(f"{name}("), "that is what a dataclass writes by itself"

    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_each_function_is_typed(self, name):
        function = getattr(sftdemo, name)
        annotated = set(function.__annotations__)
        assert annotated == {*inspect.signature(function).parameters, "return"}

    @pytest.mark.parametrize("name", NAMES)
    def test_each_is_named_in_the_page(self, name):
        assert f"`{name}`" in PAGE.partition("## All names")[2]


class Elements(HTMLParser):
    """The elements of a page, and the text of those tokens that it finds."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.texts, self._open = [], set(), [], False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self._open = tag == "span"
        if self._open:
            self.texts.append((dict(attrs)["class"].split(), dict(attrs)["title"], ""))

    def handle_endtag(self, tag):
        self._open = False

    def handle_data(self, data):
        if self._open:
            classes, title, text = self.texts[-1]
            self.texts[-1] = (classes, title, text + data)


class TestHtml:
    @pytest.mark.parametrize("evil", EVIL)
    @pytest.mark.parametrize("whole", [True, False], ids=["one token", "many"])
    def test_all_text_is_text(self, evil, whole):
        tokenizer = with_whole_tokens() if whole else tokenizer_named("gpt2")
        row = row_of({"instruction": evil, "input": evil, "output": evil + "\nand more"}, tokenizer)
        found = Elements(sftdemo.render_html(row, tokenizer))
        assert any(token.text == visible(evil) for token in view_tokens(row, tokenizer)) == whole
        assert set(found.tags) <= {"section", "style", "header", "div", "span", "br", "p"}
        assert found.attributes <= {"class", "title"}
        tokens = view_tokens(row, tokenizer)
        assert [text for _, _, text in found.texts] == [token.text for token in tokens]
        assert found.tags.count("br") == sum(token.breaks for token in tokens)

    @given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
    def test_any_text_comes_back(self, text):
        row = row_of({"instruction": "Say it", "output": text})
        found = Elements(sftdemo.render_html(row, tokenizer_named("gpt2")))
        assert [text for _, _, text in found.texts] == [t.text for t in view_tokens(row, tokenizer_named("gpt2"))]

    def test_a_tokens_name_is_escaped(self):
        """A model's own token may have any name."""
        tokenizer = tokenizer_named("gpt2")

        class Named:
            def convert_ids_to_tokens(self, identity):
                return "<img src=x onerror=alert(1)>" if identity == tokenizer.eos_token_id else "?"

        html = sftdemo.render_html(row_of({"instruction": "Hi", "output": "Hello"}), Named())
        assert "img" not in Elements(html).tags
        assert "&lt;img" in html

    @pytest.mark.parametrize("max_length", [512, 30], ids=["whole", "cut"])
    def test_what_is_trained_is_marked(self, max_length):
        row = row_of({"instruction": "Say hello", "output": "Hello world! " * 4}, max_length=max_length)
        found = Elements(sftdemo.render_html(row, tokenizer_named("gpt2"))).texts
        kept = len(row.input_ids)
        assert len(found) == kept + row.cut
        for (classes, title, _), label, identity in zip(found, row.labels, row.input_ids, strict=False):
            assert ("trained" in classes) == (label != sftdemo.IGNORE_INDEX)
            assert title.endswith(f", id {identity}, label {label}")
        assert ["cut" in classes for classes, _, _ in found] == [False] * kept + [True] * row.cut
        if not row.cut:
            assert found[-1][0] == ["token", "eos", "trained"]

    def test_it_says_what_is_odd(self):
        row = row_of({"instruction": "Hi", "output": "Hello " * 20}, max_length=30)
        words = unescape(re.sub("<[^>]+>", " ", sftdemo.render_html(row, tokenizer_named("gpt2"))))
        assert row.flags == ("answer_cut", "eos_cut")
        assert f"✂ {row.cut} tokens cut off" in words
        assert words.count("⚠") == 2

    def test_it_stands_by_itself(self):
        html = sftdemo.render_html(row_of({"instruction": "Hi 🦜", "output": "Hello"}), tokenizer_named("gpt2"))
        assert html.isascii()
        assert "🦜" in unescape(html)
        assert not re.search(r"url\(|@import|https?:|src=|href=|<script", html)

    def test_its_colours_are_the_pages(self):
        html = sftdemo.render_html(row_of({"instruction": "Hi", "output": "Hello"}), tokenizer_named("gpt2"))
        used = set(re.findall(r"var\(--([\w-]+)\)", html))
        assert used
        for name in used:
            assert all(f"--{name}: {colour};" in html for colour in palette.PAGE[name])


class TestAnsi:
    def test_it_is_what_the_command_prints(self, capsys, monkeypatch):
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "100")
        row, tokenizer = row_of({"instruction": "Say hello", "output": "Hello world!"}), tokenizer_named("gpt2")
        drawn = sftdemo.render_ansi(row, tokenizer)
        print_rows([row], tokenizer)
        plain = capsys.readouterr().out  # there are brackets in place of colours
        assert Text.from_ansi(drawn).plain.split() == re.sub(r"\[(.+?)\]", r"\1", plain).split()

    def test_it_prints_nothing_and_has_colours_whatever_stdout_is(self, capsys, monkeypatch):
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("TERM", "dumb")
        drawn = sftdemo.render_ansi(row_of({"instruction": "Hi", "output": "Hello"}), tokenizer_named("gpt2"))
        assert capsys.readouterr() == ("", "")
        assert re.search(r"\x1b\[[\d;]*48;5;\d", drawn)  # a background

    def test_trained_tokens_alone_stand_on_colour(self):
        row, tokenizer = row_of({"instruction": "Say hello", "output": "Hello world!"}), tokenizer_named("gpt2")
        text = Text.from_ansi(sftdemo.render_ansi(row, tokenizer))
        coloured = "".join(
            text.plain[span.start : span.end] for span in text.spans if getattr(span.style, "bgcolor", None)
        )
        assert coloured.replace("␣", " ") == "Hello world!<|endoftext|>"

    @pytest.mark.parametrize("evil", EVIL)
    def test_control_characters_of_the_text_are_signs(self, evil):
        drawn = sftdemo.render_ansi(row_of({"instruction": evil, "output": evil}), tokenizer_named("gpt2"))
        ours = re.sub(r"\x1b\[[\d;]*m", "", drawn)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", ours)

    def test_the_width_is_the_line_above(self):
        row = row_of({"instruction": "Say hello", "output": "Hello world! " * 40})
        lines = Text.from_ansi(sftdemo.render_ansi(row, tokenizer_named("gpt2"), width=70)).plain.splitlines()
        assert len(lines[0]) == 70
        assert max(map(len, lines)) > 70


def test_the_page_is_a_program_that_runs(gpt2_folder, tmp_path, monkeypatch):
    """Its blocks one after the other, each printing what stands below it; those that call the page are run beside it
    (tests/ui/test_api.py)."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(
        r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", PAGE.partition("## Call the page")[0], re.DOTALL
    )
    hub_id = '"HuggingFaceTB/SmolLM2-135M-Instruct"'
    assert sum(code.count(hub_id) for code, _ in blocks) == 1
    assert sum(bool(expected) for _, expected in blocks) >= 6
    names: dict[str, object] = {}
    for code, expected in blocks:
        with redirect_stdout(io.StringIO()) as out:
            exec(compile(code.replace(hub_id, repr(str(gpt2_folder))), "docs/api.md", "exec"), names)
        if expected:
            assert out.getvalue() == expected, code
        if "sftdemo.ablate" in code:
            assert re.findall(r"^(.+): \d", out.getvalue(), re.MULTILINE) == ["base", "weight 0", "weight 1"]
        if "sftdemo.answer" in code:
            assert out.getvalue().startswith("Say hello → ")
    assert (tmp_path / "row.html").read_text().startswith("<section")
    assert (tmp_path / "outputs" / "run.json").is_file()
    assert sorted(path.name for path in (tmp_path / "both").glob("weight-*")) == ["weight-0", "weight-1"]


def test_the_hints_of_the_functions_can_be_resolved():
    """By a program that asks for them, such as a notebook's help: no name is known to the type checker only."""
    for name in ("read_examples", "parse_examples", "get_sample", "run", "ablate", "answer"):
        assert get_type_hints(getattr(sftdemo, name))
