"""Imported by the fork server before the first job: set the environment, then import the libraries that read it,
which the garbage collector of its children leaves alone."""

from ..core.environment import prepare, settle

prepare()

from ..model import generation  # noqa: E402, F401
from ..train import loop  # noqa: E402, F401
from . import ablation  # noqa: E402, F401

settle()
