"""Measure answers in batches with re-ordered weights, next to transformers' `generate` on one prompt at a time."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import torch
from transformers import GenerationConfig

from ..core.config import RunConfig
from ..core.events import Phase
from ..data.chat import render_prompt
from ..data.templates import get_template
from ..mask.encoding import encoder_for
from ..model.generation import generate
from .figures import Stop, now, repetitions, seconds_of, spread
from .recipes import Subject

NEW_TOKENS = 32
PROMPTS = 8
WARM_UP = 1
NUMBERS = 100_000_000  # that are read to measure how fast memory is, more than fit into any cache


def bench_answers(subject: Subject, repeats: int, stop: Stop = lambda: False) -> Iterator[Phase | dict]:
    """Yield phases and, at the end, the tokens per second of both ways and what the memory bandwidth would allow."""
    template = get_template(RunConfig().template, "last")
    rows = (*subject.data.held_out, *subject.data.train)[:PROMPTS]
    prompts = [render_prompt(example, template, subject.tokenizer) for example in rows]
    model = subject.model()
    counts, seconds = {}, {"one_at_a_time": [], "ours": []}
    for number in repetitions(repeats, stop, WARM_UP):
        yield Phase("bench", f"repetition {number} of {repeats}", number / (WARM_UP + repeats))
        for name, work in (("one_at_a_time", _one_at_a_time), ("ours", _batched)):
            begin = now()
            counts[name] = work(model, subject.tokenizer, prompts)
            seconds[name].append(now() - begin)
    rates = {name: [counts[name] / s for s in seconds[name][WARM_UP:]] for name in seconds}
    size = sum(parameter.nbytes for parameter in model.parameters())
    bandwidth = _bandwidth(model.device)
    floor = NEW_TOKENS * size / bandwidth  # every token reads every weight once, and nothing else is done
    yield {
        "prompts": len(prompts),
        "tokens": counts,
        "floor_seconds": round(floor, 3),
        "tokens_per_second": {name: spread(rate) for name, rate in rates.items()},
        "bandwidth_gb_per_second": round(bandwidth / 1e9, 1),
        "ratios": {
            "answers_vs_one_at_a_time": round(median(rates["ours"]) / median(rates["one_at_a_time"]), 3),
            "answers_vs_floor": round(median(seconds["ours"][WARM_UP:]) / floor, 3),
        },
    }


def _batched(model, tokenizer, prompts) -> int:
    """Answer the prompts as a run does and return the number of new tokens."""
    answers = generate(model, tokenizer, prompts, NEW_TOKENS)
    texts = tokenizer([answer.answer for answer in answers], add_special_tokens=False)["input_ids"]
    return sum(len(ids) + (answer.stop == "EOS") for ids, answer in zip(texts, answers, strict=True))


def _one_at_a_time(model, tokenizer, prompts) -> int:
    """Answer the prompts one by one with transformers alone and return the number of new tokens."""
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    count = 0
    for prompt in encoder_for(tokenizer).encode_prompts(prompts):
        ids = torch.tensor([prompt.ids], device=model.device)
        with torch.inference_mode():
            output = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        count += output.shape[1] - ids.shape[1]
    return count


def _bandwidth(device: torch.device) -> float:
    """Return how many bytes per second the device reads."""
    numbers = torch.ones(NUMBERS, device=device)
    return numbers.nbytes / median(seconds_of(numbers.sum) for _ in range(10))
