"""What goes on slowly is told of, ends with what it was asked for, and can be given up."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from sftdemo.core import meanwhile
from sftdemo.core.meanwhile import in_process, in_thread
from sftdemo.core.streams import Relay


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(meanwhile, "EVERY", 0.01)


def test_work_in_a_thread_is_told_of_until_it_has_a_result():
    may_end = threading.Event()
    told = Relay(in_thread(lambda: may_end.wait(30), lambda: "busy"))
    for event in told:
        assert event == "busy"
        may_end.set()
    assert told.result is True
    with pytest.raises(ZeroDivisionError):
        list(in_thread(lambda: 1 / 0, lambda: "busy"))


def test_a_command_is_told_of_until_its_end(tmp_path):
    code = (
        "import os, sys, time\n"
        "while not os.path.exists('may end'): time.sleep(0.01)\n"
        "print(os.getcwd(), os.environ['X']); print('told', file=sys.stderr); sys.exit(3)"
    )
    ran = Relay(in_process([sys.executable, "-c", code], lambda: "busy", tmp_path, os.environ | {"X": "1"}))
    for event in ran:
        assert event == "busy"
        (tmp_path / "may end").touch()
    exit_code, log = ran.result
    assert (exit_code, sorted(log.splitlines())) == (3, sorted([f"{tmp_path} 1", "told"]))


def test_a_command_that_nobody_waits_for_is_killed(tmp_path):
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); os.rename('pid', 'ready'); time.sleep(60)"
    ran = in_process([sys.executable, "-c", code], lambda: "busy", tmp_path)
    while next(ran) == "busy" and not (tmp_path / "ready").exists():
        pass
    ran.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "ready").read_text()), 0)
