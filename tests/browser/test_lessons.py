"""A link and a lesson, in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from browser.steps import picture, token, write

pytestmark = pytest.mark.browser


def test_a_link_shows_the_same_view_and_leaves_what_the_browser_kept(visit, app):
    page = visit()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    rows = [{"instruction": "Say <b>hi</b>", "output": "ünï"}, {"instruction": "a", "output": "b"}]
    write(page, rows)
    token(page, 3, of=1).click()
    page.get_by_role("button", name="Laboratory").click()
    page.get_by_role("tab", name="Packing").click()
    page.click("#link .copy")
    expect(page.locator("#link .said")).to_have_text("Copied:")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.input_value("#link .copied input")
    write(page, rows[:1])
    page.wait_for_timeout(1500)  # until the browser has kept it

    page.set_viewport_size({"width": 1920, "height": 1080})
    page.goto(link + "&model=someone/something&present")
    expect(page.locator("#mask .row")).to_have_count(2)
    expect(page.locator("#mask .inspector")).to_contain_text("predicts")  # the row is gone to
    expect(page.locator("#packing .layouts")).to_be_visible()
    expect(page.locator("#link .note").first).to_contain_text("if you trust it, write it into Model yourself")
    expect(page.locator("#train")).to_be_hidden()
    expect(page.locator(".gradio-container")).to_have_css("width", "1860px")  # for a projector, in any language
    page.goto(app)
    expect(page.locator("#mask .row")).to_have_count(1)


def test_a_lesson_by_keyboard_on_a_phone(visit):
    page = visit("?lesson=masking&__theme=dark", width=390, height=844)
    guess = page.locator("#lesson .guess .token")
    expect(page.locator("#mask .token.trained").first).to_have_css("box-shadow", "none")  # no mask before the guess
    guess.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    expect(guess.nth(1)).to_have_attribute("aria-selected", "true")
    page.click("#lesson .guess .main")
    expect(page.locator("#lesson .verdict")).to_have_text(
        "You found 0 of the 13 that are graded, and chose 1 that is not."
    )
    expect(page.locator("#mask .token.trained").first).not_to_have_css("box-shadow", "none")
    picture(page, "lesson-phone")
    page.click("#lesson .next")
    expect(page.locator("#lesson h3")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#lesson .verdict")).to_contain_text("You found 0")  # what was done there is still there
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.thorough  # the handlers, and each mend, are tested without a browser
def test_the_audit_judges_a_mend(visit):
    page = visit("?lesson=museum&step=8")
    expect(page.locator("#audit .finding.warning")).to_contain_text("EOS is cut by max length")
    page.get_by_role("button", name="Its EOS is cut off").click()
    page.get_by_role("button", name="Max length 21").click()
    expect(page.locator("#audit .finding.warning")).to_contain_text("the answer is cut by max length")
    expect(page.locator("#lesson .then")).to_be_empty()
    page.get_by_role("button", name="Max length 512").click()
    expect(page.locator("#lesson .then")).to_contain_text("One token too few")
    picture(page, "museum")
    page.click("#lesson .close")
    expect(page.locator("#mask .row")).to_have_count(16)
