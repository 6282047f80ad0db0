"""docs/notebook.ipynb runs from top to bottom, here with a tiny model in place of the one that it names."""

from __future__ import annotations

import json
import os
import re
from html import unescape
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

PATH = Path(__file__).parent.parent / "docs" / "notebook.ipynb"
MODEL = '"HuggingFaceTB/SmolLM2-135M-Instruct"'


@pytest.fixture(scope="module")
def notebook(tmp_path_factory, llama_folder):
    """The notebook as it is when every cell has run."""
    notebook = nbformat.read(PATH, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "skip-test" not in cell.metadata.get("tags", [])]
    named = [cell for cell in notebook.cells if MODEL in cell.source]
    assert len(named) == 1
    named[0].source = named[0].source.replace(MODEL, json.dumps(str(llama_folder)))
    place = tmp_path_factory.mktemp("notebook")
    environment = os.environ | {"PYTHONPATH": str(PATH.parents[1]), "IPYTHONDIR": str(place / "ipython")}
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(place)}})
    client.execute(env=environment | {"JUPYTER_PLATFORM_DIRS": "1"})
    return notebook


def told(notebook, source: str) -> str:
    """What the cell that has `source` in it shows: its printed text, and the text in the HTML that it draws."""
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and source in cell.source]
    parts = [output.get("text", "") or output.get("data", {}).get("text/html", "") for output in cell.outputs]
    return unescape(re.sub(r"<style.*?</style>|<[^>]*>", "", "".join(parts), flags=re.DOTALL))


def test_the_three_rows_are_drawn(notebook):
    shown = told(notebook, "masker.tokenize")
    assert "3 examples · " in shown
    assert "error" not in shown


def test_a_good_trainer_has_no_error(notebook):
    shown = told(notebook, "sftdemo.show(trainer)")
    assert "4 examples · " in shown
    assert "EOS is never trained" not in shown


def test_the_planted_fault_is_found_and_stops_the_training(notebook):
    assert "EOS is never trained" in told(notebook, "sftdemo.show(faulty)")
    stopped = told(notebook, "strict=True")
    assert "Stopped: the labels carry an error, so nothing is trained: EOS is never trained" in stopped
    assert "steps trained: 0" in stopped


def test_the_model_is_trained_and_compared(notebook):
    assert re.search(r"loss \d+\.\d\d at step 1, \d+\.\d\d at step 12", told(notebook, "sftdemo.run("))
    assert told(notebook, "each.before_stop").count("after:") == 3


def test_it_is_kept_without_outputs():
    cells = nbformat.read(PATH, as_version=4).cells
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
