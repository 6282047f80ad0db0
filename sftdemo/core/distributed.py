"""Training one model in several processes, as started by torchrun or `accelerate launch`.

The launcher sets RANK, LOCAL_RANK and WORLD_SIZE. Without a launcher there is a single process, and torch is not
imported here.
"""

# torch annotates these functions in part
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

# The others wait while the first answers prompts and saves. If a process dies, the launcher ends the rest.
_WAIT = timedelta(days=1)
_board: list[Store] = []  # a store that all processes read and write, inside `together`


def count() -> int:
    """Return the number of processes; 1 without a launcher."""
    return int(os.environ["WORLD_SIZE"]) if "LOCAL_RANK" in os.environ else 1


def is_first() -> bool:
    """Whether this is the process that answers prompts, reports events and saves."""
    return count() == 1 or os.environ["RANK"] == "0"


@contextmanager
def together() -> Generator[None]:
    """Connect the processes; `anyone`, `first_here_first` and `speaks` work inside this block.

    When a process fails, the others lose their connection to it and fail as well. Only the first error is raised.

    Raises:
        SystemExit: in place of the errors that follow.
    """
    if count() == 1:
        yield
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns that it found no unused parameters
    import torch
    from torch.distributed.rendezvous import rendezvous

    if int(os.environ["LOCAL_RANK"]) < torch.cuda.device_count():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # the device that "cuda" means from here on
    store, rank, size = next(rendezvous("env://", timeout=_WAIT))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_WAIT)
    _board.append(store)
    try:
        anyone(False)  # one that failed before another is connected would take it down with an error of gloo's
        yield
    except Exception as error:
        if speaks():
            raise
        raise SystemExit(1) from error
    finally:
        _board.clear()
        torch.distributed.destroy_process_group()


def anyone(flag: bool) -> bool:
    """Whether the flag is set in any process. Waits until every process has called it."""
    if count() == 1:
        return flag
    import torch

    flags = torch.tensor([int(flag)])
    torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
    return bool(flags[0])


@contextmanager
def first_here_first() -> Generator[None]:
    """Run the block in each machine's first process before the others, so that they find what it downloaded."""
    first = count() == 1 or os.environ["LOCAL_RANK"] == "0"
    if not first:
        anyone(False)
    yield
    if first:
        anyone(False)


def speaks() -> bool:
    """Whether this process reports its error. Only the first process that asks does, so that there is one message."""
    if not _board:  # a single process, or a command that refuses to run in several
        return is_first()
    rank = os.environ["RANK"]
    return _board[0].compare_set("sftdemo/speaker", "", rank) == rank.encode()
