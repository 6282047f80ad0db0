"""Models whose files were cut or changed: each is loaded and answers, or is refused in a sentence, soon."""

from __future__ import annotations

import json
import multiprocessing
import resource
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gguf import GGUFReader
from tiny_gguf import tiny_gguf

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Answer, Failed, Finished
from sftdemo.runs.run import answer

SECONDS, MEBIBYTES = 5.0, 1024


def gguf_mutants(whole: bytes, path: Path) -> Iterator[tuple[str, bytes]]:
    """Cut it at every kind of place, and let every number in its head lie."""
    reader = GGUFReader(path)

    def put(offset: int, form: str, value: int) -> bytes:
        changed = bytearray(whole)
        struct.pack_into(form, changed, offset, value)
        return bytes(changed)

    places = {"magic": 2, "version": 6, "counts": 12, "first key": 30, "weights": reader.data_offset + 100}
    places |= {f"before {name}": field.offset for name, field in reader.fields.items() if field.offset > 24}
    places |= {f"tensor {each.name}": each.field.offset + 9 for each in reader.tensors[:3]}
    places |= {"no weights": reader.data_offset, "the last byte": len(whole) - 1, "nothing": 0}
    for name, place in places.items():
        yield f"cut: {name}", whole[:place]
    yield "other magic", put(0, "<I", 7)
    for version in (0, 1, 99, 2**31):
        yield f"version {version}", put(4, "<I", version)
    for name, offset in (("tensors", 8), ("fields", 16)):
        for count in (0, 1, 10**6, 2**31, 2**60, 2**64 - 1):
            yield f"{count} {name}", put(offset, "<Q", count)
    for name, field in reader.fields.items():
        if field.offset < 24:
            continue
        kind = field.offset + 8 + len(name)
        yield f"{name}: key of 2^40", put(field.offset, "<Q", 2**40)
        yield f"{name}: kind 9", put(kind, "<I", 9)
        yield f"{name}: kind 77", put(kind, "<I", 77)
        for value in (0, 2**31 - 1, 2**60):
            yield f"{name}: value {value}", put(kind + 4, "<Q" if value > 2**32 else "<I", value)
    for each in reader.tensors[:2]:
        after = each.field.offset + 8 + len(each.name)
        yield f"{each.name}: 2^31 dimensions", put(after, "<I", 2**31)
        yield f"{each.name}: 2^40 wide", put(after + 4, "<Q", 2**40)
        kind = after + 4 + 8 * len(each.shape)
        for value in (1, 2, 12, 16, 99):
            yield f"{each.name}: type {value}", put(kind, "<I", value)
        for value in (2**62, 7, len(whole)):
            yield f"{each.name}: lies at {value}", put(kind + 4, "<Q", value)
    long = whole[:16] + struct.pack("<Q", reader.fields["GGUF.kv_count"].parts[0][0] + 1)
    deep = struct.pack("<Q", 1) + b"a" + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000
    yield "arrays in arrays", long + deep + whole[24:]
    flat = struct.pack("<Q", 1) + b"a" + struct.pack("<I", 9) + struct.pack("<IQ", 0, 12_000_000) + b"\0" * 12_000_000
    yield "an array of 12 million", long + flat + whole[24:]


