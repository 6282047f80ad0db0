"""What the ids and labels ought to be, worked out anew from the tokenizer's own calls; shares no code with sftdemo."""

from __future__ import annotations

import json

from law import law, trimmed
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{}\n\n### Response:\n"
)
ALPACA_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{}\n\n### Input:\n{}\n\n### Response:\n"
)


def prompt_of(template: str, instruction: str, context: str) -> str:
    """The text of a prompt that is not a chat."""
    if template == "alpaca":
        return ALPACA_INPUT.format(instruction, context) if context else ALPACA.format(instruction)
    if template == "instruction" and context:
        return f"### Instruction:\n{instruction}\n\n### Input:\n{context}\n\n### Response:\n"
    if template == "instruction":
        return f"### Instruction:\n{instruction}\n\n### Response:\n"
    before, after = template.split("{instruction}")
    return before + instruction + (f"\n\n{context}" if context else "") + after


def plain(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def without_dummy_space(tokenizer) -> PreTrainedTokenizerFast:
    """The same tokenizer, except that it puts no space of its own before a text."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    if (content["pre_tokenizer"] or {}).get("type") == "Metaspace":
        content["pre_tokenizer"]["prepend_scheme"] = "never"
    if (content["normalizer"] or {}).get("type") == "Sequence":
        steps = content["normalizer"]["normalizers"]
        content["normalizer"]["normalizers"] = [step for step in steps if step["type"] != "Prepend"]
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)))


def chatml(tokenizer, instruction: str, context: str, completion: str) -> list[int]:
    """A ChatML exchange up to the answer's last word, stretch by stretch between the special tokens."""
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    turn = "user\n" + instruction + (f"\n\n{context}" if context else "")
    answer = plain(tokenizer, "assistant\n" + completion)
    return [start, *plain(tokenizer, turn), end, *plain(tokenizer, "\n"), start, *answer]


def chat(tokenizer, instruction: str, context: str, completion: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(input_ids, labels) of a row in the model's own chat template, through the end of the answer."""
    asked = instruction + (f"\n\n{context}" if context and instruction else context)
    talk = [{"role": "user", "content": asked}, {"role": "assistant", "content": completion}]
    (sequence,) = trimmed(law(tokenizer, talk).sequences)
    return sequence


def reaches_over(tokenizer, prompt: str, completion: str, count: int) -> bool:
    """Whether one of the first `count` tokens of the whole holds characters of the answer, whatever its id."""
    offsets = tokenizer(
        prompt + completion, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )["offset_mapping"]
    return any(end > len(prompt) for _, end in offsets[:count])


def expected(tokenizer, template: str, instruction: str, context: str, completion: str, max_length: int):
    """(input_ids, labels) of a row."""
    if template == "chat":
        input_ids, labels = chat(tokenizer, instruction, context, completion)
        return input_ids[:max_length], labels[:max_length]
    nothing = tokenizer("")["input_ids"]
    begin = nothing[:1] if tokenizer.bos_token_id in nothing else []
    prompt = prompt_of(template, instruction, context)
    prompt_ids = begin + plain(tokenizer, prompt)
    joint_ids = begin + plain(tokenizer, prompt + completion)
    merged = reaches_over(tokenizer, prompt, completion, len(prompt_ids) - len(begin))
    if joint_ids[: len(prompt_ids)] == prompt_ids and not merged:
        completion_ids = joint_ids[len(prompt_ids) :]
    else:
        completion_ids = plain(without_dummy_space(tokenizer), completion)
    eos = tokenizer.eos_token_id
    input_ids = [*prompt_ids, *completion_ids, eos]
    labels = [-100] * len(prompt_ids) + [*completion_ids, eos]
    labels[0] = -100
    return tuple(input_ids[:max_length]), tuple(labels[:max_length])
