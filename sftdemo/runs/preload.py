"""What the fork server imports before the first job: the settings, and then the libraries that read them."""

from ..core.environment import prepare

prepare()

from ..model import generation  # noqa: E402, F401
from ..train import loop  # noqa: E402, F401
from . import ablation  # noqa: E402, F401
