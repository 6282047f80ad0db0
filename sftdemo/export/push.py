"""Push a saved run to the Hugging Face Hub, in one commit, with the login that huggingface_hub finds."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.config import PUSH_KINDS
from ..core.environment import HUB_TIMEOUT
from ..core.errors import ConfigError, SftdemoError, TrainingError
from ..core.events import Event, Phase, Saved, Upload
from ..core.held import scratch_folder
from ..core.streams import Outcome, event_stream
from ..core.until import Until
from ..data.records import short
from ..model.sources import RUN_RECORD
from .formats import check_quantization
from .served import read_record
from .upload import Contents, gather

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

NAME = (
    "at most 96 letters, digits, '-', '_' and '.', with no '-' or '.' first, last or twice in a row, and no .git last"
)
_HUBS_OWN = ".gitattributes"  # which the Hub writes into a new repository


@dataclass(frozen=True)
class Remedies:
    """What can be done where a push is refused: if the login does not suffice, if the repository is public, and if it
    is not empty."""

    log_in: str
    public: str
    replace: str


IN_TERMINAL = Remedies(
    "log in with `hf auth login`, or set HF_TOKEN, with a token that may write",
    "leave --private out",
    "Name another, or replace all it holds with --overwrite.",
)
ON_PAGE = Remedies(
    "sign out here and in again, and allow this Space to make repositories",
    "untick Private",
    "Name another.",
)


@event_stream
def push(
    run: str | Path,
    to: str,
    private: bool = False,
    kind: str | None = None,
    quantization: str = "f16",
    with_examples: bool = False,
    overwrite: bool = False,
    token: str | None = None,
    remedies: Remedies = IN_TERMINAL,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Event, None, Outcome]:
    """Upload a saved run as a model repository. What is sent is told before, as `Upload`. The last event is `Finished`,
    after `Saved` with the address, or `Failed`.

    Args:
        run (`str` or `Path`):
            The folder of a run.
        to (`str`):
            The repository, as `"owner/name"`. It is made if there is none.
        private (`bool`, *optional*, defaults to `False`):
            Whether a new repository is private. One that is there already stays as it is.
        kind (`str`, *optional*):
            `"adapter"`, `"merged"` (all weights, in float32) or `"gguf"`. By default the folder as it is.
        quantization (`str`, *optional*, defaults to `"f16"`):
            Of a GGUF file: one of `config.QUANTIZATIONS`.
        with_examples (`bool`, *optional*, defaults to `False`):
            Whether the rows go along.
        overwrite (`bool`, *optional*, defaults to `False`):
            Whether to replace what the repository holds.
        token (`str`, *optional*):
            A token of the Hub, by default the one that huggingface_hub finds. It is sent to the Hub alone.
        remedies (`Remedies`, *optional*):
            What is told where the Hub refuses, by default what can be done in a terminal.
        stop (`Callable[[], bool]`, *optional*):
            Once it returns true, what is pushed is not made ready any further. An upload that has begun goes on.
    """
    from ..model.bounds import check_numbers

    run = Path(run)
    _check(run, read_record(run)["kind"], to, kind, quantization)
    check_numbers(run)
    api = _connect(token, remedies)
    yield Phase("upload", f"Looking for {to}")
    with _explained(to, remedies):
        found = _find(api, to)
    _check_target(found, to, private, overwrite, remedies)
    with _there(run, to), scratch_folder() as scratch:
        gathering = gather(run, kind, quantization, with_examples, Path(scratch), to.partition("/")[2])
        contents = yield from Until(stop).heeded(gathering)
        size = contents.bytes
        deleted = sorted({*_names(found)} - {*contents.files})
        yield Upload(
            to,
            private if found is None else bool(found.private),
            sorted(contents.files),
            size,
            list(contents.with_prompts),
            list(contents.left),
            deleted,
        )
        yield Phase("upload", f"Uploading {size / 1e6:.1f} MB to {to}")
        with _explained(to, remedies):
            _send(api, to, private, found, contents, deleted)
    yield Saved(f"{api.endpoint}/{to}", "hub")
    return Outcome()


def _check(run: Path, trained: str, to: str, kind: str | None, quantization: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(to)
        bad_name = to.count("/") != 1
    except HFValidationError:
        bad_name = True
    if bad_name:
        raise ConfigError(f"to is {short(to)}; write owner/name, each of {NAME}.")
    if kind not in (None, *PUSH_KINDS):
        raise ConfigError(f"kind is {kind!r}; choose one of {', '.join(PUSH_KINDS)}.")
    check_quantization(quantization, kind)
    if kind == "adapter" and trained != "adapter":
        raise TrainingError(f"{run} has no adapter: its weights are {trained}. Push it as merged or gguf.")


def _connect(token: str | None, remedies: Remedies) -> HfApi:
    """Return the Hub as this login sees it, at HF_ENDPOINT if that is set."""
    from huggingface_hub import HfApi, get_token

    token = get_token() if token is None else token  # one that is empty is not to be replaced by the machine's own
    if not token:
        raise TrainingError(f"there is no login for the Hub: {remedies.log_in}.")
    if not (token.isascii() and token.isprintable()):
        raise TrainingError(f"the token for the Hub has characters that no token has: {remedies.log_in}.")
    return HfApi(token=token)


def _find(api: HfApi, to: str) -> ModelInfo | None:
    """Return what the Hub says of a repository; None if it has none of that name, or shows it to others only."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return api.model_info(to, timeout=HUB_TIMEOUT)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return None


