"""Errors whose message is a sentence for the person who uses the program.

SftdemoError
├── ConfigError      a setting outside its range (exit code 2 on the command line)
├── DataError        the examples as a whole cannot be used
├── ModelError       a model or tokenizer cannot be found, fetched, converted or loaded
├── TemplateError    a prompt template is malformed, or the model has none
└── TrainingError    a run cannot start, or ended without a usable result
"""

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


def reason(error: BaseException, most: int = 400) -> str:
    """Return what an error of a library says: its first line, with the next after a colon, or else its kind.

    >>> reason(ValueError("Validation failed:\\n  it is no number\\n  at all")), reason(KeyError())
    ('Validation failed: it is no number', 'KeyError')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[: 1 + lines[0].endswith(":")])[:most]
