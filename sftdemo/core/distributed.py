"""Several processes that train one model together, as torchrun starts them; without it, one process by itself.

Who is who stands in RANK, LOCAL_RANK and WORLD_SIZE, which torchrun and `accelerate launch` set. Nothing here imports
torch where there is only one process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import Store

# The others wait while the first answers prompts and saves. If one of them dies, it is the launcher that ends the rest.
_WAIT = timedelta(days=1)
_board: list[Store] = []  # what all processes can read and write, while they are together


def count() -> int:
    """How many processes train together; 1 without a launcher."""
    return int(os.environ["WORLD_SIZE"]) if "LOCAL_RANK" in os.environ else 1


def is_first() -> bool:
    """Whether this is the process that answers prompts, tells of events and saves."""
    return count() == 1 or os.environ["RANK"] == "0"


@contextmanager
def together() -> Iterator[None]:
    """While this lasts, `anyone`, `first_here_first` and `speaks` work. An error that follows another process's ends
    this one without a word: it has lost the one that failed, and that one has told why.

    Raises:
        SystemExit: in place of such an error.
    """
    if count() == 1:
        yield
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns that it looked for unused parameters in vain
    import torch

    if int(os.environ["LOCAL_RANK"]) < torch.cuda.device_count():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # what "cuda" then means
    store, rank, size = next(torch.distributed.rendezvous("env://", timeout=_WAIT))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_WAIT)
    _board.append(store)
    try:
        yield
    except Exception as error:
        if speaks():
            raise
        raise SystemExit(1) from error
    finally:
        _board.clear()
        torch.distributed.destroy_process_group()


def anyone(flag: bool) -> bool:
    """Whether the flag is set in any process. Each has to ask, and waits until all have."""
    if count() == 1:
        return flag
    import torch

    flags = torch.tensor([int(flag)])
    torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
    return bool(flags[0])


@contextmanager
def first_here_first() -> Iterator[None]:
    """The first process of each machine does the block before the others do, so that they find what it fetched."""
    first = count() == 1 or os.environ["LOCAL_RANK"] == "0"
    if not first:
        anyone(False)
    yield
    if first:
        anyone(False)


def speaks() -> bool:
    """Whether this process tells of its error: the first one that asks does, so that there is one message."""
    if not _board:  # one process by itself, or a command that refuses to run in several
        return is_first()
    rank = os.environ["RANK"]
    return _board[0].compare_set("sftdemo/speaker", "", rank) == rank.encode()
