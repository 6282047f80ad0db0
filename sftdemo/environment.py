"""Settings that the libraries read when they are imported: nothing is reported to anyone, nothing chats on stderr, and
threads that wait do not spin."""

import gc
import os
import warnings


def prepare() -> None:
    """Called when `sftdemo` is imported, which is before it imports any library. What the user has set wins."""
    for name, value in {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        # How long GNU OpenMP's threads spin before they sleep. By default long: beside a second busy process on
        # 2 cores, generating 8 tokens took 31.9 s, and 2.5 s without any spinning, which in turn costs a small matrix
        # product (266x576x16) on an idle machine three quarters of its speed. 2,000 rounds keep most of both.
        "GOMP_SPINCOUNT": "2000",
        "TQDM_DISABLE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def settle() -> None:
    """Called when the libraries are imported: what they made stays for good, so that the garbage collector need not
    walk through it again and again: masking 20,000 rows took 5.1 s before and 4.3 s after."""
    gc.freeze()
