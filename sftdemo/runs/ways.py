"""Say how the model of a saved run is used elsewhere: on its card and on the page."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

QUESTION = "What is the capital of Japan?"


@dataclass(frozen=True)
class Way:
    """A way to use the model of a run, from inside its folder.

    Args:
        name (`str`):
            A word or two.
        says (`str`):
            What it needs and does.
        code (`str`), language (`str`):
            What to run or write, in `"python"` or `"shell"`.
    """

    name: str
    says: str
    code: str
    language: str = "shell"


def ways_of(record: dict[str, Any]) -> list[Way]:
    """Return the ways to use a run's model, from the run's record (`folder.record_of`). The last one, a script that
    trains the same again, is missing where a run went on from an adapter."""
    is_adapter = record["kind"] == "adapter"
    base = "" if record["model"]["hub_id"] or not is_adapter else record["model"]["public_name"]
    packages = "transformers, torch and peft" if is_adapter else "transformers and torch"
    option = f" --base {shlex.quote(base)}" if base else ""
    written = ", which sftdemo writes" if is_adapter else ""
    merge = "sftdemo export . --to merged --output merged && " if is_adapter else ""
    ways = [
        Way(
            "Terminal",
            f"In the model's folder, with {packages} alone.",
            f"python use.py {shlex.quote(QUESTION)}{option}",
        ),
        Way(
            "Python",
            f"In the model's folder, with {packages} alone. An instruction's input is a further argument, `input=`.",
            f"from use import ask, load\n\nmodel, tokenizer = load({base and json.dumps(base)})\n"
            f"print(ask(model, tokenizer, {json.dumps(QUESTION)}))",
            "python",
        ),
        Way(
            "llama.cpp",
            "As a GGUF file, which sftdemo writes and checks prompt by prompt against this folder.",
            "sftdemo export . --to gguf --output model.gguf\nsftdemo certify . --gguf model.gguf\n"
            "llama-server -m model.gguf",
        ),
        Way(
            "Ollama",
            "sftdemo writes a GGUF file and, beside it, a Modelfile with the trained prompt and the end.",
            "sftdemo export . --to gguf --output model.gguf\nollama create mine -f Modelfile\nollama run mine",
        ),
        Way(
            "Train on",
            "With sftdemo, from what this run has learned, on other rows.",
            "sftdemo train more.jsonl --model . --output ../more",
        ),
        Way(
            "vLLM",
            f"From a folder that has all weights{written}.",
            f"{merge}vllm serve {'merged' if is_adapter else '.'}",
        ),
        Way(
            "Hub",
            "To the Hugging Face Hub, with sftdemo and your own login (`hf auth login`). It says what it sends before "
            "it does.",
            "sftdemo push . --to owner/name --private",
        ),
        Way(
            "Script",
            "Trains the same with plain TRL. sftdemo writes it, from the rows in `examples.jsonl`; the script does "
            "without.",
            "sftdemo export . --to script --output script\nuv run script/train.py"
            + (f" --model {shlex.quote(record['model']['public_name'])}" if not record["model"]["hub_id"] else ""),
        ),
    ]
    return ways[:-1] if record["model"].get("base") else ways


def ways_of_gguf(file: str) -> list[Way]:
    """Return the ways to use a GGUF file with its Modelfile, from inside their folder."""
    return [
        Way("llama.cpp", "The trained prompt and the end are in the file.", f"llama-server -m {shlex.quote(file)}"),
        Way(
            "Ollama",
            "The Modelfile has the trained prompt and the end.",
            "ollama create mine -f Modelfile\nollama run mine",
        ),
    ]
