"""Read a file that holds a JSON object, such as a run's record or a model's settings."""

from __future__ import annotations

import json
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, cast

from .errors import ModelError, unread

MOST = 64 * 2**20  # bytes; the largest vocabularies have half of it


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        ModelError: if the file cannot be read, or holds something else.
    """
    try:
        told = path.stat()
        if not (S_ISREG(told.st_mode) or S_ISDIR(told.st_mode)):  # a pipe would be waited for
            raise ModelError(f"{path} is no file.")
        if told.st_size > MOST:
            raise ModelError(f"{path} has {told.st_size:,} bytes, and the limit is {MOST:,}; it may have been changed.")
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {unread(error)}.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no JSON object, but {_kind(found)}; it may have been cut or changed.")
    return cast("dict[str, Any]", found)


def _kind(found: object) -> str:
    if found is None:
        return "null"
    return {"list": "a list", "str": "a text", "bool": "true or false"}.get(type(found).__name__, "a number")
