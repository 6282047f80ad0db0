"""See prompt masking, and feel it: colour every token by its label, train, compare before and after.

The names in `__all__` are the public interface; docs/api.md shows them at work. Each is imported when it is first asked
for: `import sftdemo` loads no library and leaves the process as it is.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .core.config import RunConfig
    from .core.errors import ConfigError, DataError, ModelError, SftdemoError, TemplateError, TrainingError
    from .core.events import (
        Answer,
        Arm,
        Before,
        Checkpoint,
        Columns,
        Comparison,
        Conclusion,
        Event,
        Failed,
        Figures,
        Finished,
        HeldOut,
        Model,
        Phase,
        Prepared,
        Saved,
        Step,
        Weights,
    )
    from .data.examples import (
        Example,
        HandMask,
        Message,
        ParsedExamples,
        Problem,
        open_examples,
        parse_examples,
        read_examples,
    )
    from .data.samples import SAMPLES, Sample, get_sample
    from .data.templates import Template, get_template
    from .mask.audit import Audit
    from .mask.checks import Finding
    from .mask.labels import IGNORE_INDEX, MaskedExample, Masker, TokenizedExample
    from .mask.markup import render_html
    from .mask.report import MaskReport
    from .runs.ablation import ablate
    from .runs.checkpoint import Begun, read_begun
    from .runs.run import answer, run
    from .terminal.mask import render_ansi
    from .terminal.show import mask_report, show
    from .train.mask_callback import MaskCallback

__version__ = "0.1.0"
__all__ = [
    "IGNORE_INDEX",
    "SAMPLES",
    "Answer",
    "Arm",
    "Audit",
    "Before",
    "Begun",
    "Checkpoint",
    "Columns",
    "Comparison",
    "Conclusion",
    "ConfigError",
    "DataError",
    "Event",
    "Example",
    "Failed",
    "Figures",
    "Finding",
    "Finished",
    "HandMask",
    "HeldOut",
    "MaskCallback",
    "MaskReport",
    "MaskedExample",
    "Masker",
    "Message",
    "Model",
    "ModelError",
    "ParsedExamples",
    "Phase",
    "Prepared",
    "Problem",
    "RunConfig",
    "Sample",
    "Saved",
    "SftdemoError",
    "Step",
    "Template",
    "TemplateError",
    "TokenizedExample",
    "TrainingError",
    "Weights",
    "__version__",
    "ablate",
    "answer",
    "get_sample",
    "get_template",
    "mask_report",
    "open_examples",
    "parse_examples",
    "read_begun",
    "read_examples",
    "render_ansi",
    "render_html",
    "run",
    "show",
]
_MODULES = {
    "core.config": ["RunConfig"],
    "core.errors": ["ConfigError", "DataError", "ModelError", "SftdemoError", "TemplateError", "TrainingError"],
    "core.events": [
        "Answer",
        "Arm",
        "Before",
        "Checkpoint",
        "Columns",
        "Comparison",
        "Conclusion",
        "Event",
        "Failed",
        "Figures",
        "Finished",
        "HeldOut",
        "Model",
        "Phase",
        "Prepared",
        "Saved",
        "Step",
        "Weights",
    ],
    "data.examples": [
        "Example",
        "HandMask",
        "Message",
        "ParsedExamples",
        "Problem",
        "open_examples",
        "parse_examples",
        "read_examples",
    ],
    "data.samples": ["SAMPLES", "Sample", "get_sample"],
    "data.templates": ["Template", "get_template"],
    "mask.audit": ["Audit"],
    "mask.checks": ["Finding"],
    "mask.labels": ["IGNORE_INDEX", "MaskedExample", "Masker", "TokenizedExample"],
    "mask.markup": ["render_html"],
    "mask.report": ["MaskReport"],
    "runs.ablation": ["ablate"],
    "runs.checkpoint": ["Begun", "read_begun"],
    "runs.run": ["answer", "run"],
    "terminal.mask": ["render_ansi"],
    "terminal.show": ["mask_report", "show"],
    "train.mask_callback": ["MaskCallback"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:  # a type checker reads the imports above, and so finds a name that is misspelt

    def __getattr__(name):
        """Imports a public name, when it is first asked for (PEP 562)."""
        from importlib import import_module

        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
