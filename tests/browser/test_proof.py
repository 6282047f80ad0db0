"""What masking buys, shown in a real browser with the default model: both ways, token by token, louder and quieter."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from browser.steps import check_access, check_contrast, fill, is_clear, picture, scrolled_under, set_steps

pytestmark = pytest.mark.browser
RUN = 240_000  # milliseconds that a short run both ways may take on a busy machine
SAMPLE = Path(__file__).parents[2] / "sample_data" / "pirate.jsonl"
# Parts that only a run fills, or opens; `test_access` looks at the others.
FILLED = ("#run-status", "#contest", "#compare", "#figures", "#losses", "#film-door", "#strength-door")


def slide(page: Page, elem_id: str, value: str) -> None:
    page.fill(f"#{elem_id} input[type=number]", value)
    expect(page.locator(f"#{elem_id} input[type=range]")).to_have_value(value)
    page.press(f"#{elem_id} input[type=number]", "Tab")


def ground(page: Page, of: str) -> str:
    return page.locator(of).first.evaluate("node => getComputedStyle(node).backgroundColor")


def the_shading_follows_the_weight(page: Page) -> None:
    prompt, answer = "#mask .token.prompt >> nth=1", "#mask .token.trained"
    masked, trained = ground(page, prompt), ground(page, answer)
    slide(page, "weight", "0.01")
    expect(page.locator("#mask .frame.weighted")).to_be_visible()
    expect(page.locator("#mask .count >> nth=1")).to_have_text("16 count 0.01 times")
    little = ground(page, prompt)
    slide(page, "weight", "1")
    expect(page.locator("#train")).to_contain_text("unmasked")
    expect(page.locator("#both")).to_contain_text("unmasked against masked")
    expect(page.locator("#totals .summary")).to_contain_text("trained (97%)")
    expect(page.locator("#mask .count >> nth=0")).to_have_text("1 not trained")
    assert len({masked, little, ground(page, prompt)}) == 3
    assert ground(page, answer) == trained, "what is trained looks the same at every weight"
    page.locator(prompt).click()
    expect(page.locator("#mask .inspector .label-fact dd")).to_contain_text("trained, by the prompt's weight")
    page.mouse.move(0, 0)  # or the inspector shows what the page scrolls under it
    slide(page, "weight", "0")
    expect(page.locator("#mask .inspector .label-fact dd")).to_have_text("\N{MINUS SIGN}100: not trained")
    assert ground(page, prompt) == masked


def test_the_weight_then_both_ways_and_a_closer_look(visit):
    page = visit()
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()
    fill(page, "\n".join(lines[:3] + lines[-2:]))  # each row costs answers, and losses token by token
    expect(page.locator("#totals .summary")).to_contain_text("3 examples ·")
    the_shading_follows_the_weight(page)
    set_steps(page, 4)
    page.click("#both")
    expect(page.locator("#run-status .title")).to_contain_text("masked (1 of 2)", timeout=RUN)
    expect(page.locator("#contest")).to_be_visible(timeout=RUN)
    expect(page.locator("#run-status .title")).to_contain_text("unmasked (2 of 2)", timeout=RUN)
    picture(page, "both-ways-training")
    expect(page.locator("#run-status .done .title")).to_have_text("Done", timeout=RUN)
    expect(page.locator("#compare .pair")).to_have_count(2)
    expect(page.locator("#compare .pair >> nth=0").locator("h3")).to_have_text(["base", "masked", "unmasked"])
    for pair in page.locator("#compare .pair").all():
        answers = pair.locator(".answer.after .text").all_inner_texts()
        assert pair.locator("mark").count() == (0 if len(set(answers)) == 1 else 2), answers
    expect(page.locator("#figures th")).to_contain_text(["base", "masked", "unmasked", "loss on the answers"])
    losses = [float(cell) for cell in page.locator("#figures tr >> nth=2").locator("td").all_inner_texts()]
    assert losses[2] < losses[1], "the unmasked one learns the prompts"
    expect(page.locator("#run-status .note").last).to_contain_text("unchanged")
    picture(page, "both-ways-done")

    expect(page.locator("#losses .row")).to_have_count(5, timeout=RUN)  # by itself
    expect(page.locator("#losses .views button")).to_have_count(6)
    difference = "unmasked \N{MINUS SIGN} masked"
    expect(page.locator('#losses .views [aria-pressed="true"]')).to_have_text(difference)
    expect(page.locator("#losses .idea")).to_contain_text(f"{difference}, in nats a token on average")
    expect(page.locator('#losses .token[tabindex="0"]')).to_have_count(1)
    page.locator("#losses .row >> nth=0").locator('[data-index="5"]').hover()
    assert scrolled_under(page, "#losses", 5, 17) != "5"
    expect(page.locator("#losses .inspector .shift")).to_contain_text("at position 5:")
    page.locator("#losses .row >> nth=0").locator(".token.is-trained >> nth=0").click()
    expect(page.locator("#losses .inspector table th[scope=row]")).to_have_text(["base", "masked", "unmasked"])
    expect(page.locator("#losses .inspector .likely")).to_have_count(9)
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#losses .inspector .shift")).to_contain_text("not trained")
    picture(page, "losses")
    assert is_clear(page, "#losses .inspector"), "it sticks above the strip"

    page.get_by_role("button", name="Turn what it learned up and down").click()
    page.click("#strip .close")
    check_access(page)
    check_contrast(page, *FILLED)
    expect(page.locator("#arm")).to_be_visible()
    slide(page, "strength", "0")
    expect(page.locator("#strengths h3 >> nth=1")).to_have_text("at 0", timeout=RUN)
    row = page.locator("#strengths .pair >> nth=0").locator(".text").all_inner_texts()
    assert row[1] == row[2], "with strength 0 the answer is the base's"
    page.fill("#ask textarea, #ask input", "What is the capital of Japan?")
    page.press("#ask textarea, #ask input", "Enter")
    expect(page.locator("#strengths .pair >> nth=0")).to_contain_text("capital of Japan", timeout=RUN)
    picture(page, "strength")
