"""Write the card of a saved run: a README.md with the front matter that the Hub reads, and the loss as a picture.

https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from typing import Any

from ..core.config import DEFAULT_HUB_ID
from ..core.palette import LINES
from ..core.text import markdown_table
from ..data.hub import read_source
from ..mask.view import counts
from .public import public_record
from .ways import ways_of, ways_of_gguf

LOSS_PICTURE = "loss.svg"
_LICENSES = {DEFAULT_HUB_ID: "apache-2.0"}  # of models whose card was read
_FENCES = {"shell": "bash", "python": "python"}


def card(record: dict[str, Any], proof: str = "", gguf: str = "") -> str:
    """Return the card of a run.

    Args:
        record (`dict`):
            The run's record (`folder.record_of`).
        proof (`str`, *optional*):
            What a comparison with another program has found, as Markdown.
        gguf (`str`, *optional*):
            The name of a GGUF file that the card lies beside, in place of the model's folder.
    """
    record = public_record(record)
    parts = [_front_matter(record, gguf), _title(record)]
    if record["kind"] == "ablation":
        arms = ", ".join(f"`{name}`" for name in record["arms"])
        parts.append(f"The same training with several prompt-loss weights, a folder each: {arms}.")
        parts += _concluded(record)
        return "\n\n".join([*parts, _repeat(record)]) + "\n"
    parts += [_trained(record), *_concluded(record), _base(record)]
    if record["losses"]:
        parts.append(f"![The loss at each step]({LOSS_PICTURE})")
    parts += [_use(record, gguf), *([f"## Certificate\n\n{proof}"] if proof else [])]
    compared = record.get("comparisons", [])
    if compared:
        parts.append("## Before and after\n\n" + "\n\n".join(map(_compared, compared)))
    parts += [_settings(record), _repeat(record)]
    return "\n\n".join(parts) + "\n"


def loss_svg(losses: Sequence[float]) -> str:
    """Return a plot of the loss at each step, in nats a trained token, as SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "sftdemo"}):  # text as text, reproducible ids
        figure = Figure(figsize=(6.4, 3.0))
        place = figure.add_axes((0.12, 0.17, 0.86, 0.79))
        place.plot(range(1, len(losses) + 1), losses, color=LINES[0], marker="o" if len(losses) < 40 else "")
        place.set(xlabel="step", ylabel="loss, nats a trained token", ylim=(0, None))
        place.grid(alpha=0.3)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _front_matter(record: dict[str, Any], gguf: str) -> str:
    is_adapter = record["kind"] == "adapter"
    hub_id, data = record["model"]["hub_id"], record["data"]
    lines = [f"base_model: {hub_id}", f"base_model_relation: {'adapter' if is_adapter else 'finetune'}"] * bool(hub_id)
    if hub_id in _LICENSES:
        lines.append(f"license: {_LICENSES[hub_id]}")
    if data:
        lines += ["datasets:", f"- {read_source(data['source']).name}"]
    library = [] if gguf else [f"library_name: {'peft' if is_adapter else 'transformers'}"]
    lines += [*library, "pipeline_tag: text-generation"]
    tags = ["sft", "trl", *([] if record["config"]["full"] else ["lora"]), *(["gguf"] if gguf else []), "sftdemo"]
    lines += ["tags:", *(f"- {tag}" for tag in tags)]
    return "\n".join(["---", *lines, "---"])


def _title(record: dict[str, Any]) -> str:
    return f"# {base_name(record)}, fine-tuned with sftdemo"


def base_name(record: dict[str, Any]) -> str:
    """Return the name of the model underneath as others know it."""
    return record["model"]["hub_id"] or record["model"]["public_name"]


