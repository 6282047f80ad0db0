"""Read the rows of a data set on the Hugging Face Hub: its commit, its config and split, and the rows as a table has
them. No code of the data set is run: `datasets` reads data files and has no loading scripts any more."""

# pyarrow, datasets and httpx2 have no type stubs, or partial ones
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..core.environment import HUB_TIMEOUT
from ..core.errors import DataError
from .files import limited
from .records import MAX_BYTES, Record, check_wanted, first_rows
from .tables import dataset_batches, table_records

HUB = "hub:"
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_SOURCE = re.compile(
    r"hub:(?P<name>[^@/\[\]\s]+/[^@/\[\]\s]+)"
    r"(?:@(?P<revision>refs/(?:convert|pr)/\w+|[^/\[\]\s]+))?"  # the Hub's own branches have a / in their names
    r"(?:/(?P<config>[^/\[\]]+))?"
    r"(?:\[(?P<split>[^\[\]]+)\])?"
)
_FORMATS = ("json", "csv", "parquet", "arrow", "text", "cache")  # builders of `datasets`; the last is its own cache

Token = bool | str | None
SizedRecords = Iterator[tuple[Record, int]]


@dataclass(frozen=True)
class HubSource:
    """A data set on the Hub, as `hub:owner/name@revision/config[split]` names it."""

    name: str
    revision: str | None = None
    config: str | None = None
    split: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        config, split = f"/{self.config}" if self.config else "", f"[{self.split}]" if self.split else ""
        return f"{HUB}{self.name}{revision}{config}{split}"


def is_hub(path: object) -> bool:
    """Whether a source of rows is on the Hub."""
    return str(path).startswith(HUB)


