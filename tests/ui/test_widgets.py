"""The JSON that the widgets draw, and the scripts that draw it."""

from __future__ import annotations

import json
import re

import gradio as gr
import pytest
from desk import EVIL, shared_page, text_of
from hypothesis import given
from hypothesis import strategies as st
from tiny import tokenizer_named

from sftdemo.data.examples import Example, parse_examples
from sftdemo.data.problems import Problem
from sftdemo.data.templates import get_template
from sftdemo.mask.audit import Audit
from sftdemo.mask.boundary import Remedy, inspect_boundary
from sftdemo.mask.checks import Finding
from sftdemo.mask.labels import MaskedExample, Masker, trained_spans
from sftdemo.mask.layouts import layouts
from sftdemo.mask.view import SAYS, mask_sentence
from sftdemo.ui import widgets
from sftdemo.ui.widgets import STATIC

SCRIPTS = sorted(STATIC.glob("*.js"))


def card(text: str, name: str = "gpt2", max_length: int = 512, template: str = "{instruction}\n") -> dict:
    """The first row of a text, as the mask draws it."""
    data, tokenizer = parse_examples(text), tokenizer_named(name)
    examples, problems = Masker(tokenizer, get_template(template), max_length).tokenize(data.train)
    return json.loads(widgets.mask_rows(examples, data, problems, tokenizer, (0,), 0))["rows"][0]


class TestPage:
    def test_its_api_is_what_is_named(self):
        blocks = shared_page().blocks
        info, public = blocks.get_api_info(), [fn for fn in blocks.fns.values() if fn.api_visibility != "private"]
        names = ["/audit", "/compare_tokenizers", "/generate", "/mask", "/result", "/train"]
        assert (sorted(info["named_endpoints"]), info["unnamed_endpoints"]) == (names, {})
        assert (len(blocks.fns) >= 20, len(public)) == (True, len(names))
        for endpoint in info["named_endpoints"].values():
            assert endpoint["description"]
            assert all(each["parameter_has_default"] for each in endpoint["parameters"])

    def test_no_handler_reads_a_download(self):
        """Gradio would read its file, which is written when it is asked for and not before."""
        handlers = shared_page().blocks.fns.values()
        assert not [fn for fn in handlers if any(isinstance(each, gr.DownloadButton) for each in fn.inputs)]

    def test_no_value_reaches_a_widgets_template(self):
        blocks = shared_page().blocks.blocks.values()
        drawn = [block for block in blocks if isinstance(block, gr.HTML) and block.js_on_load]
        drawn = [block for block in drawn if 'class="widget' in (block.html_template or "")]
        assert len(drawn) >= 10
        for block in drawn:
            assert re.fullmatch(r'<div class="widget \w+"></div>', block.html_template)
            json.loads(block.value)


class TestScripts:
    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
    def test_they_draw_with_text_content_only(self, script):
        found = re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc|DOMParser"
            r"|createContextualFragment|setHTML|https?:(?!//www\.w3\.org/2000/svg\b)|//cdn|\bimport\b",
            script.read_text(),
        )
        assert not found, found

    def test_each_widget_has_one(self):
        names = {script.stem for script in SCRIPTS} - {"helpers"}
        modules = STATIC.parent.rglob("*.py")
        used = [name for module in modules for name in re.findall(r'\bwidget\(\s*"(\w+)"', module.read_text())]
        assert names == set(used)

    @pytest.mark.parametrize("name", ["mask", "versus"])
    def test_the_kinds_and_their_names_are_sent_along_in_their_order(self, name):
        sent = re.search(r"^const SAYS = (\{.*\});$", widgets.widget(name, "{}").js_on_load, re.MULTILINE)[1]
        assert list(json.loads(sent).items()) == list(SAYS.items())

    def test_the_kinds_are_listed_in_python_alone(self):
        assert not any(re.search(r"earlier assistant turn|SAYS = ", script.read_text()) for script in SCRIPTS)


