"""docs/notebook.ipynb runs from top to bottom, here with a tiny model in place of the one that it names."""

from __future__ import annotations

import json
import os
import re
from html import unescape
from pathlib import Path

import nbformat
import pytest
from forked import forked
from nbclient import NotebookClient

PATH = Path(__file__).parent.parent / "docs" / "notebook.ipynb"
MODEL = '"HuggingFaceTB/SmolLM2-135M-Instruct"'


# Runs each cell as a kernel would, and tells what it shows.
SHELL = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

shell, cells = InteractiveShell.instance(), []
for source in json.load(open(sys.argv[1])):
    with capture_output() as shown:
        shell.run_cell(source).raise_error()
    cells.append([{"text": shown.stdout}, *({"data": output.data} for output in shown.outputs)])
print(json.dumps(cells))
"""


def in_a_shell(notebook, place: Path, environment: dict[str, str]) -> None:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    (place / "cells.json").write_text(json.dumps([cell.source for cell in cells]))
    shown = json.loads(forked("-c", SHELL, "cells.json", folder=place, environment=environment))
    for cell, outputs in zip(cells, shown, strict=True):
        cell.outputs = [nbformat.from_dict(output) for output in outputs]


def in_a_kernel(notebook, place: Path, environment: dict[str, str]) -> None:
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(place)}})
    client.execute(env=environment | {"JUPYTER_PLATFORM_DIRS": "1"})


@pytest.fixture(scope="module", params=[in_a_shell, pytest.param(in_a_kernel, marks=pytest.mark.thorough)])
def notebook(request, tmp_path_factory, llama_folder):
    """The notebook as it is when every cell has run."""
    notebook = nbformat.read(PATH, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "skip-test" not in cell.metadata.get("tags", [])]
    named = [cell for cell in notebook.cells if MODEL in cell.source]
    assert len(named) == 1
    named[0].source = named[0].source.replace(MODEL, json.dumps(str(llama_folder)))
    place = tmp_path_factory.mktemp("notebook")
    environment = os.environ | {"PYTHONPATH": str(PATH.parents[1]), "IPYTHONDIR": str(place / "ipython")}
    request.param(notebook, place, environment)
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
