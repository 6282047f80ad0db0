"""A page of its own: whole, escaped, and no longer than a reader wants."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from tiny import tokenizer_named

from sftdemo.data.examples import parse_examples
from sftdemo.data.templates import get_template
from sftdemo.mask import document as documents
from sftdemo.mask.audit import Audit
from sftdemo.mask.document import audit_section, document, mask_section
from sftdemo.mask.labels import Masker

EVIL = '</style></section><script>alert(1)</script><img src=x onerror="alert(1)">'


class Page(HTMLParser):
    """The tags, the attributes and the text of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def page_of(*rows: dict, title: str = "The mask") -> str:
    data = parse_examples(json.dumps(rows))
    masker = Masker(tokenizer_named("gpt2"), get_template("instruction"), 512)
    audit = Audit(8, 512)
    for _ in audit.review(data.train, masker):
        pass
    return document(title, [audit_section(audit.findings(), data.problems), mask_section(data.train, masker, title)])


def test_all_text_is_text():
    html = page_of({"instruction": EVIL, "output": EVIL}, {"instruction": EVIL}, title=EVIL)
    page = Page(html)
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert {name for name, _ in page.attributes} <= {
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "class",
        "title",
    }
    assert page.text.count("<script>alert(1)</script>") >= 3
    assert html.isascii()
    assert not [value for _, value in page.attributes if value and value.startswith("http")]


def test_the_audit_and_what_is_refused():
    page = Page(page_of({"instruction": "a", "output": " "}, {"instruction": "b"}, {"instruction": "c", "output": "d"}))
    assert "1 row is not used. The first: row 1: has no" in page.text
    assert "warning the answer is empty or only whitespace (row 0). The model learns to say nothing." in page.text
    assert page.tags.count("section") == 2
    assert "Nothing found." in Page(page_of({"instruction": "c", "output": "d"})).text


@pytest.mark.parametrize("limit", ["ROWS", "TOKENS"])
def test_only_the_first_rows_of_many_are_drawn(monkeypatch, limit):
    monkeypatch.setattr(documents, limit, 2)
    page = Page(page_of(*[{"instruction": str(number), "output": "d"} for number in range(4)]))
    drawn = {"ROWS": 2, "TOKENS": 1}[limit]
    assert page.tags.count("section") == drawn
    assert f"The first {drawn} of 4 rows are drawn." in page.text


def test_light_and_dark():
    html = page_of({"instruction": "c", "output": "d"})
    assert '<meta name="color-scheme" content="light dark">' in html
    light, dark = html.split("@media (prefers-color-scheme: dark)", 1)
    assert "--paper: #ffffff;" in light
    assert "--paper: #14181d;" in dark