def _names(found: ModelInfo | None) -> list[str]:
    """Return the names of the files in a repository, but for the Hub's own."""
    siblings = (found.siblings if found else None) or []
    return [each.rfilename for each in siblings if each.rfilename != _HUBS_OWN]


def _check_target(found: ModelInfo | None, to: str, private: bool, overwrite: bool, remedies: Remedies) -> None:
    if found is None:
        return
    if found.id.lower() != to.lower():
        raise TrainingError(f"the repository {to} is called {found.id} now; push to that.")
    if private and not found.private:
        raise TrainingError(
            f"the repository {to} is public; make it private in its settings on the Hub, {remedies.public}, or "
            "name another."
        )
    files = _names(found)
    if files and not overwrite:
        more = f" and {len(files) - 1} more" if files[1:] else ""
        raise TrainingError(f"the repository {to} is not empty: it holds {files[0]}{more}. {remedies.replace}")
    if ".gitignore" in files:
        raise TrainingError(f"the repository {to} has a .gitignore, by which files are left out; delete it there.")


def _send(api: HfApi, to: str, private: bool, found: ModelInfo | None, contents: Contents, deleted: list[str]) -> None:
    """Commit all files at once, onto the commit that was looked at.

    Raises:
        TrainingError: if a file has gone since it was gathered.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    gone = sorted(name for name, file in contents.files.items() if isinstance(file, Path) and not file.is_file())
    if gone:
        raise TrainingError(f"{gone[0]} of the run has gone since it was looked at. Nothing went to {to}; try again.")
    if found is None:
        api.create_repo(to, private=private)
    api.create_commit(
        to,
        [
            *(CommitOperationDelete(name) for name in deleted),
            *(CommitOperationAdd(name, file) for name, file in contents.files.items()),
        ],
        commit_message="Upload a model trained with sftdemo",
        parent_commit=found.sha if found else None,
    )


@contextmanager
def _there(run: Path, to: str) -> Generator[None]:
    """Say of whatever fails for it that the run is there no longer.

    Raises:
        TrainingError: in place of other errors, if the run has gone.
    """
    try:
        yield
    except (SftdemoError, OSError) as error:
        if (run / RUN_RECORD).is_file():
            raise
        raise TrainingError(f"the run was deleted before it was pushed to {to}; push another.") from error


@contextmanager
def _explained(to: str, remedies: Remedies) -> Generator[None]:
    """Turn what huggingface_hub raises into a sentence.

    Raises:
        TrainingError: in place of its errors.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled as error:
        raise TrainingError(f"HF_HUB_OFFLINE forbids asking the Hub, so nothing goes to {to}; unset it.") from error
    # the last two for a proxy whose name is malformed, or of a kind that there is no package for
    except (
        httpx2.HTTPError,
        HfHubHTTPError,
        OSError,
        RuntimeError,
        ValueError,
        httpx2.InvalidURL,
        ImportError,
    ) as error:
        beneath = error.__cause__ if isinstance(error, RuntimeError) else None  # of the upload of a large file
        raise TrainingError(_sentence(to, beneath or error, remedies.log_in)) from error


def _sentence(to: str, error: BaseException, log_in: str) -> str:
    from huggingface_hub.errors import HfHubHTTPError

    if type(error) is ValueError:  # the card's metadata, or an answer that is none
        return f"the Hub refused what was sent to {to} ({' '.join(str(error).split())}). Nothing was committed."
    all_or_none = f"All files go up in one commit: {to} has all of them or none."
    if not isinstance(error, HfHubHTTPError):
        return (
            f"the Hub did not answer for {to} as it should ({type(error).__name__}). {all_or_none} Check the network, "
            "look there, and try again."
        )
    status, said = error.response.status_code, " ".join((error.server_message or "").split())
    because = f" ({said.rstrip('.')})" if said else ""
    if status == 429 or status >= 500:
        return (
            f"the Hub could not take what was sent to {to}, with status {status}{because}. {all_or_none} Look there "
            "later, and try again."
        )
    return {
        401: f"the Hub refused the token that was sent for {to}{because}: {log_in}.",
        403: f"the Hub does not let this login write to {to}{because}: check the owner's name, or {log_in}.",
        404: f"the Hub has no user or organisation for {to}{because}, or hides it: check the name, or {log_in}.",
        409: f"the repository {to} is there already, unseen by this login or made a moment ago{because}: name another.",
        412: f"the repository {to} has changed since it was looked at{because}. Look there, and try again.",
    }.get(
        status,
        f"the Hub refused what was sent to {to}, with status {status}{because}. Nothing was committed; try "
        "again, or name another repository.",
    )
