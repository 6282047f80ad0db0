"""The page in Chinese: for a browser that asks for it, with every panel open, on a phone, and back to English."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from browser.steps import check_access, fill, picture

pytestmark = [pytest.mark.browser, pytest.mark.browser_context_args(locale="zh-CN")]

# What stays as it is: what a person or a model wrote, code, and the names of models, files and settings.
WRITTEN = "textarea, .tokens, .question, .row-text, .compare .text, .recorded, code, .cm-content, [id=command] label"
WRITTEN += ", #model, #other-model, #template, #other-template, #columns-preview :is(.prompt, .answer), script, style"
RUN = re.compile(r"[A-Za-z][a-z']+(?:[ ,;:]+[A-Za-z][a-z']+){3,}")
EXAMPLES = {"What is the capital of Japan"}  # a prompt for a model that knows English
WORDS = """written => {
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    if (!walk.currentNode.parentElement.closest(written)) found.push(walk.currentNode.textContent);
  }
  for (const node of document.querySelectorAll("[aria-label], [title], [placeholder]"))
    if (!node.closest(".tokens, .vega-embed"))
      found.push(...["aria-label", "title", "placeholder"].map((name) => node.getAttribute(name) ?? ""));
  return found;
}"""


def left_in_english(page: Page) -> list[str]:
    """Return all runs of four or more English words on the page."""
    said = page.evaluate(WORDS, WRITTEN)
    return [found[0] for text in said for found in RUN.finditer(text) if found[0] not in EXAMPLES]


def test_a_lesson_every_panel_what_is_said_of_rows_and_settings_and_the_way_back_to_english(visit):
    page = visit("?lesson=stop&step=2", "#audit .finding", width=1280, height=844)
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    expect(page.locator(".lesson h2")).to_have_text("修好它")
    expect(page.locator("#audit .finding").first).to_contain_text("EOS 从未训练")
    assert left_in_english(page) == []
    fill(
        page,
        '{"instruction": "masked", "output": "all rows"}\n{"instruction": 3}\n{bad\n{"instruction": "b", "output": ""}',
    )
    expect(page.locator("#mask .problem")).to_have_count(2)
    expect(page.locator("#audit .finding").first).to_contain_text("回答为空")
    expect(page.locator("#mask .row").first).to_contain_text("masked")
    page.locator("#mask-settings button.label-wrap").click()
    page.fill("#max-length input", "0")
    expect(page.locator("#wrong")).to_contain_text("最大长度")
    assert left_in_english(page) == []

    page.fill("#max-length input", "512")
    fill(page, '{"instruction": "Say hello", "output": "Hello"}\n{"instruction": "Count", "output": "1 2 3"}')
    expect(page.locator("#train")).to_have_text(re.compile(r"训练 12 步 · 在这个 CPU 上约 \d+ s"))
    page.locator("#mask .token").nth(9).click()
    expect(page.locator("#mask .shift")).to_contain_text("预测下一个 token")
    for door in page.locator("button.label-wrap:visible").all():
        if door.get_attribute("aria-expanded") == "false":
            door.click()
    for tab in page.locator("#laboratory [role=tab]").all():
        tab.click()
    expect(page.locator("#packing .layout")).to_have_count(4)
    assert left_in_english(page) == []
    picture(page, "chinese")
    check_access(page)  # another language has the same colours
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    picture(page, "chinese-phone")

    page.get_by_role("link", name="English").click()
    expect(page.locator(".lesson h2")).to_have_text("Mend it")
    assert (page.evaluate("document.documentElement.lang"), "lang=en" in page.url) == ("en", True)
    expect(page.get_by_role("link", name="中文")).to_be_visible()
