"""The floors of the program: imports go down only, and what must stay light stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sftdemo"

FLOORS = [
    {"__init__", "environment", "errors", "config", "events", "storage", "turns", "processes"},
    {"records"},
    {"examples"},
    {"templates"},
    {"encoding"},
    {"rows"},
    {"tokenization"},
    {"prefixes", "boundary", "conversion", "estimate"},
    {"packing", "linear_layers"},
    {"audit"},
    {"models"},
    {"acceleration", "outputs", "verification"},
    {"scoring", "trainer", "preparation"},
    {"generation", "training"},
    {"runs"},
    {"ablation"},
    {"study"},
    {"samples", "jobs", "rendering", "isolation"},
    {"revisit"},
    {"history"},
    {"bench"},
    {"study_plots"},
    {"study_report"},
    {"interrupt", "terminal", "terminal_losses"},
    {"terminal_runs"},
    {"terminal_study"},
    {"commands", "ui"},
    {"cli"},
    {"__main__", "app"},
]
FLOOR_OF = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}

FILES = [file for file in sorted([*PACKAGE.rglob("*.py"), ROOT / "app.py"]) if file.exists()]


def name_of(file: Path) -> str:
    """`tokenization` for sftdemo/tokenization.py, `ui` for all of sftdemo/ui."""
    if file.name == "app.py" and file.parent == ROOT:
        return "app"
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(file: Path) -> set[str]:
    """Full names of everything a file imports, at any depth; `sftdemo.x` for its own package."""
    found = set()
    package = ["sftdemo", *file.relative_to(PACKAGE).parts[:-1]] if file.is_relative_to(PACKAGE) else []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def own_imports(file: Path) -> set[str]:
    names = {name.split(".")[1] for name in imports_of(file) if name.startswith("sftdemo.")}
    return {name for name in names if (PACKAGE / f"{name}.py").exists() or (PACKAGE / name).is_dir()}


def top_level(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.fixture(params=FILES, ids=lambda file: str(file.relative_to(ROOT)))
def file(request) -> Path:
    return request.param


def test_every_module_has_a_floor(file):
    assert name_of(file) in FLOOR_OF, "give it a place in FLOORS"


def test_imports_go_down(file):
    floor = FLOOR_OF[name_of(file)]
    upward = {name for name in own_imports(file) if FLOOR_OF[name] > floor and name != name_of(file)}
    assert not upward


def test_no_cycles():
    edges: dict[str, set[str]] = {}
    for path in FILES:
        edges.setdefault(name_of(path), set()).update(own_imports(path) - {name_of(path)})
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for other in edges.get(name, ()):
                visit(other, (*path, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_gradio_only_in_the_page(file):
    assert "gradio" not in top_level(imports_of(file)) or name_of(file) in ("ui", "app")


def test_trls_trainer_only_in_training(file):
    """Its packing alone, which is light, is asked elsewhere how the rows will lie."""
    packer = {"trl.data_utils", "trl.data_utils.pack_dataset"}
    names = {name for name in imports_of(file) if name.split(".")[0] == "trl"}
    trains = name_of(file) in ("trainer", "training", "bench")  # the bench has TRL's own trainer to compare with
    assert not names or trains or (names <= packer and name_of(file) == "packing")


def test_nothing_prints_below_the_command_line(file):
    surface = FLOOR_OF[name_of(file)] >= FLOOR_OF["terminal"]
    calls = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    prints = [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
    assert surface or not prints


def test_modules_are_small(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 350


def test_labels_are_decided_in_one_place(file):
    """-100 is written in tokenization.py, and read elsewhere."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    written = [node.lineno for node in nodes if isinstance(node, ast.UnaryOp) and ast.unparse(node) == "-100"]
    assert not written or name_of(file) == "tokenization"


@pytest.mark.parametrize("module", ["sftdemo", "sftdemo.cli", "sftdemo.examples", "sftdemo.tokenization"])
def test_importing_is_light(module):
    heavy = {"torch", "transformers", "gradio", "trl", "peft", "datasets", "tokenizers"}
    code = f"import sys, {module}; print(sorted({heavy!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
