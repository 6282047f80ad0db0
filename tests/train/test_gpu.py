"""A training on a GPU: `pytest --gpu tests/train/test_gpu.py`, where there is one."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import pytest
import torch
from model.test_bf16 import IDS, ROUNDING, adapted, alike, learns
from model.test_prefix_sharing import SHARES, built
from runs.test_memory import rows_of
from safetensors.torch import load_file
from tiny import tokenizer_named

from sftdemo.bench.recipes import random_llama
from sftdemo.core.config import RunConfig
from sftdemo.core.events import Comparison, Failed, Finished, HeldOut, Model, Phase, Step, TokenLosses, Weights
from sftdemo.data.examples import read_examples
from sftdemo.data.samples import SAMPLES
from sftdemo.model.bf16 import Bf16Layers
from sftdemo.runs import memory
from sftdemo.runs.jobs import Job
from sftdemo.runs.memory import ModelShape, training_bytes
from sftdemo.runs.revisit import token_losses
from sftdemo.runs.run import run
from sftdemo.runs.standby import Standby
from sftdemo.train.loop import train

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU, or no --gpu"),
    # torch's own, of the first product in the thread of the backward pass
    pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS, but there was no current CUDA context:UserWarning"),
]
four_bits = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
DATA = read_examples(SAMPLES[0].path)


@pytest.fixture
def config(llama_folder):
    return RunConfig(str(llama_folder), steps=3, batch_size=4, max_new_tokens=3, device="cuda")


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


@pytest.mark.parametrize("name", ["llama", "llama with biases", "qwen3", "phi3"])
def test_a_step_in_bf16_is_float32s_but_for_rounding(name):
    model, ids = adapted(built(*SHARES[name])).cuda(), IDS.cuda()
    loss, gradients = learns(model, ids)
    with Bf16Layers(model).used(), torch.autocast("cuda", torch.bfloat16):
        found, others = learns(model, ids)
    assert 0 < abs(found - loss) < ROUNDING * loss
    assert min(alike(gradients[each], others[each]) for each in gradients) > 0.99


def check(events) -> None:
    assert not of(Failed, events)
    (model,), (weights,) = of(Model, events), of(Weights, events)
    assert model.dtype == "bf16"
    assert weights.before == weights.after
    assert of(Step, events)[-1].loss < of(Step, events)[0].loss
    assert len(of(Comparison, events)) == 6
    assert [phase for phase in of(Phase, events) if "of the GPU's memory" in phase.message]


def test_a_run(config, tmp_path):
    events = list(run(config, DATA, tmp_path / "out"))
    check(events)
    again = list(run(replace(config, precision="float32"), DATA, tmp_path / "float32"))
    first, second = (of(HeldOut, each)[0] for each in (events, again))
    assert first.completion_loss == pytest.approx(second.completion_loss, abs=1e-5)  # in float32, whatever trains


def test_a_run_in_a_process_of_its_own_and_in_one_that_stands_by(config, tmp_path):
    check(list(Job(partial(run, config, DATA, tmp_path / "one")).new_events()))
    standby = Standby(config)
    try:
        list(standby.ask(config, DATA))
        events = list(Job(partial(run, config, DATA, tmp_path / "two"), start=standby.start).new_events())
    finally:
        standby.end()
    check(events)


@pytest.mark.parametrize("full", [False, True])
def test_memory_is_about_what_is_told(tmp_path, full):
    shape = ModelShape(0, 8, 512, 1536, 256, 4000)
    model = random_llama(4000, 512, 1536, layers=8, heads=8, key_value_heads=4).to(torch.device("cuda"))
    shape = replace(shape, weights=model.num_parameters())
    rows = rows_of(8, 400, 200)
    config = RunConfig(steps=2, batch_size=8, full=full, max_length=512, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() - 4 * shape.weights
    list(train(model, tokenizer_named("gpt2"), rows, config, lambda: False, str(tmp_path)))
    taken = torch.cuda.max_memory_allocated() - before
    told = training_bytes(config, shape, 8 * 400, 8 * 200, "cuda") - memory._PROCESS
    assert 0.6 * told < taken < 1.15 * told, (taken, told)


@four_bits
def test_a_run_in_4_bits(config, tmp_path):
    events = list(run(replace(config, load_in_4bit=True), DATA, tmp_path / "out"))
    check(events)
    assert of(Model, events)[0].copy.endswith(", in 4 bits")
    saved = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {weight.dtype for weight in saved.values()} == {torch.float32}
    assert json.loads((tmp_path / "out" / "run.json").read_text())["config"]["load_in_4bit"]
    told = list(token_losses(tmp_path / "out", "cuda"))
    assert of(TokenLosses, told)
    assert isinstance(told[-1], Finished)
