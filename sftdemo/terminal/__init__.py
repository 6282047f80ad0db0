"""The command line: what it takes, what it does, what it prints."""
