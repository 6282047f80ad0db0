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
# Of a paragraph, its sentences, those of them that are one text of the code, the characters of such a text, and how
# deep values are said: whoever writes something odd into a value shall not keep the server busy.
_PARTS, _JOINED, _LONGEST, _DEEPEST = 16, 4, 2_000, 3
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
        self._said = lru_cache(maxsize=4096)(self._say)

    def say(self, text: str) -> str:
        """Return a sentence of the program, or several, in this language. What is not known stays as it is."""
        return self._said(text, 0)

    def _say(self, text: str, depth: int) -> str:
        """Say a text that is a value of a value, as often as `depth` says."""
        if found := _ORDINAL.fullmatch(text):
            return found[1]
        lead = _LEAD.match(text)
        start = lead[0] if lead else ""
        rest = text[len(start) :]
        said = self._body(rest, depth) if rest and depth <= _DEEPEST else rest
        return (start if said == rest else _MARKS.get(start[:1], start)) + said

    def _body(self, text: str, depth: int) -> str:
        found = self._whole(text, False, depth)
        if found is None:
            found = self._sentences(text, True, depth)
        if found is None:
            found = self._whole(text, True, depth)
        if found is not None:
            return found
        for mark in ("\n", " · "):
            if 0 < text.count(mark) < _PARTS:
                return mark.join(self._said(each, depth) for each in text.split(mark))
        if text.endswith("…") and (said := self._said(text[:-1], depth + 1)) != text[:-1]:
            return f"{said}…"
        return self._sentences(text, False, depth) or text

    def _whole(self, text: str, across: bool, depth: int) -> str | None:
        """Return what is said for a single text of the code. `across` sentences, a value may have several."""
        plain = _plain(text)
        found = self._plain.get(plain)
        if found is None and (fitting := self._fitting(plain, across, nested=False)):
            pattern, values = fitting
            said = {name: self._said(value, depth + 1) for name, value in values.items()}
            found = _GAP.sub("", PLACE.sub(lambda place: said.get(place[1], place[0]), pattern.translation))
        if found is None:
            return None
        return found + _MARKS["."] * (text.rstrip().endswith(".") and found[-1:] not in _FULL)

    def _fitting(self, plain: str, across: bool, nested: bool) -> tuple[Pattern, dict[str, str]] | None:
        """Return the text of the code that a sentence was made from, with its values. Those of one that is `nested` in
        another have to be short."""
        for pattern in self._patterns if len(plain) <= _LONGEST else ():
            values = pattern.values(plain)
            if values is not None and self._fits(pattern, values, across, nested):
                return pattern, values
        return None

    def _fits(self, pattern: Pattern, values: Mapping[str, str], across: bool, nested: bool) -> bool:
        if pattern.weight > _ENOUGH:
            return across or not any(map(_BREAK.search, values.values()))
        most = 0 if pattern.weight <= _FEW else 1
        return all(
            (len(_WORD.findall(each)) <= most and not _BREAK.search(each)) or self._is_known(each, nested)
            for each in values.values()
        )

    def _is_known(self, value: str, nested: bool) -> bool:
        plain = _plain(_LEAD.sub("", value, count=1) if _LEAD.match(value) else value)
        return plain in self._plain or (not nested and self._fitting(plain, False, nested=True) is not None)

    def _sentences(self, text: str, whole: bool, depth: int) -> str | None:
        """Return what is said for a paragraph, the longest that is known at each place; with `whole`, if all is."""
        parts, said = _END.split(text), ""
        if not 1 < len(parts) <= _PARTS:
            return None
        while parts:
            found, count = next(self._begin(parts, depth), (None, 1))
            if found is None and whole:
                return None
            gap = "" if not said or said[-1] in _FULL else " "
            said += gap + (parts[0] if found is None else found)
            parts = parts[count:]
        return said

    def _begin(self, parts: list[str], depth: int) -> Iterator[tuple[str, int]]:
        """Yield what is said for the first of the parts, and of how many, the longest first."""
        for count in range(min(len(parts), _JOINED), 0, -1):
            text = " ".join(parts[:count])
            if text[-1:] in (":", ";") and (found := self._whole(text[:-1], False, depth)) is not None:
                yield found + _MARKS[text[-1]], count
            elif (found := self._whole(text, False, depth)) is not None:
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
