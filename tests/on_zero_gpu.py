"""Runs on ZeroGPU in a process of its own, for `ui/test_zero_gpu.py`: how each ends is printed as a line of JSON.

There is no GPU here. Without torch, which `WITHOUT_TORCH` hides, the package skips what it does with one: its device,
and the tensors that move to it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from functools import partial

import gradio as gr
from gradio.context import LocalContext
from starlette.datastructures import Headers

from sftdemo.core.events import Finished, Phase
from sftdemo.ui.zero_gpu import LentGpu

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; import sftdemo.ui, on_zero_gpu; on_zero_gpu.main()"
VISITOR = gr.Request(headers=Headers({"x-ip-token": "of.e30.someone"}))


def counting(most, stop):
    for number in range(most):
        yield Phase("count", str(number))
    yield Phase("process", str(os.getpid()))
    yield Finished(most, most, 0.1, stopped=False)


def patient(stop):
    for number in range(500):
        yield Phase("wait", str(number))
        if stop():
            yield Finished(number, 500, 0.1, stopped=True)
            return
        time.sleep(0.02)
    yield Finished(500, 500, 0.1, stopped=False)


def dying(stop):
    yield Phase("last", "words")
    os.kill(os.getpid(), signal.SIGKILL)


def raising(stop):
    yield from ()
    raise ValueError("seven is no colour")


def watch(gpu: LentGpu, name: str, work, estimate=None, stop_after=0, leave_after=0) -> None:
    """Run some work to its end, or stop it, or leave its page after so many events."""
    gpu.begin(name, work, estimate)
    events = []
    for events in gpu.watch(name):
        if len(events) == stop_after:
            gpu.stop(name)
        if len(events) == leave_after:
            break
    told = [event.to_dict() for event in events]
    print(json.dumps({"name": name, "events": told, "own": os.getpid(), "left": name in gpu}), flush=True)


def main() -> None:
    gpu = LentGpu()
    watch(gpu, "counted", partial(counting, 3), estimate=50.0)
    watch(gpu, "stopped", patient, stop_after=4)
    watch(gpu, "closed", patient, leave_after=4)
    watch(gpu, "died", dying)
    watch(gpu, "raised", raising)
    for refused in sys.argv[1:]:
        LocalContext.request.set(None if refused == "stranger" else VISITOR)
        watch(gpu, refused, partial(counting, 3), estimate=1000.0)