def read_source(text: str) -> HubSource:
    """Read `hub:owner/name@revision/config[split]`, of which all behind the name may be missing.

    Raises:
        DataError: when it is written otherwise.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    found = _SOURCE.fullmatch(text.strip())
    if found is None:
        raise DataError(
            f"{text!r} names no data set on the Hub; write hub:owner/name, or hub:owner/name@v1/main[test]."
        )
    try:
        validate_repo_id(found["name"])
    except HFValidationError as error:
        raise DataError(f"{text!r} names no data set on the Hub: {_first_line(error)}.") from error
    return HubSource(**found.groupdict())


@dataclass(frozen=True)
class HubRows:
    """A split of a data set at one commit, which is the revision of `source`.

    Args:
        stream (`Callable[[], SizedRecords]`):
            Reads its rows over the network, from the first each time, each with the bytes of all values up to there.
        download (`Callable[[], Callable[[], SizedRecords]]`):
            Leaves its rows in the cache of `datasets`, and returns what reads them from there.
    """

    source: HubSource
    stream: Callable[[], SizedRecords]
    download: Callable[[], Callable[[], SizedRecords]]


def open_hub(source: HubSource, notes: list[str], token: Token = None) -> HubRows:
    """Find a data set on the Hub, or without a network (HF_HUB_OFFLINE) in the cache of `datasets`. `notes` takes the
    commit and the splits that are not read.

    Args:
        token (`bool` or `str`, *optional*):
            As in `huggingface_hub`: a token, False for none, by default the user's own login.

    Raises:
        DataError: when it is not there, may not be read, has other configs or splits, or holds no rows.
    """
    commit = _commit(source, token)
    with _explained(source):
        builder = _builder(source, commit, token)
    if commit is None:
        commit = str(builder.hash)
        if source.revision not in (None, commit):
            raise DataError(
                f"{source} is not in the cache, which has commit {commit} of {source.name}; HF_HUB_OFFLINE forbids "
                "asking the Hub."
            )
        notes.append(f"{source} is read at commit {commit[:12]} from the cache; the Hub is not asked (HF_HUB_OFFLINE).")
    else:
        notes.append(f"{source} is read at commit {commit[:12]}.")
    split = _split(source, builder, notes)
    only = builder.config.name if builder.name == "cache" else None  # of the cache; the Hub may have more
    stream = partial(_records, source, lambda: _explained_batches(source, lambda: builder.as_streaming_dataset(split)))
    return HubRows(
        replace(source, revision=commit, config=source.config or only),
        stream,
        partial(_downloaded, source, builder, split),
    )


@dataclass(frozen=True)
class FetchedRows:
    """The first rows of a data set at one commit, and notes on them: `limit` were wanted; None is all."""

    source: HubSource
    limit: int | None
    records: tuple[Record, ...]
    notes: tuple[str, ...]


def fetch_rows(source: str, limit: int | None, token: Token = None, most: int = MAX_BYTES) -> FetchedRows:
    """Read the first rows of a data set over the network, at most `most` bytes of them. The arguments and the errors
    are those of `read_hub`."""
    check_wanted(limit)
    notes: list[str] = []
    rows = open_hub(read_source(source), notes, token)
    records = limited(source, most, rows.stream(), "Read its first rows alone (--limit 1000).")
    kept = tuple(first_rows(records, limit, source, notes))
    return FetchedRows(rows.source, limit, kept, tuple(notes))


def _commit(source: HubSource, token: Token) -> str | None:
    """Return the commit that a revision is now; None where the Hub may not be asked."""
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    api = HfApi(token=token)
    try:
        info = api.dataset_info(source.name, revision=source.revision, timeout=HUB_TIMEOUT)
        if info.gated:  # everyone may read about it, but not its files
            api.auth_check(source.name, repo_type="dataset")
    except OfflineModeIsEnabled:
        return None
    except GatedRepoError as error:
        raise DataError(f"{source.name} is gated: accept its terms on its page, and {LOG_IN}.") from error
    except RepositoryNotFoundError as error:
        raise DataError(
            f"the Hub has no data set {source.name!r}, or it is private: check the spelling, or {LOG_IN}."
        ) from error
    except RevisionNotFoundError as error:
        raise DataError(
            f"{source.name} has no revision {source.revision!r}; name a branch, a tag or a commit of it."
        ) from error
    # the last three for a proxy whose name is malformed, or of a kind that there is no package for
    except (httpx2.HTTPError, HfHubHTTPError, OSError, httpx2.InvalidURL, ValueError, ImportError) as error:
        raise _no_answer(source, error) from error
    return str(info.sha)


def _no_answer(source: HubSource, error: Exception) -> DataError:
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError) and error.response.status_code == 401:
        return DataError(f"the Hub refused the token that was sent for {source.name}: {LOG_IN}.")
    kind = type(error).__name__
    return DataError(
        f"{source} cannot be read: the Hub did not answer, or broke off ({kind}). Check the network, or name a file."
    )


def _builder(source: HubSource, commit: str | None, token: Token) -> Any:
    """Return what `datasets` reads the data set with."""
    import datasets
    from datasets import config

    # huggingface_hub tries a request six times in 23 seconds; that twenty times over would be ten minutes
    config.STREAMING_READ_MAX_RETRIES = config.STREAMING_OPEN_MAX_RETRIES = 1
    place = f"hf://datasets/{source.name}"  # without hf:// a folder of that name would come first
    try:
        builder: Any = datasets.load_dataset_builder(place, source.config, revision=commit, token=token)
    except ValueError as error:
        if commit is None:
            raise _not_cached(source) from error
        names = datasets.get_dataset_config_names(place, revision=commit, token=token)
        if source.config in names or (len(names) == 1 and source.config is None):
            raise
        first = replace(source, config=names[0])
        reason = f"has no config {source.config!r}" if source.config else "has several configs"
        raise DataError(f"{source} {reason}; name one of {', '.join(names)}: {first}.") from error
    except RuntimeError as error:
        raise DataError(
            f"{source.name} needs a loading script, which is never run. Name a data set whose rows stand in files."
        ) from error
    except OSError as error:
        if commit is None:
            raise _not_cached(source) from error
        raise
    if commit is not None and builder.name == "cache":  # of any commit, which `datasets` takes where the Hub fails
        raise ConnectionError("it failed after its first answer")
    if builder.name not in _FORMATS:
        raise DataError(
            f"{source.name} has files of the kind {builder.name!r}; rows are read from JSON, JSON Lines, CSV, text, "
            "Parquet and Arrow."
        )
    return builder


def _not_cached(source: HubSource) -> DataError:
    return DataError(
        f"{source} is not in the cache, and HF_HUB_OFFLINE forbids asking the Hub. `train` without --limit leaves a "
        "data set there."
    )


def _split(source: HubSource, builder: Any, notes: list[str]) -> str:
    """Return the split that is read: the one that is named, else `train`, else the only one."""
    names = [str(name) for name in builder.config.data_files or builder.info.splits]
    chosen = source.split or ("train" if "train" in names else names[0] if len(names) == 1 else None)
    if chosen not in names:
        reason = f"has no split {chosen!r}" if chosen else "has no split train"
        first = replace(source, split=names[0])
        raise DataError(f"{source} {reason}; name one of {', '.join(names)}: {first}.")
    if source.split is None and len(names) > 1:
        others = ", ".join(str(replace(source, split=name)) for name in names if name != chosen)
        notes.append(f"of the splits, {chosen} is read; the others are {others}.")
    return chosen


def _downloaded(source: HubSource, builder: Any, split: str) -> Callable[[], SizedRecords]:
    with _explained(source):
        # what the card says of the numbers of rows may be out of date
        builder.download_and_prepare(verification_mode="no_checks")
        data = builder.as_dataset(split=split)
    return partial(_records, source, partial(dataset_batches, data))


def _records(source: HubSource, batches: Callable[[], Iterator[Any]]) -> SizedRecords:
    return table_records(batches(), str(source), "a data set of the Hub")


def _explained_batches(source: HubSource, opened: Callable[[], Any]) -> Iterator[Any]:
    with _explained(source):
        yield from dataset_batches(opened())


@contextmanager
def _explained(source: HubSource) -> Generator[None]:
    """Turn what the libraries raise into a sentence.

    Raises:
        DataError: in place of their errors.
    """
    import httpx2
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DataFilesNotFoundError, DatasetGenerationError, DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except (DataFilesNotFoundError, EmptyDatasetError) as error:
        raise DataError(f"{source} has no files that rows are read from: JSON, CSV, text, Parquet or Arrow.") from error
    except DatasetNotFoundError as error:  # it was there a moment ago
        raise DataError(f"{source} cannot be read: {_first_line(error)}.") from error
    except (httpx2.HTTPError, HfHubHTTPError, ConnectionError, TimeoutError) as error:
        raise _no_answer(source, error) from error
    except DatasetGenerationError as error:  # it has the reason beneath it
        raise DataError(f"{source} cannot be read: {_first_line(error.__cause__ or error)}.") from error
    except (ValueError, OSError) as error:
        raise DataError(f"{source} cannot be read: {_first_line(error)}.") from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
