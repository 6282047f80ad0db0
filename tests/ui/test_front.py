"""The page as it is kept: made once for all who may be given the same, and for nobody else."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest
from serving import awaited

from sftdemo.ui.front import MOST_KEPT, Front
from sftdemo.ui.words import Speaks, language

HOST = {b"host": b"here"}


class Made:
    """A page that counts how often it was made, and says for whom."""

    def __init__(self, status: int = 200, *headers: tuple[bytes, bytes]):
        self.status, self.headers, self.count = status, headers, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.count += 1
        await asyncio.sleep(0)
        kept = [(b"content-type", b"text/html"), (b"content-length", b"0"), *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": kept})
        said = f"{language()} {dict(scope['headers'])[b'host'].decode()} ".encode()
        await send({"type": "http.response.body", "body": said, "more_body": True})
        await send({"type": "http.response.body", "body": b"page" * 100})


async def asked(front: Front, path: str = "/", query: str = "", method: str = "GET", **more: Any) -> tuple[dict, bytes]:
    headers = list((HOST | more.pop("headers", {})).items())
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "scheme": "http"}
    got: list[Any] = []

    async def send(message: Any) -> None:
        got.append(message)

    await front(scope | {"headers": headers} | more, None, send)
    assert len(dict(got[0]["headers"])) == len(got[0]["headers"])  # none of them twice
    return dict(got[0]["headers"]), b"".join(each["body"] for each in got[1:])


def never() -> int:
    """The page stays as it is."""
    return 0


def test_it_is_made_once_for_all_who_come_at_the_same_time():
    async def crowd() -> set[bytes]:
        return {body for _, body in await asyncio.gather(*(asked(front, query=f"lang=en&n={n}") for n in range(5)))}

    front = Front(made := Made(), never)
    assert awaited(crowd()) == {b"en here " + b"page" * 100}
    assert made.count == 1


def test_it_is_packed_for_those_who_can_read_that():
    async def both() -> tuple:
        return await asked(front), await asked(front, headers={b"accept-encoding": b"gzip, br"})

    front = Front(Made(), never)
    (plain, body), (packed, fewer) = awaited(both())
    assert gzip.decompress(fewer) == body
    assert (b"content-encoding" in plain, packed[b"content-encoding"]) == (False, b"gzip")
    assert [int(each[b"content-length"]) for each in (plain, packed)] == [len(body), len(fewer)]
    assert plain[b"vary"] == b"Accept-Encoding, Accept-Language"


@pytest.mark.parametrize(
    "other",
    [
        {"headers": {b"host": b"there"}},
        {"headers": {b"x-forwarded-host": b"there"}},
        {"headers": {b"x-forwarded-proto": b"https"}},
        {"headers": {b"x-gradio-server": b"http://there"}},
        {"scheme": "https"},
        {"root_path": "/demo"},
        {"query": "deep_link=x"},
        {"query": "page="},
        {"path": "/config"},
        {"method": "HEAD"},
    ],
)
def test_another_is_made_where_it_may_be_another(other):
    async def both() -> None:
        await asked(front)
        await asked(front, **other)

    front = Front(made := Made(), never)
    awaited(both())
    assert made.count == 2


def test_it_is_made_anew_once_it_is_another():
    changes = [0]
    front = Front(made := Made(), lambda: changes[0])
    for changes[0] in (0, 0, 1, 1):
        awaited(asked(front))
    assert made.count == 2


def test_each_language_has_its_own():
    front = Front(Made(), never)
    with Speaks("zh"):
        assert awaited(asked(front))[1].startswith(b"zh")
    assert awaited(asked(front))[1].startswith(b"en")


@pytest.mark.parametrize("made", [Made(500), Made(200, (b"set-cookie", b"a=b"))])
def test_an_error_or_what_is_one_persons_is_not_kept(made):
    async def both() -> None:
        await asked(front)
        await asked(front)

    front = Front(made, never)
    awaited(both())
    assert made.count == 2


def test_names_that_strangers_send_do_not_fill_the_memory():
    async def many() -> None:
        for number in range(3 * MOST_KEPT):
            await asked(front, headers={b"x-forwarded-host": str(number).encode()})

    front = Front(Made(), never)
    awaited(many())
    assert len(front._kept) == MOST_KEPT
