"""A server in a process of its own, and what is asked of one from a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
import urllib.request
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def first_page(address: str, process: subprocess.Popen) -> str:
    """What the server answers first, within 90 seconds."""
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return answer.read().decode()
        except OSError:
            time.sleep(0.1)
    raise AssertionError("no page came")


def awaited(asked: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in a thread of its own, in the language of the caller: Playwright leaves a running loop in the
    main one of its worker."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(copy_context().run, asyncio.run, asked).result()
