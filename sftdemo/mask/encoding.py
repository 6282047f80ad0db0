"""Encode text as token ids with character spans. Text that the user typed never becomes a special token."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

from ..core.errors import ModelError, reason
from ..data.chat_style import any_of, special_texts
from ..data.templates import TEMPLATE, RenderedPrompt, Segment
from .watched import watched

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
SHORT = 64  # characters


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids and, on demand, their character offsets.

    Offsets are read only on demand because most rows are never drawn. Without them the `tokenizers` library takes a
    tenth less time, and a list of pairs takes ten times the memory of the library's own representation.
    """

    ids: list[int]
    read_offsets: Callable[[], list[Span]]  # of the whole text that was encoded
    first: int = 0  # the token of that text with which `ids` begin
    distance: int = 0  # characters by which the offsets are moved

    @property
    def offsets(self) -> list[Span]:
        """Return the (begin, end) of the characters of each token, as the tokenizer reports them. Tokens of the same
        multi-byte character share its offsets, and there may be gaps. `partition` turns offsets into spans."""
        distance, last = self.distance, self.first + len(self.ids)
        return [(begin + distance, end + distance) for begin, end in self.read_offsets()[self.first : last]]

    def shifted(self, distance: int) -> Encoded:
        """Return the same tokens with offsets moved by `distance` characters."""
        return Encoded(self.ids, self.read_offsets, self.first, self.distance + distance)

    def from_token(self, index: int) -> Encoded:
        """Return the tokens from `index` on."""
        return Encoded(self.ids[index:], self.read_offsets, self.first + index, self.distance)

    def until(self, index: int) -> Encoded:
        """Return the tokens before `index`."""
        return Encoded(self.ids[:index], self.read_offsets, self.first, self.distance)

    def then(self, following: Encoded) -> Encoded:
        """Return these tokens and the following ones."""
        return Encoded([*self.ids, *following.ids], lambda: self.offsets + following.offsets)

    def after(self, prefix: list[int]) -> Encoded:
        """Return the same tokens with `prefix` before them, ids that stand for no character."""
        if not prefix:
            return self
        return Encoded([*prefix, *self.ids], lambda: [(0, 0)] * len(prefix) + self.offsets)


