"""Write a run as a script of plain TRL, with its rows: it trains the same elsewhere, and imports nothing of this
program."""

from __future__ import annotations

import shlex
from pathlib import Path
from string import Template
from typing import Any

from ..train.keywords import lora_keywords, sft_keywords
from .recipe import ROWS, Recipe, about, packages

SCRIPT = "train.py"

_SCRIPT = Template('''\
# /// script
# requires-python = ">=3.11"
# dependencies = [
$dependencies
# ]
# ///
"""Train what a run of sftdemo trained: the same rows, labels and settings, with TRL alone. README.md says how."""

import argparse
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # or TRL reports each start of a training to its authors

import torch
from datasets import load_dataset
from huggingface_hub import HfApi
${peft}from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

MODEL = $model
BATCH_SIZE = $batch_size  # of all processes together; gradient_accumulation_steps multiplies it
SETTINGS = $settings
${adapter}
# What the saved model answers with: the prompt that was trained, and all ids that were trained as an end.
CHAT_TEMPLATE = $chat_template
PAD_TOKEN = $pad_token
ENDS = $ends
${trainer}

def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=MODEL, help="a folder or a Hub id, defaults to %(default)s")
    parser.add_argument("--rows", default=str(Path(__file__).with_name("$rows")), help="defaults to the file beside")
    parser.add_argument("--output", default="trained", help="a folder, defaults to %(default)s")
    parser.add_argument("--push", metavar="ID", help="upload the output to this repository on the Hub, made private")
    options = parser.parse_args()

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if BATCH_SIZE % processes:
        parser.error(f"{processes} processes cannot share a batch of {BATCH_SIZE}; start a number that divides it")
    cuda = torch.cuda.is_available()
    settings = SFTConfig(
        output_dir=options.output,
        per_device_train_batch_size=BATCH_SIZE // processes,
        use_cpu=not torch.accelerator.is_available(),  # or processes on CPUs would not know of each other
        bf16=$bf16,
        dataloader_pin_memory=cuda,
        **SETTINGS,
    )
    settings._n_gpu = min(settings.n_gpu, 1)  # or one process would split each batch among all GPUs; use torchrun

    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    trainer = $trainer_name(
        model=model,
        args=settings,
        processing_class=tokenizer,
        train_dataset=load_dataset("parquet", data_files=options.rows, split="train"),$peft_config
    )
    trainer.train()
    trainer.save_state()  # trainer_state.json has the loss of each step

    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.pad_token = PAD_TOKEN
    generation = trainer.model.generation_config
    generation.eos_token_id, generation.pad_token_id = ENDS, tokenizer.pad_token_id
${save}    if trainer.is_world_process_zero():
${save_first}        generation.save_pretrained(options.output)
        if options.push:
            HfApi().create_repo(options.push, private=True, exist_ok=True)
            HfApi().upload_folder(repo_id=options.push, folder_path=options.output)


if __name__ == "__main__":
    main()
''')

_BF16 = "cuda and torch.cuda.is_bf16_supported(including_emulation=False)"
_WEIGHTED = Template('''
PROMPT_LOSS_WEIGHT = $weight


def token_weights(batch):
    """Return what each token of a batch counts in the loss: 1 if it is trained, less in the prompt, 0 in padding."""
    weights = torch.where(batch["labels"] == -100, PROMPT_LOSS_WEIGHT, 1.0)
    if "position_ids" in batch:  # packed: nothing predicts the first token of an example
        return weights * (batch["position_ids"] != 0)
    return weights * batch["attention_mask"]


class WeightedTrainer(SFTTrainer):
    """Count the prompt in the loss: the sum of weight * -log p, divided by the sum of the weights in the whole
    accumulated batch of all processes."""

    loss_is_scaled_for_ga = True  # that sum is of all batches that are accumulated

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        weights = token_weights(inputs)[:, 1:]
        asked = {name: value for name, value in inputs.items() if name != "labels"}
        # use_cache=False: with a cache, transformers lets packed examples see each other
        logits = model(**asked, use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), inputs["input_ids"][:, 1:].flatten(), reduction="none"
        )
        total = weights.sum() if num_items_in_batch is None else num_items_in_batch
        loss = (weights.flatten() * losses).sum() / total
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # which all divide what they add up
        return (loss, {"logits": logits}) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples, device):
        total = sum(token_weights(batch)[:, 1:].sum() for batch in batch_samples)
        return self.accelerator.gather(total.to(device)).sum()
''')

