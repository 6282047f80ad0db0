"""Event loops of a test's own: Playwright keeps one running in the thread of the tests, once one has a browser."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Do the work in a thread, in the language of the caller, and return its result."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(copy_context().run, asyncio.run, work).result()
