"""Decide which files of a saved run go to the Hub, and export it where they are others than those of its folder."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ..core.events import Phase
from ..model.sources import RUN_RECORD
from ..runs.card import LOSS_PICTURE, card
from ..runs.folder import EXAMPLES, SETTINGS, public_texts
from .certificate import CERTIFICATE
from .formats import MODELFILE, proof_of, write_merged, write_served
from .served import read_record

CARD = "README.md"
_ABOUT = (CARD, SETTINGS, LOSS_PICTURE, CERTIFICATE, "LICENSE*")
_OF_THE_FOLDER = (RUN_RECORD, "use.py")  # which are of no use beside a GGUF file
_MODEL = (
    *("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "config.json", "generation_config.json"),
    *("tokenizer*.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt"),
    "chat_template.jinja",
)
_WITH_PROMPTS = (CARD, RUN_RECORD, CERTIFICATE, EXAMPLES)


@dataclass(frozen=True)
class Contents:
    """What is to be uploaded.

    Args:
        files (`dict[str, Path | bytes]`):
            Each name with the file on this disk, or with its contents where they differ from it.
        left (`tuple[str, ...]`):
            What else lies in the run's folder.
        with_prompts (`tuple[str, ...]`):
            Which of the files hold prompts and answers.
    """

    files: dict[str, Path | bytes]
    left: tuple[str, ...]
    with_prompts: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Return the size of all files."""
        return sum(len(each) if isinstance(each, bytes) else each.stat().st_size for each in self.files.values())


def gather(
    run: Path, kind: str | None, quantization: str, with_examples: bool, scratch: Path, name: str
) -> Generator[Phase, None, Contents]:
    """Export a run into the folder `scratch` where that is needed, and return what is to be uploaded.

    Args:
        run (`Path`):
            The folder of a run.
        kind (`str`, *optional*), quantization (`str`), with_examples (`bool`):
            As in `push.push`.
        name (`str`):
            What a GGUF file is called, before its precision.

    Raises:
        SftdemoError: if it cannot be exported.
    """
    record = read_record(run)
    about = (*_ABOUT, *([EXAMPLES] if with_examples else []))
    if kind == "gguf":
        gguf = scratch / f"{name}-{quantization}.gguf"
        yield from write_served(run, gguf, quantization)
        files = _found(run, about, public_texts(run)) | {path.name: path for path in (gguf, scratch / MODELFILE)}
        files[CARD] = _gguf_card(record, proof_of(run), gguf.name).encode()
    else:
        folder = run
        if kind == "merged" and record["kind"] == "adapter":
            folder = scratch / "merged"
            yield from write_merged(run, folder)
        files = _found(folder, (*_MODEL, *_OF_THE_FOLDER, *about), public_texts(folder))
    exported = _MODEL if kind in ("merged", "gguf") else ()
    left = [each.name for each in run.iterdir() if each.name not in files and not _matches(each.name, exported)]
    return Contents(files, tuple(sorted(left)), tuple(each for each in _WITH_PROMPTS if each in files))


def _found(folder: Path, patterns: Sequence[str], texts: dict[str, str]) -> dict[str, Path | bytes]:
    """Return the files of a folder whose names match; `texts` go before what lies there."""
    found = sorted(each for each in folder.iterdir() if each.is_file() and _matches(each.name, patterns))
    return {each.name: texts[each.name].encode() if each.name in texts else each for each in found}


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _gguf_card(record: dict[str, Any], proof: str, file: str) -> str:
    kind = "merged" if record["kind"] == "adapter" else record["kind"]
    return card(record | {"kind": kind}, proof, file)
