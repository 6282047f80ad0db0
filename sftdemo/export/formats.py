"""Export a saved run: its adapter, its whole model, a GGUF file with a Modelfile, or what trains it again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..core.characters import half_at
from ..core.config import EXPORT_FORMATS, QUANTIZATIONS
from ..core.errors import ConfigError, TrainingError, unwritten
from ..core.events import Event, Phase, Saved
from ..core.files import write_whole, written_whole
from ..core.held import scratch_folder
from ..core.meanwhile import in_thread
from ..core.streams import Outcome, event_stream
from ..core.until import Until
from ..model.loading import load_model, stop_ids
from ..model.sources import RUN_RECORD, resolve
from ..runs import use
from ..runs.card import LOSS_PICTURE, card
from ..runs.folder import EVENTS, EXAMPLES, SETTINGS
from ..runs.output import with_files
from .certificate import CERTIFICATE, read_certificate
from .gguf import convert_to_gguf
from .handout import write_handout
from .ollama import modelfile
from .recipe import read_recipe
from .script import write_script
from .served import read_record, served_tokenizer, source_of
from .trl_config import write_trl_config

if TYPE_CHECKING:
    from peft import PeftModel

MODELFILE = "Modelfile"
_ABOUT = (EXAMPLES, EVENTS, SETTINGS, CERTIFICATE, "generation_config.json", LOSS_PICTURE)


@event_stream
def export(
    run: str | Path, to: str, output: str | Path, quantization: str = "f16", stop: Callable[[], bool] = lambda: False
) -> Generator[Event, None, Outcome]:
    """Write a saved run in another format. The last event is `Finished` or `Failed`.

    Args:
        run (`str` or `Path`):
            The folder of a run; for `"html"` of an ablation as well.
        to (`str`):
            `"adapter"`, `"merged"` (all weights, in float32), `"gguf"`, what trains the same without this program:
            `"script"`, or `"trl-config"` for TRL's command line; or `"html"`, a page to read.
        output (`str` or `Path`):
            The folder to write or, for HTML and GGUF, the file. Beside the latter the Modelfile is put. It must not
            exist.
        quantization (`str`, *optional*, defaults to `"f16"`):
            Of a GGUF file: one of `config.QUANTIZATIONS`.
        stop (`Callable[[], bool]`, *optional*):
            Once it returns true, the export ends and nothing is written.
    """
    run, output = Path(run), Path(output)
    if to not in EXPORT_FORMATS:
        raise ConfigError(f"to is {to!r}; choose one of {', '.join(EXPORT_FORMATS)}.")
    check_quantization(quantization, to)
    _check_free(output)
    if to == "html":  # of an ablation as well
        with _telling(output):
            yield from write_handout(run, output)
        yield Saved(str(output), to)
        return Outcome()
    yield from Until(stop).heeded(_write(run, to, output, quantization))
    yield Saved(str(output), to)
    return Outcome()


def _write(run: Path, to: str, output: Path, quantization: str) -> Generator[Phase]:
    from ..model.bounds import check_numbers

    record = read_record(run)
    if half_at(os.path.realpath(output)) is not None:  # neither safetensors nor tokenizers writes there
        raise TrainingError(f"{output} has a name that is not UTF-8; name another place.")
    if to not in ("script", "trl-config"):  # which take no weights along
        check_numbers(run)
    if to == "gguf":
        _check_free(output.parent / MODELFILE)
        yield from write_served(run, output, quantization)
    elif to == "merged":
        yield from write_merged(run, output)
    elif to in ("script", "trl-config"):
        with scratch_folder() as scratch:
            recipe = yield from read_recipe(run, Path(scratch))
            with _written(output) as folder:
                (write_script if to == "script" else write_trl_config)(recipe, folder)
    elif record["kind"] != "adapter":
        raise TrainingError(f"{run} has no adapter: its weights are {record['kind']}. Export it as merged or gguf.")
    else:
        yield Phase("export", f"Copying to {output}")
        with _written(output) as folder:
            shutil.copytree(run, folder, dirs_exist_ok=True)


def write_merged(run: Path, output: Path) -> Generator[Phase]:
    """Write the model of a run as a folder with all its weights, in float32. An adapter is merged into them.

    Raises:
        SftdemoError: if the run's model cannot be loaded, or if the folder cannot be written.
    """
    import torch

    record, proof = read_record(run), proof_of(run)
    with _written(output) as folder:
        if record["kind"] != "adapter":
            yield Phase("export", f"Copying to {output}")
            shutil.copytree(run, folder, dirs_exist_ok=True)
            return
        source = yield from resolve(str(run))
        phase = Phase("export", "Merging the adapter into the weights")

        def merge() -> None:
            merged = cast("PeftModel", load_model(source, torch.device("cpu"))).merge_and_unload()
            merged.save_pretrained(str(folder))

        yield phase
        yield from in_thread(merge, lambda: phase)
        served_tokenizer(run).save_pretrained(str(folder))
        for name in _ABOUT:
            if (run / name).is_file():
                shutil.copyfile(run / name, folder / name)
        shutil.copyfile(use.__file__, folder / "use.py")
        record |= {"kind": "merged"}
        (folder / "README.md").write_text(card(record, proof), encoding="utf-8")
        text = json.dumps(with_files(folder, record), indent=1, ensure_ascii=False)
        (folder / RUN_RECORD).write_text(text, encoding="utf-8")


def check_quantization(quantization: str, to: str | None) -> None:
    """Refuse a precision that is unknown, or that the format has no use for.

    Raises:
        ConfigError: if it is either.
    """
    if quantization not in QUANTIZATIONS:
        raise ConfigError(f"quantization is {quantization!r}; choose one of {', '.join(QUANTIZATIONS)}.")
    if quantization != "f16" and to != "gguf":
        raise ConfigError(
            f"quantization is {quantization!r}, which only a GGUF file has; choose gguf, or leave it out."
        )


def write_gguf(run: Path, output: Path, quantization: str) -> Generator[Phase]:
    """Write the model of a run as a GGUF file, without a Modelfile.

    Raises:
        SftdemoError: as `write_merged` and `gguf.convert_to_gguf` do.
    """
    with scratch_folder() as scratch:
        folder = run
        if read_record(run)["kind"] == "adapter":
            folder = Path(scratch) / "merged"
            yield from write_merged(run, folder)
        yield from convert_to_gguf(folder, output, quantization)


def write_served(run: Path, output: Path, quantization: str) -> Generator[Phase]:
    """Write the model of a run as a GGUF file, and a Modelfile beside it.

    Raises:
        SftdemoError: as `write_gguf` and `ollama.modelfile` do.
    """
    yield from write_gguf(run, output, quantization)
    yield Phase("export", "Writing the Modelfile")
    tokenizer = served_tokenizer(run)
    ends = [str(tokenizer.convert_ids_to_tokens(index)) for index in sorted(stop_ids(source_of(run)))]
    write_whole(output.parent / MODELFILE, modelfile(f"./{output.name}", tokenizer, ends))


def proof_of(run: Path) -> str:
    """Return what a run's card says of its certificate; empty if it has none.

    Raises:
        DataError: if the certificate cannot be read.
    """
    certificate = read_certificate(run)
    return certificate.to_markdown() if certificate else ""


def _check_free(output: Path) -> None:
    if output.exists():
        raise TrainingError(f"{output} is there already; name another place, or delete it.")


@contextmanager
def _written(output: Path) -> Iterator[Path]:
    with _telling(output), written_whole(output) as folder:
        yield folder


@contextmanager
def _telling(output: Path) -> Iterator[None]:
    """Turn an error of the file system into a sentence."""
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{output} cannot be written: {unwritten(error)}") from error
