"""Rows of data sets on the Hub, played by a server on this machine, as the command line and the page read them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub import TOKEN, Repository, json_lines, parquet, serve, sha1

from sftdemo.core.errors import DataError
from sftdemo.data.hub import HubSource, read_source

ROOT = Path(__file__).parents[2]
ROWS = [{"instruction": f"Say {row}", "output": f"{row}!"} for row in range(300)]
SHORT = ROWS[:4]
TALK = [
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "tool_calls": [call]}]}
    for call in ({"function": {"name": "f", "arguments": {"x": None}}}, {"function": {"name": "g", "arguments": {}}})
]
PARQUET = {"data/train-00000-of-00001.parquet": parquet(ROWS), "data/test-00000-of-00001.parquet": parquet(ROWS[:7])}
MAIN, FIRST = sha1(b"main"), sha1(b"v1")
# A process of its own, since the address of the Hub is read when the libraries are imported. It reads a call a line.
WORKER = """
import contextlib, io, json, os, sys, time
time.sleep = lambda seconds: None  # between a library's repeated requests
from sftdemo.core.environment import prepare
prepare()
from sftdemo.core.errors import SftdemoError
from sftdemo.data import examples
from sftdemo.terminal.cli import main
from huggingface_hub import constants
endpoint = constants.ENDPOINT
for line in sys.stdin:
    call = json.loads(line)
    constants.ENDPOINT = call.get("endpoint", endpoint)
    os.environ.update(call.get("environment", {}))
    examples.MAX_BYTES = call.get("most", 64 * 2**20)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        if "words" in call:
            answer = {"code": main(call["words"])}
        else:
            try:
                data = examples.read_hub(call["source"], **call["how"])
                answer = {"rows": [examples.to_record(each) for each in data.train], "notes": data.notes}
                answer |= {"problems": list(map(str, data.problems)), "origin": vars(data.origin), "error": ""}
            except SftdemoError as error:
                answer = {"error": str(error)}
    for name in call.get("environment", {}):
        del os.environ[name]
    print(json.dumps(answer | {"out": out.getvalue(), "err": err.getvalue()}), flush=True)
