"""Define the settings of a run. Each is written once, as a field of `RunConfig` with its default, its help and its
limits. The command line, the page and the command that repeats a run are derived from it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import inf
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

from .characters import check_characters
from .errors import ConfigError
from .every import read_every
from .template_arguments import check_template_arguments
from .trl_settings import ACCUMULATION, check_company, read_pairs, write_pairs

DEFAULT_MODEL = "SmolLM2-135M-Instruct"
DEFAULT_HUB_ID = f"HuggingFaceTB/{DEFAULT_MODEL}"
DEFAULT_TEMPLATE = "instruction"
DEFAULT_STEPS = 12
LORA_RATE, FULL_RATE = 2e-3, 1e-4
STUDY_WEIGHTS, STUDY_SEEDS = (0.0, 0.01, 0.1, 0.5, 1.0), (0, 1, 2)
EXPORT_FORMATS = ("adapter", "merged", "gguf", "script", "trl-config", "html")
PUSH_KINDS = ("adapter", "merged", "gguf")
QUANTIZATIONS = ("f16", "q8_0", "bf16", "f32")
LONG_PARTS = ("precision", "estimate", "fit", "disk")  # each takes minutes, or much memory
BENCH_PARTS = ("equalities", "steps", "answers", "click", "film", "start", "growth", "mask", *LONG_PARTS)
# Where a run can be reported to, with the package that does it.
REPORTS = {
    "none": "",
    **{name: name for name in ("trackio", "wandb", "tensorboard", "mlflow", "comet_ml", "clearml", "codecarbon")},
    **{name: name for name in ("dagshub", "dvclive", "neptune", "swanlab", "kubeflow")},
    "azure_ml": "azureml-core",
}
_LAST = ("template", "steps", "epochs", "prompts")  # in a command only the switches come after these


@dataclass(frozen=True)
class Setting:
    """A field of `RunConfig` with everything that describes it."""

    name: str
    kind: type  # str, int, float, bool or tuple, also for a field that may be None
    default: Any
    help: str  # what it does; the terminal adds a default that is not None
    title: str = ""  # its label on the page; without one it is a setting of the terminal only
    limits: tuple[float, float, str] = (-inf, inf, "")  # the lowest number, the highest, and what they count
    metavar: str | None = None  # stands for the value in the terminal's help
    # the values allowed, each with its label on the page
    choices: Mapping[Any, str] = field(default_factory=dict[Any, str])

    @property
    def option(self) -> str:
        """Return its name in the terminal, in the singular for a setting of several values, which are given one by
        one."""
        name = self.name.removesuffix("s") if self.kind is tuple else self.name
        return f"--{name.replace('_', '-')}"


def setting(default: Any, help: str, **words: Any) -> Any:
    """Return a field of `RunConfig`. `words` are further fields of its `Setting`."""
    return field(default=default, metadata={"help": help, **words})


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run, apart from the examples. Each field says what it does.

    To add a setting, add a field here, and use it where the run needs it. It is then an option of `train`, `ablate` and
    `study`, the command that repeats a run names it, and with a `title` it is among the page's training settings.

    Raises:
        ConfigError: for a number out of its range, a value that is not among the choices, or settings that exclude
            each other.
    """

    model: str = setting(DEFAULT_MODEL, "a folder, a GGUF file or a Hub id", title="Model")
    template: str = setting(
        DEFAULT_TEMPLATE,
        r"a text with {instruction} and, if wanted, {input} in it, where \n is a newline",
        title="Prompt template",
        metavar="T",
    )
    turns: str = setting(
        "all",
        "which assistant turns of a conversation are trained",
        title="In conversations (messages), train",
        choices={"all": "every assistant turn", "last": "only the last"},
    )
    chat_template_kwargs: str = setting(
        "",
        "arguments of the model's own chat template, as a JSON object such as '{\"enable_thinking\": false}'",
        title="Arguments of the chat template, as JSON",
        metavar="JSON",
    )
    max_length: int = setting(
        512,
        "tokens an example keeps at most; with packing, the length of a row",
        title="Max length, tokens a row",
        limits=(8, 10_000_000, "tokens"),  # the model's positions are the limit that counts
        metavar="N",
    )
    too_long: str = setting(
        "cut",
        "what becomes of rows of more tokens than max-length: cut them, drop them, or refuse, as an error of the audit",
        title="Rows longer than that",
        choices={"cut": "are cut", "drop": "are left out", "refuse": "are an error"},
    )
    steps: int | None = setting(
        None,
        f"optimizer steps, defaults to {DEFAULT_STEPS}",
        title="Steps",
        limits=(1, 1_000_000, "optimizer steps"),
        metavar="N",
    )
    epochs: float | None = setting(
        None,
        "passes over the examples, instead of steps",
        title="Epochs, instead of steps",
        limits=(0.01, 1_000, "passes over the examples"),
        metavar="E",
    )
    learning_rate: float | None = setting(
        None,
        f"how far a step goes, defaults to {LORA_RATE:g}, with full to {FULL_RATE:g}",
        title="Learning rate",
        limits=(1e-8, 1.0, ""),
        metavar="R",
    )
    batch_size: int = setting(
        8,
        "examples an optimizer step sees; with packing, rows; gradient_accumulation_steps multiplies them",
        title="Batch size",
        limits=(1, 1_024, "examples, or packed rows, a step"),
        metavar="B",
    )
    hold_out: float = setting(
        0.0,
        "rows that are answered before and after instead of trained, drawn by the seed: a number, or below 1 a share; "
        "those with held_out count among them",
        title="Hold out: rows or share",
        limits=(0, 1_000_000, "rows"),
        metavar="H",
    )
    packing: bool = setting(
        False,
        "fill rows of max-length with whole examples that do not see each other; batch-size then counts rows",
        title="Packing: rows full of whole examples that do not see each other; batch size counts rows",
    )
    seed: int = setting(0, "decides what is drawn at random", title="Seed", limits=(0, 2**32 - 1, ""), metavar="S")
    device: str = setting(
        "auto",
        "where to compute; auto is the best there is",
        title="Device",
        choices={name: name for name in ("auto", "cuda", "mps", "cpu")},
    )
    precision: str = setting(
        "auto",
        "what a training step multiplies in; auto is bf16 where the device is quicker at it, else float32",
        title="Precision of the training",
        choices={name: name for name in ("auto", "float32", "bf16")},
    )
    max_new_tokens: int = setting(
        32,
        "tokens after which an answer is cut",
        title="Answer length, tokens",
        limits=(1, 4_096, "tokens an answer"),
        metavar="N",
    )
    prompt_loss_weight: float = setting(
        0.0,
        "0 masks the prompt; 1 trains it like the answer, as plain fine-tuning does",
        title="Prompt-loss weight",
        limits=(0.0, 1.0, ""),
        metavar="W",
    )
    full: bool = setting(
        False,
        "train all weights instead of a LoRA adapter",
        title="Train",
        choices={False: "LoRA adapter", True: "all weights"},
    )
    lora_r: int = setting(
        16,
        "the adapter's rank; it sits on all linear layers, with alpha twice the rank",
        title="LoRA rank",
        limits=(1, 512, "LoRA's rank"),
        metavar="R",
    )
    set: tuple[str, ...] = setting(
        (),
        "a setting of TRL's SFTConfig such as weight_decay=0.01, or of peft's LoraConfig such as lora.lora_alpha=64 "
        "(or lora.alpha=64), with a value in YAML; may be repeated",
        title="More of TRL's settings, one name=value a line",
        metavar="NAME=VALUE",
    )
    report_to: str = setting(
        "none",
        "what the loss of each step is reported to; that package is installed by you, and nothing is sent without it",
        choices=REPORTS,
    )
    load_in_4bit: bool = setting(False, "keep the model's own weights in 4 bits; needs pip install 'sftdemo[4bit]'")
    merge: bool = setting(False, "save the adapter merged into the model's weights")
    save_every: str | None = setting(
        None,
        "write a checkpoint, with which --resume goes on, after every so many steps or, as in 10m, minutes; off by "
        "default",
        title="Checkpoint every: steps, or 10m",
        metavar="N",
    )
    film: bool = setting(
        False,
        "keep the adapter as it was after some of the steps, six or fewer, which `film` plays; the default model's "
        "take 118 MB until then",
    )
    prompts: tuple[str, ...] = setting(
        (),
        "a prompt to answer before and after, may be repeated; the data's held-out rows are answered as well",
        title="Your own prompts to compare, one a line",
        metavar="TEXT",
    )
    anyway: bool = setting(
        False,
        "train even where the audit finds an error, or where memory may not suffice",
        title="Train anyway, in spite of the errors that the audit found",
    )

    def __post_init__(self) -> None:
        if self.steps is not None and self.epochs is not None:
            raise ConfigError("steps and epochs both say how long to train; give one of them.")
        if self.full and self.merge:
            raise ConfigError("merge joins a LoRA adapter into the weights; full fine-tuning has no adapter to merge.")
        other = "full" if self.full else "merge"
        if self.load_in_4bit and (self.full or self.merge):
            raise ConfigError(
                f"load_in_4bit keeps weights that cannot change, and {other} changes them; leave one out."
            )
        if self.film and (self.full or self.merge):
            raise ConfigError(f"film keeps an adapter, and {other} saves none; leave one of them out.")
        if not self.model.strip():
            raise ConfigError("model is empty; name a folder, a GGUF file or a Hub id, or leave it out.")
        for name, each in SETTINGS.items():
            value = getattr(self, name)
            if each.choices and value not in each.choices:
                raise ConfigError(f"{name} is {value!r}; choose one of {', '.join(map(str, each.choices))}.")
            if each.kind in (int, float):
                check_limit(name, value)
            if isinstance(value, list):  # as JSON has it
                object.__setattr__(self, name, tuple(cast("list[str]", value)))
        if self.save_every is not None:
            read_every(self.save_every)
        check_characters(vars(self))
        check_template_arguments(self.chat_template_kwargs)
        if self.set:
            settings = read_pairs(self.set)
            check_company(settings, self.full, self.report_to)
            object.__setattr__(self, "set", write_pairs(settings))
        if self.steps is None and self.epochs is None:
            object.__setattr__(self, "steps", DEFAULT_STEPS)
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", FULL_RATE if self.full else LORA_RATE)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON can hold them."""
        return {name: list(value) if SETTINGS[name].kind is tuple else value for name, value in vars(self).items()}

    @property
    def trl_settings(self) -> dict[str, Any]:
        """Return the settings in `set`, by their full names."""
        return read_pairs(self.set) if self.set else {}

    @property
    def rows_a_step(self) -> int:
        """Return how many examples, or with packing rows, an optimizer step sees: as many batches as are
        accumulated."""
        return self.batch_size * self.trl_settings.get(ACCUMULATION, 1)

    def changed(self) -> dict[str, Any]:
        """Return the settings that differ from the defaults, by name. The default learning rate depends on `full`."""
        usual = RunConfig(full=self.full)
        changed = {name: value for name, value in vars(self).items() if value != getattr(usual, name)}
        return changed | ({"full": True} if self.full else {})

    def command_line(
        self,
        data: str,
        weights: Sequence[float] = (),
        limit: int | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> str:
        """Return the shell command that repeats the run on `data` or, with `weights`, the ablation. It names how many
        of the first rows are read and what they call the columns, the steps or epochs, and the settings that differ
        from the defaults."""
        words = ["python", "-m", "sftdemo", "ablate" if weights else "train", data]
        words += ["--limit", str(limit)] if limit is not None else []
        words += ["--columns", *(f"{ours}={theirs}" for ours, theirs in columns.items())] if columns else []
        switches: list[str] = []
        named: dict[str, Any] = {"steps": self.steps} | self.changed()
        unused = {"prompt_loss_weight": bool(weights), "lora_r": self.full}
        for name, each in sorted(SETTINGS.items(), key=lambda item: item[0] in _LAST):
            value = named.get(name)
            if value is None or unused.get(name):
                continue
            if each.kind is bool:
                switches.append(each.option if value else each.option.replace("--", "--no-", 1))
                continue
            for one in value if each.kind is tuple else [value]:
                text = escape(one) if name == "template" else str(one)
                words += [f"{each.option}={text}"] if text.startswith("-") else [each.option, text]
        words += ["--weights", *(f"{weight:g}" for weight in weights)] if weights else []
        return shlex.join(words + switches)


def _kind(hint: Any) -> type:
    """Return `int` for `int | None`, and `tuple` for `tuple[str, ...]`."""
    first = get_args(hint)[0] if isinstance(hint, UnionType) else hint
    return get_origin(first) or first


_HINTS = get_type_hints(RunConfig)
SETTINGS = {
    each.name: Setting(each.name, _kind(_HINTS[each.name]), each.default, **each.metadata) for each in fields(RunConfig)
}


def check_limit(name: str, value: float | None) -> None:
    """Check that a number lies in the range of the setting `name`. None (not set) passes.

    Raises:
        ConfigError: with the setting, the value and the range.
    """
    low, high, unit = SETTINGS[name].limits
    if value is not None and not low <= value <= high:
        told = f"{value:,.10g}" if isinstance(value, float) or abs(value) < 10**300 else "an integer beyond all bounds"
        raise ConfigError(
            f"{name} is {told}; it must lie between {low:,.10g} and {high:,.10g}{' ' + unit if unit else ''}."
        )


def escape(template: str) -> str:
    """Return a template on one line for a shell, with \\n, \\t and \\\\ for a newline, a tab and a backslash."""
    return template.replace("\\", r"\\").replace("\n", r"\n").replace("\t", r"\t")


def unescape(text: str) -> str:
    """Return the text that `escape` turned into `text`."""
    return re.sub(r"\\([nt\\])", lambda match: {"n": "\n", "t": "\t", "\\": "\\"}[match[1]], text)
