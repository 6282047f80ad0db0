"""Errors whose message is a sentence for the person who uses the program.

SftdemoError
├── ConfigError      a setting outside its range (exit code 2 on the command line)
├── DataError        the examples as a whole cannot be used
├── ModelError       a model or tokenizer cannot be found, fetched, converted or loaded
├── TemplateError    a prompt template is malformed, or the model has none
└── TrainingError    a run cannot start, or ended without a usable result
"""

import json
import shutil

# Words that messages begin with. Any other first word is taken for a name.
_OPENINGS = frozenset(
    {"a", "all", "an", "another", "give", "in", "it", "line", "neither", "no", "none", "not", "of", "one", "only"}
    | {"row", "rows", "that", "the", "there", "these", "this", "to", "two", "what", "with", "without"}
)


class SftdemoError(Exception):
    """Base class of all errors that are shown as they are, without a traceback."""


class ConfigError(SftdemoError):
    """A setting is outside its range, or excludes another."""


class DataError(SftdemoError):
    """The examples as a whole cannot be used."""


class ModelError(SftdemoError):
    """A model or tokenizer cannot be found, fetched, converted or loaded."""


class TemplateError(SftdemoError):
    """A prompt template is malformed, or the model has none."""


class TrainingError(SftdemoError):
    """A run cannot start, or ended without a usable result."""


def sentence(error: Exception) -> str:
    """Return the error's message as a sentence of its own. It begins with a capital letter, unless it begins with a
    name: of a model, a file or a setting.

    >>> sentence(ModelError("the memory does not suffice.")), sentence(ModelError("gpt2 is gated."))
    ('The memory does not suffice.', 'gpt2 is gated.')
    """
    words = str(error)
    return words[:1].upper() + words[1:] if words.partition(" ")[0] in _OPENINGS else words


def unwritten(error: Exception, other: str = "place") -> str:
    """Return why something cannot be written, and what to do: the end of a sentence.

    Args:
        other (`str`, *optional*, defaults to `"place"`):
            What to name another of.

    >>> unwritten(OSError(28, "No space left on device")), unwritten(OSError(30, "Read-only file system"), "folder")
    ('No space left on device. Free space, or name another place.', 'Read-only file system. Name another folder.')
    """
    if isinstance(error, shutil.Error):  # of a folder that is copied: what is wrong with each of its files
        error = Exception(error.args[0][0][2].partition(": '")[0].partition("] ")[2])
    said = (getattr(error, "strerror", None) or reason(error)).rstrip(".")
    is_full = any(words in said for words in ("No space left", "quota exceeded", "not enough space"))
    return f"{said}. {'Free space, or name' if is_full else 'Name'} another {other}."


def reason(error: BaseException, most: int = 400) -> str:
    """Return what an error of a library says: its first line, with the next after a colon, or else its kind.

    >>> reason(ValueError("Validation failed:\\n  it is no number\\n  at all")), reason(KeyError())
    ('Validation failed: it is no number', 'KeyError')
    >>> reason(KeyError("lm_head.weight"))
    "there is no 'lm_head.weight'"
    >>> reason(ZeroDivisionError("integer modulo by zero"))
    'a value in it is not what it must be (integer modulo by zero)'
    """
    if isinstance(error, KeyError) and error.args:
        return f"there is no {error}"[:most]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    said = " ".join(lines[: 1 + lines[0].endswith(":")])
    if isinstance(error, ArithmeticError | IndexError | TypeError | AttributeError):  # Python's words, about no file
        said = f"a value in it is not what it must be ({said})"
    return said[:most]


# What it raises to read a file that this program has written and somebody has cut or changed.
UNREADABLE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError),
    SftdemoError,
)


def unread(error: Exception) -> str:
    """Return why a file that this program has written cannot be read any more, in words of its own rather than Python's
    or a library's: a part of a sentence.

    >>> unread(KeyError("seed")), unread(TypeError("'int' object is not iterable"))
    ("there is no 'seed'", 'a value in it is of another kind than was written; it may have been changed')
    """
    if isinstance(error, SftdemoError):
        return str(error).removesuffix(".")
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, KeyError):
        return reason(error)
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 at byte {error.start:,}; it may have been cut or changed"
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON at line {error.lineno:,}, column {error.colno:,}; it may have been cut or changed"
    if isinstance(error, RecursionError):
        return "it is nested too deeply; it may have been changed"
    return "a value in it is of another kind than was written; it may have been changed"
