"""Make the inputs of the page, and turn their values into a `RunConfig`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio.components import Component

from ..core.config import SETTINGS, RunConfig, Setting
from ..core.errors import ConfigError, SftdemoError, TemplateError
from ..core.limits import read_limits
from ..core.text import plural
from ..data.templates import CHAT, NAMED_TEMPLATES, get_template, other_placeholders
from ..model.devices import choose_device

PAGE_SETTINGS = {name: setting for name, setting in SETTINGS.items() if setting.title}
_OF_THE_MASK = (
    *("model", "template", "custom", "max_length", "too_long", "turns", "chat_template_kwargs", "prompt_loss_weight"),
    *("batch_size", "packing", "hold_out", "seed"),
)
_IDS = {"full": "method", "prompt_loss_weight": "weight"}
LENGTH = ("steps", "epochs")  # of these one is given, and decides the other
CUSTOM = "custom"
CUSTOM_EXAMPLE = "Q: {instruction}\nA:\n"


class Controls(SimpleNamespace):
    """The inputs that decide what is shown and trained, by name: `examples`, `custom` (the text of a custom template),
    `against` (the weight to compare with), and one for each of `PAGE_SETTINGS`."""

    def all(self) -> list[Component]:
        """Return all inputs."""
        return list(vars(self).values())

    def config(self, values: dict) -> RunConfig:
        """Return the settings in `values`, which maps components to values.

        Raises:
            SftdemoError: for a value that is not a number, is out of range, or is not allowed on a public page; for a
                malformed template, or a device that is not there.
        """
        config, wrong = self.checked(values)
        for error in wrong.values():
            raise error
        return config

    def checked(self, values: dict) -> tuple[RunConfig, dict[str, SftdemoError]]:
        """Return the settings in `values`, with the default in place of each that cannot be used, and for each of those
        by its name what is wrong with it."""
        good, wrong = dict[str, Any](), dict[str, SftdemoError]()
        values = values | {self.steps: with_length({name: values[getattr(self, name)] for name in LENGTH})["steps"]}
        for name in PAGE_SETTINGS:
            try:
                good[name] = self._read(name, values)
            except TemplateError as error:
                wrong["custom"] = error
            except SftdemoError as error:
                wrong[name] = error
        try:
            return RunConfig(**good), wrong
        except ConfigError as error:  # of the page's settings only those of TRL exclude others
            good["set"] = ()
            return RunConfig(**good), wrong | {"set": error}

    def _read(self, name: str, values: dict) -> Any:
        """Return the value of a setting.

        Raises:
            SftdemoError: if it cannot be used, on this machine or on a public page.
        """
        component = getattr(self, name)
        if name == "steps" and values[self.steps] is None and _is_given(values[self.epochs]):
            return None
        value = read_setting(PAGE_SETTINGS[name], values[component], component.value)
        if name == "template" and value == CUSTOM:
            value = values[self.custom] or ""
            get_template(value)
        given: dict[str, Any] = {name: value}
        read_limits().check_settings(RunConfig(**given))
        if name == "device" and value != "auto":
            choose_device(value)
        return value

    def held(self, config: RunConfig) -> dict[Any, Any]:
        """Return what each input of a setting holds for these settings."""
        named = config.template in (*NAMED_TEMPLATES, CHAT)
        values: dict[Any, Any] = {self.custom: self.custom.value if named else config.template}
        for name, setting in PAGE_SETTINGS.items():
            values[getattr(self, name)] = _written(setting, getattr(config, name))
        values[self.learning_rate] = repr(config.learning_rate)
        values[self.epochs] = "" if config.epochs is None else f"{config.epochs:.17g}"
        values[self.template] = config.template if named else CUSTOM
        return values

    def other_weight(self, values: dict, weight: float) -> float:
        """Return the prompt-loss weight that the chosen one, `weight`, is compared with: where both are set to the
        same, masked, or unmasked if that is what was chosen."""
        against = float(values[self.against] or 0)
        return against if against != weight else float(weight == 0)


def with_length(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by name in which steps are None where epochs are given: they decide how long the training is."""
    return {**settings, "steps": None} if _is_given(settings.get("epochs")) else dict(settings)


def _is_given(value: object) -> bool:
    return value is not None and bool(str(value).strip())


def decides_mask(names: Iterable[str]) -> bool:
    """Return whether any of the settings decides what is drawn of the examples."""
    return any(name in _OF_THE_MASK for name in names)


def title_of(name: str) -> str:
    """Return what the page calls a setting, without its unit."""
    return "Custom template" if name == "custom" else PAGE_SETTINGS[name].title.split(",")[0].split(":")[0]


def input_id(name: str) -> str:
    """Return the id of a setting's input in the page."""
    return _IDS.get(name, name.replace("_", "-"))


def setting_input(name: str, kind: type[Component] | None = None, **more: Any) -> Any:
    """Return the component for a setting, with its title and its default. `kind` and `more` override the component and
    the options that follow from the setting."""
    setting, value = PAGE_SETTINGS[name], getattr(RunConfig(), name)
    usual, look = _component(setting)
    look |= {"label": setting.title, "value": _written(setting, value), "elem_id": input_id(name)}
    return (kind or usual)(**look | more)


def _written(setting: Setting, value: Any) -> Any:
    """Return what the input of a setting holds for this value."""
    if setting.kind is tuple:
        return "\n".join(value)
    return "" if setting.kind is str and value is None else value


def _component(setting: Setting) -> tuple[type[Component], dict]:
    if setting.choices:
        choices = [(words, value) for value, words in setting.choices.items()]
        return gr.Radio if len(choices) < 4 else gr.Dropdown, {"choices": choices}
    if setting.kind is float and setting.limits[:2] == (0, 1):
        info = setting.help[0].upper() + setting.help[1:]
        return gr.Slider, {"minimum": 0, "maximum": 1, "step": 0.01, "info": info}
    if setting.kind is int:
        return gr.Number, {"precision": 0}
    if setting.kind is tuple:
        return gr.Textbox, {"lines": 2, "max_lines": 6}  # with a single line, Enter would not begin another
    return {bool: gr.Checkbox, float: gr.Number}.get(setting.kind, gr.Textbox), {}


def read_setting(setting: Setting, value: Any, at_first: object) -> Any:
    """Return the setting that an input's value stands for. A number may be left empty if it is empty `at_first`."""
    if setting.kind is bool:
        return bool(value)
    if setting.kind is str:
        return value or (None if setting.default is None else "")
    if setting.kind is tuple:
        return tuple(line.strip() for line in (value or "").splitlines() if line.strip())
    text, may_be_empty = "" if value is None else str(value).strip(), at_first in (None, "")
    if not text and may_be_empty:
        return None
    with suppress(ValueError):  # text that is no number is refused below
        number = float(text)
        if setting.kind is float or number.is_integer():
            return setting.kind(number)
    label = title_of(setting.name)
    wanted = "a number such as 2e-3" if setting.kind is float else "a whole number"
    wanted += ", or leave it empty" if may_be_empty else ""
    raise ConfigError(f"{label} is {repr(value) if text else 'empty'}; write {wanted}.")


def notes_on(config: RunConfig) -> dict[str, str]:
    """What is to be told at a field, though it is no error."""
    names = other_placeholders(config.template)
    if not names:
        return {}
    known = ", ".join(f"{{{name}}}" for name in names)
    stays = plural(len(names), "stays", "stay")
    return {"custom": f"{known} {stays} as written; only {{instruction}} and {{input}} are filled in."}
