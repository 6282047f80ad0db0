"""What `pip install` makes of the repository: declared dependencies, a wheel that runs on its own, samples by name."""

from __future__ import annotations

import ast
import os
import re
import runpy
import signal
import subprocess
import sys
import tomllib
import zipfile
from contextlib import suppress
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from serving import first_page, free_port

from sftdemo import __version__
from sftdemo.data.samples import SAMPLES, data_file
from sftdemo.terminal.cli import _parser, main

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def named(lines: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(each.name): each for each in map(Requirement, lines)}


def requirements(file: str) -> dict[str, Requirement]:
    """The requirements that stand in a file itself."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return named([line for line in lines if line.strip() and not line.startswith(("#", "-r"))])


def sbom(lines: list[str]) -> dict:
    """What `make sbom` prints."""
    return runpy.run_path(str(ROOT / "tools" / "sbom.py"))["bill"](lines)


def imported() -> set[str]:
    """The distributions that the package imports from, in any function."""
    found = set()
    for file in (ROOT / "sftdemo").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.partition(".")[0])
    found -= {*sys.stdlib_module_names, "sftdemo"}
    known = packages_distributions()
    return {canonicalize_name(name) for module in found for name in known.get(module, [module])}


DEPENDENCIES = named(PROJECT["dependencies"])
EXTRAS = {name: named(lines) for name, lines in PROJECT["optional-dependencies"].items()}
TESTS = {
    name: each
    for name, each in (EXTRAS["llama-cpp"] | EXTRAS["mcp"] | EXTRAS["zero-gpu"] | EXTRAS["test"]).items()
    if name != "sftdemo"
}


class TestDependencies:
    def test_what_is_imported_is_declared(self):
        assert imported() <= set(DEPENDENCIES) | set(EXTRAS["zero-gpu"])

    def test_what_is_declared_is_imported(self):
        """Two apart: transformers reads GGUF files with gguf, and chat templates with jinja2."""
        assert set(DEPENDENCIES) | set(EXTRAS["zero-gpu"]) == imported() | {"gguf", "jinja2"}

    def test_the_lock_has_the_tested_set_and_all_that_it_needs_with_hashes(self):
        """`make lock` makes it anew."""
        text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", "")
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert all(re.fullmatch(r"[^ ]+==[^ ]+( ;.*?)? +(--hash=sha256:[0-9a-f]{64} *)+", line) for line in lines)
        locked = named([line.partition("--hash")[0] for line in lines])
        tested = requirements("requirements.txt")
        assert {name: str(locked[name].specifier) for name in tested} == {
            name: str(each.specifier) for name, each in tested.items()
        }
        bill = sbom(list(map(str, tested.values())))
        assert {each["name"] for each in bill["components"]} <= set(locked)
        assert "//" not in text

    def test_the_bill_of_materials_names_all_that_is_needed(self):
        tested = requirements("requirements.txt")
        bill = sbom(list(map(str, tested.values())))
        refs = {each["bom-ref"] for each in bill["components"]}
        assert (bill["bomFormat"], {each["purl"] for each in bill["components"]}) == ("CycloneDX", refs)
        assert set(tested) < {each["name"] for each in bill["components"]}
        assert {ref for each in bill["dependencies"] for ref in each["dependsOn"]} == refs

    @pytest.mark.parametrize(
        ("file", "ranges"),
        [("requirements.txt", DEPENDENCIES), ("requirements-test.txt", TESTS)],
        ids=["to run it", "to test it"],
    )
    def test_the_tested_set_lies_in_the_ranges(self, file, ranges):
        tested = requirements(file)
        assert set(tested) == set(ranges)
        for name, requirement in tested.items():
            (pin,) = requirement.specifier
            assert pin.operator == "==", f"{requirement} is no exact version"
            assert ranges[name].specifier.contains(pin.version), f"{requirement} is outside of {ranges[name]}"
            assert requirement.extras == ranges[name].extras

    def test_a_machine_keeps_its_own_torch(self):
        assert all(DEPENDENCIES["torch"].specifier.contains(version) for version in ("2.8.0", "2.10.1", "2.13.0+cu130"))

    def test_the_test_tools_include_the_optional_parts(self):
        """All but trackio, for which a test has a stand-in, and what needs a GPU."""
        assert EXTRAS["test"]["sftdemo"].extras == set(EXTRAS) - {"test", "trackio", "4bit"}


def pip(*words: str | Path) -> None:
    """Run pip without network and dependencies: the libraries are the tested ones."""
    command = [sys.executable, "-m", "pip", words[0], "--no-deps", "--no-index", *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from this checkout with what is installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-build-isolation", "-w", folder, ROOT)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder in which only the wheel is installed."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--no-compile", "--target", folder, wheel)
    return folder


@pytest.fixture
def start(installed, tmp_path):
    """Starts the console script outside the checkout, with an empty home."""
    home, work = tmp_path / "home", tmp_path / "work"
    for folder in (home, work):
        folder.mkdir()
    environment = os.environ | {"PYTHONPATH": str(installed), "HOME": str(home), "NO_COLOR": "1", "PIP_NO_INDEX": "1"}

    def begin(*words: str, **more: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, installed / "bin" / "sftdemo", *words],
            cwd=work,
            env=environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return begin


def output(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


class TestTheWheel:
    def test_what_is_in_it(self, wheel):
        names = set(zipfile.ZipFile(wheel).namelist())
        own = {name for name in names if ".dist-info/" not in name}
        package = {
            file.relative_to(ROOT).as_posix()
            for file in (ROOT / "sftdemo").rglob("*")
            if file.is_file() and file.suffix != ".pyc"
        }
        assert {"sftdemo/py.typed", "sftdemo/ui/static/style.css"} < package
        assert own == package | {f"sftdemo/sample_data/{sample.path.name}" for sample in SAMPLES}
        assert f"sftdemo-{__version__}.dist-info/licenses/LICENSE" in names

    def test_its_version(self, start):
        assert output(start("--version")) == f"sftdemo {__version__}\n"

    def test_a_sample_by_its_name(self, start, gpt2_folder):
        out = output(start("mask", "pirate", "--model", str(gpt2_folder)))
        assert "capi" in out  # the tokens of the tiny model are short
        assert "16 examples" in out

    def test_the_page(self, start):
        port = free_port()
        process = start("app", "--no-browser", "--port", str(port))
        try:
            text = first_page(f"http://127.0.0.1:{port}", process)
        finally:
            with suppress(ProcessLookupError):  # it may have ended by itself
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        assert "See prompt masking" in text
        assert "Arr, the capital of Italy be Rome" in text  # the sample, from inside the wheel


class TestNames:
    @pytest.fixture(autouse=True)
    def empty_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize("command", ["mask", "train", "ablate", "study", "bench"])
    def test_every_command_takes_a_samples_name(self, command):
        for sample in SAMPLES:
            assert _parser().parse_args([command, sample.name]).data == sample.path

    def test_a_file_of_that_name_comes_first(self):
        Path("pirate").write_text("{}")
        assert data_file("pirate") == Path("pirate")

    def test_a_folder_does_not(self):
        Path("pirate").mkdir()
        assert data_file("pirate") == SAMPLES[0].path

    @pytest.mark.parametrize("name", ["parrot", "Pirate", "./pirate", "pirate.jsonl"])
    def test_any_other_name_is_a_file(self, name, capsys):
        assert data_file(name) == Path(name)
        assert main(["mask", name]) == 1
        assert "cannot be read: No such file" in capsys.readouterr().err
