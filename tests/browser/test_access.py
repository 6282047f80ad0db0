"""The page by keyboard, and for those who do not see it."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from browser.steps import check_access, check_contrast, open_laboratory, settings, token, write

pytestmark = pytest.mark.browser


def test_by_keyboard_and_with_every_door_open(visit):
    page = visit()
    page.set_viewport_size({"width": 1280, "height": 640})
    rows, hint = (page.locator(f"#mask .{part}").bounding_box() for part in ("rows", "inspector"))
    assert rows["y"] + rows["height"] > 640, "or this shows nothing"
    assert hint["y"] >= rows["y"] + rows["height"], "a hint lies over no row"
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#mask .edit")).to_be_focused()
    page.keyboard.press("Tab")
    expect(token(page, 0)).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    expect(page.locator("#mask :focus")).to_have_count(0)  # one stop for all rows
    page.keyboard.press("Shift+Tab")
    expect(token(page, 0, of=1)).to_be_focused()
    fact = page.locator("#mask .token-fact")
    assert fact.evaluate("node => getComputedStyle(node).backgroundColor") == "rgba(0, 0, 0, 0)"  # as the other facts

    slider = page.locator("#weight input[type=range]")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert slider.evaluate("node => getComputedStyle(node).outlineWidth") == "2px"
    page.keyboard.press("ArrowLeft")

    few = [{"instruction": f"Count to {number}", "output": "1 2<|im_end|>"} for number in (2, 2, 3)]
    write(page, few)  # every door that opens, and axe-core, take a while over many tokens
    written = page.locator("#examples textarea").input_value()
    menu = page.locator("#sample ul")
    page.locator("#sample input").click()
    expect(menu).to_be_visible()
    page.keyboard.press("Tab")
    expect(menu).to_be_hidden()

    settings(page)
    page.get_by_label("alpaca").check()
    expect(page.locator("#command .cm-content")).to_contain_text("--template alpaca")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#template input >> nth=0")).to_be_checked()
    open_laboratory(page)
    for door in page.locator("button.label-wrap:visible").all():
        if door.get_attribute("aria-expanded") == "false":
            door.click()
        expect(door).to_have_attribute("aria-expanded", "true")
    expect(page.locator(":checked:visible")).not_to_have_count(0)
    assert (
        page.evaluate(
            "[...document.querySelectorAll('fieldset:has(input[type=radio])')]"
            ".filter(each => each.offsetParent && !each.querySelector(':checked')).length"
        )
        == 0
    ), "no group has lost its dot"
    expect(page.locator("#audit .finding").first).to_be_visible()
    assert page.locator("#examples textarea").input_value() == written, "who passes the menu of samples loses nothing"
    page.locator("#sample input").click()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#examples textarea")).not_to_have_value(written)
    write(page, few)
    check_access(page)
    check_contrast(page)