class TextEncoder:
    """The encoding part of a tokenizer, independent of its settings for padding, truncation and special tokens.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            It must be backed by the `tokenizers` library, as no other tokenizer reports character offsets.
        special (`Sequence[str]`):
            The tokens that typed text never becomes, from `chat.special_texts`.

    Raises:
        ModelError: for a tokenizer without offsets.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, special: Sequence[str]):
        from tokenizers import Tokenizer

        if not tokenizer.is_fast:
            raise ModelError(
                f"the tokenizer {type(tokenizer).__name__} does not say which characters its tokens stand for; "
                "choose a model that has a tokenizer.json."
            )
        # Copies, because others may change the tokenizer's padding, truncation and `encode_special_tokens` meanwhile.
        self.with_special = Tokenizer.from_str(cast("Tokenizer", tokenizer.backend_tokenizer).to_str())
        self.with_special.no_padding()
        self.with_special.no_truncation()
        self.plain = Tokenizer.from_str(_without_special_pieces(self.with_special, special))
        self.plain.encode_special_tokens = True
        added = self.with_special.get_added_tokens_decoder()
        self.with_special, self.plain = watched(self.with_special), watched(self.plain)
        self.added = {token.content: index for index, token in added.items() if token.content.strip()}
        self.added_pattern = any_of(self.added)
        self.special_ids = {index for index, token in added.items() if token.content in special}
        self._id_of = {added[index].content: index for index in self.special_ids}
        self._special_texts = tuple(self._id_of)
        self._special_signs = {token[:1] for token in self._id_of}  # nearly always "<" alone
        # Longest first, as the tokenizer's own matcher prefers. A token may include the whitespace next to it.
        tokens = sorted((added[index] for index in self.special_ids), key=lambda token: -len(token.content))
        patterns = [
            (r"\s*" if token.lstrip else "") + re.escape(token.content) + (r"\s*" if token.rstrip else "")
            for token in tokens
        ]
        self._special_text = re.compile("|".join(patterns) or r"(?!)")
        self.prefix_ids = self._prefix()
        # A text may be cut before one of these: what follows is encoded as it is in the whole text.
        cutting = {index: token for index, token in added.items() if not (token.normalized or token.single_word)}
        self.cut_ids = {token.content: index for index, token in cutting.items() if not (token.lstrip or token.rstrip)}
        self.cutting = set(self.cut_ids.values())
        self.cut_pattern = any_of(token.content for token in cutting.values())
        self._encode_short = lru_cache(maxsize=4096)(self._encode_chat_text)
        after_special = [self.with_special.encode(f"{token}x", add_special_tokens=False).ids for token in self._id_of]
        self._space_after_special = any(ids[1:] == self._plain_ids("x") for ids in after_special)
        self._adds_space = self._plain_ids("x") != self._plain_ids("\nx")[len(self._plain_ids("\n")) :]
        self.is_local = not self._adds_space and _cuts_words_by_a_pattern(json.loads(self.plain.to_str()))

    def _plain_ids(self, text: str) -> list[int]:
        return self.plain.encode(text, add_special_tokens=False).ids

    def _prefix(self) -> list[int]:
        """Return the ids that the tokenizer puts before a text (BOS), without those it may put after it (EOS)."""
        whole, bare = self.plain.encode("x").ids, self._plain_ids("x")
        for start in range(len(whole) - len(bare) + 1):
            if whole[start : start + len(bare)] == bare:
                return whole[:start]
        return []

    def encode_plain(self, texts: Sequence[str], offsets: bool = True) -> list[Encoded]:
        """Encode texts in which nothing is a special token, without `prefix_ids` before them. If `offsets` is False,
        offsets are computed when they are first read."""
        return _encode(self.plain, list(texts), offsets)

    def encode_prompts(self, prompts: Sequence[RenderedPrompt], offsets: bool = True) -> list[Encoded]:
        """Encode rendered prompts, with BOS if the model expects one. Generation uses these same ids."""
        return self.encode_beside(prompts, [], offsets)[0]

    def encode_beside(
        self, prompts: Sequence[RenderedPrompt], texts: Sequence[str], offsets: bool = True
    ) -> tuple[list[Encoded], list[Encoded]]:
        """Return what `encode_prompts` and `encode_plain` do, from one call of the library: when a call ends, it waits
        until no other thread has Python to itself."""
        chat = iter(self.encode_chat([prompt.segments for prompt in prompts if prompt.chat], offsets))
        plain = iter(self.encode_plain([*[prompt.text for prompt in prompts if not prompt.chat], *texts], offsets))
        encoded = [next(chat) if prompt.chat else next(plain).after(self.prefix_ids) for prompt in prompts]
        return encoded, list(plain)

    def encode_chat(self, texts: Sequence[Sequence[Segment]], offsets: bool = True) -> list[Encoded]:
        """Encode texts in which only the template's segments may contain special tokens, never the user's."""
        typed = [self.has_special_text(segments) for segments in texts]
        usual = [segments for segments, is_typed in zip(texts, typed, strict=True) if not is_typed]
        whole = ["".join([segment.text for segment in segments]) for segments in usual]
        encoded = iter(_encode(self.with_special, whole, offsets))
        return [
            self._encode_in_stretches(segments) if is_typed else next(encoded)
            for segments, is_typed in zip(texts, typed, strict=True)
        ]

    def encode_chat_stretch(self, text: str) -> Encoded:
        """Encode a chat text in which nothing was typed that looks special. Short texts, such as a turn's header, are
        kept, as they recur in every row."""
        return self._encode_short(text) if len(text) <= SHORT else self._encode_chat_text(text)

    def _encode_chat_text(self, text: str) -> Encoded:
        return _encode(self.with_special, [text], offsets=True)[0]

    def reaches_over(self, joint: Encoded, count: int, boundary: int) -> bool:
        """Return whether one of the first tokens stands for text after `boundary`. Equal ids may do so, as an unknown
        token fuses with its neighbours."""
        return not self.is_local and any(end > boundary for _, end in joint.until(count).offsets)

    def encode_chat_continuation(self, segments: Sequence[Segment]) -> Encoded:
        """Encode chat segments as the continuation of another text, as `encode_continuation` does."""
        return self._encode_in_stretches(segments, continues=True)

    def has_special_text(self, segments: Sequence[Segment]) -> bool:
        """Whether the user's own text contains the text of a special token."""
        return any(map(self._has_special, [segment.text for segment in segments if segment.role != TEMPLATE]))

    def _has_special(self, text: str) -> bool:
        for sign in self._special_signs:
            if sign in text:
                return any(token in text for token in self._special_texts)
        return False

    def ends_in_special_text(self, text: str) -> bool:
        """Whether the text ends with the text of a special token, such as an EOS that the user typed."""
        return text.rstrip().endswith(self._special_texts)

    def has_marker(self, text: str, markers: Sequence[str]) -> bool:
        """Return whether a text contains a special token's text, other than at its end, or a line that begins with one
        of the markers."""
        inside = text.rstrip()
        if inside.endswith(self._special_texts):
            inside = inside.removesuffix(next(token for token in self._special_texts if inside.endswith(token)))
        if self._has_special(inside):
            return True
        present = [marker for marker in markers if marker in inside]
        return any(line.lstrip().startswith(tuple(present)) for line in inside.splitlines()) if present else False

    def _encode_in_stretches(self, segments: Sequence[Segment], continues: bool = False) -> Encoded:
        """Split the text at the template's special tokens, as the tokenizer itself would, and encode the stretches
        between them as plain text.

        A tokenizer that adds a space at the beginning of a text (SentencePiece) adds one to each stretch here, if it
        adds one after a special token. If the segments continue another text, the first stretch gets none.
        """
        ids: list[int] = []
        offsets: list[Span] = []
        stretch, begin = "", 0

        def flush() -> None:
            nonlocal stretch, begin
            bare = not self._space_after_special if begin else continues
            plain = self.encode_continuation(stretch) if bare else self.encode_plain([stretch])[0]
            ids.extend(plain.ids)
            offsets.extend(plain.shifted(begin).offsets)
            begin, stretch = begin + len(stretch), ""

        for segment in segments:
            position = 0
            for match in () if segment.from_user else self._special_text.finditer(segment.text):
                stretch += segment.text[position : match.start()]
                flush()
                ids.append(self._id_of[match.group().strip()])
                offsets.append((begin, begin + len(match.group())))
                begin, position = begin + len(match.group()), match.end()
            stretch += segment.text[position:]
        flush()
        return Encoded(ids, lambda: offsets)

    def encode_continuation(self, text: str) -> Encoded:
        """Encode `text` as the continuation of another text, without the space that SentencePiece tokenizers put
        before a text. To do so, encode newline + text and drop the newline's ids, if the newline does not merge."""
        if self._adds_space:
            anchor = self._plain_ids("\n")
            with _telling():
                encoding = self.plain.encode("\n" + text, add_special_tokens=False)
            if encoding.ids[: len(anchor)] == anchor:
                offsets = [(max(first - 1, 0), last - 1) for first, last in encoding.offsets[len(anchor) :]]
                return Encoded(encoding.ids[len(anchor) :], lambda: offsets)
        return self.encode_plain([text])[0]


