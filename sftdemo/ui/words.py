"""Word the page in the language of each visit.

What stands below `ui/` is written in English: it crosses processes, lies in the folders of runs, and is kept for all
visitors. So a sentence becomes another language's where it is shown, by `say`. What a person or a model wrote is never
passed here.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any
from urllib.parse import parse_qs

from .catalogue import catalogue

ENGLISH = "en"
LANGUAGES = {ENGLISH: "English", "zh": "中文"}  # by the name of its catalogue; the page's switch shows the words
TAGS = {ENGLISH: "en", "zh": "zh-CN"}  # as `<html lang>` has them
MOST = 8_000  # characters of a sentence; a longer one is no sentence of ours

_language: ContextVar[str] = ContextVar("language", default=ENGLISH)


def language() -> str:
    """Return the language that the page speaks to whoever is answered now."""
    return _language.get()


def language_of(query: Mapping[str, str], accepted: str) -> str:
    """Return the language of a visit: the one that the page's address asks for, else the first that the browser accepts
    and the page knows, else English.

    >>> language_of({}, "fr;q=0.9, zh-TW;q=0.8, en;q=0.5"), language_of({"lang": "en"}, "zh-CN"), language_of({}, "")
    ('zh', 'en', 'en')
    """
    if query.get("lang") in LANGUAGES:
        return query["lang"]
    wanted = [each.strip().partition(";q=") for each in accepted[:1000].split(",")]
    ranked = sorted(wanted, key=lambda each: -_quality(each[2]))
    known = [tag.partition("-")[0].lower() for tag, _, _ in ranked]
    return next((name for name in known if name in LANGUAGES), ENGLISH)


def _quality(text: str) -> float:
    try:
        return float(text or 1)
    except ValueError:
        return 0.0


class Speaks:
    """Speak a language for as long as the block lasts."""

    def __init__(self, name: str):
        self._name = name

    def __enter__(self) -> None:
        self._token = _language.set(self._name)

    def __exit__(self, *error: object) -> None:
        _language.reset(self._token)


class Languages:
    """An ASGI middleware that gives the page itself in the language of whoever asks for it."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        query = {name: values[-1] for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()}
        headers = dict(scope["headers"])
        with Speaks(language_of(query, headers.get(b"accept-language", b"").decode("latin-1"))):
            await self._app(scope, receive, send)


def say(text: str) -> str:
    """Return one of the program's own sentences, or several of them, in the language of the visit. What the catalogue
    does not have stays English."""
    name = _language.get()
    if name == ENGLISH or not text or len(text) > MOST:
        return text
    return catalogue(name).say(text)


def say_all(texts: Iterable[str]) -> list[str]:
    """Return each of these texts in the language of the visit."""
    return [say(text) for text in texts]


def words_of(code: str) -> dict[str, str]:
    """Return those words of a script that the language of the visit has, by the English ones that stand in it."""
    if language() == ENGLISH:
        return {}
    texts = catalogue(language()).texts.items()
    return {text: words for text, words in texts if json.dumps(text, ensure_ascii=False) in code}
