"""The rows of tokens in a real browser: the inspector, masks made by hand, pages, and how soon all of it is drawn."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from browser.steps import (
    fill,
    inspector,
    open_laboratory,
    picture,
    row,
    scrolled_under,
    settings,
    start_over,
    token,
    trained,
    write,
)

pytestmark = pytest.mark.browser
BEGINS = "Here a trained part begins: the last token before it predicts its first."

# Time from a value's arrival at the mask, and from the edit before it, to the painted frame.
PAINTED = """() => {
  const parse = JSON.parse;
  let arrived = null, edited = null;
  JSON.parse = (text, ...others) => {
    if (typeof text === "string" && text.startsWith('{"rows":')) arrived = performance.now();
    return parse(text, ...others);
  };
  document.querySelector("#examples textarea").addEventListener("input", () => { edited = performance.now(); });
  window.painted = new Promise((done) => {
    new MutationObserver((_, observer) => {
      observer.disconnect();
      requestAnimationFrame(() => setTimeout(() => {
        JSON.parse = parse;
        done([performance.now() - arrived, performance.now() - edited]);
      }));
    }).observe(document.querySelector("#mask .rows"), { childList: true });
  });
}"""


def shift(page: Page) -> str:
    return page.inner_text("#mask .inspector .shift")


def label(page: Page) -> str:
    return page.evaluate("document.activeElement.getAttribute('aria-label')")


def test_the_inspector_masks_by_hand_many_tokens_many_rows_and_odd_characters(visit):
    page = visit()
    the_inspector(page)
    by_hand_with_the_keyboard(page)
    what_can_change_nothing(page)
    page.click("#mask .edit")  # ends it
    start_over(page)
    expect(page.locator("#mask .token.cut")).to_have_count(0)
    by_hand_with_the_mouse(page)
    page.click("#mask .edit")
    ten_thousand_tokens_are_drawn_soon(page)
    a_thousand_rows_have_pages_that_turn(page)
    characters_of_several_bytes_are_shown_once(page)


def the_inspector(page: Page) -> None:
    token(page, 5).hover()
    assert inspector(page) == {
        "token": "␣is",
        "id": "314",
        "position": "5 of 30",
        "role": "instruction",
        "label": "\u2212100: not trained",
    }
    assert shift(page) == "Position 5 predicts the next token, \u2018␣the\u2019: its loss does not count."
    expect(token(page, 5)).to_have_class(re.compile("chosen"))
    expect(token(page, 6)).to_have_class(re.compile("predicted"))
    assert scrolled_under(page, "#mask", 5, 13) != "5"
    assert inspector(page)["position"] == "5 of 30", "what the page scrolls under the mouse is not pointed at"
    page.mouse.move(0, 0)

    token(page, 15).click()
    page.keyboard.press("ArrowRight")
    first = min(trained(page))
    assert (first, shift(page)[-len(BEGINS) :]) == (17, BEGINS)
    assert "\u2018Ar\u2019" in shift(page) or "\u2018Arr\u2019" in shift(page)
    assert "its loss counts." in shift(page)
    assert label(page).startswith("token ↵, id ")
    assert label(page).endswith(f"position 16 of 30, role template, label \u2212100: not trained. {shift(page)}")
    page.keyboard.press("ArrowRight")
    assert inspector(page)["label"].endswith(", the token itself: trained")
    assert BEGINS not in shift(page)
    page.keyboard.press("End")
    assert inspector(page)["role"] == "EOS, the end of the answer"
    assert shift(page) == "Nothing follows it, so it predicts nothing."
    page.keyboard.press("ArrowRight")
    assert inspector(page)["position"] == "29 of 30"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    assert (inspector(page)["token"], inspector(page)["position"]) == ("###", "0 of 30")
    page.keyboard.press("ArrowUp")
    assert label(page).startswith("token ###, id")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.closest('.row') === document.querySelectorAll('#mask .row')[1]")
    assert inspector(page)["position"].startswith("6 of ")
    page.keyboard.press("ArrowUp")
    assert inspector(page)["position"] == "6 of 30"
    picture(page, "inspector")


def by_hand_with_the_mouse(page: Page) -> None:
    usual = trained(page)
    page.click("#mask .edit")
    from_box, to_box = token(page, 17).bounding_box(), token(page, 20).bounding_box()
    page.mouse.move(from_box["x"] + 3, from_box["y"] + 6)
    page.mouse.down()
    page.mouse.move(to_box["x"] + 3, to_box["y"] + 6, steps=10)
    page.mouse.up()
    expect(row(page).locator(".trained-count")).to_have_text("9 trained")
    expect(row(page).locator(".hand")).to_have_text("✎ by hand")
    marked = usual - {17, 18, 19, 20}
    assert trained(page) == marked
    token(page, 5).click()
    expect(row(page).locator(".trained-count")).to_have_text("10 trained")
    assert trained(page) == marked | {5}
    token(page, 3, of=1).click()
    expect(row(page, 1).locator(".hand")).to_be_visible()
    expect(page.locator("#export")).to_have_text("Download the examples with 2 masks made by hand")
    picture(page, "by_hand")
    page.keyboard.press("Control+z")
    expect(page.locator("#mask .hand")).to_have_count(1)
    expect(page.locator("#export")).to_have_text("Download the examples with 1 mask made by hand")
    page.click("#mask .undo")
    expect(row(page).locator(".trained-count")).to_have_text("9 trained")
    token(page, 3, of=1).click()
    expect(page.locator("#mask .hand")).to_have_count(2)
    expect(page.locator("#export")).to_have_text("Download the examples with 2 masks made by hand")

    with page.expect_download() as download:
        page.click("#export")
    records = [json.loads(line) for line in Path(download.value.path()).read_text(encoding="utf-8").splitlines()]
    assert download.value.suggested_filename == "examples.jsonl"
    assert [number for number, record in enumerate(records) if "mask" in record] == [0, 1]
    assert len(records) == 22
    write_back = records[1::-1]  # the two of them, the other way round
    write(page, write_back)
    expect(page.locator("#mask .hand")).to_have_count(2)
    assert trained(page, 1) == marked
    row(page, 1).locator(".usual").click()
    expect(page.locator("#mask .hand")).to_have_count(1)
    assert trained(page, 1) == usual
    row(page, 0).locator(".usual").click()
    expect(page.locator("#mask .hand")).to_have_count(0)
    expect(page.locator("#export")).to_be_hidden()


def by_hand_with_the_keyboard(page: Page) -> None:
    """The focus stays where it is when the row comes back, so that the next keys go on from there."""
    page.click("#mask .edit")
    usual = len(trained(page, 1))
    row(page, 1).locator(".token").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    expect(row(page, 1).locator(".hand")).to_be_visible()
    assert 1 in trained(page, 1)
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    expect(row(page, 1).locator(".token.trained").nth(1)).to_have_attribute("data-index", "2")
    expect(row(page, 1).locator(".trained-count")).to_have_text(f"{usual + 2} trained")  # as both come back
    assert {1, 2} <= trained(page, 1)
    page.keyboard.press(" ")
    expect(token(page, 2, of=1)).to_have_attribute("aria-selected", "false")
    row(page, 1).locator(".usual").click()
    expect(page.locator("#mask .hand")).to_have_count(0)
    page.click("#mask .edit")  # ends it


def what_can_change_nothing(page: Page) -> None:
    """Clicks on the first token and on those that were cut off, which are never trained."""
    settings(page)
    page.fill("#max-length input", "20")
    page.press("#max-length input", "Tab")
    expect(row(page).locator(".token.cut").first).to_be_visible()
    page.click("#mask .edit")
    usual = trained(page)
    token(page, 0).click()
    token(page, 25).click()
    token(page, 5, of=1).click()  # of the clicks, which are answered one after the other, the first that changes a row
    expect(row(page, 1).locator(".hand")).to_be_visible()
    expect(page.locator("#mask .hand")).to_have_count(1)
    assert trained(page) == usual


def ten_thousand_tokens_are_drawn_soon(page: Page) -> None:
    rows = [{"instruction": f"Write row {number}", "output": "a b c d e f g h " * 22} for number in range(50)]
    page.evaluate(PAINTED)
    fill(page, "\n".join(map(json.dumps, rows)))
    drawing, _ = page.evaluate("window.painted")
    expect(page.locator("#mask .row")).to_have_count(50)
    tokens = page.locator("#mask .token").count()
    assert tokens > 9_500
    expect(page.locator("#totals .summary")).to_contain_text("50 examples ·")
    expect(page.locator("#totals .bar")).to_have_count(0)
    page.evaluate(PAINTED)
    page.locator("#examples textarea").focus()
    page.keyboard.press("Control+Home")
    for _ in range(17):
        page.keyboard.press("ArrowRight")
    page.keyboard.type("x")
    again, whole = page.evaluate("window.painted")
    print(
        f"{tokens:,} tokens: {drawing:.0f} ms from the value to the painted frame; "
        f"one more character: {again:.0f} ms, and {whole:.0f} ms from the key"
    )
    assert max(drawing, again, whole) < 5000


def characters_of_several_bytes_are_shown_once(page: Page) -> None:
    text = "🏴‍☠️ é 日本 done"
    write(page, [{"instruction": text, "output": text}])
    shown = row(page).locator(".tokens").inner_text().replace("␣", " ")
    assert shown.count(text) == 2
    for character in ("🏴‍☠️", "é", "日", "本"):
        assert shown.count(character) == 2
    rest = row(page).locator(".token.rest").first
    rest.hover()
    assert re.fullmatch(r"part 2 of .+", inspector(page)["token"])
    open_laboratory(page)
    expect(page.locator("#boundary .sentence")).to_contain_text("Row 0.")
    page.get_by_role("tab", name="Two ways").click()
    page.click("#contrast")
    expect(page.locator("#versus .columns .row")).to_have_count(2)
    assert "\ufffd" not in page.inner_text("body")


def a_thousand_rows_have_pages_that_turn(page: Page) -> None:
    write(page, [{"instruction": f"Count to {number}", "output": "1 2 3"} for number in range(1020)])
    expect(page.locator("#mask .row")).to_have_count(50)
    shows = page.locator("#mask .pager span")
    expect(shows).to_have_text("1\u201350 of 1,020")
    page.get_by_role("button", name="next page").click()
    expect(shows).to_have_text("51\u2013100 of 1,020")
    expect(row(page).locator(".number")).to_have_text("row 50")
    page.get_by_role("button", name="last page").click()
    expect(shows).to_have_text("1,001\u20131,020 of 1,020")
    expect(page.get_by_role("button", name="next page")).to_be_disabled()
    page.get_by_role("button", name="page before").click()
    expect(shows).to_have_text("951\u20131,000 of 1,020")
    page.get_by_role("button", name="first page").click()
    expect(shows).to_have_text("1\u201350 of 1,020")
    expect(page.get_by_role("button", name="page before")).to_be_disabled()
