"""Starts the page: `python app.py`, and the entry of the Hugging Face Space."""

if __name__ == "__main__":  # a run's process imports this file again, and must not open a second page
    import sys

    from sftdemo.terminal.cli import main

    sys.exit(main(["app", *sys.argv[1:]]))
