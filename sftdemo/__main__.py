"""`python -m sftdemo`, which is the command `sftdemo` without an installation."""

import sys

from sftdemo.terminal.cli import main

if __name__ == "__main__":
    sys.exit(main())
