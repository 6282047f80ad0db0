"""What a conversation ought to train, worked out from the tokenizer's own calls alone; shares no code with sftdemo.

For an assistant turn, P is the conversation before it with the generation prompt, F the conversation up to and with it,
both as the chat template writes them. What generation sees are P's ids; what it ought to answer are F's ids after
those, through the token at which generation stops. `law` applies that to every turn that is to be trained, and puts
the turns into as few sequences as it can.

A rendering is kept with the character TYPED inside each text that looks like a special token and was typed by a user:
it breaks the look, and shows where such a text lies, whatever the template does with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import NamedTuple

from tokenizers import Tokenizer

IGNORED = -100
# characters that stand in no conversation: the trained vocabularies and the tests' talks have none of them
TYPED, EDGE, WORD = "\U000f8000", "\U000f8001", "\U000f8002"
MARK = 0x100000  # and those from here on stand for special tokens
TRAIN_KEYS = ("weight", "train", "loss")


class Refused(Exception):
    """The template refuses a rendering that is needed, or a message cannot be read."""


class Sequence(NamedTuple):
    """One training sequence."""

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]


class Verdict(NamedTuple):
    """The sequences of a conversation, and what has to be told of it."""

    sequences: list[Sequence]
    told: set[str]


# --- Texts to ids ----------------------------------------------------------------------------------------------------


@cache
def marks_of(tokenizer) -> re.Pattern:
    """The added tokens, as the tokenizer finds them in a text: from the left, the longest first."""
    names = sorted((token.content for token in tokenizer.added_tokens_decoder.values()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)) or "(?!)")


@cache
def special_names(tokenizer) -> dict[str, str]:
    """The special tokens, and the private character that stands for each in `disguised`."""
    tokens = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return {token: chr(MARK + number) for number, token in enumerate(tokens)}


@cache
def disguised(tokenizer, dummy_space: bool) -> Tokenizer:
    """The same tokenizer, except that its special tokens are known by private characters, so that the texts that look
    like them are texts; without `dummy_space` it puts no space of its own before a text."""
    content, names = json.loads(tokenizer.backend_tokenizer.to_str()), special_names(tokenizer)
    for token in content["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = content["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(token, token): number for token, number in model["vocab"].items()}
    model["unk_token"] = names.get(model.get("unk_token"), model.get("unk_token"))
    content["post_processor"] = None
    if not dummy_space and (content["pre_tokenizer"] or {}).get("type") == "Metaspace":
        content["pre_tokenizer"]["prepend_scheme"] = "never"
    if not dummy_space and (content["normalizer"] or {}).get("type") == "Sequence":
        steps = content["normalizer"]["normalizers"]
        content["normalizer"]["normalizers"] = [step for step in steps if step["type"] != "Prepend"]
    return Tokenizer.from_str(json.dumps(content))


def encoded(tokenizer, text: str, dummy_space: bool = True) -> list[int]:
    """The ids of a rendering: special tokens where the template wrote them, plain text where a user typed them."""
    if TYPED not in text and dummy_space:
        return tokenizer(text, add_special_tokens=False)["input_ids"]
    names = special_names(tokenizer)
    text = marks_of(tokenizer).sub(lambda match: names.get(match.group(), match.group()), text)
    return disguised(tokenizer, dummy_space).encode(text.replace(TYPED, ""), add_special_tokens=False).ids


def continuation(tokenizer, rest: str) -> list[int]:
    """The ids of a text that goes on from another, encoded by itself: nothing stands before its first word."""
    mark = marks_of(tokenizer).search(rest)
    head = rest[: mark.start()] if mark else rest
    tail = rest[len(head) :]
    return (encoded(tokenizer, head, False) if head else []) + (encoded(tokenizer, tail) if tail else [])


def common(left: list[int], right: list[int]) -> int:
    """How many ids two sequences begin with together."""
    pairs = zip(left, right, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(left), len(right)))


# --- Messages to texts -----------------------------------------------------------------------------------------------


def _each_string(value, change: Callable[[str], str]):
    """The same data with every string changed, the keys as well."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_each_string(item, change) for item in value]
    if isinstance(value, dict):
        return {change(key): _each_string(item, change) for key, item in value.items()}
    return value


def _typed(tokenizer, value):
    """The same data with TYPED inside each text that looks like a special token."""
    pattern = re.compile("|".join(map(re.escape, sorted(special_names(tokenizer), key=len, reverse=True))) or "(?!)")
    return _each_string(value, lambda text: pattern.sub(lambda match: match[0][0] + TYPED + match[0][1:], text))


