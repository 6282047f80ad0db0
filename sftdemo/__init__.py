"""See prompt masking, and feel it: colour every token by its label, train, compare before and after."""

__version__ = "0.1.0"
