"""Serve the page until it is told to end, and leave nothing behind."""

from __future__ import annotations

import multiprocessing.util
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr

from ..core.config import DEFAULT_MODEL
from ..core.environment import settle, without_proxies
from ..core.errors import ConfigError, SftdemoError
from ..core.held import held_folder, sweep
from ..core.palette import BUTTON, BUTTON_HOVER, ON_BUTTON, page_css
from ..runs.jobs import give_back
from .backend import Backend
from .calls import Calls
from .first_mask import is_kept
from .front import Front
from .guard import Guard, own_names
from .lesson import FOLDER
from .page import build
from .spoken import Page
from .widgets import STATIC
from .words import Languages

MCP, STANDBY, ROOT_PATH = "SFTDEMO_MCP", "SFTDEMO_STANDBY", "GRADIO_ROOT_PATH"
WARM_DELAY = 2.0  # seconds in which the first page has the machine to itself: importing torch takes all of a core
TIDY = 60.0  # seconds between two looks at what is kept on the disk
_SOCKET = 103  # bytes that the name of a socket may have: on Linux 107
_FOLDER = "sftdemo-page-"  # of what this server offers and is sent, which no other reads
# Seconds in which a run may end and be kept as stopped: a person waits for Ctrl-C. A service manager kills after 10 to
# 90 seconds, and a run that is killed is lost as much as one that this process gives up.
_GRACE = {"SIGINT": 1.2, "SIGTERM": 25.0, "SIGHUP": 25.0}


def launch(
    host: str | None = None,
    port: int | None = None,
    open_browser: bool = True,
    mcp: bool | None = None,
    lessons: str | None = None,
) -> None:
    """Serve the page until the process is told to end, and prepare the default model in the background. A run that is
    under way then is kept as stopped.

    Args:
        host (`str`, *optional*):
            Defaults to `$GRADIO_SERVER_NAME` or 127.0.0.1.
        port (`int`, *optional*):
            Defaults to `$GRADIO_SERVER_PORT` or the first free port from 7860.
        open_browser (`bool`, *optional*, defaults to True):
            Whether to open a browser, if there is a screen.
        mcp (`bool`, *optional*):
            Whether the endpoints are tools of the Model Context Protocol as well. Defaults to `$SFTDEMO_MCP`.
        lessons (`str`, *optional*):
            A folder with lessons that stand beside the program's own. Defaults to `$SFTDEMO_LESSONS`.

    Raises:
        ConfigError: for a port, a limit or a root path out of range, for a lesson that cannot be used, or if the
            package mcp is asked for and not there.
        SftdemoError: if the page cannot listen on the address, or if the port is taken.
    """
    if port is not None and not 1 <= port <= 65_535:
        raise ConfigError(f"port is {port}; it must lie between 1 and 65535.")
    _check_root_path()
    if lessons is not None:
        os.environ[FOLDER] = lessons
    mcp = _is_on(MCP, False, "the Model Context Protocol") if mcp is None else mcp
    stands_by = _is_on(STANDBY, True, "a process that stands by for a run")
    if mcp and find_spec("mcp") is None:
        raise ConfigError("the package mcp is not installed; install it with `pip install 'mcp>=1.21,<2'`.")
    host = (host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1").strip("[]")
    variable = "GRADIO_TEMP_DIR" if os.environ.get("GRADIO_TEMP_DIR") else "TMPDIR"
    parent = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())
    sweep(parent, _FOLDER)
    with ExitStack() as stack:
        told = stack.enter_context(_heard())
        try:
            parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(held_folder(parent, _FOLDER))
        except OSError as error:
            raise SftdemoError(f"{parent} cannot be written: {error.strerror or error}. Set {variable}.") from error
        _place_sockets(folder, parent, variable)
        stack.enter_context(_used(folder.resolve()))
        backend = Backend(stands_by)
        if not is_kept():  # the first start: whoever comes waits for the model, which a job converts
            backend.begin_imports()
        page = build(backend)
        settle()
        _listen(page, backend, host, port, open_browser, mcp)
        _begin(backend)
        while not told:
            time.sleep(0.05)
        backend.close(_GRACE[told[0]])
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)  # Gradio's server would wait for the pages that are open


def _place_sockets(folder: Path, parent: Path, variable: str) -> None:
    """Let the sockets of the processes that train lie in `folder`, or beside it where its name is too long for theirs.

    Raises:
        SftdemoError: if that is too long as well.
    """
    spare = [
        _SOCKET - len(os.fsencode(each.resolve() / "pymp-abcdefgh" / "listener-abcdefgh")) for each in (folder, parent)
    ]
    if spare[0] >= 0 or sys.platform == "win32":
        return
    if spare[1] < 0:
        most = len(os.fsencode(parent.resolve())) + spare[1]
        words = f"{parent} has too long a name for the sockets in it; set {variable} to one of at most {most} bytes."
        raise SftdemoError(words)
    tempfile.tempdir = str(parent.resolve())
    multiprocessing.util.get_temp_dir()  # which is made once, and kept


