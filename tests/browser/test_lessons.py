"""A lesson in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import CDPSession, Page, expect

from browser.steps import inspector, picture, row, token, trained

pytestmark = pytest.mark.browser


@pytest.mark.browser_context_args(has_touch=True)
def test_a_lesson_by_keyboard_on_a_phone_then_the_mask_by_touch(visit, context):
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
    expect(page.locator("#lesson h2")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#lesson .verdict")).to_contain_text("You found 0")  # what was done there is still there
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    the_inspector_and_painting_by_touch(page, context.new_cdp_session(page))


def the_inspector_and_painting_by_touch(page: Page, finger: CDPSession) -> None:
    token(page, 5).tap()
    assert (inspector(page)["token"], inspector(page)["position"]) == ("␣is", "5 of 30")
    page.tap("#mask .edit")
    before = trained(page)
    boxes = [token(page, index).bounding_box() for index in (4, 6)]
    (left, top), (right, bottom) = ((box["x"] + 4, box["y"] + box["height"] / 2) for box in boxes)

    def touch(kind: str, *points: dict) -> None:
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", {"x": left, "y": top})
    for part in range(1, 13):
        touch("touchMove", {"x": left + (right - left) * part / 12, "y": top + (bottom - top) * part / 12})
    touch("touchEnd")
    expect(row(page).locator(".hand")).to_be_visible()
    assert trained(page) == before | {4, 5, 6}


@pytest.mark.thorough
def test_what_is_wrong_is_told_after_the_question(visit):
    page = visit("?lesson=stop", ready="#lesson .ask")
    flag = page.locator("#mask .flag").first
    expect(flag).to_be_hidden()
    page.get_by_role("button", name="EOS is there").click()
    expect(flag).to_contain_text("EOS is never trained")
    expect(flag).to_be_visible()


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