def safetensors_mutants(whole: bytes) -> Iterator[tuple[str, bytes]]:
    length = struct.unpack_from("<Q", whole)[0]
    head, body = json.loads(whole[8 : 8 + length]), whole[8 + length :]

    def having(head: object, body: bytes = body, length: int | None = None) -> bytes:
        text = json.dumps(head).encode()
        return struct.pack("<Q", len(text) if length is None else length) + text + body

    for place in (0, 4, 8, 20, 8 + length, len(whole) // 2, len(whole) - 1):
        yield f"cut at {place}", whole[:place]
    for value in (0, 1, 2**31, 2**40, 2**60, 2**64 - 1):
        yield f"a head of {value}", having(head, length=value)
    yield "a list", having([])
    yield "no weights", having({}, b"")
    name = next(key for key in head if key != "__metadata__" and len(head[key]["shape"]) == 2)
    for key, value in (
        ("shape", [2**40, 2**40]),
        ("shape", [-1, 5]),
        ("shape", []),
        ("shape", "x"),
        ("dtype", "F64"),
        ("dtype", "X9"),
        ("dtype", "I32"),
        ("data_offsets", [0, 2**60]),
        ("data_offsets", [10, 2]),
        ("data_offsets", [0, 0]),
        ("data_offsets", None),
    ):
        yield f"{key} {value}", having(head | {name: head[name] | {key: value}})
    yield "a weight less", having({key: value for key, value in head.items() if key != name})


def config_mutants() -> Iterator[tuple[str, dict[str, object]]]:
    """What may stand in a config.json in place of a number of GPT-2's."""
    for name in ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size", "n_inner"):
        for value in (-1, 0, 3, 10**9, 10**12, 1e12, 2**63, "x", [], True, None, 1.5):
            yield f"{name}: {value!r}", {name: value}
    for name, values in {
        "layer_norm_epsilon": ("x", None, -1, 1e400),
        "activation_function": ("x", 7, None),
        "model_type": ("x", 7, None, "llama", "t5", "bert"),
        "architectures": (7, ["X"], None, "x"),
        "eos_token_id": ("x", -1, 10**12, [10**12], [], 1.5),
        "torch_dtype": ("x", 7, "float64", "int8"),
        "dtype": ("x", 7),
        "quantization_config": ({}, {"quant_method": "x"}, 7),
        "tie_word_embeddings": ("x", False),
        "attn_pdrop": (5, "x", -1),
        "auto_map": ({"AutoModelForCausalLM": "x.Y"}, 7),
        "scale_attn_weights": (7, "x"),
        "use_cache": ("x", 7),
        "attn_implementation": ("x",),
        "_attn_implementation": ("x", 7),
        "is_encoder_decoder": (True,),
        "add_cross_attention": (True,),
        "text_config": ({}, 7, {"vocab_size": 10**12}),
        "pruned_heads": ({"0": [0]}, 7, {"9": [9]}),
        "id2label": (7, {"x": 1}),
        "num_labels": (10**12, -1),
    }.items():
        for value in values:
            yield f"{name}: {value!r}", {name: value}


def generation_mutants() -> Iterator[tuple[str, dict[str, object]]]:
    for name, values in {
        "eos_token_id": ("x", -1, 10**12, [[1]], 1.5),
        "num_beams": (0, 10**9, "x"),
        "max_length": (-1, 10**12, "x"),
        "temperature": (0, -1, "x"),
        "do_sample": ("x", True),
        "num_return_sequences": (10**9, 0),
        "cache_implementation": ("x", "static", 7),
        "bad_words_ids": ([[10**12]], 7),
        "forced_eos_token_id": (10**12,),
        "stop_strings": (["x"], 7),
        "min_new_tokens": (10**12,),
        "assistant_early_exit": (1,),
        "penalty_alpha": (0.5,),
        "watermarking_config": ({}, 7),
        "transformers_version": (7,),
    }.items():
        for value in values:
            yield f"{name}: {value!r}", {name: value}


def ask(model: str, sender) -> None:
    """Load the model and answer with it; tell the last event, the seconds and the MiB that it took."""
    begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        *rest, last = answer(RunConfig(model, max_new_tokens=2, device="cpu"), ["Hello"])
        kind = "answered" if isinstance(last, Finished) and any(isinstance(e, Answer) for e in rest) else "refused"
        told = last.message if isinstance(last, Failed) else ""
    except BaseException as error:  # what is looked for
        kind, told = "traceback", f"{type(error).__name__}: {error}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    sender.send((kind, told, time.monotonic() - begin, grown))


def tried(name: str, model: Path, context) -> str:
    """Return what is wrong with the end that a mutant comes to; empty if nothing is."""
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=ask, args=(str(model), sender))
    process.start()
    sender.close()
    if not receiver.poll(30):
        process.kill()
        return f"{name}: no end"
    try:
        kind, told, seconds, grown = receiver.recv()
    except EOFError:
        process.join()
        return f"{name}: died ({process.exitcode})"
    process.join()
    wrong = [
        kind * (kind == "traceback"),
        f"{seconds:.1f} s" * (seconds > SECONDS),
        f"{grown:.0f} MiB" * (grown > MEBIBYTES),
        "several lines" * ("\n" in told),
        f"{len(told)} characters" * (len(told) > 600),
    ]
    print(f"{kind:9} {seconds:5.2f} s {grown:5.0f} MiB  {name}: {told[:150]}")
    return f"{name}: {' '.join(filter(None, wrong))} {told[:300]}" if any(wrong) else ""


def mutants_of(kind: str, folder: Path, gpt2: Path) -> Iterator[tuple[str, Path]]:
    if kind == "gguf":
        tiny_gguf(folder / "whole.gguf")
        yield "whole", folder / "whole.gguf"
        whole = (folder / "whole.gguf").read_bytes()
        for number, (name, content) in enumerate(gguf_mutants(whole, folder / "whole.gguf")):
            (folder / f"{number}.gguf").write_bytes(content)
            yield name, folder / f"{number}.gguf"
            (folder / f"{number}.gguf").unlink()
        return
    model = folder / "model"
    shutil.copytree(gpt2, model)
    yield "whole", model
    file = {"safetensors": "model.safetensors", "config": "config.json", "generation": "generation_config.json"}[kind]
    whole = (model / file).read_bytes()
    if kind == "safetensors":
        found = safetensors_mutants(whole)
    else:
        changes = config_mutants() if kind == "config" else generation_mutants()
        known = json.loads(whole)
        found = ((name, json.dumps(known | change).encode()) for name, change in changes)
    for name, content in found:
        (model / file).write_bytes(content)
        yield name, model


@pytest.mark.hold
@pytest.mark.parametrize("kind", ["gguf", "safetensors", "config", "generation"])
def test_each_is_answered_or_refused_in_a_sentence(kind, tmp_path, gpt2_folder):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sftdemo.runs.preload", "gguf"])
    wrong = [tried(name, model, context) for name, model in mutants_of(kind, tmp_path, gpt2_folder)]
    assert len(wrong) > 20
    assert not any(wrong), "\n".join(filter(None, wrong))
