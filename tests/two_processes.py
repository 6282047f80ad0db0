"""Commands of the program in two processes that train together, as `torchrun` starts them, but from the fork server of
jobs: it has imported what takes a process ten seconds."""

from __future__ import annotations

import multiprocessing
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from serving import free_port

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["sftdemo.runs.preload"])
PATIENCE = 300  # seconds


def in_two_processes(folder: Path, commands: dict[str, list[str]]) -> list[int]:
    """Has each of two processes do one command after the other, and returns how the two ended: what they print goes to
    files in the folder, and the last command decides."""
    import torch.distributed

    port = free_port()
    store = torch.distributed.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)  # the launcher's
    both = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    both |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "SFTDEMO_CACHE": str(folder / "cache")}
    each = [both | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    processes = [CONTEXT.Process(target=_one_of_two, args=(folder, commands, environment)) for environment in each]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
        process.kill()
        process.join()
    del store
    return [process.exitcode for process in processes]


def _one_of_two(folder: Path, commands: dict[str, list[str]], environment: dict[str, str]) -> None:
    os.environ |= environment
    import torch.distributed
    from torch.distributed.rendezvous import rendezvous

    from sftdemo.runs import run as runs
    from sftdemo.terminal.cli import main
    from sftdemo.train.trainer import MaskedTrainer

    rank, asked = environment["RANK"], []
    run, compute_loss = runs.run, MaskedTrainer.compute_loss

    def apart(*words, **settings):
        """A board of its own for each command, or the processes would find where they were during the one before."""
        for store, *others in rendezvous(*words, **settings):
            yield torch.distributed.PrefixStore(name, store), *others

    def stopped_by_the_second(config, data, output, stop, overwrite):
        return run(config, data, output, lambda: rank == "1" and (asked.append(1) or len(asked) > 3))

    def out_of_memory_in_the_second(self, *words, **settings):
        if rank == "1" and self.state.global_step == 2:
            raise MemoryError
        return compute_loss(self, *words, **settings)

    sys.modules["torch.distributed.rendezvous"].rendezvous = apart
    code = None
    for name, words in commands.items():
        runs.run = stopped_by_the_second if name == "stopped" else run
        MaskedTrainer.compute_loss = out_of_memory_in_the_second if name == "out of memory" else compute_loss
        printed = [(folder / f"{name}.{rank}.{kind}").open("w") for kind in ("out", "err")]
        with printed[0] as out, printed[1] as err, redirect_stdout(out), redirect_stderr(err):
            try:
                code = main(words)
            except SystemExit as error:
                code = error.code
        (folder / f"{name}.{rank}.code").write_text(str(code))
    sys.exit(code)
