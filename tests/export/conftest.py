"""A run to export, saved once: two instructions, one of which has an input, and a held-out one."""

from __future__ import annotations

import json

import pytest

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Failed
from sftdemo.data.examples import parse_examples
from sftdemo.runs.run import run

ROWS = [
    {"instruction": "Say hello", "output": "Hello world!"},
    {"instruction": "Count", "input": "to 3", "output": "1 2 3"},
    {"instruction": "Capital of Italy?", "output": "Rome!", "held_out": True},
    {"instruction": "Say", "input": "it", "held_out": True},
]


@pytest.fixture(scope="session")
def saved(tmp_path_factory, gpt2_folder, llama_folder):
    """Return the folder of a run of some kind, trained the first time."""
    folders = {}

    def of(kind: str, model: str = "gpt2"):
        if (kind, model) not in folders:
            folder = tmp_path_factory.mktemp("runs") / f"{model}-{kind}"
            settings = {"adapter": {}, "merged": {"merge": True}, "full": {"full": True, "learning_rate": 1e-3}}[kind]
            base = gpt2_folder if model == "gpt2" else llama_folder
            config = RunConfig(str(base), steps=4, batch_size=2, max_length=128, max_new_tokens=8, **settings)
            assert not [
                event for event in run(config, parse_examples(json.dumps(ROWS)), folder) if isinstance(event, Failed)
            ]
            folders[kind, model] = folder
        return folders[kind, model]

    return of
