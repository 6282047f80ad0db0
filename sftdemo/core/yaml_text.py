"""Read and write YAML that holds what JSON can hold: the settings of a run, and the value of a single one.

Importing this module imports PyYAML, so import it where it is used.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# PyYAML's stubs leave the types of its nodes open
from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any, cast

import yaml

from .errors import ConfigError

MAX_CHARACTERS = 200_000
_FLOAT = "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")

_UNUSUAL = re.compile(r"[^\S \n]|[^\n -\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")  # PyYAML loses some


class _Loader(yaml.SafeLoader):
    """A safe loader that takes 2e-3 for a number, as YAML 1.2 does, and refuses aliases and a key that stands twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="aliases (*) are not read", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            name = cast("object", self.construct_object(key, deep=True))
            if not isinstance(name, str):
                raise yaml.MarkedYAMLError(problem=f"the key {name!r} is no text", problem_mark=key.start_mark)
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f"{name!r} stands twice", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """A safe dumper that puts text in quotes where `_Loader` would take it for a number, and writes text of several
    lines as lines."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = "|" if "\n" in text else None
        if _UNUSUAL.search(text) or (style and self.default_flow_style):
            style = '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Loader.add_implicit_resolver(*_FLOAT)
_Dumper.add_implicit_resolver(*_FLOAT)
_Dumper.add_representer(str, _Dumper.represent_text)


def read_yaml(text: str, what: str) -> Any:
    """Return the value in `text`. `what` begins the message if it is refused.

    Raises:
        ConfigError: for text that is too long, is not YAML, or holds what JSON cannot hold, with the line if there are
            several.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{what} has {len(text):,} characters; the limit is {MAX_CHARACTERS:,}.")
    try:
        value = yaml.load(text, _Loader)
        _check_plain(value, what)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark is not None and "\n" in text.strip() else ""
        raise ConfigError(f"{what}{line} cannot be read as YAML: {error.problem or error.context}.") from error
    except (
        yaml.YAMLError,
        ValueError,
    ) as error:  # a ValueError: an impossible date, an integer of too many digits
        raise ConfigError(f"{what} cannot be read as YAML: {' '.join(str(error).split())}.") from error
    except RecursionError as error:
        raise ConfigError(f"{what} has too many lists in each other.") from error
    return value


def _check_plain(value: object, what: str) -> None:
    if isinstance(value, dict):
        for each in cast("dict[str, object]", value).values():
            _check_plain(each, what)
    elif isinstance(value, list):
        for each in cast("list[object]", value):
            _check_plain(each, what)
    elif not (value is None or isinstance(value, bool | int | float | str)):
        raise ConfigError(f'{what} has {value}, which YAML reads as a {type(value).__name__}; put text in "quotes".')


def write_yaml(value: object) -> str:
    """Return a mapping as YAML, in its own order, with a line for each key."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120)


def write_value(value: object) -> str:
    """Return a value as YAML on one line."""
    text = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=float("inf")
    )
    return text.removesuffix("...\n").strip()
