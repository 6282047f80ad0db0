"""The picture of what was measured over time, from results that are kept."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from sftdemo.bench.history import PICTURE, draw, ratios_svg, read_kept
from sftdemo.core.errors import ConfigError, SftdemoError
from sftdemo.terminal.cli import main

DOCS = Path(__file__).parents[2] / "docs" / "performance"
MACHINE = {"processor": "AMD EPYC", "instructions": "AVX2", "device": "CPU"}


def keep(folder, day, ratios, **machine):
    result = {"date": day, "machine": MACHINE | machine, "ratios": ratios}
    (folder / f"{len(list(folder.iterdir()))}.json").write_text(json.dumps(result), encoding="utf-8")


def texts(svg: str) -> list[str]:
    return [text.strip() for text in ElementTree.fromstring(svg).itertext() if text.strip()]


def test_two_results_make_a_picture(tmp_path, capsys):
    keep(tmp_path, "2026-02-01", {"step_lora_vs_trl": 1.5, "other": 3})
    keep(tmp_path, "2026-01-01", {"step_lora_vs_trl": 1.2, "step_full_vs_trl": 0.9}, device="NVIDIA H200")
    assert main(["bench", "--draw", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / PICTURE)
    shown = texts((tmp_path / PICTURE).read_text(encoding="utf-8"))
    assert {"LoRA, default template", "all weights, default template", "AMD EPYC, AVX2", "NVIDIA H200"} <= set(shown)
    assert "LoRA, chat template" not in shown, "which neither has measured"


def test_the_oldest_comes_first(tmp_path):
    keep(tmp_path, "2026-02-01", {"step_lora_vs_trl": 1.5})
    keep(tmp_path, "2026-01-01", {"step_lora_vs_trl": 1.2})
    keep(tmp_path, "2026-01-15", {"mask_vs_tokenizers": 1.2})  # a result of other parts
    assert [each.ratios["step_lora_vs_trl"] for each in read_kept(tmp_path)] == [1.2, 1.5]


@pytest.mark.parametrize("text", ["{}", '{"date": "today", "machine": {}, "ratios": {}}', '{"date": 3}'])
def test_what_is_no_result_is_refused(tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ConfigError, match=r"other.json is no result of the bench"):
        draw(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no result"):
        draw(tmp_path)


def test_a_picture_that_cannot_be_written_is_told_with_the_remedy(tmp_path):
    keep(tmp_path, "2026-02-01", {"step_lora_vs_trl": 1.5})
    (tmp_path / PICTURE).mkdir()
    with pytest.raises(SftdemoError, match=rf"{PICTURE} cannot be written: Is a directory\. Name another file\.$"):
        draw(tmp_path)


def test_the_picture_of_the_docs_is_that_of_its_results():
    assert texts(ratios_svg(read_kept(DOCS))) == texts((DOCS / PICTURE).read_text(encoding="utf-8"))