"""


def card(**configs: dict[str, str]) -> bytes:
    """The README of a data set with configs, each with the file of each split."""
    lines = ["---", "configs:"]
    for config, files in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        lines += [line for split, path in files.items() for line in (f"  - split: {split}", f"    path: {path}")]
    return "\n".join([*lines, "---", ""]).encode()


CONFIGS = card(one={"train": "a.jsonl", "test": "b.jsonl"}, two={"dev": "a.jsonl", "test": "b.jsonl"})
AB = {"a.jsonl": json_lines(SHORT), "b.jsonl": json_lines(ROWS[10:12])}
LINES = {"train.jsonl": json_lines(SHORT)}
MIXED = [*SHORT[:1], {"instruction": b"\xff\xfe", "output": "x"}, {"instruction": "a", "output": None}]
REPOSITORIES = {
    "tests/parquet": Repository({"main": PARQUET, "v1": LINES}),
    "tests/lines": Repository({"main": LINES}),
    "tests/mixed": Repository({"main": {"train.parquet": parquet(MIXED)}}),
    "tests/talk": Repository({"main": {"train.jsonl": json_lines(TALK)}}),
    "tests/configs": Repository({"main": {"README.md": CONFIGS, **AB}}),
    "tests/renamed": Repository({"main": {"train.jsonl": json_lines([{"q": "Hi", "a": "Ho"}] * 3)}}),
    "tests/private": Repository({"main": LINES}, private=True),
    "tests/gated": Repository({"main": LINES}, gated=True),
    "tests/broken": Repository({"main": {"train.jsonl": json_lines(ROWS)}}, broken="train.jsonl"),
    "tests/script": Repository({"main": {"script.py": b"raise SystemExit('it ran')"} | LINES}),
    "tests/empty": Repository({"main": {"LICENSE": b""}}),
    "tests/images": Repository({"main": {"a.png": b"\x89PNG"}}),
    "tests/outside": Repository(
        {"main": {"README.md": card(one={"train": f"{ROOT}/sample_data/pirate.jsonl"}), **LINES}}
    ),
}


@pytest.fixture(scope="module")
def hub():
    with serve(REPOSITORIES) as running:
        yield running


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("hub")


def start(hub, home, **more: str):
    own = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home / "hf"), "HF_HUB_OFFLINE": "0", "NO_PROXY": "*"}
    environment = os.environ | own | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"} | more
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        environment.pop(name, None)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", WORKER], env=environment, cwd=home, **pipes)


def asking(process):
    def ask(**call):
        process.stdin.write(json.dumps(call) + "\n")
        process.stdin.flush()
        return SimpleNamespace(**json.loads(process.stdout.readline()))

    return ask


@pytest.fixture(scope="module")
def ask(hub, home):
    with start(hub, home) as process:
        yield asking(process)
        process.stdin.close()


@pytest.fixture
def read(ask):
    return lambda source, **how: ask(source=source, how=how)


@pytest.fixture
def sftdemo(ask):
    def call(*words, **more):
        return ask(words=[str(word) for word in words], **more)

    return call


class TestSource:
    @pytest.mark.parametrize(
        ("text", "source"),
        [
            ("hub:a/b", HubSource("a/b")),
            ("hub:a/b@v1", HubSource("a/b", "v1")),
            ("hub:a/b/c", HubSource("a/b", None, "c")),
            ("hub:a/b[d]", HubSource("a/b", None, None, "d")),
            ("hub:a/b@v1/c d[e]", HubSource("a/b", "v1", "c d", "e")),
            ("hub:a/b@refs/convert/parquet/c", HubSource("a/b", "refs/convert/parquet", "c")),
            ("hub:a/b@refs/pr/3", HubSource("a/b", "refs/pr/3")),
        ],
    )
    def test_is_read_and_written(self, text, source):
        assert read_source(text) == source
        assert str(source) == text

    @pytest.mark.parametrize(
        "text", ["hub:", "hub:a", "hub:a/b[", "hub:a/b@", "hub:a/b[c]/d", "hub:a/b--c", "hub:a b/c"]
    )
    def test_is_refused(self, text):
        with pytest.raises(DataError, match="names no data set on the Hub"):
            read_source(text)


class TestRows:
    def test_the_train_split_of_parquet(self, read):
        found = read("hub:tests/parquet", limit=None)
        assert found.rows == ROWS
        assert found.notes == [
            f"hub:tests/parquet is read at commit {MAIN[:12]}.",
            "of the splits, train is read; the others are hub:tests/parquet[test].",
        ]
        source = f"hub:tests/parquet@{MAIN}"
        assert found.origin == {"source": source, "commit": MAIN, "limit": None, "columns": {}}

    def test_a_split_a_config_a_revision(self, read):
        assert read("hub:tests/parquet[test]").rows == ROWS[:7]
        assert read("hub:tests/configs/one").rows == SHORT
        found = read("hub:tests/configs/two[test]")
        assert found.rows == ROWS[10:12]
        assert found.origin["source"] == f"hub:tests/configs@{MAIN}/two[test]"
        for revision in ("v1", FIRST):
            found = read(f"hub:tests/parquet@{revision}")
            assert (found.rows, found.origin["commit"]) == (SHORT, FIRST)

    def test_the_first_rows(self, read):
        found = read("hub:tests/parquet", limit=5)
        assert found.rows == ROWS[:5]
        assert "the first 5 rows of hub:tests/parquet are read; there are more." in found.notes
        assert "hub:tests/lines has 4 rows, all of which are read; the limit is 1,000." in read("hub:tests/lines").notes

    def test_a_bad_row_is_refused_by_its_number(self, read):
        found = read("hub:tests/mixed")
        assert found.rows == SHORT[:1]
        assert [problem.partition(":")[0] for problem in found.problems] == ["row 1", "row 2"]
        assert 'has no "output"' in found.problems[1]

    def test_objects_of_unlike_keys_are_as_they_were_written(self, read):
        assert read("hub:tests/talk").rows == TALK

    def test_columns(self, read):
        found = read("hub:tests/renamed", columns={"prompt": "q", "completion": "a"})
        assert found.rows == [{"prompt": "Hi", "completion": "Ho"}] * 3
        assert found.origin["columns"] == {"prompt": "q", "completion": "a"}

    def test_more_than_may_be_held(self, ask):
        found = ask(source="hub:tests/parquet", how={"limit": None}, most=1000)
        assert "has more than 1,000 bytes of values, the limit. Read its first rows alone (--limit" in found.error


class TestRefusals:
    @pytest.mark.parametrize(
        ("source", "sentence"),
        [
            ("absent", "the Hub has no data set 'tests/absent', or it is private: check the spelling, or log in with"),
            ("private", "the Hub has no data set 'tests/private', or it is private"),
            (
                "gated",
                "tests/gated is gated: accept its terms on its page, and log in with `hf auth login`, or set HF_",
            ),
            ("parquet@v9", "tests/parquet has no revision 'v9'; name a branch, a tag or a commit"),
            ("parquet[dev]", "has no split 'dev'; name one of train, test: hub:tests/parquet[train]."),
            ("configs/two", "has no split train; name one of dev, test: hub:tests/configs/two[dev]."),
            ("configs", "has several configs; name one of one, two: hub:tests/configs/one."),
            ("configs/three", "has no config 'three'; name one of one, two: hub:tests/configs/one."),
            ("script", "tests/script needs a loading script, which is never run."),
            ("empty", "hub:tests/empty has no files that rows are read from"),
            ("images", "tests/images has files of the kind 'imagefolder'; rows are read from JSON"),
            ("outside", "hub:tests/outside cannot be read: Data files don't belong to tests/outside"),
            ("broken", "hub:tests/broken cannot be read: the Hub did not answer, or broke off (ConnectionError)."),
        ],
    )
    def test_has_one_sentence(self, read, source, sentence):
        assert sentence in read(f"hub:tests/{source}").error

    def test_a_limit_of_nothing(self, read):
        assert read("hub:tests/lines", limit=0).error == "limit is 0, which leaves no row; give 1 or more."

    def test_a_hub_that_is_not_there(self, ask):
        found = ask(source="hub:tests/lines", how={}, endpoint="http://127.0.0.1:1")
        assert "cannot be read: the Hub did not answer, or broke off (ConnectError). Check the network" in found.error


class TestToken:
    @pytest.mark.parametrize("name", ["private", "gated"])
    def test_is_the_one_that_is_given(self, read, name):
        assert read(f"hub:tests/{name}", token=TOKEN).rows == SHORT
        assert read(f"hub:tests/{name}", token="hf_another").error

    def test_is_the_users_own_unless_that_is_forbidden(self, ask, hub):
        login = {"HF_TOKEN": TOKEN}
        assert ask(source="hub:tests/private", how={}, environment=login).rows == SHORT
        hub.asked.clear()
        assert "it is private" in ask(source="hub:tests/private", how={"token": False}, environment=login).error
        assert ask(source="hub:tests/lines", how={"token": False}, environment=login).rows == SHORT
        assert {token for _, token in hub.asked} == {""}

    def test_is_nowhere_left(self, ask, home):
        ask(words=["lint", "hub:tests/private", "--limit", "2"], environment={"HF_TOKEN": TOKEN})
        files = [path for path in home.rglob("*") if path.is_file()]
        assert files
        assert not [path for path in files if TOKEN.encode() in path.read_bytes()]


class TestCommands:
    def test_mask(self, sftdemo, gpt2_folder):
        found = sftdemo("mask", "hub:tests/parquet@v1", "--limit", 2, "--json", "--model", gpt2_folder)
        assert found.code == 0
        assert len(found.out.splitlines()) == 2
        assert "sftdemo: the first 2 rows of hub:tests/parquet@v1 are read; there are more." in found.err

    def test_lint_names_the_source(self, sftdemo, gpt2_folder):
        found = sftdemo("lint", "hub:tests/mixed", "--model", gpt2_folder)
        assert found.code == 1
        assert 'hub:tests/mixed: error: row 2: has no "output"' in found.out

    def test_a_run_is_repeated_by_the_command_in_its_record(self, sftdemo, home, gpt2_folder):
        """Of the commit that it read, also when the branch has moved."""
        short = ["--model", gpt2_folder, "--steps", 1, "--max-new-tokens", 2, "--json"]
        columns = ["--columns", "instruction=q", "output=a"]
        first = ["train", "hub:tests/renamed[train]", "--limit", 2, *columns, *short, "--output", "one"]
        assert sftdemo(*first).code == 0
        record = json.loads((home / "one" / "run.json").read_text())
        source = f"hub:tests/renamed@{MAIN}[train]"
        named = {"instruction": "q", "output": "a"}
        assert record["data"] == {"source": source, "commit": MAIN, "limit": 2, "columns": named}
        assert f"Rows: `{source}`." in (home / "one" / "README.md").read_text()
        words = shlex.split(record["command"])
        assert words[3:10] == ["train", source, "--limit", "2", *columns]
        before = REPOSITORIES["tests/renamed"].revisions
        REPOSITORIES["tests/renamed"].revisions = {"later": {"train.jsonl": json_lines(SHORT)}, **before}
        try:
            assert sftdemo(*words[3:], "--output", "two").code == 0
        finally:
            REPOSITORIES["tests/renamed"].revisions = before
        rows = [(home / name / "examples.jsonl").read_text() for name in ("one", "two")]
        assert rows[0] == rows[1]
        assert len(rows[0].splitlines()) == 2

    def test_a_set_of_any_size_is_trained_from_the_disk_and_found_there_offline(self, sftdemo, hub, home, gpt2_folder):
        train = ["train", "hub:tests/parquet", "--model", gpt2_folder, "--steps", 1, "--max-new-tokens", 2, "--json"]
        found = sftdemo(*train, "--output", "all", most=1000)
        assert found.code == 0
        events = map(json.loads, found.out.splitlines())
        assert next(event["examples"] for event in events if event["event"] == "prepared") == len(ROWS)
        assert len((home / "all" / "examples.jsonl").read_text().splitlines()) == len(ROWS)
        assert sftdemo(*train, "--limit", 250, "--output", "some", most=1000).code == 0
        assert len((home / "some" / "examples.jsonl").read_text().splitlines()) == 250
        hub.asked.clear()
        with start(hub, home, HF_HUB_OFFLINE="1") as process:
            ask = asking(process)
            cached, split = ask(source="hub:tests/parquet", how={}), ask(source="hub:tests/parquet[test]", how={})
            absent, other = ask(source="hub:tests/lines", how={}), ask(source="hub:tests/parquet@v1", how={})
            process.stdin.close()
        assert (cached.rows, split.rows) == (ROWS, ROWS[:7])
        assert "from the cache; the Hub is not asked (HF_HUB_OFFLINE)." in cached.notes[0]
        assert "hub:tests/lines is not in the cache, and HF_HUB_OFFLINE forbids asking the Hub." in absent.error
        assert f"which has commit {MAIN} of tests/parquet" in other.error
        assert hub.asked == []
