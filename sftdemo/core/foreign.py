"""Run what comes with a model, its chat template and its tokenizer, and open what visitors of a public page upload, as
a process of its own: `python foreign.py`.

The first two are programs that others wrote; a table may inflate to anything. Each line of stdin is a question in JSON,
each line of stdout its answer. The process ends with its parent, or when one question takes longer than it may.
`apart.py` starts it.
"""

# transformers annotates its functions in part, pyarrow none
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

BYTES = 3 * 2**28  # of memory, 768 MiB; what is imported takes a fifth of it


def render(question: dict[str, Any]) -> list[str]:
    """Return what a chat template makes of conversations."""
    from transformers.utils.chat_template_utils import render_jinja_template

    texts, _ = render_jinja_template(chat_template=question["template"], **question["arguments"])
    total = sum(map(len, texts))
    if total > question["most"]:
        raise ValueError(f"it writes {total:,} characters, and the limit is {question['most']:,}")
    return list(texts)


def encode(question: dict[str, Any]) -> int:
    """Encode texts with a tokenizer, to find out whether it comes to an end."""
    tokenizer = _tokenizer(question["tokenizer"])
    return len(tokenizer.encode_batch_fast(question["texts"], add_special_tokens=False))


def read(question: dict[str, Any]) -> int:
    """Read a table, to find out whether there is room for it. Returns its rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pa.memory_map(question["path"]) as file:
        if question["table"] == "Parquet":
            with pq.ParquetFile(file, pre_buffer=False) as table:
                return sum(batch.num_rows for batch in table.iter_batches(question["rows"], use_threads=False))
        options = pa.ipc.IpcReadOptions(use_threads=False)
        if question["table"] == "Arrow":
            with pa.ipc.open_file(file, options=options) as table:
                return sum(table.get_batch(index).num_rows for index in range(table.num_record_batches))
        with pa.ipc.open_stream(file, options=options) as batches:
            return sum(batch.num_rows for batch in batches)


@lru_cache(maxsize=2)
def _tokenizer(content: str) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(content)


_KINDS: dict[str, Callable[[dict[str, Any]], Any]] = {"render": render, "encode": encode, "read": read}


def _bound_memory() -> None:
    with suppress(ImportError):  # Windows has none
        import resource

        with suppress(ValueError, OSError):  # a smaller limit is set already
            resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    try:
        if sys.platform != "win32":  # by default it ends the process, in whatever it computes
            signal.alarm(int(question["seconds"]) + 2)
        return {"result": _KINDS[question["kind"]](question)}
    except MemoryError:
        return {"error": "it takes too much memory"}
    except BaseException as error:  # a template may fail in any way, and what Rust panics with is no Exception
        return {"error": str(error).strip()[:2000] or type(error).__name__}
    finally:
        if sys.platform != "win32":
            signal.alarm(0)


def main() -> None:
    """Answer questions until there are no more."""
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # the others take a gigabyte of addresses at once
    sys.path.pop(0)  # the folder of this file, whose modules would hide others
    import tokenizers  # noqa: F401  # pyright: ignore[reportUnusedImport]
    import transformers.utils.chat_template_utils  # noqa: F401  # pyright: ignore[reportUnusedImport]

    _bound_memory()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    out.write(b"ready\n")
    out.flush()
    for line in sys.stdin.buffer:
        out.write(json.dumps(_answer(json.loads(line))).encode() + b"\n")
        out.flush()


if __name__ == "__main__":
    main()
