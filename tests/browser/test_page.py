"""A person's way through the page, in a real browser, with the default model."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from browser.steps import picture, set_steps

pytestmark = pytest.mark.browser
RUN = 120_000  # milliseconds that a short run may take on a busy machine


def write(page: Page, text: str) -> None:
    page.fill("#examples textarea", text)


def trained_text(page: Page, row: int = 0) -> str:
    return "".join(page.locator("#mask .row").nth(row).locator(".token.trained").all_inner_texts())


def test_arriving_shows_the_sample_coloured_and_ready(visit):
    page = visit()
    expect(page.locator("#mask .row")).to_have_count(16)
    assert trained_text(page).replace("␣", " ").startswith("Arr, the capital of")
    colours = {
        kind: page.locator(f"#mask .token.{kind}").first.evaluate("node => getComputedStyle(node).backgroundColor")
        for kind in ("prompt", "completion")
    }
    assert colours["prompt"] != colours["completion"]
    expect(page.locator("#mask .token.eos").first).to_have_text("<|im_end|>")
    assert re.fullmatch(r"Train 12 steps · about \d+ s on this CPU", page.inner_text("#train"))
    assert "bundled 4-bit weights" in page.inner_text("#model-status") or "Hub" in page.inner_text("#model-status")
    expect(page.locator("#asked .question")).to_have_count(6)
    picture(page, "arrival")


def test_the_mask_follows_the_typing(visit):
    page = visit()
    write(page, '{"instruction": "Say hello", "output": "Hello world!"}')
    expect(page.locator("#mask .row")).to_have_count(1)
    expect(page.locator("#mask .trained-count")).to_have_text("4 trained")
    page.locator("#examples textarea").press_sequentially('\n{"instruction": "Count", "output": ["1 2 3"]}')
    expect(page.locator("#mask .row")).to_have_count(2)
    assert trained_text(page, 1).replace("␣", " ") == "1 2 3<|im_end|>"


def test_what_is_written_while_the_model_is_got_ready_stays(visit, app, context):
    page = context.new_page()
    page.goto(app)
    page.wait_for_selector("#examples textarea")
    write(page, '{"instruction": "Say hello", "output": "Hello world!"}')
    expect(page.locator("#mask .row")).to_have_count(1, timeout=60_000)
    page.wait_for_selector("#model-status .done")
    page.wait_for_timeout(1000)
    expect(page.locator("#mask .row")).to_have_count(1)


def test_rubbish_gets_a_sentence_and_no_training(visit):
    page = visit()
    write(page, "what is this")
    expect(page.locator("#mask .message")).to_contain_text("neither JSON nor CSV")
    expect(page.locator("#train")).to_be_disabled()
    write(page, '{"instruction": "a", "output": "b"}\n{"instruction": "c"}\n{"instruction": 5, "output": "d"}')
    expect(page.locator("#mask .row")).to_have_count(1)
    expect(page.locator("#mask .problem")).to_have_count(2)
    expect(page.locator("#mask .problem").first).to_contain_text("row 1 (line 2)")
    expect(page.locator("#train")).to_be_enabled()


def test_what_the_user_writes_stays_text(visit):
    page = visit()
    evil = "<img src=x onerror='window.hacked=1'> ${window.hacked=1} {{value}} <|im_end|>"
    write(page, json.dumps({"instruction": evil, "output": evil}))
    expect(page.locator("#mask .row")).to_have_count(1)
    assert page.locator("#mask img").count() == 0
    assert page.evaluate("window.hacked") is None
    assert evil in "".join(page.locator("#mask .tokens").all_inner_texts()).replace("␣", " ")
    expect(page.locator("#mask .flag").last).to_contain_text("looks like a special token")


def test_a_template_changes_the_mask(visit):
    page = visit()
    page.get_by_role("button", name="Model, prompt template, max length").click()
    page.get_by_label("chat (the model's own)").check()
    expect(page.locator("#mask .token.special").first).to_have_text("<|im_start|>")
    page.fill("#max-length input", "16")
    page.press("#max-length input", "Tab")
    expect(page.locator("#mask .flag").first).to_be_visible()


@pytest.mark.parametrize(
    ("name", "query", "width"), [("light", "", 1280), ("dark", "?__theme=dark", 1280), ("phone", "", 390)]
)
def test_it_fits_the_screen(visit, name, query, width):
    page = visit(query, width=width, height=844)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    picture(page, name)


def test_train_watch_compare_reload_and_download(visit, tmp_path):
    page = visit()
    page.fill("#prompts textarea", "What is the capital of Japan?")
    set_steps(page, 4)
    page.click("#train")
    expect(page.locator("#stop")).to_be_visible()
    expect(page.locator("#run-status .title")).to_contain_text("step", timeout=RUN)
    expect(page.locator("#curve")).to_be_visible(timeout=RUN)
    picture(page, "training")
    expect(page.locator("#run-status .done .title")).to_have_text("Done", timeout=RUN)
    expect(page.locator("#compare .pair")).to_have_count(7)
    expect(page.locator("#compare .source").first).to_have_text("typed by you")
    assert len(page.locator("#compare .answer.after .text").nth(1).inner_text()) > 5
    picture(page, "done")

    page.reload()
    expect(page.locator("#compare .pair")).to_have_count(7, timeout=30_000)
    expect(page.locator("#download")).to_contain_text("Download the model", timeout=30_000)
    with page.expect_download() as download:
        page.click("#download")
    archive = tmp_path / "model.zip"
    download.value.save_as(archive)
    zipfile.ZipFile(archive).extractall(tmp_path / "model")
    from peft import AutoPeftModelForCausalLM

    model = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "model")
    assert any("lora" in name for name, _ in model.named_parameters())
    assert (tmp_path / "model" / "examples.jsonl").read_text().count("\n") == 22


def test_stop_keeps_what_it_has_and_training_goes_again(visit):
    page = visit()
    set_steps(page, 200)
    page.click("#train")
    expect(page.locator("#run-status .title")).to_contain_text("step 2 of 200", timeout=RUN)
    page.click("#stop")
    expect(page.locator("#run-status .title")).to_contain_text("Stopped after step", timeout=RUN)
    assert int(re.search(r"step (\d+)", page.inner_text("#run-status .title"))[1]) <= 5
    expect(page.locator("#download")).to_contain_text("Download the model")
    page.fill("#steps input", "1")
    page.press("#steps input", "Tab")
    expect(page.locator("#train")).to_contain_text("Train 1 step")
    page.click("#train")
    expect(page.locator("#run-status .title")).to_have_text("Done", timeout=RUN)


def test_a_killed_run_is_explained_and_the_next_one_works(visit, app_processes):
    page = visit()
    set_steps(page, 100)
    page.click("#train")
    expect(page.locator("#run-status .title")).to_contain_text("step 1 of 100", timeout=RUN)
    os.kill(busiest(app_processes()), signal.SIGKILL)
    expect(page.locator("#run-status .failed .title")).to_contain_text("ended by SIGKILL", timeout=15_000)
    page.fill("#steps input", "1")
    page.press("#steps input", "Tab")
    expect(page.locator("#train")).to_contain_text("Train 1 step")
    page.click("#train")
    expect(page.locator("#run-status .title")).to_have_text("Done", timeout=RUN)


def busiest(processes: list[int]) -> int:
    """The training process: the one of the app's that used most of the processor lately."""

    def ticks() -> dict[int, int]:
        stats = {pid: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in processes}
        return {pid: int(fields[11]) + int(fields[12]) for pid, fields in stats.items()}

    before = ticks()
    time.sleep(1)
    after = ticks()
    return max(after, key=lambda pid: after[pid] - before[pid])


def test_a_closed_tab_can_come_back_to_its_run(visit):
    page = visit()
    set_steps(page, 3)
    page.click("#train")
    expect(page.locator("#run-status .title")).to_contain_text("Answering", timeout=RUN)
    page.close()
    again = visit()
    expect(again.locator("#run-status .title")).to_have_text("Done", timeout=RUN)
    expect(again.locator("#compare .pair")).to_have_count(6)
