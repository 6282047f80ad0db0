"""Word the page in the language of each visit.

What stands below `ui/` is written in English: it crosses processes, lies in the folders of runs, and is kept for all
visitors. So a sentence becomes another language's where it is shown, by `say`. It finds the sentence in a catalogue,
`locale/zh.po`, among the texts of the code with a place for each value: a sentence that was made from one of them gives
its values back. What a person or a model wrote is never passed here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

ENGLISH = "en"
LANGUAGES = {ENGLISH: "English", "zh": "中文"}  # by the name of its catalogue; the page's switch shows the words
TAGS = {ENGLISH: "en", "zh": "zh-CN"}  # as `<html lang>` has them
LOCALE = Path(__file__).parent / "locale"
MOST = 8_000  # characters of a sentence; a longer one is no sentence of ours
_ENOUGH = 16  # characters
_PARTS = 30  # sentences of a paragraph

_language: ContextVar[str] = ContextVar("language", default=ENGLISH)
_PLACE = re.compile(r"\{(\w+)\}")
_END = re.compile(r"(?<=[.!?…:;]) ")
_FULL_STOPS = "。！？…：；，"  # noqa: RUF001


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


@dataclass(frozen=True)
class Pattern:
    """A text of the code with places for values, called `names`: `parts` has what stands between them."""

    parts: tuple[str, ...]
    names: tuple[str, ...]
    translation: str

    def values(self, text: str) -> dict[str, str] | None:
        """Return the values of a sentence that was made from this text; None for any other."""
        first, *between, last = self.parts
        if not text.startswith(first) or not text.endswith(last):
            return None
        at, found = len(first), list[str]()
        for part in between:
            place = text.find(part, at)
            if place < 0:
                return None
            found.append(text[at:place])
            at = place + len(part)
        end = len(text) - len(last)
        return dict(zip(self.names, [*found, text[at:end]], strict=True)) if at <= end else None

    @property
    def is_plain(self) -> bool:
        """Return whether the text has words enough to be known by them. Of a shorter one, as of "row {row}", each value
        has to be a single word or a text of the code as well."""
        return sum(map(len, self.parts)) > _ENOUGH

    def filled(self, values: Mapping[str, str]) -> str:
        """Return the translation with these values in their places."""
        return _PLACE.sub(lambda place: values.get(place[1], place[0]), self.translation)


@dataclass(frozen=True)
class Catalogue:
    """A language's words: all `texts` as the code has them, the same `by_text` as it is looked up, and the `patterns`,
    of which the longest that fits counts."""

    texts: Mapping[str, str]
    by_text: Mapping[str, str]
    patterns: tuple[Pattern, ...]


@cache
def catalogue(name: str) -> Catalogue:
    """Return the catalogue of a language."""
    import polib

    entries = [each for each in polib.pofile(str(LOCALE / f"{name}.po")) if each.msgstr]
    by_text = {_plain(each.msgid): each.msgstr for each in entries}
    patterns = [_pattern(each.msgid, each.msgstr) for each in entries if _PLACE.search(each.msgid)]
    patterns.sort(key=lambda each: -sum(map(len, each.parts)))
    return Catalogue({each.msgid: each.msgstr for each in entries}, by_text, tuple(patterns))


def _pattern(text: str, translation: str) -> Pattern:
    parts = _PLACE.split(_plain(text))
    return Pattern(tuple(parts[::2]), tuple(parts[1::2]), translation)


def _plain(text: str) -> str:
    """Return a text as it is looked up: an error's first letter and its full stop depend on where it is shown."""
    text = " ".join(text.split()).removesuffix(".")
    return text[:1].lower() + text[1:]


def say(text: str) -> str:
    """Return one of the program's own sentences, or several of them, in the language of the visit. What the catalogue
    does not have stays English."""
    name = _language.get()
    if name == ENGLISH or not text or len(text) > MOST:
        return text
    return _said(name, text)


def say_all(texts: Iterable[str]) -> list[str]:
    """Return each of these texts in the language of the visit."""
    return [say(text) for text in texts]


def words_of(code: str) -> dict[str, str]:
    """Return those words of a script that the language of the visit has, by the English ones that stand in it."""
    if language() == ENGLISH:
        return {}
    texts = catalogue(language()).texts.items()
    return {text: words for text, words in texts if json.dumps(text, ensure_ascii=False) in code}


@lru_cache(maxsize=4096)
def _said(name: str, text: str) -> str:
    known = catalogue(name)
    found = _whole(known, name, text)
    if found is not None:
        return found
    for mark in ("\n", " · "):
        if mark in text:
            return mark.join(_said(name, part) for part in text.split(mark))
    return _sentences(known, name, text)


def _whole(known: Catalogue, name: str, text: str) -> str | None:
    plain = _plain(text)
    found = known.by_text.get(plain)
    if found is None:
        for pattern in known.patterns:
            values = pattern.values(plain)
            if values is None:
                continue
            said = {place: _said(name, value) for place, value in values.items()}
            if pattern.is_plain or all(" " not in value or said[place] != value for place, value in values.items()):
                found = pattern.filled(said)
                break
    if found is None:
        return None
    stops = text.rstrip().endswith(".") and found[-1:] not in _FULL_STOPS
    return text[: len(text) - len(text.lstrip())] + found + "。" * stops


def _sentences(known: Catalogue, name: str, text: str) -> str:
    """Say the sentences of a paragraph, the longest that is known at each place."""
    parts, said = _END.split(text), ""
    if not 1 < len(parts) <= _PARTS:
        return text
    while parts:
        for count in range(len(parts), 0, -1):
            found = _whole(known, name, " ".join(parts[:count]))
            if found is not None or count == 1:
                gap = "" if not said or said[-1] in _FULL_STOPS else " "
                said += gap + (parts[0] if found is None else found)
                parts = parts[count:]
                break
    return said
