"""What a run's folder does on another machine: Python that cannot import this program, with a home of its own."""

from __future__ import annotations

import json
from pathlib import Path

from forked import forked

DRIVER = """
import io, json, os, runpy, sys
from contextlib import redirect_stdout
from importlib.util import find_spec

assert find_spec("sftdemo") is None
for folder, program, *words in json.loads(sys.argv[1]):
    os.chdir(folder)
    sys.argv, sys.path[0] = [program, *words], folder
    sys.modules.pop("use", None)
    with redirect_stdout(io.StringIO()) as printed:
        if program == "-c":
            exec(words[0], {"__name__": "__main__"})
        else:
            runpy.run_path(program, run_name="__main__")
    print(json.dumps(printed.getvalue().strip()))
"""


def printed_elsewhere(home: Path, *commands: tuple[str | Path, ...]) -> list[str]:
    """What each command prints: a folder, then the words behind `python`. All in one process, since it takes longer to
    import the libraries than to answer."""
    environment = {"HOME": str(home), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    words = json.dumps([[str(word) for word in each] for each in commands])
    told = forked("-c", DRIVER, words, folder=home, environment=environment, ours=False)
    return [json.loads(line) for line in told.splitlines()]
