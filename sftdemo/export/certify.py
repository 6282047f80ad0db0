"""Certify a saved run: its prompts are asked here, with transformers, and where its exported model is served."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..core.characters import half_at
from ..core.errors import DataError
from ..core.events import Event, Phase
from ..core.files import write_whole
from ..core.held import scratch_folder
from ..data.chat import render_prompt
from ..data.chat_style import any_of, special_texts
from ..data.questions import Question, questions_of, shape_of, typed_prompt
from ..data.templates import template_of
from ..mask.encoding import encoder_for
from ..mask.layouts import common_length
from ..model.loading import OpenModel, max_positions, open_model
from ..runs.card import card
from ..runs.prompt_template import TrainedPrompt
from ..runs.revisit import SavedRun, read_run
from .certificate import CERTIFICATE, Certificate, Check
from .engines import Served, Server, llama_cpp
from .formats import MODELFILE, write_gguf
from .ollama import prompt_of
from .served import read_record

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

NEW_TOKENS = 32
MOST_PROMPTS = 24


@dataclass(frozen=True)
class Asked:
    """A question, the messages that ask it, the ids of its prompt, and those of the answer here with the one that ended
    it, if one has (`ended`)."""

    question: Question
    messages: list[dict[str, Any]]
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    ended: bool


def certify(
    run: str | Path,
    gguf: str | Path | None = None,
    url: str | None = None,
    quantization: str = "f16",
    max_new_tokens: int = NEW_TOKENS,
    prompts: Sequence[str] = (),
) -> Generator[Event, None, Certificate]:
    """Ask a run's prompts here and where its model is served, and compare. Yields the progress and returns the
    certificate, which is written into the run's folder and named on its card.

    Args:
        run (`str` or `Path`):
            The folder of a run.
        gguf (`str` or `Path`, *optional*):
            A GGUF file that was exported from it. Beside it, a Modelfile is checked as well. Without it and without
            `url` the model is exported into a temporary file.
        url (`str`, *optional*):
            The address of a running server, instead of llama.cpp in this process.
        quantization (`str`, *optional*, defaults to `"f16"`):
            Of the temporary file: one of `config.QUANTIZATIONS`.
        max_new_tokens (`int`, *optional*, defaults to `NEW_TOKENS`):
            After how many tokens an answer is cut.
        prompts (`Sequence[str]`, *optional*):
            Further prompts to ask, besides the run's own.

    Raises:
        SftdemoError: if the run or the file cannot be read, or the server does not answer.
    """
    folder, gguf = Path(run), Path(gguf) if gguf else None
    record = read_record(folder)
    saved = read_run(folder)
    if gguf and not gguf.is_file():
        raise DataError(f"there is no file {gguf}; write it with `sftdemo export {folder} --to gguf`.")
    if gguf and half_at(os.path.realpath(gguf)) is not None:  # llama.cpp cannot be given it
        raise DataError(f"{gguf} has a name that is not UTF-8; give it another name.")
    with ExitStack() as stack:
        opened = yield from open_model(replace(saved.config, model=str(folder)))
        if gguf is None and url is None:
            scratch = stack.enter_context(scratch_folder())
            gguf = Path(scratch) / "model.gguf"
            yield from write_gguf(folder, gguf, quantization)
        asked = yield from _answers(opened, saved, prompts, max_new_tokens)
        server = (
            Server(url) if url else stack.enter_context(llama_cpp(cast("Path", gguf), max_positions(opened.source)))
        )
        modelfile = gguf.parent / MODELFILE if gguf and (gguf.parent / MODELFILE).is_file() else None
        checks: list[Check] = []
        for number, each in enumerate(asked):
            yield Phase("certify", f"Asking {server.name}", number / len(asked))
            served = server.ask(each.messages, max_new_tokens)
            checks.append(compare(opened.tokenizer, each, served, _by_modelfile(server, modelfile, each)))
    certificate = Certificate(server.name, server.weights, max_new_tokens, tuple(checks))
    write_whole(folder / CERTIFICATE, json.dumps(certificate.to_dict(), indent=1, ensure_ascii=False) + "\n")
    write_whole(folder / "README.md", card(record, certificate.to_markdown()))
    return certificate


def _answers(
    opened: OpenModel, saved: SavedRun, prompts: Sequence[str], max_new_tokens: int
) -> Generator[Event, None, list[Asked]]:
    """Ask the prompts here. Those that no message asks, such as tokenised rows, are left out."""
    data = saved.examples()
    shape, template = shape_of(data.train[0]), template_of(saved.config)
    trained = TrainedPrompt(template, shape, opened.tokenizer)
    typed = [Question(text, typed_prompt(text, shape), "typed") for text in prompts]
    questions = [(each, trained.messages(each)) for each in (*typed, *questions_of(saved.config, data))]
    questions = [(question, messages) for question, messages in questions if messages][:MOST_PROMPTS]
    if not questions:
        raise DataError(f"{saved.folder} has no prompt that could be asked elsewhere; give one with --prompt.")
    rendered = [render_prompt(question.example, template, opened.tokenizer) for question, _ in questions]
    encoded = [prompt.ids for prompt in encoder_for(opened.tokenizer).encode_prompts(rendered)]
    model = yield from opened.load()
    yield Phase("certify", f"Answering {len(questions)} prompts here")
    known: Any = cast("GenerationConfig", model.generation_config).eos_token_id
    ends = known if isinstance(known, list) else [known]
    asked: list[Asked] = []
    for (question, messages), ids in zip(questions, encoded, strict=True):
        answer = _answer(model, ids, max_new_tokens)
        asked.append(Asked(question, messages, tuple(ids), answer, answer[-1:] != () and answer[-1] in ends))
    return asked


def _answer(model: PreTrainedModel, ids: list[int], max_new_tokens: int) -> tuple[int, ...]:
    """Return the ids of the greedy answer, with the one that ended it."""
    import torch

    inputs = torch.tensor([ids], device=model.device)
    mask = torch.ones_like(inputs)
    generate: Any = model.generate  # which transformers and peft annotate each in another way
    output = generate(inputs, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False)
    return tuple(output[0, len(ids) :].tolist())


def _by_modelfile(server: Server, modelfile: Path | None, asked: Asked) -> bool | None:
    """Return whether the Modelfile's template gives the ids; None where that cannot be told."""
    if modelfile is None or not server.is_llama_cpp or [each["role"] for each in asked.messages] != ["user"]:
        return None
    if set(asked.messages[0]) != {"role", "content"}:
        return None  # Ollama's templates know no input
    prompt = prompt_of(modelfile, asked.messages[0]["content"])
    return tuple(server.tokenize(prompt)) == asked.prompt_ids


