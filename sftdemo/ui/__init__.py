"""The page. The only part that imports gradio."""

from .gradio_import import import_gradio

import_gradio()

from .page import build  # noqa: E402
from .serve import launch  # noqa: E402

__all__ = ["build", "launch"]
