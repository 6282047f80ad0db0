"""What the page's handlers share, from many threads at once."""

import os
import subprocess
import sys

SCRIPT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from sftdemo.ui.backend import Backend

backend = Backend()
with ThreadPoolExecutor(8) as pool:
    told = list(pool.map(lambda _: [phase.message for phase in backend.prepare(sys.argv[1])], range(8)))
print(len(told), len(backend.tokenizer(sys.argv[1])))
"""


def test_the_first_visitors_may_come_all_at_once(gpt2_folder, tmp_path):
    """In a fresh process, since importing is what they would collide in."""
    environment = os.environ | {"SFTDEMO_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", SCRIPT, str(gpt2_folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("8 ")
