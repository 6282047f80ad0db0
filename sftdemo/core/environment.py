"""Settings that the libraries read when they are imported: nothing is reported to anyone, nothing chats on stderr, and
threads that wait do not spin. They are the program's; whoever imports `sftdemo` as a library keeps their own."""

import ctypes
import gc
import os
import platform
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager

# glibc's mallopt, https://man7.org/linux/man-pages/man3/mallopt.3.html
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_PAUSE_SOFT = 1  # omp_pause_soft of omp.h
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
HUB_TIMEOUT = 4  # seconds until the Hub counts as out of reach


def prepare() -> None:
    """Makes the settings, unless the user has. Each process of the program calls it before it imports a library: the
    command line, the page, and the children that run jobs."""
    for name, value in {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        # How long GNU OpenMP's threads spin before they sleep. By default long: beside a second busy process on
        # 2 cores, generating 8 tokens took 31.9 s, and 2.5 s without any spinning, which in turn costs a small matrix
        # product (266x576x16) on an idle machine three quarters of its speed. 2,000 rounds keep most of both.
        "GOMP_SPINCOUNT": "2000",
        # No threads of the tokenizers library's own, which it looks up at each call: beside them Python works out the
        # masks, and waits. `ahead.py` runs several of its calls at a time.
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }.items():
        os.environ.setdefault(name, value)
    _reach_this_machine_itself()
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    # Importing a library makes far more objects than the garbage collector expects, and so do a thousand rows at work:
    # by default the libraries of a training took 0.3 s of 6 s longer to import, and masking a tenth longer.
    gc.set_threshold(50_000)
    if _is_glibc():
        keep_memory()


def _reach_this_machine_itself() -> None:
    """What this machine serves itself is asked for without a proxy, which could not know it."""
    if not _proxies():
        return
    known = [name.strip() for name in (os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")).split(",")]
    names = [name for name in known if name]
    if "*" not in names:
        names += [name for name in _THIS_MACHINE if name not in names]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(names)


@contextmanager
def without_proxies() -> Generator[None]:
    """Inside this block no proxy is set: Gradio asks its own server when it starts, and fails if the name of a proxy is
    malformed or of a kind that httpx has no package for."""
    kept = {name: os.environ.pop(name) for name in _proxies()}
    try:
        yield
    finally:
        os.environ.update(kept)


def _proxies() -> list[str]:
    return [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")]


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


def keep_memory() -> None:
    """Has glibc keep what is freed. By default a large tensor is given back to the system when it is freed, and each of
    its pages is faulted in anew when the next one is made: 107,000 faults and 1.9 s a step of full fine-tuning of the
    default model, none and 1.2 s with this."""
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_MMAP_THRESHOLD, 1 << 30)
    mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


def share_heap() -> None:
    """Threads that begin from now on share the main heap: the heaps that glibc gives to threads cannot hold large
    tensors. Not from the start, since a tokenizer's threads wait for each other at one heap (three times as long)."""
    if _is_glibc():
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def release_memory() -> None:
    """What is free goes back to the system, so that one can see how much memory something takes."""
    gc.collect()
    if _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def release_threads() -> None:
    """Ends the OpenMP threads that wait for the calling thread's next operation; they begin anew when there is one.
    https://www.openmp.org/spec-html/5.0/openmpsu156.html"""
    if _is_glibc() and "torch" in sys.modules:  # which brings GNU's OpenMP along
        ctypes.CDLL(None).omp_pause_resource_all(_PAUSE_SOFT)


def settle() -> None:
    """Called when the libraries are imported: what they made stays for good, so that the garbage collector need not
    walk through it again and again, 0.3 s each time: masking 20,000 rows took 5.1 s before and 4.3 s after."""
    gc.freeze()