class TestMask:
    def test_a_characters_later_tokens_are_empty(self):
        """The pirate flag is four characters, each of several bytes, all of them shown once."""
        row = card(json.dumps({"instruction": "Wave 🏴‍☠️", "output": "日本 é"}))
        texts = [text for text, *_ in row["tokens"]]
        assert "".join(texts).replace("␣", " ").startswith("Wave 🏴‍☠️↵日本 é")
        assert "" in texts
        assert "\ufffd" not in "".join(texts)

    def test_newlines_are_counted(self):
        tokens = card(json.dumps({"instruction": "a\n\nb", "output": "c"}))["tokens"]
        assert sum(breaks for *_, breaks in tokens) == 3
        assert all(text.count("↵") == breaks for text, *_, breaks in tokens)

    def test_a_cut_row(self):
        row = card(json.dumps({"instruction": "a", "output": "b c d e f"}), max_length=4)
        assert [bits for *_, bits, _ in row["tokens"]][:4] == [0, 0, 1, 1]
        assert {bits for *_, bits, _ in row["tokens"][4:]} == {2 + 1}  # cut off, or they would be trained
        assert (row["prompt"], row["trained"], row["cut"], row["more"]) == (2, 2, len(row["tokens"]) - 4, 0)

    def test_rows_refused_for_one_reason_are_one_line(self):
        data = parse_examples(json.dumps([{"instruction": "a"}] * 3000))
        shown = json.loads(widgets.mask_rows([], data, [], None, (0,), 0))
        (group,) = shown["problems"]
        assert group["words"].startswith('3,000 rows: has no "output"')
        assert (group["count"], group["dropped"]) == (3000, False)
        assert group["rows"] == [[row, None] for row in range(widgets.ROWS_LINKED)]

    def test_dropped_rows_are_no_errors_and_come_last(self):
        problems = [Problem(0, 1, "has 34 tokens.", dropped=True), Problem(1, 2, "is 5.")]
        groups = widgets.problem_groups(problems)
        assert [(group["words"], group["dropped"]) for group in groups] == [
            ("row 1 (line 2): is 5.", False),
            ("left out: row 0 (line 1): has 34 tokens.", True),
        ]

    def test_messages_are_not_endless(self):
        refused = [{f"column {chr(97 + i // 15)}{chr(97 + i % 15)}": 1} for i in range(200)]
        data = parse_examples(json.dumps([*refused, {"instruction": "a", "output": "b"}]))
        shown = json.loads(widgets.mask_rows([], data, data.problems, None, (0,), 0))
        assert len(shown["problems"]) == widgets.MESSAGES_DRAWN
        assert shown["message"] == "No example to train on yet."


