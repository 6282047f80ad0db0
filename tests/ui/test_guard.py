"""Requests under strange names, and those that pages of other sites send."""

from __future__ import annotations

import pytest
from serving import awaited

from sftdemo.core.errors import DataError, ModelError
from sftdemo.ui.downloads import Downloads
from sftdemo.ui.guard import Guard, own_names, refusal

HOST = "127.0.0.1:7860"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in ("SFTDEMO_HOSTS", "SPACE_HOST", "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)


def refused(host: str, bound: str = "127.0.0.1", method: str = "GET", **headers: str) -> str:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return refusal(method, {"host": host} | named, own_names(bound))


@pytest.mark.parametrize(
    "host", [HOST, "localhost:7860", "LOCALHOST", "localhost.", "[::1]:7860", "192.168.1.5", "app.localhost:80"]
)
def test_numbers_and_this_machine_are_no_strange_names(host):
    assert refused(host) == ""


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", "evil.hf.space", ""),
        *("localhost@evil.example", "evil.example#localhost", "[::1", "127.0.0.1:7860, evil.example", "1.2.x", "*"),
    ],
)
def test_a_name_that_points_here_is_not_answered(host):
    assert "not served under the name" in refused(host)
    assert "not served under the name" in refused(host, method="POST", origin=f"http://{host}")
    assert "not served under the name" in refused(host, method="WEBSOCKET")


def test_those_who_serve_name_their_hosts(monkeypatch):
    monkeypatch.setenv("SFTDEMO_HOSTS", "demo.example, other.example")
    for name in ("demo.example", "other.example:443", "Demo.Example"):
        assert refused(name) == ""
    assert refused("evil.example")
    assert refused(HOST, method="POST", origin="https://demo.example") == ""  # a proxy may ask under another name
    monkeypatch.setenv("SFTDEMO_HOSTS", "*")
    assert refused("any.example", method="POST", origin="https://other.example") == ""
    assert refused(HOST, method="POST", origin="null")


def test_the_name_that_the_page_listens_on_and_that_of_a_space(monkeypatch):
    assert refused("lab.example", bound="lab.example") == ""
    monkeypatch.setenv("SPACE_ID", "owner/name")
    monkeypatch.setenv("SPACE_HOST", "owner-name.hf.space")
    host = "owner-name.hf.space"
    assert refused(host) == refused(host, method="POST", origin=f"https://{host}") == ""
    assert refused(host, method="POST", origin="https://other.hf.space")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "WEBSOCKET"])
def test_what_another_site_sends(method):
    assert refused(HOST, method=method) == refused(HOST, method=method, origin=f"http://{HOST}") == ""
    assert refused(HOST, method=method, sec_fetch_site="same-origin") == ""
    for origin in (
        "http://evil.example",
        "null",
        "http://127.0.0.1:8888",
        "http://localhost:7860",
        "",
        "x",
        "http://[",
    ):
        assert "another site" in refused(HOST, method=method, origin=origin)
    assert "another site" in refused(HOST, method=method, sec_fetch_site="cross-site")


def asked(guard: Guard, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    """What is answered to a request."""
    sent: list[dict] = []

    async def send(message):
        sent.append(message)

    named = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": [(b"host", HOST.encode()), *named]}
    awaited(guard(scope, None, send))
    return sent[0]["status"], sent[1]["body"]


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})


@pytest.fixture
def downloads() -> Downloads:
    return Downloads()


@pytest.fixture
def guard(downloads) -> Guard:
    return Guard(app, own_names("127.0.0.1"), downloads, lambda size: size < 1000)


def test_a_file_is_written_when_it_is_asked_for_and_only_then(guard, downloads):
    made: list[str] = []
    path = downloads.offer("run", "run.zip", lambda path: (made.append("once"), path.write_text("zip")))
    assert not path.parent.exists()
    assert downloads.offer("run", "run.zip", None) == path
    for _ in range(2):
        assert asked(guard, "GET", f"/gradio_api/file={path}") == (200, b"served")
    assert (made, path.read_text(), list(path.parent.iterdir())) == (["once"], "zip", [path])
    downloads.withdraw("run")
    status, reason = asked(guard, "GET", f"/gradio_api/file={path}")
    assert (status, path.parent.exists()) == (404, False)
    assert reason.startswith(b"This file is not offered any more: ")
    assert asked(guard, "GET", "/gradio_api/file=/etc/passwd") == (200, b"served")  # by Gradio, which refuses it


def test_a_file_that_cannot_be_written_says_so(guard, downloads):
    def full(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    def broken(path):
        raise ModelError("the run cannot be read.")

    first, second = (downloads.offer("run", name, write) for name, write in (("a", full), ("b", broken)))
    status, reason = asked(guard, "GET", f"/file={first}")
    assert (status, b"No space left" in reason, list(first.parent.iterdir())) == (507, True, [])
    assert asked(guard, "GET", f"/file={second}") == (404, b"The run cannot be read.")


def test_of_what_a_visitor_works_on_the_last_file_is_offered(downloads):
    first = downloads.offer_own("masks", "a.jsonl", lambda path: path.write_text("1"))
    downloads.make(str(first))
    second = downloads.offer_own("masks", "a.jsonl", lambda path: path.write_text("2"))
    with pytest.raises(DataError, match="is not offered any more"):
        downloads.make(str(first))
    downloads.make(str(second))
    assert (first.exists(), second.read_text()) == (False, "2")


def test_nothing_is_uploaded_for_which_there_is_no_room(guard):
    assert asked(guard, "POST", "/gradio_api/upload", content_length="999") == (200, b"served")
    assert asked(guard, "POST", "/gradio_api/upload", content_length="1000")[0] == 507
    assert asked(guard, "POST", "/gradio_api/upload", content_length="1", origin="http://evil.example")[0] == 403
