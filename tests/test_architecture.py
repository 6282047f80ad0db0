"""The house: eleven folders, imports go down only, and what must stay light stays light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sftdemo"
FOLDERS = [
    "core",
    "data",
    "mask",
    "model",
    "train",
    "runs",
    "export",
    "study",
    "bench",
    "ui",
    "terminal",
]  # the lowest first
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(file: Path) -> str:
    """`mask.labels` for sftdemo/mask/labels.py, `mask` for its folder."""
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file) for file in FILES}


@cache
def nodes_of(file: Path) -> tuple[ast.AST, ...]:
    """Everything that stands in a file."""
    return tuple(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


def imports_of(file: Path) -> set[str]:
    """Full names of everything a file imports, at any depth; `sftdemo.x.y` for its own package."""
    found = set()
    package = ["sftdemo", *file.relative_to(PACKAGE).parts[:-1]]
    for node in nodes_of(file):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def own_imports(file: Path) -> set[str]:
    """The modules of the package that a file imports."""
    names = {name.removeprefix("sftdemo.") for name in imports_of(file) if name.startswith("sftdemo.")}
    return {name for name in names if name in MODULES and "." in name}


def offenders(says) -> dict[str, object]:
    """What `says` has to say of each file, where it has something to say."""
    return {module_of(file): found for file in FILES if (found := says(file))}


def calls_of(file: Path, name: str) -> list[int]:
    calls = [node for node in nodes_of(file) if isinstance(node, ast.Call)]
    return [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == name]


def test_every_folder_has_its_floor():
    assert sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__") == sorted(
        FOLDERS
    )


def test_the_listing_tells_the_story():
    assert len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]) <= 14


def test_imports_go_down():
    def upward(file: Path) -> set[str]:
        folder = module_of(file).split(".")[0]
        if folder not in FOLDERS:  # the entries: they may import anything
            return set()
        return {name for name in own_imports(file) if FOLDERS.index(name.split(".")[0]) > FOLDERS.index(folder)}

    assert not offenders(upward)


def test_no_cycles():
    edges = {module_of(file): own_imports(file) - {module_of(file)} for file in FILES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for other in edges.get(name, ()):
                visit(other, (*path, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_gradio_only_in_the_page():
    assert not offenders(
        lambda file: (
            "gradio" in {name.split(".")[0] for name in imports_of(file)} and not module_of(file).startswith("ui.")
        )
    )


def test_trls_trainer_only_in_training():
    """Its packing alone, which is light, is asked elsewhere how the rows will lie."""
    packer = {"trl.data_utils", "trl.data_utils.pack_dataset"}

    def asks_trl(file: Path) -> set[str]:
        names = {name for name in imports_of(file) if name.split(".")[0] == "trl"}
        if module_of(file).split(".")[0] in ("train", "bench"):  # the bench has TRL's own trainer to compare with
            return set()
        return names - packer if module_of(file) == "mask.layouts" else names

    assert not offenders(asks_trl)


def test_nothing_prints_below_the_command_line():
    """`runs.use` is a program of its own, which a run's folder takes along."""
    assert set(offenders(lambda file: not module_of(file).startswith("terminal.") and calls_of(file, "print"))) == {
        "runs.use"
    }


def test_modules_are_small():
    assert not offenders(lambda file: len(file.read_text(encoding="utf-8").splitlines()) > 350)


def test_labels_are_decided_in_one_place():
    """-100 is written in mask/labels.py, and read elsewhere."""

    def written(file: Path) -> list[int]:
        nodes = nodes_of(file)
        return [node.lineno for node in nodes if isinstance(node, ast.UnaryOp) and ast.unparse(node) == "-100"]

    assert set(offenders(written)) == {"mask.labels"}


@pytest.mark.parametrize(
    "module", ["sftdemo", "sftdemo.terminal.cli", "sftdemo.data.examples", "sftdemo.mask.labels", "sftdemo.runs.run"]
)
def test_importing_is_light(module):
    heavy = {"torch", "transformers", "gradio", "trl", "peft", "datasets", "tokenizers"}
    code = f"import sys, {module}; print(sorted({heavy!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_colours_are_spelled_in_the_palette():
    spelled = re.compile(r"""["' (]#(?:[0-9a-fA-F]{3,4}){1,2}\b|rgba?\(\d""")
    files = [file for file in PACKAGE.rglob("*") if file.suffix in (".py", ".css", ".js")]
    found = {file.relative_to(PACKAGE).as_posix() for file in files if spelled.search(file.read_text(encoding="utf-8"))}
    assert found == {"core/palette.py"}


def without_encoding(file: Path) -> list[str]:
    """The calls that read or write text as the machine's locale says, which is no UTF-8 on Windows or with LC_ALL=C."""
    found = []
    for node in nodes_of(file):
        if not isinstance(node, ast.Call) or {"encoding", None} & {each.arg for each in node.keywords}:
            continue
        is_method = isinstance(node.func, ast.Attribute)
        name = node.func.attr if is_method else getattr(node.func, "id", "")
        mode = next((each.value for each in node.args if isinstance(each, ast.Constant)), "b" if node.args else "r")
        of_path = is_method and getattr(node.func.value, "id", "") not in ("os", "archive")
        as_text = any(each.arg == "text" and ast.unparse(each.value) == "True" for each in node.keywords)
        opens_text = name in ("read_text", "write_text") or (name == "open" and "b" not in str(mode))
        if as_text or (of_path and opens_text):
            found.append(f"{node.lineno}: {ast.unparse(node)[:60]}")
    return found


def test_text_is_read_and_written_as_utf_8():
    assert not offenders(without_encoding)