_SAVE = "    trainer.save_model(options.output)\n"
_DROP_PICKLE = '        Path(options.output, "training_args.bin").unlink()  # a pickle, which nothing here needs\n'
_SAVE_MERGED = """\
        trainer.model.merge_and_unload().save_pretrained(options.output)
        tokenizer.save_pretrained(options.output)
"""

_README = Template("""\
# A run of sftdemo as a script

`$script` trains what the run trained, with TRL and nothing of sftdemo.
$about

```bash
uv run $script$model
hf jobs uv run --flavor a10g-small --secrets HF_TOKEN $script --rows $rows$uploaded --push YOU/NAME
torchrun --nproc_per_node 2 $script$model
```

Without uv: `pip install $packages`, then `python $script$model`.

`--output` is the folder for the model, its tokenizer with the trained prompt as the chat template, and its
generation config; `trainer_state.json` in it has the loss of each step. A job's own disk is gone when it ends:
`--push` uploads the folder. `--model` names another place of the base (for a job, a repository on the Hub), `--rows`
another place of `$rows`.

On one process, the losses are the run's but for rounding: same order, same batches, same labels. That does not hold
for dropout, which is drawn anew. Where several processes end an epoch with a short batch, accelerate fills it with
rows from the beginning. The script takes the device that it finds, and bf16 where a GPU has it.
""")


def write_script(recipe: Recipe, folder: Path) -> None:
    """Write the script, the rows and how to run it into a folder.

    Raises:
        OSError: if a file cannot be written.
    """
    recipe.rows.dataset().to_parquet(str(folder / ROWS))
    (folder / SCRIPT).write_text(script_of(recipe), encoding="utf-8")
    (folder / "README.md").write_text(_readme(recipe), encoding="utf-8")


def script_of(recipe: Recipe) -> str:
    """Return the text of the script. Whatever the user wrote stands in it as a literal."""
    config, adapter = recipe.config, lora_keywords(recipe.config)
    weighted = 0 < config.prompt_loss_weight < 1
    settings = sft_keywords(config) | {"report_to": config.report_to}
    return _SCRIPT.substitute(
        dependencies="\n".join(f'#     "{name}",' for name in packages(config)),
        peft="from peft import LoraConfig\n" if adapter else "",
        model=repr(recipe.base),
        batch_size=config.batch_size,
        settings=_mapping(settings),
        adapter=f"ADAPTER = {_mapping(adapter)}\n" if adapter else "",
        chat_template=_lines(recipe.chat_template),
        pad_token=repr(recipe.pad_token),
        ends=repr(recipe.generation_config.get("eos_token_id")),
        trainer=_WEIGHTED.substitute(weight=config.prompt_loss_weight) if weighted else "",
        trainer_name="WeightedTrainer" if weighted else "SFTTrainer",
        peft_config="\n        peft_config=LoraConfig(**ADAPTER)," if adapter else "",
        bf16="False" if config.precision == "float32" else _BF16,
        save="" if config.merge else _SAVE,
        save_first=_SAVE_MERGED if config.merge else _DROP_PICKLE,
        rows=ROWS,
    )


def _mapping(values: dict[str, Any]) -> str:
    return "\n".join(["{", *(f"    {name!r}: {value!r}," for name, value in values.items()), "}"])


def _lines(text: str) -> str:
    """Return a text as a literal that has its lines."""
    return "\n".join(["(", *(f"    {line!r}" for line in text.splitlines(keepends=True) or [""]), ")"])


def _readme(recipe: Recipe) -> str:
    on_hub = recipe.record["model"]["hub_id"]
    return _README.substitute(
        script=SCRIPT,
        rows=ROWS,
        about=about(recipe),
        model="" if on_hub else f" --model {shlex.quote(f'PATH/TO/{recipe.base}')}",
        uploaded="" if on_hub else " --model YOU/BASE",
        packages=" ".join(packages(recipe.config)),
    )
