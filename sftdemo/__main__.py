"""`python -m sftdemo`."""

import sys

from sftdemo.cli import main

if __name__ == "__main__":
    sys.exit(main())
