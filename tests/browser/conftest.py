"""The real app in a process of its own, and Debian's or any other Chromium to look at it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from default_model import default_model, environment, hub_cache, lightened, private_cache
from playwright.sync_api import expect
from serving import first_page, free_port

from tools.space import BROWSERS

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
REQUIRED = "SFTDEMO_REQUIRE_BROWSER"
expect.set_options(timeout=60_000)  # milliseconds; other tests may keep the cores busy


@pytest.fixture(scope="session")
def browser_type_launch_args():
    if CHROMIUM is None:
        if os.environ.get(REQUIRED):
            pytest.fail(f"no Chromium is installed, and {REQUIRED} says that the browser tests must run")
        pytest.skip("no Chromium is installed (on Debian: apt-get install chromium-headless-shell)")
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    quiet += ["--js-flags=--single-threaded"]  # a page that opens takes a fifth less of the processor
    return {"executable_path": CHROMIUM, "args": ["--no-sandbox", "--disable-gpu", *quiet]}


@pytest.fixture(scope="session")
def cache(browser_type_launch_args, tmp_path_factory):
    return private_cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def real_model(browser_type_launch_args) -> Path:
    """The folder of the default model, which the page has a lighter one in place of."""
    return default_model().folder


@pytest.fixture(scope="session")
def server(cache, real_model, tmp_path_factory):
    """`python app.py`: its address and its session; at the end it is stopped and must take its processes along."""
    port, folder = free_port(), tmp_path_factory.mktemp("light")
    hub = hub_cache(folder / "hub", lightened(real_model, folder / "model"))
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=environment(
            cache,
            GRADIO_SERVER_PORT=str(port),
            HF_HUB_CACHE=str(hub),
            SFTDEMO_STANDBY="0",  # which would answer all the time
        ),
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}/"
    first_page(address, process)
    yield address, process.pid
    process.send_signal(signal.SIGKILL)  # the hard way: its children must notice by themselves
    process.wait()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and processes_of(process.pid):
        time.sleep(0.2)
    assert processes_of(process.pid) == []


@pytest.fixture(scope="session")
def app(server):
    """The address of the app."""
    return server[0]


@pytest.fixture
def app_processes(server):
    """Gives the ids of the processes that the app has at the moment, its own among them."""
    return lambda: processes_of(server[1])


def processes_of(session: int) -> list[int]:
    """The processes of a session that are alive (Linux)."""
    alive = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, of_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(of_session) == session and state != "Z":
            alive.append(int(entry.name))
    return alive


@pytest.fixture
def visit(app, context):
    """Opens the page, mask drawn; at the end no page may have had an error or asked another host for anything."""
    errors, foreign = [], []

    def watch(page) -> None:
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: None if _own(request.url, app) else foreign.append(request.url))

    context.on("page", watch)

    def open_page(query: str = "", ready: str = "#train:not([disabled])", **size):
        page = context.new_page()
        if size:
            page.set_viewport_size(size)
        page.goto(app + query)
        page.wait_for_selector("#mask .row", timeout=120_000)
        page.wait_for_selector(ready, timeout=120_000)
        return page

    yield open_page
    assert errors == []
    assert foreign == []


def _own(url: str, app: str) -> bool:
    return url.startswith((app, "data:", "blob:"))
