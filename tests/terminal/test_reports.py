"""A package that a run is reported to may print; the program's results stay its own."""

from __future__ import annotations

import json
import signal

import pytest
from stand_in_trackio import stand_in

from sftdemo.terminal.cli import main

ROWS = [{"instruction": "Say hello", "output": "Hello world!"}, {"instruction": "Count to 3", "output": "1 2 3"}]
SHORT = ["--steps", "1", "--max-new-tokens", "2", "--batch-size", "2", "--max-length", "96", "--json"]


@pytest.mark.parametrize("report", [True, False], ids=["reported", "not"])
def test_what_is_printed_meanwhile_goes_to_stderr(tmp_path, monkeypatch, capsys, gpt2_folder, report):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    handler, sent = signal.getsignal(signal.SIGINT), stand_in(monkeypatch)
    words = ["train", "rows.jsonl", "--model", str(gpt2_folder), *SHORT]
    assert main(words + ["--report-to", "trackio"] * report) == 0
    signal.signal(signal.SIGINT, handler)
    out, err = capsys.readouterr()
    assert [json.loads(line)["event"] for line in out.splitlines()][-1] == "finished"
    assert ("Trackio project initialized" in err) is report
    assert bool(sent) is report
