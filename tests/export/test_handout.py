"""A run as one page."""

from __future__ import annotations

import json
import shutil
from base64 import b64encode
from hashlib import sha256

import pytest
from mask.test_document import Page

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Failed, Finished, Saved
from sftdemo.data.examples import parse_examples
from sftdemo.export.formats import export
from sftdemo.runs.ablation import ablate

EVIL = "<script>alert(1)</script>"


def page_of(run, tmp_path) -> str:
    *_, told, last = export(run, "html", tmp_path / "page.html")
    assert (told, type(last)) == (Saved(str(tmp_path / "page.html"), "html"), Finished)
    return (tmp_path / "page.html").read_text(encoding="ascii")


def test_a_run(saved, tmp_path):
    run = saved("adapter")
    html = page_of(run, tmp_path)
    page, record = Page(html), json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert " ".join(record["conclusion"].replace("`", "").split()) in page.text
    assert record["mask"]["sha256"][:12] in page.text
    assert "4 of 4" in page.text
    assert "4 steps of 2 are 4 epochs of your 2 rows" in page.text
    for asked in record["comparisons"]:
        assert asked["prompt"] in page.text
        assert asked["after"] in page.text
    assert page.tags.count("section") == 2
    assert str(run.parent) not in html
    assert str(record["config"]["model"]) not in html
    assert [value for name, value in page.attributes if name == "src" and not value.startswith("data:image/svg")] == []


def test_an_ablation_of_hostile_rows(gpt2_folder, tmp_path):
    rows = [{"instruction": f"{EVIL} {number}", "output": EVIL, "held_out": number > 1} for number in range(3)]
    config = RunConfig(str(gpt2_folder), steps=2, batch_size=2, max_length=128, max_new_tokens=4)
    assert isinstance([*ablate(config, parse_examples(json.dumps(rows)), tmp_path / "both")][-1], Finished)
    events = tmp_path / "both" / "events.jsonl"
    records = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    told = [record | ({"answers": [EVIL] * 3} if record["event"] == "columns" else {}) for record in records]
    events.write_text("".join(json.dumps(record) + "\n" for record in told), encoding="utf-8")
    page = Page(page_of(tmp_path / "both", tmp_path))
    assert "script" not in page.tags
    assert page.text.count(EVIL) == 8  # one question with three answers, and two rows of a question and an answer
    assert "held-out answer tokens" in page.text
    assert page.tags.count("table") == 1
    (last,) = export(tmp_path / "both" / "weight-0", "html", tmp_path / "arm.html")
    assert isinstance(last, Failed)
    assert last.message.endswith("is an arm of an ablation, without events of its own; name the ablation's folder.")


def test_the_film_of_hostile_rows(gpt2_folder, tmp_path, monkeypatch):
    """Its frames are text, and the one script in it is ours, which the policy names by its hash."""
    rows = [{"instruction": f"{EVIL} {number}", "output": EVIL, "held_out": number > 1} for number in range(4)]
    config = RunConfig(str(gpt2_folder), steps=2, batch_size=2, max_length=128, max_new_tokens=4, film=True)
    run = tmp_path / "both"
    assert isinstance([*ablate(config, parse_examples(json.dumps(rows)), run)][-1], Finished)
    html = page_of(run, tmp_path)
    page = Page(html)
    assert (page.tags.count("script"), page.tags.count("input")) == (1, 1)
    script = html.partition("<script>")[2].partition("</script>")[0]
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html
    frames = html.count('<div class="frame">')
    assert frames == 3
    assert [html.count(f"<h3>step {step}</h3>") for step in range(3)] == [1, 1, 1]
    assert page.text.count(f"{EVIL} 2 (held out)") == 1 + frames  # with both answers beside each other
    monkeypatch.setattr("sftdemo.export.film_page.CHARACTERS", 10)
    (tmp_path / "page.html").unlink()
    short = Page(page_of(run, tmp_path)).text
    assert "The first 1 of 2 prompts are shown." in short
    assert short.count(f"{EVIL} 3 (held out)") == 1


def test_a_film_that_cannot_be_developed_says_why(saved, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(saved("adapter"), run)
    (run / "film.json").write_text("{", encoding="utf-8")
    page = Page(page_of(run, tmp_path))
    assert "It could not be developed" in page.text
    assert "script" not in page.tags


@pytest.mark.parametrize("taken", [True, False], ids=["taken", "no folder"])
def test_a_place_that_cannot_be_written(saved, tmp_path, taken):
    place = tmp_path / "page.html" if taken else tmp_path / "none" / "page.html"
    if taken:
        place.write_text("mine")
    *_, last = export(saved("adapter"), "html", place)
    assert isinstance(last, Failed)
    assert str(place) in last.message


def test_a_run_of_an_earlier_version(saved, tmp_path):
    """Its record has no conclusion and its events no rows a step; and its base is not here any more."""
    run = tmp_path / "old"
    shutil.copytree(saved("adapter"), run)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    concluded = record.pop("conclusion")
    record["config"]["model"] = "no model here"
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    lines = (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [{name: value for name, value in json.loads(line).items() if "rows" not in name} for line in lines]
    kept = [json.dumps(event) + "\n" for event in events if event["event"] != "conclusion"]
    (run / "events.jsonl").write_text("".join(kept), encoding="utf-8")
    page = Page(page_of(run, tmp_path))
    assert concluded.replace("`", "") in page.text
    assert "epoch" not in page.text