def _trained(record: dict[str, Any]) -> str:
    mask, weight = record["mask"], record["config"]["prompt_loss_weight"]
    kind = {
        "adapter": "A LoRA adapter",
        "merged": "A LoRA adapter, merged into the weights",
        "full": "All weights, trained",
    }[record["kind"]]
    how = "prompts masked (label -100)" if not weight else f"prompt tokens weighing {weight:g} in the loss"
    rows = f" Rows: `{record['data']['source']}`." if record["data"] else ""
    trained, partly, _ = counts(mask["tokens"], mask["trained_tokens"], mask["examples"], weight)
    share = f" ({trained / mask['tokens']:.0%})" if mask["tokens"] else ""
    more = f"; {partly:,} more counted {weight:g} times" if partly else ""
    begun = f" It goes on from the run `{_code(record['from'])}`." if record.get("from") else ""
    return (
        f"{kind}: {record['steps']} steps on {mask['examples']:,} examples, {how}. {trained:,} of "
        f"{mask['tokens']:,} tokens{share} were trained{more}. The mask's sha256 is `{mask['sha256']}`. The last "
        f"step's loss: {record['loss']:.3f}.{rows}{begun}"
    )


def _concluded(record: dict[str, Any]) -> list[str]:
    words = record.get("conclusion")  # missing of an ablation's arm and of a run of an earlier version
    return [words] if words else []


def _base(record: dict[str, Any]) -> str:
    """Say which model is underneath, and what to do where others cannot find it by its name."""
    model, is_adapter = record["model"], record["kind"] == "adapter"
    if model["hub_id"]:
        words = f"The model underneath is [{model['hub_id']}](https://huggingface.co/{model['hub_id']})"
        if "dequantised" in model["copy"]:
            return (
                f"{words}. It was trained on another copy of it: {model['copy']}. On the full weights its answers may "
                "differ a little."
            )
        return f"{words} ({model['copy']})."
    words = f"The model underneath is `{model['public_name']}` ({model['copy']}), which is on no Hub."
    if is_adapter:
        words += " Hand on its folder with this one, and say with `--base` where it lies."
    return words


def _use(record: dict[str, Any], gguf: str) -> str:
    same, compared = record["same_ids"]
    parts = ["## Use it"]
    if compared:
        parts.append(
            f"The prompt that was trained is the chat template of this {'file' if gguf else 'folder'}: for {same} of "
            f"{compared} prompts it gives the very ids."
        )
    if same < compared:
        parts.append(
            "For the others it does not: a prompt with the text of a special token becomes that token, and some "
            "tokenizers cut a text otherwise than they did in the training."
        )
    for way in ways_of_gguf(gguf) if gguf else ways_of(record):
        parts.append(f"### {way.name}\n\n{way.says}\n\n```{_FENCES[way.language]}\n{way.code}\n```")
    return "\n\n".join(parts)


def _compared(comparison: dict[str, Any]) -> str:
    asked, before, after = (_fenced(comparison[name]) for name in ("prompt", "before", "after"))
    first, second = ("" if comparison[f"{name}_stop"] == "EOS" else " (cut)" for name in ("before", "after"))
    source = {"training": "a row of the training", "held out": "held out", "typed": "typed"}[comparison["source"]]
    return f"Prompt ({source}):\n\n{asked}\n\nBefore{first}:\n\n{before}\n\nAfter{second}:\n\n{after}"


def _fenced(text: str) -> str:
    """Return a text as a block in which nothing of it is Markdown."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _settings(record: dict[str, Any]) -> str:
    settings = record["config"] | {"model": record.get("from") or base_name(record)}
    rows = [(f"`{name}`", f"`{_cell(value)}`") for name, value in settings.items() if value not in ("", [], None)]
    return f"## Settings\n\n`config.yaml` has them for `--config`.\n\n{markdown_table(['setting', 'value'], rows)}"


def _cell(value: object) -> str:
    return _code(json.dumps(value, ensure_ascii=False).replace("|", "\\|"))


def _code(text: str) -> str:
    return text.replace("`", "'")


def _repeat(record: dict[str, Any]) -> str:
    return f"## Repeat it\n\n```bash\n{record['command']}\n```"
