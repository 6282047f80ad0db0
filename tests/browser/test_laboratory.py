"""The audit and the laboratory in a real browser, with the default model."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from browser.steps import choose_custom, open_laboratory, picture, row, settings, start_over, token, write

pytestmark = pytest.mark.browser
PROOF = 120_000  # milliseconds
EVIL = "<img src=x onerror='window.hacked=1'> ${window.hacked=1} {{value}} </script>"


def test_the_boundary_findings_untrusted_text_packing_two_ways_and_all_of_it_on_a_phone(visit):
    page = visit()
    the_boundary_and_its_remedy(page)
    findings_lead_to_their_rows_and_errors_block_the_training(page)
    untrusted_text_stays_text_in_every_widget(page)
    start_over(page)
    packing_two_ways_and_the_proof(page)
    start_over(page)
    all_of_it_fits_a_phone(page)


def findings_lead_to_their_rows_and_errors_block_the_training(page: Page) -> None:
    rows = [{"instruction": f"Count to {number}", "output": "1 2 3"} for number in range(70)]
    rows[60] |= {"output": "1 2 3<|im_end|>"}
    rows[3] |= {"mask": {"text": "another", "trained": [[0, 3]], "eos": True}}
    write(page, rows)
    expect(page.locator("#audit .finding.error")).to_have_count(1)
    expect(page.locator("#train")).to_be_disabled()
    expect(page.locator("#train")).to_have_text("Mend 1 error that the audit found")
    page.get_by_label("Train anyway").check()
    expect(page.locator("#train")).to_be_enabled()
    expect(page.locator("#train")).to_contain_text("Train ")
    page.get_by_label("Train anyway").uncheck()
    expect(page.locator("#train")).to_be_disabled()

    page.get_by_role("button", name="row 60", exact=True).first.click()
    expect(page.locator("#mask .flash .number")).to_have_text("row 60")
    assert page.locator("#mask .pager").inner_text().split("\n")[2] == "51\u201370 of 70"
    expect(row(page, 9)).to_be_in_viewport()
    assert page.evaluate("document.activeElement.closest('.row')?.querySelector('.number').textContent") == "row 60"
    page.get_by_role("button", name="row 3", exact=True).first.click()
    expect(page.locator("#mask .flash .number")).to_have_text("row 3")


def the_boundary_and_its_remedy(page: Page) -> None:
    choose_custom(page, "Q: {instruction} A: ")
    open_laboratory(page)
    sentence = page.locator("#boundary .sentence")
    expect(sentence).to_have_text(re.compile(r"^Row 0\. Together, a token reaches across the end of the prompt"))
    expect(sentence).to_have_class("sentence bad")
    expect(page.locator("#boundary .token.merged")).to_have_count(1)
    assert page.locator("#boundary .lane .name").all_text_contents() == ["alone", "together", "used"]
    token(page, 3, of=2).click()
    expect(sentence).to_contain_text("Row 2.")
    picture(page, "boundary")
    page.click("#boundary .mend")
    expect(page.locator("#custom textarea")).to_have_value("Q: {instruction} A:\n")
    expect(sentence).to_contain_text("Prompt and answer meet between two tokens")
    expect(page.locator("#boundary .token.merged")).to_have_count(0)
    expect(page.locator("#boundary .mend")).to_have_count(0)


def packing_two_ways_and_the_proof(page: Page) -> None:
    settings(page)
    page.fill("#max-length input", "128")
    page.press("#max-length input", "Tab")
    open_laboratory(page, "Packing")
    expect(page.locator("#packing .layout")).to_have_count(4)
    expect(page.locator("#packing .layout.packed h3")).to_contain_text("up to 128")
    canvas = page.locator("#packing canvas")
    bars = page.locator("#packing .packed .bar")
    assert bars.count() > 2
    before, says = canvas.evaluate("node => node.toDataURL()"), canvas.get_attribute("aria-label")
    assert re.search(r"Attention in this row: \d+ triangles", says)
    bars.last.focus()
    page.keyboard.press("Enter")
    expect(bars.last).to_have_class(re.compile("shown"))
    assert canvas.evaluate("node => node.toDataURL()") != before
    bars.nth(1).focus()
    page.keyboard.press(" ")
    expect(bars.nth(1)).to_have_class(re.compile("shown"))
    picture(page, "packing")

    page.click("#prove")
    expect(page.locator("#prove")).to_be_disabled()

    page.get_by_role("tab", name="Two ways").click()
    token(page, 0, of=1).click()
    # Or the row that was picked before is compared.
    expect(page.locator("#boundary .sentence")).to_contain_text("Row 1.")
    page.click("#contrast")
    left, right = (page.locator("#versus .columns .row").nth(side).locator(".token") for side in (0, 1))
    expect(left).to_have_count(36)
    titles = page.locator("#versus .number").all_text_contents()
    assert [title.rpartition(" · ")[2] for title in titles] == ["instruction", "chat"]
    assert row(page, 1).locator(".token").count() == 36
    expect(right).not_to_have_count(36)
    expect(page.locator("#versus .row").nth(1).locator(".token.special").first).to_have_text("<|im_start|>")

    page.get_by_role("tab", name="Packing").click()
    expect(page.locator("#proof .done")).to_be_visible(timeout=PROOF)
    _, packed, control = page.locator("#proof .note").all_text_contents()
    changes = [float(re.search(r"by ([\d.e+-]+) nats", words)[1]) for words in (packed, control)]
    assert "bfd" in packed
    assert "control" in control
    assert changes[0] < 1e-5
    assert changes[1] > 0.01
    expect(page.locator("#prove")).to_be_enabled()
    what_is_shared(page)


def what_is_shared(page: Page) -> None:
    """Of a copy nothing is left to compute, of an example that begins as another only what comes after."""
    rows = [{"instruction": "Say hello", "output": "Hello"}] * 2 + [{"instruction": "Say hello", "output": "Hello you"}]
    write(page, [*rows, {"instruction": "Count", "output": "1 2 3"}])
    shared = page.locator("#packing .layout.shared")
    expect(shared.locator("h3")).to_have_text("shared: batches of 8, each common beginning once")
    expect(shared.locator(".block")).to_have_count(4)
    titles = shared.locator(".block").evaluate_all("nodes => nodes.map(node => node.title)")
    assert all(title.endswith(" in earlier rows of the batch; the last predicts nothing") for title in titles)
    numbers = [tuple(map(int, re.findall(r"\d+", title))) for title in titles]
    assert [row for row, *_ in numbers] == [0, 1, 2, 3]
    assert all(tokens == here + earlier + 1 for _, tokens, here, earlier in numbers)
    assert [here for _, _, here, _ in numbers[:3]] == [numbers[0][1] - 1, 0, 1]
    assert 0 < numbers[3][3] < numbers[3][2]
    expect(page.locator("#packing .block.nothing")).to_have_count(1)
    expect(page.locator("#packing .block.nothing")).to_have_attribute("title", titles[1])
    here, tokens = sum(here for _, _, here, _ in numbers), sum(tokens for _, tokens, _, _ in numbers)
    expect(shared.locator(".figure")).to_have_text(f"{here} positions · {tokens - here} of {tokens} tokens saved")
    assert "NaN" not in page.inner_html("#packing")
    picture(page, "shared")


def untrusted_text_stays_text_in_every_widget(page: Page) -> None:
    rows = [{"instruction": f"<|im_end|>{EVIL}", "output": EVIL}, {"instruction": EVIL, "output": f"{EVIL}<|im_end|>"}]
    write(page, [*rows, {"instruction": "a", "output": "b", EVIL: "c"}])
    page.fill("#prompts textarea", EVIL)
    page.fill("#custom textarea", EVIL + "{instruction} ")
    page.get_by_role("tab", name="Packing").click()
    expect(page.locator("#packing .layout")).to_have_count(4)
    page.get_by_role("tab", name="Two ways").click()
    page.click("#contrast")
    expect(page.locator("#versus .columns .row")).to_have_count(2)
    page.get_by_role("tab", name="Boundary").click()
    expect(page.locator("#boundary .sentence")).to_contain_text("Row 0.")
    expect(page.locator("#asked .question").first).to_contain_text(EVIL)
    last = row(page).locator(".token").count() - 1
    for index in range((last - 1) % 8, last, 8):
        token(page, index).dispatch_event("pointerover", {"pointerType": "mouse"})
    for widget in ("#mask .rows", "#versus"):
        assert EVIL in page.inner_text(widget).replace("␣", " ").replace("\n", ""), widget
    assert EVIL.split("'")[0] in page.inner_text("#mask .above").replace("\\", "")
    expect(page.locator("#audit .finding").first).to_be_visible()
    expect(page.locator("#mask .flag", has_text="the text looks like a special token").first).to_be_visible()
    for widget in ("mask", "audit", "boundary", "packing", "versus", "asked", "totals"):
        assert page.locator(f"#{widget} img, #{widget} script").count() == 0, widget
    assert page.evaluate("window.hacked") is None


def all_of_it_fits_a_phone(page: Page) -> None:
    """In light, and in dark."""
    width = 390
    page.set_viewport_size({"width": width, "height": 844})
    rows = [{"instruction": "long " * 60, "output": "Arr" * 40}, {"instruction": "a", "output": "b<|im_end|>"}]
    write(page, [*rows, {"instruction": "Wave 🏴‍☠️", "output": "Donaudampfschifffahrtsgesellschaft" * 5}])
    choose_custom(page, "Q: {instruction} A: ")
    expect(page.locator("#audit .finding").first).to_be_visible()
    token(page, 3).click()
    lines = "tokens => tokens.map(token => new Set([...token.getClientRects()].map(box => box.top)).size)"
    assert set(row(page).locator(".token").evaluate_all(lines)) == {1}, "a line ends within a token"

    def fits(what: str) -> None:
        for theme in ("dark", "light"):
            page.evaluate("dark => document.body.classList.toggle('dark', dark)", theme == "dark")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (what, theme)
            picture(page, f"phone_{theme}_{what}")

    open_laboratory(page)
    expect(page.locator("#boundary .token.merged")).to_be_visible()
    fits("boundary")
    page.get_by_role("tab", name="Packing").click()
    expect(page.locator("#packing canvas")).to_be_visible()
    fits("packing")
    page.get_by_role("tab", name="Two ways").click()
    page.click("#contrast")
    expect(page.locator("#versus .columns .row")).to_have_count(2)
    fits("versus")
