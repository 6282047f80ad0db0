"""Errors whose message is a sentence for the person who uses the program.

SftdemoError
├── ConfigError      a setting outside its range (exit code 2 on the command line)
├── DataError        the examples as a whole cannot be used
├── ModelError       a model or tokenizer cannot be found, fetched, converted or loaded
├── TemplateError    a prompt template is malformed, or the model has none
└── TrainingError    a run cannot start, or ended without a usable result
"""


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
    """Return the error's message as a sentence of its own, with a capital letter."""
    return str(error)[:1].upper() + str(error)[1:]
