"""Find a sentence of the program among the texts of its code, and word it in another language.

A text of the code has places for values, as "row {row}". A sentence that was made from it gives them back, and they are
put into the translation. A paragraph is taken apart into its sentences, and a value may be a sentence itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

LOCALE = Path(__file__).parent / "locale"
PLACE = re.compile(r"\{(\w+)\}")
_PARTS = 40  # sentences of a paragraph
# Characters by which a text with places is known. Of a shorter one each value has to be a word, of a yet shorter one
# figures, or else a text of the code as well.
_ENOUGH, _FEW = 12, 6
_WORD = re.compile(r"[A-Za-z]{2,}")
_END = re.compile(r"(?<=[.!?…:;]) ")
_BREAK = re.compile(r"[.!?:;] \S| · ")
_LEAD = re.compile(r"[,;.]? +|[,;.] *")
_ORDINAL = re.compile(r"([\d,]+)(?:st|nd|rd|th)")
_MARKS = {",": "，", ";": "；", ".": "。", ":": "："}
_FULL = "。！？…：；，"
_GAP = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef]) (?=[\u3000-\u9fff\uff00-\uffef])")


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
    def weight(self) -> int:
        """Return the number of characters that are not of values."""
        return sum(map(len, self.parts))


class Catalogue:
    """The words of a language, from its file in `locale/`."""

    def __init__(self, name: str):
        import polib

        entries = [each for each in polib.pofile(str(LOCALE / f"{name}.po")) if each.msgstr]
        self.texts: Mapping[str, str] = {each.msgid: each.msgstr for each in entries}
        self._plain = {_plain(text): words for text, words in self.texts.items()}
        patterns = [_pattern(text, words) for text, words in self.texts.items() if PLACE.search(text)]
        # of those that fit, the longest counts, and before all those that begin with a value one that does not
        self._patterns = sorted(patterns, key=lambda each: (not each.parts[0], -each.weight))
        self.say = lru_cache(maxsize=4096)(self._say)

    def _say(self, text: str) -> str:
        """Return a sentence of the program, or several, in this language. What is not known stays as it is."""
        if found := _ORDINAL.fullmatch(text):
            return found[1]
        lead = _LEAD.match(text)
        start = lead[0] if lead else ""
        rest = text[len(start) :]
        said = self._body(rest) if rest else ""
        mark = _MARKS.get(start[:1], start)
        return (start if said == rest else mark) + said

    def _body(self, text: str) -> str:
        for found in (self._whole(text, False), self._sentences(text, True), self._whole(text, True)):
            if found is not None:
                return found
        for mark in ("\n", " · "):
            if mark in text:
                return mark.join(map(self.say, text.split(mark)))
        if text.endswith("…") and (said := self.say(text[:-1])) != text[:-1]:
            return f"{said}…"
        return self._sentences(text, False) or text

    def _whole(self, text: str, across: bool) -> str | None:
        """Return what is said for a single text of the code. `across` sentences, a value may have several."""
        plain = _plain(text)
        found = self._plain.get(plain)
        if found is None:
            fitting = ((each, each.values(plain)) for each in self._patterns)
            found = next(
                (self._filled(each, values) for each, values in fitting if self._fits(each, values, across)), None
            )
        if found is None:
            return None
        return found + _MARKS["."] * (text.rstrip().endswith(".") and found[-1:] not in _FULL)

    def _fits(self, pattern: Pattern, values: Mapping[str, str] | None, across: bool) -> bool:
        if values is None:
            return False
        if pattern.weight > _ENOUGH:
            return across or not any(map(_BREAK.search, values.values()))
        most = 0 if pattern.weight <= _FEW else 1
        return all(
            (len(_WORD.findall(each)) <= most and not _BREAK.search(each)) or self._is_known(each)
            for each in values.values()
        )

    def _is_known(self, value: str) -> bool:
        lead = _LEAD.match(value)
        return self._whole(value[lead.end() :] if lead else value, False) is not None

    def _filled(self, pattern: Pattern, values: Mapping[str, str] | None) -> str:
        said = {name: self.say(value) for name, value in (values or {}).items()}
        return _GAP.sub("", PLACE.sub(lambda place: said.get(place[1], place[0]), pattern.translation))

    def _sentences(self, text: str, whole: bool) -> str | None:
        """Return what is said for a paragraph, the longest that is known at each place; with `whole`, if all is."""
        parts, said = _END.split(text), ""
        if not 1 < len(parts) <= _PARTS:
            return None
        while parts:
            found, count = next(self._begin(parts), (None, 1))
            if found is None and whole:
                return None
            gap = "" if not said or said[-1] in _FULL else " "
            said += gap + (parts[0] if found is None else found)
            parts = parts[count:]
        return said

    def _begin(self, parts: list[str]) -> Iterator[tuple[str, int]]:
        """Yield what is said for the first of the parts, and of how many, the longest first."""
        for count in range(len(parts), 0, -1):
            text = " ".join(parts[:count])
            if text[-1:] in (":", ";") and (found := self._whole(text[:-1], False)) is not None:
                yield found + _MARKS[text[-1]], count
            elif (found := self._whole(text, False)) is not None:
                yield found, count


def _pattern(text: str, translation: str) -> Pattern:
    parts = PLACE.split(_plain(text))
    return Pattern(tuple(parts[::2]), tuple(parts[1::2]), translation)


def _plain(text: str) -> str:
    """Return a text as it is looked up: an error's first letter and its full stop depend on where it is shown."""
    text = " ".join(text.split()).removesuffix(".")
    return text[:1].lower() + text[1:]


@cache
def catalogue(name: str) -> Catalogue:
    """Return the catalogue of a language, which is read once."""
    return Catalogue(name)
