"""Read and write the settings of a run as YAML, for `--config`, for the page, and for the folder that a run leaves.

Importing this module is light; PyYAML is imported where a file is read or written.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeGuard, cast

from .config import SETTINGS, RunConfig, Setting
from .errors import ConfigError
from .trl_settings import full_name, write_pairs

ALTERNATIVES = (("steps", "epochs"), ("full", "lora_r"))  # where both of a pair are given, one says nothing
_ALWAYS = ("model", "template", "steps", "epochs", "learning_rate", "seed")
_LARGEST = 10_000_000  # beyond the limit of every number
_MOST = 1_000_000  # bytes
_SET = "set"  # in a file a mapping, in `RunConfig` a tuple of "name=value"


def read_settings(path: str | Path) -> dict[str, Any]:
    """Return the settings in a YAML file, by their names in `RunConfig`.

    Raises:
        ConfigError: naming the file, if it cannot be read, names something else, a setting twice, or a value that the
            setting cannot have.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= _MOST else b""
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.") from error
    if size > _MOST:
        raise ConfigError(f"{path} has {size:,} bytes; settings have at most {_MOST:,}.")
    try:
        return parse_settings(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 at byte {error.start:,}; save it as UTF-8.") from error


def parse_settings(text: str, name: str) -> dict[str, Any]:
    """Return the settings in the text of a file called `name`, as `read_settings` does."""
    from .yaml_text import read_yaml

    found = read_yaml(text, name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(f"{name} names no settings; write each as name: value, on a line of its own.")
    try:
        settings = check_values(cast("dict[str, Any]", found))
        RunConfig(**settings)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    return settings


def check_values(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return values that YAML or JSON has as `RunConfig` has them, by the names of the settings.

    Raises:
        ConfigError: for a name that is no setting, or a value of another type.
    """
    return {name: _read(name, value) for name, value in found.items()}


def read_recorded(found: object) -> RunConfig:
    """Return the settings that `RunConfig.to_dict` gave, from the JSON of a run or of a checkpoint.

    Raises:
        ConfigError: for a name that is no setting, or a value that a setting cannot have.
    """
    if not isinstance(found, dict):
        raise ConfigError("it has no settings of the run.")
    settings = dict(cast("dict[str, object]", found))
    pairs = settings.pop(_SET, [])
    if not _is_list_of_texts(pairs):
        raise ConfigError(f"{_SET} is {_told(pairs)}; write a list of texts.")
    return RunConfig(**check_values(settings), set=tuple(pairs))


def merge_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return both, where those of `first` go before those of `second`. Of `set`, each name counts by itself."""
    settings = dict(second)
    for pair in ALTERNATIVES:
        if any(name in first for name in pair):
            settings = {name: value for name, value in settings.items() if name not in pair}
    settings |= first
    if first.get(_SET) and second.get(_SET):
        names = {full_name(pair.partition("=")[0].strip()) for pair in first[_SET]}
        kept = [pair for pair in second[_SET] if full_name(pair.partition("=")[0].strip()) not in names]
        settings[_SET] = (*kept, *first[_SET])
    return settings


def write_settings(config: RunConfig, comments: tuple[str, ...] = (), model: str | None = None) -> str:
    """Return the settings as YAML: those that differ from the defaults, and those that decide the training.

    Args:
        comments (`tuple[str, ...]`, *optional*):
            Lines that stand before the settings.
        model (`str`, *optional*):
            What the model is called, in place of the name that it was found by.
    """
    from .yaml_text import write_yaml

    chosen = {name: getattr(config, name) for name in _ALWAYS} | config.changed()
    told = config.to_dict()
    written = {name: told[name] for name in SETTINGS if chosen.get(name) is not None}
    if config.set:
        written[_SET] = config.trl_settings
    if model is not None:
        written["model"] = model
    return "".join(f"# {' '.join(line.split())}\n" for line in comments) + write_yaml(written)


def _read(name: str, value: object) -> Any:
    """Return a value of a file as the setting `name` has it.

    Raises:
        ConfigError: if there is no such setting, or it has another type.
    """
    if name not in SETTINGS:
        nearest = get_close_matches(name.replace("-", "_"), SETTINGS, 1)
        remedy = f"; the nearest is {nearest[0]}" if nearest else f"; there are {', '.join(SETTINGS)}"
        raise ConfigError(f"{name!r} is no setting{remedy}.")
    setting = SETTINGS[name]
    if name == _SET and isinstance(value, dict):
        return write_pairs(cast("dict[str, Any]", value))
    if value is None and setting.default is None:
        return None
    if setting.kind is tuple and name != _SET and _is_list_of_texts(value):
        return tuple(value)
    if setting.kind is float and type(value) is int and abs(value) < _LARGEST:
        return float(value)
    if type(value) is not setting.kind:
        raise ConfigError(f"{name} is {_told(value)}; write {_wanted(name, setting)}.")
    return value


def _is_list_of_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(each, str) for each in cast("list[object]", value))


def _told(value: object) -> str:
    from .yaml_text import write_value

    text = "empty" if value is None else write_value(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _wanted(name: str, setting: Setting) -> str:
    if name == _SET:
        return "name: value under it, such as weight_decay: 0.01"
    words = {int: "a whole number", float: "a number", bool: "true or false", tuple: 'a list of texts in "quotes"'}
    return words.get(setting.kind, 'text, in "quotes" if YAML takes it for something else')