def compare(
    tokenizer: PreTrainedTokenizerBase, asked: Asked, served: Served, modelfile_same_ids: bool | None = None
) -> Check:
    """Return how a prompt is answered here and where the model is served, with the first difference and its cause."""
    here: Sequence[object] = asked.answer_ids
    there: Sequence[object] | None = served.answer_ids
    if there is None:  # a server that tells no ids is compared by its text
        text = cast("str", tokenizer.decode([*asked.answer_ids], skip_special_tokens=True))
        here, there = text.strip(), served.answer.strip()
    alike = common_length(here, there)
    parts = alike < min(len(here), len(there))
    same_end = None if parts else len(here) == len(there) and served.ended == asked.ended
    same_ids = None if served.prompt_ids is None else served.prompt_ids == asked.prompt_ids
    difference, cause = "", ""
    if same_ids is False:
        difference, cause = _prompts_part(tokenizer, asked, served.prompt_ids or ())
    elif modelfile_same_ids is False:
        difference, cause = "the Modelfile's template gives other ids", "template"
    elif parts or same_end is False:
        ours, theirs = (_shown(tokenizer, each, alike) for each in (here, there))
        difference, cause = f"after {alike}: here {ours}, there {theirs}", "weights" if parts else "end"
    return Check(asked.question.text, same_ids, same_end, alike, len(here), difference, cause, modelfile_same_ids)


def _prompts_part(tokenizer: PreTrainedTokenizerBase, asked: Asked, there: tuple[int, ...]) -> tuple[str, str]:
    """Return where the ids of the prompts part, and what makes it."""
    here = asked.prompt_ids
    alike = common_length(here, there)
    difference = f"id {alike} of the prompt: here {_shown(tokenizer, here, alike)}, there "
    difference += _shown(tokenizer, there, alike)
    bos = (tokenizer.bos_token_id,)
    if here in (bos + there, there[1:]) or there == bos + here:
        return difference, "BOS"
    if any_of(special_texts(tokenizer)).search(json.dumps(asked.messages, ensure_ascii=False)):
        return difference, "special text"
    same_text = tokenizer.decode([*here]) == tokenizer.decode([*there])
    return difference, "tokenizer" if same_text else "template"


def _shown(tokenizer: PreTrainedTokenizerBase, answer: Sequence[Any], position: int) -> str:
    """Return what stands at a position of an answer or a prompt, and a little after it."""
    rest = answer[position : position + 4]
    if not rest:
        return "nothing"
    return json.dumps(rest if isinstance(rest, str) else tokenizer.decode(list(rest)), ensure_ascii=False)
