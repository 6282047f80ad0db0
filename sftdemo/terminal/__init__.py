"""The command line: its options, its commands and its output."""
