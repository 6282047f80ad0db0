"""The parser of a whole call: its help has the commands in groups, and a command that is misspelt gets a suggestion."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from shutil import get_terminal_size
from textwrap import fill

# What each command does, in groups, and an example of a call.
COMMANDS = {
    "See the mask": {
        "mask": ("Show which tokens of the examples are trained.", "mask pirate"),
        "lint": ("Check examples in CI or an editor: exit code 1 on errors.", "lint rows.jsonl --format github"),
    },
    "Train and compare": {
        "train": ("Train on the completions, compare before and after, and save.", "train pirate"),
        "ablate": ("Train with several prompt-loss weights, compare on held-out rows.", "ablate pirate --weights 0 1"),
        "study": ("Repeat that over several seeds and numbers of rows, for a report.", "study pirate --seeds 0 1 2"),
    },
    "Ask a run": {
        "generate": ("Answer prompts with a model or a saved run.", 'generate outputs --prompt "What do bees make?"'),
        "losses": ("Show every token's loss, by the base and by what a run has trained.", "losses outputs"),
        "film": ("Watch how a run learned, after each step that --film has kept.", "film outputs"),
    },
    "Take it away": {
        "export": ("Write a saved run as adapter, merged, GGUF, or plain TRL.", "export outputs --to gguf"),
        "push": ("Upload a saved run to the Hugging Face Hub, with your own login.", "push outputs --to owner/name"),
        "certify": ("Prove that a run answers where it is served as it does here.", "certify outputs"),
    },
    "Measure": {
        "samples": ("Measure what the sample data sets teach the default model.", "samples pirate greek"),
        "bench": ("Measure what the program costs, beside TRL and the tokenizer alone.", "bench --quick"),
    },
    "The page": {"app": ("Open the page in the browser.", "app --port 7860")},
}


_WHAT = "See prompt masking, and feel it: colour every token by its label, train, compare before and after."
_USAGE = "sftdemo [--help] [--version] COMMAND …"
_MORE = "sftdemo COMMAND --help lists the options of a command."


class Program(argparse.ArgumentParser):
    """A parser of commands."""

    commands: Mapping[str, argparse.ArgumentParser] = {}

    def tell(self, commands: Mapping[str, argparse.ArgumentParser]) -> None:
        """Say in the help of each command, and in the help on all of them, what it does, with an example."""
        self.commands, self.usage = commands, _USAGE
        width, indent = get_terminal_size().columns, " " * 12
        lines = [fill(_WHAT, width)]
        for title, group in COMMANDS.items():
            lines += ["", f"{title}:"]
            for name, (does, example) in group.items():
                commands[name].description, commands[name].epilog = does, f"Example: sftdemo {example}"
                lines += [fill(f"  {name:<10}{does}", width, subsequent_indent=indent), f"{indent}sftdemo {example}"]
        self.description, self.epilog = "\n".join(lines), _MORE

    def parse_args(self, args=None, namespace=None):
        """As argparse does, but for a command that there is not."""
        words = sys.argv[1:] if args is None else args
        name = next((word for word in words if not word.startswith("-")), None)
        if name is not None and self.commands and name not in self.commands:
            close = get_close_matches(name, self.commands, n=1)
            remedy = f"did you mean {close[0]}?" if close else f"the commands are {', '.join(self.commands)}."
            self.error(f"there is no command {name!r}; {remedy}")
        return super().parse_args(args, namespace)
