"""Import Gradio without the stub files that it writes for each of its components: a third of its import."""

import inspect
from typing import Any
from unittest.mock import patch

_file_of = inspect.getfile


def import_gradio() -> None:
    """Import `gradio` as if its components had no source files. For each that has one, it parses the source and
    compares a `.pyi` file beside it (`gradio.component_meta.create_or_modify_pyi`; a notebook's have none, and are
    skipped). Where a page runs nobody reads these. On a slow machine (AVX2, Gradio 6.31) an import took 5.3 s of CPU
    time with them, 3.2 s without."""
    with patch.object(inspect, "getfile", _file_unless_gradios):
        import gradio  # noqa: F401


def _file_unless_gradios(of: Any) -> str:
    if inspect.isclass(of) and of.__module__.startswith("gradio."):
        raise OSError
    return _file_of(of)
