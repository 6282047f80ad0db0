"""The page as it is served, by a process of its own: how it starts, whom it answers, and how it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from serving import free_port

from sftdemo.core.errors import ConfigError, SftdemoError
from sftdemo.ui.serve import launch

ROOT = Path(__file__).parents[2]
ODD = {
    "HTTP_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "https_proxy": "foo:bar:baz",
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
}
SPACE = {"SYSTEM": "spaces", "SPACE_ID": "someone/sftdemo", "SPACE_HOST": "someone-sftdemo.hf.space"}
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
BODY = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.csv"\r\n\r\na,b\r\n--x--\r\n'


def status(address: str, data: bytes | None = None, **headers: str) -> int:
    try:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        with DIRECT.open(urllib.request.Request(address, data, named), timeout=90) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_space_on_an_odd_machine_strange_visitors_and_the_end(tmp_path, tmp_path_factory):
    """One start for all, as it takes seconds. The path of a socket may have no more than 107 bytes."""
    port, temporary = free_port(), tmp_path_factory.mktemp("s")
    kept = {name: text for name, text in os.environ.items() if not name.startswith("GRADIO_")}
    own = {"TMPDIR": str(temporary), "GRADIO_ANALYTICS_ENABLED": "False"}
    own |= SPACE | {"GRADIO_SERVER_NAME": "0.0.0.0", "HOME": str(tmp_path / "home")}
    command = [sys.executable, "app.py", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=kept | ODD | own, start_new_session=True)
    try:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 90
        while time.monotonic() < deadline and process.poll() is None:
            try:
                status(address)
                break
            except OSError:
                time.sleep(0.1)
        hosts = ("localhost", "someone-sftdemo.hf.space", "evil.example")
        assert [status(f"{address}/config", Host=host) for host in hosts] == [200, 200, 403]
        upload = f"{address}/gradio_api/upload"
        assert status(upload, BODY, **FORM, Origin=address) == 200
        assert status(upload, BODY, **FORM, Origin="http://evil.example") == 403
        with DIRECT.open(f"{address}/gradio_api/heartbeat/someone", timeout=90):  # a page that is open
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 0  # of the 25 seconds that a service manager's signal leaves
    finally:
        process.kill()
        process.wait()
    left = [path for path in temporary.rglob("*") if path.is_file()]
    assert left == []
    shutil.rmtree(temporary)


@pytest.mark.parametrize("text", ["0", "65536", "x", "", "9" * 50, "-1"])
def test_a_port_that_is_none(capsys, monkeypatch, text):
    from sftdemo.terminal.cli import main

    monkeypatch.setenv("GRADIO_SERVER_PORT", text)
    assert main(["app", "--no-browser"]) == 2
    assert "it must be a number from 1 to 65535" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["x", "ftp://a", "http://[bad/", "https://"])
def test_a_root_path_that_is_none(monkeypatch, text):
    monkeypatch.setenv("GRADIO_ROOT_PATH", text)
    monkeypatch.setattr("sftdemo.ui.serve.build", None)  # or it would serve the page
    with pytest.raises(ConfigError, match=r"GRADIO_ROOT_PATH is '.*'; write the path that a proxy"):
        launch(open_browser=False)


def test_a_temporary_folder_in_which_no_socket_can_lie(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / ("long" * 30)))
    monkeypatch.setattr("sftdemo.ui.serve.build", None)  # or it would serve the page
    with pytest.raises(
        SftdemoError, match=r"has too long a name .* set GRADIO_TEMP_DIR to one of at most \d\d bytes\."
    ):
        launch(open_browser=False)


@pytest.mark.parametrize(("kept", "begins"), [(False, ["imports"]), (True, [])])
def test_settles_once_the_page_is_built(tmp_path, monkeypatch, kept, begins):
    """Or whoever opens it first waits for the garbage collector, which looks over all of Gradio. What a first start
    converts is waited for, so that its imports begin before the page is built."""
    done: list[str] = []

    def listen(*_):
        done.append("listen")
        raise SftdemoError("that is enough.")

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr("sftdemo.ui.serve._place_sockets", lambda *_: None)  # for which `tmp_path` may be too long
    monkeypatch.setattr("sftdemo.ui.serve.is_kept", lambda: kept)
    monkeypatch.setattr("sftdemo.ui.backend.warm", lambda: done.append("imports"))
    monkeypatch.setattr("sftdemo.ui.serve.build", lambda backend: done.append("build"))
    monkeypatch.setattr("sftdemo.ui.serve.settle", lambda: done.append("settle"))
    monkeypatch.setattr("sftdemo.ui.serve._listen", listen)
    with pytest.raises(SftdemoError, match=r"that is enough\."):
        launch(open_browser=False)
    assert done == [*begins, "build", "settle", "listen"]


def test_tools_that_cannot_be_offered(capsys, monkeypatch):
    from sftdemo.terminal.cli import main

    monkeypatch.setenv("SFTDEMO_MCP", "yes")
    assert main(["app", "--no-browser"]) == 2
    assert "SFTDEMO_MCP is 'yes'; write 1" in capsys.readouterr().err
    monkeypatch.setattr("sftdemo.ui.serve.find_spec", lambda name: None)
    assert main(["app", "--no-browser", "--mcp"]) == 2
    assert "pip install 'mcp>=1.21,<2'" in capsys.readouterr().err
