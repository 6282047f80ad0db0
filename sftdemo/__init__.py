"""See prompt masking, and feel it: colour every token by its label, train, compare before and after."""

from .core.environment import prepare

__version__ = "0.1.0"

prepare()
