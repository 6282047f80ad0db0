"""A person's way through the page, in a real browser, with the default model or what has its tokens."""

from __future__ import annotations

import os
import re
import signal
import time
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from safetensors.torch import load_file

from browser.steps import kept, picture, set_steps, settings, start_over, token

pytestmark = pytest.mark.browser
RUN = 120_000  # milliseconds that a short run may take on a busy machine
FRAMES = """window.drawn = 0; {
  const give = window.requestAnimationFrame;
  window.requestAnimationFrame = (draw) => { window.drawn += 1; return give(draw); };
}"""
NOTHING_DRAWN = """() => {
  if (window.seen !== window.drawn) { window.seen = window.drawn; window.since = performance.now(); }
  return performance.now() - window.since > 1000;
}"""


def write(page: Page, text: str) -> None:
    page.fill("#examples textarea", text)


def trained_text(page: Page, row: int = 0) -> str:
    return "".join(page.locator("#mask .row").nth(row).locator(".token.trained").all_inner_texts())


def test_arriving_then_a_link_and_what_the_browser_keeps_beside_it(visit, app, context):
    context.add_init_script(FRAMES)
    page = visit(width=1280, height=844)
    expect(page.locator("#mask .row")).to_have_count(16)
    assert trained_text(page).replace("␣", " ").startswith("Arr, the capital of")
    colours = {
        kind: page.locator(f"#mask .token.{kind}").first.evaluate("node => getComputedStyle(node).backgroundColor")
        for kind in ("prompt", "completion")
    }
    assert colours["prompt"] != colours["completion"]
    expect(page.locator("#mask .token.eos").first).to_have_text("<|im_end|>")
    assert re.fullmatch(r"Train 12 steps · about \d+ s on this CPU", page.inner_text("#train"))
    assert "Hub" in page.inner_text("#model-status")
    expect(page.locator("#asked .question")).to_have_count(6)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    picture(page, "light")
    page.wait_for_function(NOTHING_DRAWN, polling=100)
    page.set_viewport_size({"width": 390, "height": 844})  # as a phone that is turned does
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1280, "height": 844})
    link = a_link_is_copied(page)
    command = columns_are_asked_for(page)
    page.set_viewport_size({"width": 1920, "height": 1080})
    page.goto(link + "&model=someone/something&present")
    expect(page.locator("#mask .row")).to_have_count(2)
    expect(page.locator("#mask .row").first).to_contain_text("<b>hi</b>")
    expect(page.locator("#mask .inspector")).to_contain_text("predicts")  # the row is gone to
    expect(page.locator("#packing .layouts")).to_be_visible()
    expect(page.locator("#link .note").first).to_contain_text("if you trust it, write it into Model yourself")
    expect(page.locator("#train")).to_be_hidden()
    expect(page.locator(".gradio-container")).to_have_css("width", "1860px")  # for a projector, in any language
    page.goto(app)
    expect(page.locator("#command .cm-content")).to_contain_text(command, timeout=RUN)
    expect(page.locator("#mask .row").first).to_contain_text("Test")
    page.click("#start-over")
    expect(page.locator("#mask .row")).to_have_count(16)
    expect(page.locator("#columns-preview")).to_be_hidden()


def a_link_is_copied(page: Page) -> str:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    write(page, '{"instruction": "Say <b>hi</b>", "output": "ünï"}\n{"instruction": "a", "output": "b"}')
    expect(page.locator("#mask .row")).to_have_count(2)
    token(page, 3, of=1).click()
    page.get_by_role("button", name="Laboratory").click()
    page.get_by_role("tab", name="Packing").click()
    page.click("#link .copy")
    expect(page.locator("#link .said")).to_have_text("Copied:")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.input_value("#link .copied input")
    return link


def columns_are_asked_for(page: Page) -> str:
    """Return what the command then says; the browser has kept it."""
    with kept(page):  # or what comes late of it is taken for what the choice below keeps
        write(page, '{"Frage": "Was ist das?", "Antwort": "Ein Test."}\n{"Frage": "Und das?", "Antwort": "Auch."}')
    expect(page.locator("#columns-preview .pair").first).to_contain_text("Ein Test.")
    expect(page.locator("#mask .row")).to_have_count(2)
    with kept(page):
        page.get_by_label("unchanged").check()
    command = "--columns prompt=Frage completion=Antwort"
    expect(page.locator("#command .cm-content")).to_contain_text(command)
    return command