@contextmanager
def _telling() -> Generator[None]:
    """Say in one sentence that the tokenizers library fails, whose errors have no kind of their own."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"the model's tokenizer cannot encode a text ({reason(error)}); its files may have been changed. Choose "
            "another model."
        ) from error


def _encode(tokenizer: Tokenizer, texts: list[str], offsets: bool) -> list[Encoded]:
    if offsets:
        with _telling():
            encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
        return [Encoded(encoding.ids, partial(getattr, encoding, "offsets")) for encoding in encodings]
    with _telling():
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [Encoded(each.ids, partial(_offsets, text, tokenizer)) for text, each in zip(texts, encodings, strict=True)]


def _offsets(text: str, tokenizer: Tokenizer) -> list[Span]:
    return tokenizer.encode(text, add_special_tokens=False).offsets


def _cuts_words_by_a_pattern(content: dict[str, Any]) -> bool:
    """Whether a tokenizer's JSON has no normalizer, a pattern that splits text into words, and BPE inside each word."""
    outer: dict[str, Any] = content["pre_tokenizer"] or {}
    steps: list[dict[str, Any]] = outer.get("pretokenizers", [outer])
    patterns = [step.get("pattern", {}).get("Regex") or step.get("use_regex") for step in steps]
    known = all(step.get("type") in ("ByteLevel", "Split", "Digits") for step in steps)
    # a "^" that opens a character class negates it; any other "^", and these others, depend on the text before
    bare = [str(pattern).replace("[^", "[") for pattern in patterns]
    looks_back = any(sign in pattern for pattern in bare for sign in ("(?<", "^", "\\A", "\\G", "\\b"))
    bpe = content["model"]["type"] == "BPE" and not content["model"].get("dropout") and not content["normalizer"]
    return bpe and known and any(patterns) and not looks_back