def rendered(tokenizer, messages: list[dict], ask: bool, **arguments) -> str:
    """What the template makes of the messages, with TYPED in what was typed; `ask` adds the generation prompt."""
    marked = [_typed(tokenizer, message) | {"role": message["role"]} for message in messages]
    given = arguments | {key: _typed(tokenizer, arguments[key]) for key in ("tools", "documents") if key in arguments}
    try:
        return tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=ask, **given)
    except Exception as error:  # a template may fail in any way that Python code can
        raise Refused(f"{type(error).__name__}: {error}") from error


@cache
def _wants(tokenizer, template: str) -> tuple[bool, bool]:
    """Whether a tokenizer's template shows content that is text, and content that is a list of parts."""

    def shown(content) -> str:
        try:
            return rendered(tokenizer, [{"role": "user", "content": content}], False)
        except Refused:
            return ""

    parts = shown([{"type": "text", "text": f"{WORD}one"}, {"type": "text", "text": f"{WORD}two"}])
    looped = f"{WORD}one" in parts and f"{WORD}two" in parts and "'type'" not in parts and '"type"' not in parts
    return WORD in shown(WORD), looped


def _content(tokenizer, content):
    """Content as the template wants it: a text, or a list of text parts."""
    text, parts = _wants(tokenizer, tokenizer.chat_template)
    if isinstance(content, list) and not parts:
        return "".join(part["text"] for part in content)
    if isinstance(content, str) and parts and not text:
        return [{"type": "text", "text": content}]
    return content


def _call(call: dict, as_object: bool) -> dict:
    """A tool call with its arguments as an object, or as a JSON string."""
    function = call.get("function", call)
    given = function.get("arguments")
    if as_object and isinstance(given, str):
        with suppress(ValueError):
            value = json.loads(given)
            given = value if isinstance(value, dict) else given
    elif not as_object and isinstance(given, dict):
        given = json.dumps(given, ensure_ascii=False)
    if "arguments" in function:
        function = function | {"arguments": given}
    return call | {"function": function} if "function" in call else function


def forms(tokenizer, messages: list[dict]) -> Iterator[list[dict]]:
    """The messages in the forms that templates want, the usual one first."""
    seen = []
    for as_object in (True, False):
        for no_content in (None, ""):
            form = []
            for message in messages:
                message = dict(message)
                if "content" in message:
                    content = no_content if message["content"] is None else message["content"]
                    message["content"] = _content(tokenizer, content)
                if message.get("tool_calls"):
                    message["tool_calls"] = [_call(call, as_object) for call in message["tool_calls"]]
                form.append(message)
            if form not in seen:
                seen.append(form)
                yield form


def _prints_python(messages: list[dict], text: str) -> bool:
    """Whether a template printed an object of arguments as Python would, not as JSON."""
    calls = [call for message in messages for call in message.get("tool_calls") or []]
    given = [call.get("function", call).get("arguments") for call in calls]
    return any(
        isinstance(value, dict) and str(value) != json.dumps(value, ensure_ascii=False) and str(value) in text
        for value in given
    )


# --- A turn ----------------------------------------------------------------------------------------------------------


def _content_end(tokenizer, messages: list[dict], after: str, **arguments) -> int:
    """Where in the rendering of `messages` their last message's content ends, and the template's end of a turn begins;
    0 when it cannot be told.

    The end of a turn is what follows a plain answer in the last one's place; where this turn ends otherwise (some
    templates close a tool call in their own way), it is what follows the last letter of anything the message says.
    """
    answer = {"role": messages[-1]["role"], "content": _content(tokenizer, WORD)}
    try:
        _, word, suffix = rendered(tokenizer, [*messages[:-1], answer], False, **arguments).partition(WORD)
    except Refused:
        word, suffix = "", ""
    if word and after.endswith(suffix):
        return len(after) - len(suffix)
    said = {key: value for key, value in messages[-1].items() if key not in ("role", "type", *TRAIN_KEYS)}
    edged = {
        key: _each_string(value, lambda text: re.sub(r"(\S)(\s*)\Z", rf"\g<1>{EDGE}\g<2>", text))
        for key, value in said.items()
    }
    try:
        twin = rendered(tokenizer, [*messages[:-1], messages[-1] | edged], False, **arguments)
    except Refused:
        return 0
    if twin.replace(EDGE, "") != after:
        return 0
    return len(twin[: twin.rfind(EDGE) + 1].replace(EDGE, ""))


