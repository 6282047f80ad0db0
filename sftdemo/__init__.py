"""See prompt masking, and feel it: colour every token by its label, train on the completion, compare before and after."""

__version__ = "0.1.0"
