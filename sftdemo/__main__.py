"""`python -m sftdemo`."""

import sys

from sftdemo.terminal.cli import main

if __name__ == "__main__":
    sys.exit(main())
