"""What the browser tests do again and again on the page."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from sftdemo.ui.kept import STORAGE_KEY

SCREENSHOTS = os.environ.get("SFTDEMO_SCREENSHOTS")  # a folder to keep them in, to be looked at


def fill(page: Page, text: str) -> None:
    """Puts a text into the box at once: Chromium takes seconds to type thousands of lines."""
    box = page.locator("#examples textarea")
    box.evaluate(
        "(node, text) => { node.value = text; node.dispatchEvent(new Event('input', { bubbles: true })); }", text
    )


def write(page: Page, rows: list[dict]) -> None:
    """Puts rows into the text box and waits until all of them were looked over."""
    fill(page, "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    noun = "example" if len(rows) == 1 else "examples"
    expect(page.locator("#totals .summary")).to_contain_text(f"{len(rows):,} {noun} ·")
    expect(page.locator("#totals .bar")).to_have_count(0)


@contextmanager
def kept(page: Page) -> Iterator[None]:
    """Waits until the browser has kept what is done in here."""
    store = f"localStorage.getItem({json.dumps(STORAGE_KEY)})"
    before = page.evaluate(store)
    yield
    page.wait_for_function(f"before => {store} !== before", arg=before, polling=100)


def row(page: Page, index: int = 0) -> Locator:
    return page.locator("#mask .row").nth(index)


def token(page: Page, index: int, of: int = 0) -> Locator:
    return row(page, of).locator(f'.token[data-index="{index}"]')


def trained(page: Page, of: int = 0) -> set[int]:
    return {
        int(node) for node in row(page, of).locator(".token.trained").evaluate_all("n => n.map(x => x.dataset.index)")
    }


def inspector(page: Page) -> dict[str, str]:
    names = page.locator("#mask .inspector dt").all_text_contents()
    return dict(zip(names, page.locator("#mask .inspector dd").all_text_contents(), strict=True))


def open_door(page: Page, name: str) -> None:
    """Opens a part of the page that is closed at first, unless it is open."""
    door = page.get_by_role("button", name=name)
    if door.get_attribute("aria-expanded") == "false":
        door.click()


def settings(page: Page) -> None:
    open_door(page, "Model, prompt template, max length")


def start_over(page: Page) -> None:
    page.click("#start-over")
    expect(page.locator("#mask .row")).to_have_count(16)
    expect(page.locator("#totals .summary")).to_contain_text("16 examples ·")


def set_steps(page: Page, steps: int) -> None:
    """Opens the settings for a short training, whose answers are short as well."""
    open_door(page, "Training settings")
    page.fill("#steps input", str(steps))
    page.press("#steps input", "Tab")
    expect(page.locator("#train")).to_contain_text(f"Train {steps} step")
    page.get_by_label("Answer length, tokens").fill("12")


def choose_custom(page: Page, template: str) -> None:
    settings(page)
    page.get_by_label("custom").check()
    page.fill("#custom textarea", template)


def open_laboratory(page: Page, tab: str = "Boundary") -> None:
    open_door(page, "Laboratory")
    page.get_by_role("tab", name=tab).click()


def picture(page: Page, name: str) -> None:
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)


# The contrast takes longer than all other rules together, and is all that a theme changes.
AXE = {
    "resultTypes": ["violations"],
    "rules": {
        "label-content-name-mismatch": {"enabled": True},  # not among the usual ones
        "color-contrast": {"enabled": False},
    },
}
CONTRAST = {"resultTypes": ["violations"], "runOnly": ["color-contrast"]}


def check_access(page: Page) -> None:
    """Has axe-core look over all that is open for everything but contrast."""
    found = Axe().run(page, options=AXE)
    assert found.violations_count == 0, found.generate_report()


def check_contrast(page: Page, *parts: str) -> None:
    """Has axe-core look at the contrast of some parts of the page, by default of all that is open, light and dark."""
    page.add_style_tag(content="* { transition: none !important; }")  # or colours are half way
    context = {"include": [[part] for part in parts]} if parts else None
    for theme in ("light", "dark"):
        page.evaluate("dark => document.body.classList.toggle('dark', dark)", theme == "dark")
        found = Axe().run(page, context=context, options=CONTRAST)
        assert found.violations_count == 0, f"{theme}: {found.generate_report()}"


def scrolled_under(page: Page, widget: str, index: int, line_of: int) -> str:
    """Scrolls the rows of a widget so that the line of a token comes under the mouse, which points at token `index` of
    row 0; returns which token that is."""
    return page.evaluate(
        """([widget, ...indices]) => new Promise((tell) => {
          const rows = document.querySelector(`${widget} .rows`), row = rows.querySelector('.row');
          const [from, to] = indices.map((at) => row.querySelector(`[data-index="${at}"]`).getBoundingClientRect().top);
          rows.addEventListener('pointerover', (event) => {
            if (event.target.closest('.token')) tell(event.target.closest('.token').dataset.index);
          });
          rows.scrollTop += to - from;
        })""",
        [widget, index, line_of],
    )


def is_clear(page: Page, of: str) -> bool:
    """Whether nothing lies over the corners of an element."""
    return page.locator(of).evaluate(
        """node => {
          const { left, right, top, bottom } = node.getBoundingClientRect();
          return [[left + 9, top + 9], [right - 9, top + 9], [left + 9, bottom - 9], [right - 9, bottom - 9]]
            .every(([x, y]) => node.contains(document.elementFromPoint(x, y)));
        }"""
    )