def test_the_mask_follows_then_a_run_that_is_left_and_come_back_to_stopped_and_taken_away(
    visit, app, context, tmp_path
):
    page = context.new_page()
    page.goto(app)
    the_mask_follows_the_typing_and_the_template(page)
    start_over(page)
    page.fill("#prompts textarea", "What is the capital of Japan?")
    set_steps(page, 2000)
    page.click("#train")
    expect(page.locator("#run-status .title")).to_contain_text("of 2000", timeout=RUN)
    page.close()
    page = context.new_page()
    page.goto(app)
    expect(page.locator("#run-status .title")).to_contain_text("of 2000", timeout=RUN)
    expect(page.locator("#curve")).to_be_visible()
    picture(page, "training")
    page.click("#stop")
    expect(page.locator("#run-status .title")).to_contain_text("Stopped after step", timeout=RUN)
    page.get_by_role("button", name="See 7 answers").click()
    expect(page.locator("#compare")).to_be_in_viewport()
    expect(page.locator("#strip .strip-box")).to_be_hidden()
    expect(page.locator("#compare .pair")).to_have_count(7)
    expect(page.locator("#compare .source").first).to_have_text("typed by you")
    assert len(page.locator("#compare .answer.after .text").nth(1).inner_text()) > 5
    picture(page, "done")
    expect(page.locator("#download")).to_contain_text("Download the model", timeout=RUN)
    with page.expect_download() as download:
        page.click("#download")
    archive = tmp_path / "model.zip"
    download.value.save_as(archive)
    zipfile.ZipFile(archive).extractall(tmp_path / "model")
    assert any("lora" in name for name in load_file(tmp_path / "model" / "adapter_model.safetensors"))
    assert (tmp_path / "model" / "examples.jsonl").read_text().count("\n") == 22
    the_curve_goes_for_the_next_run(page)


def the_curve_goes_for_the_next_run(page: Page) -> None:
    """Without an error in the page, though the plot keeps an observer of its element from each time it was drawn."""
    width = "document.querySelector('#curve svg.marks').getBoundingClientRect().width"
    for wide in (900, 1280):
        before = page.evaluate(width)
        page.set_viewport_size({"width": wide, "height": 720})
        page.wait_for_function(f"before => Math.abs({width} - before) > 99", arg=before)
    page.click("#train")
    expect(page.locator("#curve")).to_be_hidden()
    expect(page.locator("#contest")).to_be_hidden()
    page.click("#stop")
    expect(page.locator("#train")).to_be_enabled(timeout=RUN)


def the_mask_follows_the_typing_and_the_template(page: Page) -> None:
    """From before the model is ready: what is written while it is got ready stays."""
    page.wait_for_selector("#examples textarea")
    write(page, '{"instruction": "Say hello", "output": "Hello world!"}')
    expect(page.locator("#mask .row")).to_have_count(1, timeout=RUN)
    page.wait_for_selector("#model-status .done")
    expect(page.locator("#train")).to_contain_text("Train ")
    expect(page.locator("#mask .row")).to_have_count(1)
    expect(page.locator("#mask .trained-count")).to_have_text("4 trained")
    write(page, '{"instruction": "Say hello", "output": "Hello world!"}\n{"instruction": "Count", "output": ["1 2')
    page.locator("#examples textarea").press_sequentially(' 3"]}')
    expect(page.locator("#mask .row")).to_have_count(2)
    assert trained_text(page, 1).replace("␣", " ") == "1 2 3<|im_end|>"

    page.get_by_role("button", name="Training settings").click()
    page.fill("#learning-rate textarea", "fast")
    expect(page.locator("#learning-rate .at-field.error")).to_contain_text("Learning rate is 'fast'")
    expect(page.locator("#train")).to_have_text("Mend: Learning rate")
    expect(page.locator("#mask .row")).to_have_count(2)
    page.fill("#learning-rate textarea", "")
    expect(page.locator(".at-field")).to_have_count(0)

    write(page, "what is this")
    expect(page.locator("#mask .message")).to_contain_text("neither JSON nor CSV")
    expect(page.locator("#train")).to_be_disabled()
    write(page, '{"instruction": "a", "output": "b"}\n{"instruction": "c"}\n{"instruction": 5, "output": "d"}')
    expect(page.locator("#mask .row")).to_have_count(1)
    expect(page.locator("#mask .problem")).to_have_count(2)
    expect(page.locator("#mask .problem").first).to_contain_text("row 1 (line 2)")
    expect(page.locator("#train")).to_be_enabled()
    page.get_by_role("button", name="go to row 2").click()
    chosen = "box => box.value.slice(box.selectionStart, box.selectionEnd)"
    assert page.locator("#examples textarea").evaluate(chosen) == '{"instruction": 5, "output": "d"}'

    settings(page)
    page.get_by_label("chat (the model's own)").check()
    expect(page.locator("#mask .token.special").first).to_have_text("<|im_start|>")
    page.fill("#max-length input", "16")
    page.press("#max-length input", "Tab")
    expect(page.locator("#mask .flag").first).to_be_visible()


