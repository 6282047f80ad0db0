"""Ask `foreign.py`, which runs what comes with a model in a process of its own, and end it when it takes too long."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

START = 120.0  # seconds until the process has made its imports; on 2 idle cores they take one
_MOST = 64 * 2**20  # bytes of an answer
_PROGRAM = Path(__file__).with_name("foreign.py")


class ApartError(Exception):
    """What was asked failed, with the reason; `stopped` is true if it had to be ended."""

    def __init__(self, reason: str, stopped: bool = False):
        super().__init__(reason)
        self.stopped = stopped


class Apart:
    """The process that answers, for all threads. It is started when it is first asked, and anew after it was ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, kind: str, seconds: float, **question: Any) -> Any:
        """Return the result of `foreign.render`, `foreign.encode` or `foreign.read`.

        Raises:
            ApartError: if it fails, or takes longer than `seconds`.
        """
        line = json.dumps({"kind": kind, "seconds": seconds, **question}).encode() + b"\n"
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            answer = self._exchange(line, seconds)
        if "error" in answer:
            raise ApartError(answer["error"])
        return answer["result"]

    def _start(self) -> None:
        command = [sys.executable, str(_PROGRAM)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._exchange(b"", START)

    def _exchange(self, line: bytes, seconds: float) -> dict[str, Any]:
        process = cast("subprocess.Popen[bytes]", self._process)
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            answer = _talk(process, line)
        finally:
            timer.cancel()
        if not answer.endswith(b"\n"):
            self.close()
            reason = f"it takes more than {seconds:.0f} seconds" if late.is_set() else "its process ended"
            raise ApartError(reason, stopped=True)
        return json.loads(answer) if line else {}

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with suppress(OSError):  # what was not written is of no use any more
                    cast("IO[bytes]", stream).close()


def _talk(process: subprocess.Popen[bytes], line: bytes) -> bytes:
    questions, answers = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
    try:
        questions.write(line)
        questions.flush()
    except OSError:
        return b""
    return answers.readline(_MOST)


APART = Apart()
atexit.register(APART.close)