@contextmanager
def _used(folder: Path) -> Generator[None]:
    """Let all temporary files of this process and its children lie in a folder, and in a folder of it those that Gradio
    serves. It reads where when the page is built."""
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder)) | {"GRADIO_TEMP_DIR": str(folder / "served")}
    kept, tempfile.tempdir = {name: os.environ.get(name) for name in places}, str(folder)
    os.environ |= places
    try:
        yield
    finally:
        tempfile.tempdir = None
        for name, text in kept.items():
            if text is None:
                del os.environ[name]
            else:
                os.environ[name] = text


def _is_on(name: str, default: bool, what: str) -> bool:
    """Return whether a variable of the environment switches something on, which is 1, or off, which is 0."""
    text = os.environ.get(name, "").strip()
    if text not in ("", "0", "1"):
        raise ConfigError(f"{name} is {text[:60]!r}; write 1 for {what}, or 0 for none.")
    return text == "1" if text else default


def _check_root_path() -> None:
    """Check the path under which a proxy shows the page. Gradio does so when its server is up, in an error of httpx."""
    text = os.environ.get(ROOT_PATH, "")
    try:
        is_address = text.startswith(("http://", "https://")) and bool(urlsplit(text).hostname)
    except ValueError:  # brackets that are left open
        is_address = False
    if text and not text.startswith("/") and not is_address:
        raise ConfigError(
            f"{ROOT_PATH} is {text[:60]!r}; write the path that a proxy shows the page under, such as /demo, or its "
            "whole address."
        )


def _listen(page: Page, backend: Backend, host: str, port: int | None, open_browser: bool, mcp: bool) -> None:
    front: Any = (Front, (lambda: page.changes,), {})
    guard: Any = (Guard, (own_names(host), backend.downloads, backend.tidy), {})
    options: dict[str, Any] = {"server_name": f"[{host}]" if ":" in host else host, "server_port": port}
    looks = {"theme": _theme(), "css": page_css(), "css_paths": sorted(STATIC.glob("*.css"))}
    try:
        with without_proxies():
            page.launch(
                inbrowser=open_browser and _has_screen(),
                prevent_thread_lock=True,
                share=False,
                mcp_server=mcp,
                ssr_mode=False,
                enable_monitoring=False,
                run_history=False,
                max_file_size="64mb",
                footer_links=["gradio"],
                show_error=False,  # of our own errors `toasts` tells; any other may hold anything, and is in the log
                app_kwargs={"middleware": [guard, (Languages, (), {}), front, (Calls, (), {})]},
                **options,
                **looks,
            )
    except OSError as error:
        ports = "any of the ports that were tried" if port is None else f"port {port}"
        raise SftdemoError(
            f"the page cannot listen on {host}, {ports}: it is taken, or no address of this machine. Give another "
            "--host or --port."
        ) from error


def _begin(backend: Backend) -> None:
    """Warm up, tidy and give back what is not used, beside the server."""

    def keep_tidy() -> None:
        while True:
            backend.tidy()
            give_back()
            time.sleep(TIDY)

    backend.warm_later(DEFAULT_MODEL, WARM_DELAY)
    threading.Thread(target=keep_tidy, daemon=True).start()


@contextmanager
def _heard() -> Generator[list[str]]:
    """Yield a list that gets the name of a signal that tells this process to end. A second one ends it at once. Python
    would raise an error at the first, and then wait for Gradio's server, which waits for the pages that are open."""
    told: list[str] = []
    kept: dict[int, Any] = {}

    def hear(number: int, frame: object) -> None:
        if told:
            os._exit(1)
        told.append(signal.Signals(number).name)

    for name in _GRACE:
        if name in signal.Signals.__members__ and signal.getsignal(signal.Signals[name]) != signal.SIG_IGN:
            kept[signal.Signals[name]] = signal.signal(signal.Signals[name], hear)
    try:
        yield told
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _theme() -> gr.themes.Base:
    return gr.themes.Default(
        primary_hue="amber",
        neutral_hue="slate",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace"],
    ).set(
        button_primary_background_fill=BUTTON,
        button_primary_background_fill_dark=BUTTON,
        button_primary_background_fill_hover=BUTTON_HOVER,
        button_primary_background_fill_hover_dark=BUTTON_HOVER,
        button_primary_text_color=ON_BUTTON,
        button_primary_text_color_dark=ON_BUTTON,
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )


def _has_screen() -> bool:
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