def _through_end(tokenizer, ids: list[int], text: str, begin: int, end: int, stops: frozenset[int]) -> list[int] | None:
    """The ids of a text through the token that ends its last turn, which is among the marks after the first `begin` ids
    and the first `end` letters: the first that stops generation, else the last of the first that stand side by side.
    None when there is no mark."""
    marks, added = list(marks_of(tokenizer).finditer(text)), set(tokenizer.added_tokens_decoder)
    places = [place for place, token in enumerate(ids) if token in added]
    assert len(marks) == len(places), "every mark of the text is one token"
    both = zip(marks, places, strict=True)
    after = [(mark, place) for mark, place in both if mark.start() >= end and place >= begin]
    if not after:
        return None
    stopping = [place for _, place in after if ids[place] in stops]
    if stopping:
        return ids[: stopping[0] + 1]
    mark, place = after[0]
    for following, next_place in after[1:]:
        if following.start() != mark.end():
            break
        mark, place = following, next_place
    return ids[: place + 1]


def _turn(tokenizer, messages: list[dict], stops: frozenset[int], told: set[str], **arguments) -> tuple[list[int], int]:
    """The ids of a conversation through the end of its last turn, and how many of them stand before that turn."""
    before = rendered(tokenizer, messages[:-1], True, **arguments)
    after = rendered(tokenizer, messages, False, **arguments)
    asked, ids = encoded(tokenizer, before), encoded(tokenizer, after)
    end = _content_end(tokenizer, messages, after, **arguments)
    begin = common(asked, ids)
    if begin == len(asked):
        whole = _through_end(tokenizer, ids, after, begin, end, stops)
    elif after.startswith(before):
        told.add("merged_boundary")
        begin, rest = len(asked), after[len(before) :]
        ids = continuation(tokenizer, rest)
        answer = _through_end(tokenizer, ids, rest, 0, end - len(before), stops)
        ids = [*asked, *ids]
        whole = None if answer is None else [*asked, *answer]
    else:
        told.add("prompt_not_continued")
        whole = _through_end(tokenizer, ids, after, begin, end, stops)
    if whole is None:
        told.add("eos_added")
        whole = [*ids, tokenizer.eos_token_id]
    return whole, min(begin, len(whole))


# --- A conversation --------------------------------------------------------------------------------------------------


def trained_turns(messages: list[dict], turns: str = "all", first: int = 0) -> list[int]:
    """The assistant turns to train: those from message `first` on that nothing in the message switches off. A first
    message has nothing before it, so no one can ask for it."""
    answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    chosen = answers[-1:] if turns == "last" else answers
    wanted = []
    for index in chosen:
        switches = [messages[index][key] for key in TRAIN_KEYS if key in messages[index]]
        if any(value not in (0, 1) for value in switches):
            raise Refused("a switch is neither on nor off")
        if index >= max(first, 1) and all(switches):
            wanted.append(index)
    return wanted


def _conversation(tokenizer, messages: list[dict], wanted: list[int], stops: frozenset[int], **arguments) -> Verdict:
    sequences, told = [], set()
    for index in wanted:
        ids, begin = _turn(tokenizer, messages[: index + 1], stops, told, **arguments)
        labels = [IGNORED] * begin + ids[begin:]
        if sequences:
            earlier = sequences[-1]
            length = len(earlier.input_ids)
            if length <= begin and tuple(ids[:length]) == earlier.input_ids:
                labels[:length] = earlier.labels
                sequences.pop()
        labels[0] = IGNORED
        sequences.append(Sequence(tuple(ids), tuple(labels)))
    return Verdict(sequences, told)


def law(tokenizer, messages: list[dict], turns="all", stops=frozenset(), first: int = 0, **arguments) -> Verdict:
    """The sequences of a conversation. `stops` are the generation config's EOS ids, `arguments` what the template is
    given: `tools`, `documents` and the row's own. The turns before message `first` are a prompt.

    Raises:
        Refused: when the template does not render what is needed, in any form of the messages.
    """
    wanted, refusal = trained_turns(messages, turns, first), None
    if not wanted:
        return Verdict([], set())
    messages = messages[: wanted[-1] + 1]
    for form in forms(tokenizer, messages):
        try:
            if _prints_python(form, rendered(tokenizer, form, False, **arguments)):
                continue
            return _conversation(tokenizer, form, wanted, stops | {tokenizer.eos_token_id}, **arguments)
        except Refused as error:
            refusal = refusal or error
    raise refusal or Refused("the template prints an object as Python does")


def trimmed(sequences: list) -> list[Sequence]:
    """Sequences as they are compared: without what follows the last trained token, and those that train anything."""
    lasts = [
        max((place for place, label in enumerate(each.labels) if label != IGNORED), default=-1) for each in sequences
    ]
    cut = [(each, last + 1) for each, last in zip(sequences, lasts, strict=True) if last >= 0]
    return [Sequence(tuple(each.input_ids[:length]), tuple(each.labels[:length])) for each, length in cut]
