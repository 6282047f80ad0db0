"""A package in the place of trackio, which keeps what it is sent, and prints as trackio does."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace


class _Settings(dict):
    def update(self, *words, **more):
        """trackio's own takes an argument more than a dict's."""


def stand_in(monkeypatch) -> list[tuple]:
    """Put it there for one test, and return what is sent from then on."""
    sent: list[tuple] = []

    def init(**words):
        print("* Trackio project initialized")
        sent.append(("init", words["project"], words["name"]))

    trackio = ModuleType("trackio")
    trackio.__spec__ = SimpleNamespace()  # by which transformers knows that the package is there
    trackio.__version__ = "0"
    trackio.config = _Settings()
    trackio.context_vars = SimpleNamespace(current_space_id=SimpleNamespace(get=lambda: None))
    trackio.init = init
    trackio.log = lambda logs, **_: sent.append(("log", logs))
    trackio.finish = lambda: sent.append(("finish",))
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    return sent
