"""What the README and the docs say of the files, the pins and the commands is so."""

from __future__ import annotations

import argparse
import re
import subprocess
import tomllib

import pytest
from pages import DOCS, PAGES, ROOT, blocks, commands, sessions

from sftdemo.data.examples import SHAPES, parse_examples
from sftdemo.data.samples import SAMPLES
from sftdemo.data.templates import CHAT, NAMED_TEMPLATES
from sftdemo.terminal.cli import _parser

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTENT = README.split("---\n", 2)[2].splitlines()  # without the Space's front matter
DATA = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
COMMANDS = [(page.name, words) for page in PAGES for words in commands(page)]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
PATH = re.compile(r"`((?:sftdemo|tests|docs|sample_data|\.ci)/[\w./-]+)`")


def pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))


def anchors(page) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = page.read_text(encoding="utf-8")
    for block in blocks(page):
        text = text.replace(block, "")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class TestTheReadme:
    def test_is_short(self):
        assert len(README.splitlines()) <= 150

    def test_begins_with_what_a_reader_wants(self):
        """What it is, a picture, the command that starts it, and a real session, in the first 40 lines."""
        first = "\n".join(CONTENT[:41])
        wanted = ["# sftdemo", "](docs/page.png)", "requirements.txt && .venv/bin/python app.py", "$ python -m sftdemo"]
        positions = [first.find(each) for each in wanted]
        assert -1 not in positions
        assert positions == sorted(positions)
        assert "16 examples · 531 tokens · 259 trained" in first

    def test_names_every_folder(self):
        (tree,) = [block for block in blocks(ROOT / "README.md") if "sftdemo/\n" in block]
        named = re.findall(r"^[├└]── (\w+)/ ", tree, re.MULTILINE)
        folders = {path.name for path in (ROOT / "sftdemo").iterdir() if (path / "__init__.py").is_file()}
        assert set(named) == folders
        assert len(named) == len(folders)

    def test_has_every_page_in_its_index(self):
        for page in [*DOCS, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]:
            assert f"({page.relative_to(ROOT)})" in README

    def test_sums_the_samples_up(self):
        rows = re.findall(r"^\| (\w+) \| \d \| (\d) of 6 \| (\d) of 6 \| \d+ \|$", DATA, re.MULTILINE)
        assert {name for name, _, _ in rows} == {sample.name for sample in SAMPLES}
        assert sum(int(before) for _, before, _ in rows) == 0
        assert f"[{sum(int(after) for _, _, after in rows)} of {6 * len(rows)} held-out answers]" in README


def test_the_spaces_gradio_is_the_pinned_one():
    assert re.search(r"^sdk_version: (\S+)$", README, re.MULTILINE)[1] == pins("requirements.txt")["gradio"]


def test_what_is_tested_as_one_set_is_pinned_exactly():
    assert {"gradio", "transformers", "trl", "peft", "torch", "datasets"} <= set(pins("requirements.txt"))
    tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_ci_runs_the_readmes_test_command():
    """.ci/run takes the command out of the README; here only that it finds it."""
    found = subprocess.run(
        ["sed", "-n", "/<!-- test command -->/,/^```$/p", "README.md"], cwd=ROOT, capture_output=True, text=True
    ).stdout.splitlines()
    assert found[1] == "```bash"
    assert found[2].endswith("-m pytest")
    assert len(found) == 4


@pytest.mark.parametrize(("where", "words"), COMMANDS, ids=[f"{page}: {' '.join(words)}" for page, words in COMMANDS])
def test_every_command_is_understood(where, words):
    _parser().parse_args(words)


def test_there_are_commands():
    names = {page for page, _ in COMMANDS}
    assert {
        "README.md",
        "mask.md",
        "data.md",
        "laboratory.md",
        "terminal.md",
        "cost.md",
        "scale.md",
        "study.md",
    } <= names
    used = {words[0] for _, words in COMMANDS}
    assert used >= {"mask", "train", "generate", "losses", "ablate", "study", "samples", "bench", "app"}
    assert sum(len(sessions(page)) for page in PAGES) >= 10


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_links_and_paths_lead_somewhere(file):
    text = file.read_text(encoding="utf-8")
    for place, anchor in LINK.findall(text):
        target = (file.parent / place).resolve() if place else file
        assert target.exists(), f"{file.name} links to {place}"
        if anchor:
            assert anchor in anchors(target), f"{file.name} links to {place}#{anchor}"
    for place in PATH.findall(text):
        assert (ROOT / place).exists(), f"{file.name} names {place}"


def test_every_option_is_documented():
    text = (ROOT / "docs" / "terminal.md").read_text(encoding="utf-8")
    (subparsers,) = [each for each in _parser()._actions if isinstance(each, argparse._SubParsersAction)]
    for parser in [_parser(), *subparsers.choices.values()]:
        options = {option for action in parser._actions for option in action.option_strings}
        missing = {option for option in options if f"`{option}`" not in text} - {"-h", "--help"}
        assert not missing, f"{parser.prog}: docs/terminal.md does not name {', '.join(sorted(missing))}"


def test_every_shape_and_template_is_documented():
    for shape in SHAPES:
        assert all(f"`{column}`" in DATA for column in shape.columns)
    assert all(f"| `{name}`" in DATA for name in [*NAMED_TEMPLATES, CHAT])


@pytest.mark.parametrize("block", [block for page in DOCS for block in blocks(page, "json")])
def test_the_rows_that_are_printed_can_be_read(block):
    parsed = parse_examples(block)
    assert parsed.train
    assert (parsed.problems, parsed.notes) == ((), ())