def _without_special_pieces(tokenizer: Tokenizer, special_texts: Sequence[str]) -> str:
    """Return the tokenizer's JSON, changed so that no text is encoded as a special token. In a Unigram model the
    vocabulary includes the special tokens themselves, so they are renamed to something that nobody types."""
    content = json.loads(tokenizer.to_str())
    for token in content["added_tokens"]:
        token["special"] |= token["content"] in special_texts
    if content["model"]["type"] == "Unigram":
        special = {token["id"] for token in content["added_tokens"] if token["special"]} - {content["model"]["unk_id"]}
        for index in special & set(range(len(content["model"]["vocab"]))):
            content["model"]["vocab"][index][0] = f"\0special{index}\0"
        content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] not in special]
    return json.dumps(content)


def largest_token(tokenizer: Tokenizer) -> tuple[str, int]:
    """Return the token of a vocabulary with the largest id, and the id; added tokens are left out. Where no id is
    missing it is the last: to look at each of 49,152 takes 18 ms, and to make a dictionary of them 65."""
    count, token_of = tokenizer.get_vocab_size(with_added_tokens=False), tokenizer.model.id_to_token
    if count and None not in map(token_of, range(count)):
        return token_of(count - 1), count - 1
    return max(tokenizer.get_vocab(with_added_tokens=False).items(), key=itemgetter(1), default=("", 0))


def encoder_for(tokenizer: PreTrainedTokenizerBase) -> TextEncoder:
    """Return the encoder of `tokenizer`. It is cached, as copying a vocabulary of 49,152 tokens takes about 0.1 s."""
    with _telling():
        return _encoder(tokenizer, special_texts(tokenizer))


_encoder = lru_cache(maxsize=8)(TextEncoder)


def partition(offsets: Sequence[Span], begin: int, end: int) -> list[Span]:
    """Return one span per token, which together cover the characters from `begin` to `end` without gaps or overlaps.

    If several tokens make up one character, the first gets the character and the others get empty spans. Characters
    that no token reports (a stripped space) go to the token after them.
    """
    spans: list[Span] = []
    position = begin
    for _, last in offsets:
        stop = min(max(position, last), end)
        spans.append((position, stop))
        position = stop
    if spans:
        spans[-1] = (spans[-1][0], end)
    return spans
