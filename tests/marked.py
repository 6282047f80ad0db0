"""TRL's stored chat templates on vocabularies of their own: byte-level BPE of some thousand tokens, trained on the
templates' text, with every mark a template writes added as one token. Nothing is downloaded; the default model's
vocabulary is only there once the model was fetched. Shares no code with sftdemo.

There are two ways to cut a text into words: Llama 3's, which Qwen, gpt-oss and others share but for details and which
keeps newlines together, and GPT-2's, SmolLM2's as well, where the newlines before an answer merge with it or not
depending on the answer."""

# ruff: noqa: RUF001 (DeepSeek's marks are written with wide bars)

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import trl
from tiny import LLAMA3_WORDS, RICH
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

FOLDER = Path(trl.__file__).parent / "chat_templates"
BEGIN = "<|begin_of_text|>"
# every shape of mark in the stored templates; the last ones are added tokens but not special in the models' own files
SPECIAL = r"<\|[^|<>\s]+\|>|<｜[^｜]+｜>|<\|\w+>|<\w+\|>|<\|\"\|>|<(?:start|end)_of_\w+>|<image>|</s>|\[gMASK\]|<sop>"
PLAIN = r"</?think>|</?tool_call>|</?tool_response>|</?arg_(?:key|value)>"
# the token that ends a turn or a text in the models' own tokenizers, then those of the generation config
ENDS = {
    "cohere": "<|END_OF_TURN_TOKEN|>",
    "deepseek": "<｜end▁of▁sentence｜>",
    "gemma4": "<eos> <turn|> <|tool_response>",
    "diffusion_gemma": "<eos> <turn|> <|tool_response>",
    "gemma": "<eos> <end_of_turn>",
    "glm4moe": "<|endoftext|> <|user|> <|observation|>",
    "gptoss": "<|return|> <|call|> <|endoftext|>",
    "idefics3": "<end_of_utterance>",
    "smolvlm": "<end_of_utterance>",
    "llama3": "<|eot_id|> <|eom_id|>",
    "llava_next": "</s>",
    "muse_glimmer": "<|eot|>",
    "phi3": "<|endoftext|> <|end|>",
    "": "<|im_end|> <|endoftext|>",
}


def names(training: bool = False) -> list[str]:
    """The stored templates of models, or with `training` the variants that TRL puts in their places."""
    return sorted(path.stem for path in FOLDER.glob("*.jinja") if path.stem.endswith("_training") == training)


def template_named(name: str) -> str:
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


WORDS = {
    "llama3": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False),
}


@cache
def _vocabulary(words: str) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = WORDS[words]
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=3000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    texts = [re.sub(f"{SPECIAL}|{PLAIN}", " ", template_named(name)) for name in names()]
    tokenizer.train_from_iterator([*texts, (FOLDER / "README.md").read_text(encoding="utf-8"), *RICH], trainer)
    return tokenizer.to_str()


@cache
def marked_tokenizer(name: str, words: str = "llama3") -> PreTrainedTokenizerFast:
    """A tokenizer with the template of that name."""
    template, ends = template_named(name), ends_of(name)
    marks = dict.fromkeys([BEGIN, *ends, *re.findall(SPECIAL, template)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_vocabulary(words)), clean_up_tokenization_spaces=False
    )
    tokenizer.add_tokens([AddedToken(mark, normalized=False, special=True) for mark in marks])
    plain = dict.fromkeys(re.findall(PLAIN, template))
    tokenizer.add_tokens([AddedToken(mark, normalized=False, special=False) for mark in plain])
    tokenizer.bos_token, tokenizer.eos_token = BEGIN, ends[0]
    tokenizer.chat_template = template
    return tokenizer


def ends_of(name: str) -> list[str]:
    """The tokens at which the model of a template stops, its tokenizer's EOS first."""
    return next(ends for prefix, ends in ENDS.items() if name.startswith(prefix)).split()


def stops_of(name: str) -> frozenset[int]:
    """The ids of a generation config."""
    return frozenset(marked_tokenizer(name).convert_tokens_to_ids(ends_of(name)))
