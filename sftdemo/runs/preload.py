"""Imported by the fork server before the first job: set the environment, then import the libraries that read it,
which the garbage collector of its children leaves alone. matplotlib draws the loss of a run that is saved."""

from ..core.environment import prepare, settle

prepare()

import matplotlib.backends.backend_svg  # noqa: E402
import matplotlib.figure  # noqa: E402, F401

from ..model import generation  # noqa: E402, F401
from ..train import loop  # noqa: E402, F401
from . import ablation  # noqa: E402, F401

settle()
