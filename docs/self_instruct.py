"""Makes `self_instruct.jsonl` of Self-Instruct's `seed_tasks.jsonl` (Apache-2.0): the tasks of at most 500 characters,
each with its first instance, every fifth held out.

    python docs/self_instruct.py seed_tasks.jsonl self_instruct.jsonl
"""

import json
import sys
from pathlib import Path

MOST = 500  # characters of a row

tasks = [json.loads(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
rows = [{"instruction": task["instruction"], **task["instances"][0]} for task in tasks]
rows = [row for row in rows if row["output"].strip() and sum(map(len, row.values())) <= MOST]
for number, row in enumerate(rows):
    row |= {"held_out": True} if number % 5 == 4 else {}
Path(sys.argv[2]).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