@pytest.mark.thorough  # in runs/test_jobs.py, and the list of runs in ui/panels/test_history.py, without a browser
def test_a_killed_run_is_explained_and_the_next_one_works_and_stays_until_it_is_deleted(visit, app_processes):
    page = visit()
    settings(page)
    page.fill("#model input", "no/such/model")
    page.press("#model input", "Enter")
    expect(page.locator("#train")).to_have_text("No model to train", timeout=RUN)
    expect(page.locator("#both")).to_contain_text("Train both ways")
    page.click("#start-over")
    set_steps(page, 100)
    page.click("#train")
    expect(page.locator("#run-status .title")).to_contain_text("step 1 of 100", timeout=RUN)
    os.kill(busiest(app_processes()), signal.SIGKILL)
    expect(page.locator("#run-status .failed .title")).to_contain_text("ended by SIGKILL", timeout=RUN)
    change_steps(page, 1)
    page.click("#train")
    expect(page.locator("#run-status .title")).to_have_text("Done", timeout=RUN)

    page.reload()
    page.wait_for_selector("#train:not([disabled])", timeout=RUN)
    page.get_by_role("button", name="Earlier runs").click()
    shown = page.locator("#history .run.shown")
    expect(shown).to_have_count(1, timeout=RUN)
    expect(shown).to_contain_text(re.compile(r"SmolLM2-135M-Instruct, masked, 16 rows"))
    if page.locator("#history .run").count() == 1:  # this test by itself
        page.click("#train")
        expect(page.locator("#history .run")).to_have_count(2, timeout=RUN)
    before = page.locator("#history .run").count()
    for box in page.locator("#history input[type=checkbox]").all()[:2]:
        box.check()
    page.get_by_role("button", name="Set the two side by side").click()
    expect(page.locator("#contrasted .pair")).to_have_count(6)
    picture(page, "history")
    page.locator("#history .run .open >> nth=1").click()
    expect(page.locator("#history .run >> nth=1")).to_have_class(re.compile("shown"), timeout=RUN)
    page.locator("#history .delete >> nth=0").click()
    page.get_by_role("button", name="Delete for good?").click()
    expect(page.locator("#history .run")).to_have_count(before - 1)


def change_steps(page: Page, steps: int) -> None:
    """In the settings that `set_steps` has opened."""
    page.fill("#steps input", str(steps))
    page.press("#steps input", "Tab")
    expect(page.locator("#train")).to_contain_text(f"Train {steps} step")


def busiest(processes: list[int]) -> int:
    """The training process: the one of the app's that used most of the processor lately."""

    def ticks() -> dict[int, int]:
        stats = {pid: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in processes}
        return {pid: int(fields[11]) + int(fields[12]) for pid, fields in stats.items()}

    before = ticks()
    time.sleep(1)
    after = ticks()
    return max(after, key=lambda pid: after[pid] - before[pid])
