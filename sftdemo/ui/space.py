"""What the page says where it is a Hugging Face Space."""

from __future__ import annotations

import os
import re

from ..core.limits import is_public

_NAME = r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9])?"
_SPACE = re.compile(f"{_NAME}/{_NAME}", re.ASCII)


def has_sign_in() -> bool:
    """Return whether visitors can sign in with Hugging Face: on a Space whose front matter has `hf_oauth`."""
    return is_public() and "OAUTH_CLIENT_ID" in os.environ


def duplicate_address() -> str | None:
    """Return where this Space can be duplicated; None elsewhere, and for a `$SPACE_ID` that is no Space's."""
    space = os.environ.get("SPACE_ID", "")
    return f"https://huggingface.co/spaces/{space}?duplicate=true" if _SPACE.fullmatch(space) else None