class TestOthers:
    def test_findings(self):
        finding = Finding("padding", "note", "what", "Why.", "Do it.", 0, ())
        shown = json.loads(widgets.audit_findings([finding], "Words"))
        assert shown == {"findings": [finding.to_dict()], "message": "Words"}

    def test_totals(self):
        audit = Audit(8, 128)
        assert json.loads(widgets.totals(audit, 3)) == {"summary": "", "hash": "", "fraction": None}
        audit.examples, audit.tokens, audit.trained = 1200, 30_000, 6_000
        shown = json.loads(widgets.totals(audit, 3, 0.5))
        assert shown == {
            "summary": "1,200 examples · 30,000 tokens · 6,000 trained (20%) · 3 held out",
            "hash": "",
            "fraction": 0.5,
        }

    def test_the_hash_is_told_once_all_rows_are_counted(self):
        audit = Audit(8, 128)
        audit.add(Example(0, "b", instruction="a"), MaskedExample(0, (1, 2), (-100, 2), (), ()))
        assert json.loads(widgets.totals(audit, 0))["hash"] == mask_sentence(str(audit.mask_hash))

    def test_lanes_have_the_text_and_its_cuts(self):
        (example,) = parse_examples('{"instruction": "What is the capital of Italy?", "output": "Arr"}').train
        template = get_template("Q: {instruction} A: ")
        boundary = inspect_boundary(example, Masker(tokenizer_named("gpt2"), template, 10_000))
        shown = json.loads(widgets.boundary_lanes(boundary, Remedy("Q\n", 2, 1)))
        assert [name for name, _ in shown["lanes"]] == ["alone", "together", "used"]
        for _, pieces in shown["lanes"]:
            for text, _, begin, end, trained in pieces:
                assert text == widgets.visible(boundary.text[begin:end])
                assert trained == (begin >= shown["at"])
        assert (shown["merged"], shown["at"]) == (boundary.merged, boundary.at)
        assert shown["message"] == f"Row 0. {boundary.sentence}"
        assert shown["remedy"] == {"template": "Q\n", "merging": 2, "remaining": 1}

    def test_layouts_carry_row_numbers_and_trained_tokens(self):
        audit = Audit(2, 16)
        audit.rows, audit.lengths, audit.fresh = [0, 2, 3], [10, 20, 4], [9, 5, 3]
        audit.spans = [((7, 10),), ((9, 20),), ((1, 2), (3, 4))]
        shown = json.loads(widgets.packing_rows(layouts(audit.lengths, audit.fresh, 2, 16), audit))
        assert [layout["name"] for layout in shown["layouts"]] == ["padded", "shared", "packed", "seed"]
        padded, shared, packed, _ = shown["layouts"]
        assert padded["rows"] == [
            {"width": 16, "blocks": [[0, 0, 10, [[7, 10]], 0]]},
            {"width": 16, "blocks": [[1, 2, 16, [[9, 16]], 0]]},
            {"width": 4, "blocks": [[2, 3, 4, [[1, 2], [3, 4]], 0]]},
        ]
        assert shared["rows"] == [
            {"width": 14, "blocks": [[0, 0, 9, [[6, 9]], 0], [1, 2, 5, [[0, 5]], 10]]},
            {"width": 3, "blocks": [[2, 3, 3, [[0, 1], [2, 3]], 0]]},
        ]
        assert sorted(block for row in packed["rows"] for block in row["blocks"]) == [
            [0, 0, 10, [[7, 10]], 0],
            [1, 2, 16, [[9, 16]], 0],
            [2, 3, 4, [[1, 2], [3, 4]], 0],
        ]
        assert (padded["wasted"], shared["wasted"], packed["wasted"]) == (6, 0, 0)
        assert "batches of 2" in padded["title"]
        assert shared["title"] == "shared: batches of 2, each common beginning once"
        assert shared["figure"] == "17 positions · 13 of 30 tokens saved · 4 tokens cut off"
        assert "up to 16" in packed["title"]

    @given(st.lists(st.booleans(), min_size=2, max_size=300), st.integers(8, 300), st.integers(0, 200))
    def test_what_is_trained_of_a_block(self, trained, max_length, fresh):
        """Against the labels themselves, wherever they are trained, as in conversations and masks made by hand: of each
        block those of its own tokens, of a shared one those it predicts."""
        labels = [index if is_trained else -100 for index, is_trained in enumerate(trained)]
        kept = labels[:max_length]
        audit = Audit(2, max_length)
        audit.rows, audit.lengths = [0, 1], [len(labels)] * 2
        audit.spans = [trained_spans(labels)] * 2
        audit.fresh = [len(kept) - 1, min(len(kept) - 1, fresh)]
        cuts = {"padded": [kept] * 2, "packed": [kept] * 2, "seed": [labels[:128]] * 2}
        cuts["shared"] = [kept[len(kept) - count :] for count in audit.fresh]
        shown = json.loads(widgets.packing_rows(layouts(audit.lengths, audit.fresh, 2, max_length), audit))
        for layout in shown["layouts"]:
            for example, _, length, parts, earlier in (block for row in layout["rows"] for block in row["blocks"]):
                cut = cuts[layout["name"]][example]
                found = [index for begin, end in parts for index in range(begin, end)]
                assert length == len(cut)
                assert found == [index for index, label in enumerate(cut) if label != -100], layout["name"]
                assert earlier == (len(kept) - 1 - length if layout["name"] == "shared" else 0)

    def test_a_copy_has_a_block_of_nothing(self):
        audit = Audit(2, 16)
        audit.rows, audit.lengths, audit.spans, audit.fresh = [0, 1], [10, 10], [((7, 10),)] * 2, [9, 0]
        shown = json.loads(widgets.packing_rows(layouts(audit.lengths, audit.fresh, 2, 16), audit))
        assert shown["layouts"][1]["rows"] == [{"width": 9, "blocks": [[0, 0, 9, [[6, 9]], 0], [1, 1, 0, [], 9]]}]

    def test_only_some_bars_are_drawn(self):
        audit = Audit(1, 8)
        audit.rows, audit.lengths, audit.spans, audit.fresh = list(range(100)), [8] * 100, [((7, 8),)] * 100, [7] * 100
        for layout in json.loads(widgets.packing_rows(layouts(audit.lengths, audit.fresh, 1, 8), audit))["layouts"]:
            assert len(layout["rows"]) == widgets.BARS_DRAWN
            assert layout["more"] == 100 - widgets.BARS_DRAWN

    @pytest.mark.parametrize("evil", EVIL)
    def test_text_is_json_text_in_every_widget(self, evil):
        for made in (
            widgets.mask_message(evil),
            widgets.audit_findings([], evil),
            widgets.boundary_message(evil),
            widgets.packing_message(evil),
            widgets.versus([], evil, failed=True),
            widgets.progress("failed", evil, evil, None, [evil]),
        ):
            assert evil in text_of(made)
