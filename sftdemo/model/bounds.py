"""Refuse a model whose files say of themselves what cannot be, before memory or time goes into it.

Importing this module imports transformers, so import it where it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig
from transformers.integrations.gguf.reader import GgufHeader, read_gguf_metadata

from ..core.errors import ModelError
from ..core.json_files import read_object
from ..data.chat_style import special_texts
from ..mask.encoding import largest_token

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LONGEST = 2**21  # entries of a list in a GGUF file's head; the largest vocabularies have a quarter of it
PACKED = 8  # weights in one number of a quantised model's files, at most
_WHOLE = ("I", "U", "BOOL")  # kinds of numbers in a safetensors file that are not in floating point
_SIZES = (
    *("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size"),
    *("vocab_size", "max_position_embeddings"),
)


def check_folder(name: str, folder: Path) -> None:
    """Check a model in Hugging Face's format against its weights.

    Raises:
        ModelError: if it asks for more than its files have, or for what no model has.
        Exception: of many kinds, if they cannot be read.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file() and not isinstance(read_object(index).get("weight_map"), dict):
        raise ModelError(f"{index} does not say which file has which weight. Fetch or save the model anew.")
    tensors = list(_tensors(folder))
    if not tensors:
        raise ModelError(f"{name} cannot be loaded: it has no weights in safetensors files.")
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    _check_sizes(name, config, len(tensors), sum(prod(shape) for _, _, shape in tensors))
    if getattr(config, "quantization_config", None) is None:
        _check_kinds(name, tensors)


def count_weights(folder: Path) -> int:
    """Return how many numbers the safetensors files of a folder hold.

    Raises:
        Exception: of many kinds, if they cannot be read.
    """
    return sum(prod(shape) for _, _, shape in _tensors(folder))


def check_numbers(folder: Path) -> None:
    """Refuse weights that are no numbers, as a training leaves them that has diverged at its last step.

    Raises:
        ModelError: with the first of them.
    """
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - it is no mapping
                if not file.get_tensor(key).isfinite().all():
                    raise ModelError(
                        f"{path} has values in {key!r} that are no numbers (NaN): the training has diverged. Train "
                        "anew, with a lower learning rate."
                    )


def _tensors(folder: Path) -> Iterator[tuple[str, str, list[int]]]:
    """Yield the name, the kind of numbers and the shape of each tensor in a folder's safetensors files."""
    for path in filter(Path.is_file, folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - it is no mapping
                tensor = file.get_slice(key)
                yield key, tensor.get_dtype(), tensor.get_shape()


def _check_kinds(name: str, tensors: Iterable[tuple[str, str, list[int]]]) -> None:
    """Refuse weights in whole numbers, which transformers would take for what they are not. Buffers may be in them: the
    causal mask of an older GPT-2 is called `attn.bias`, and has four dimensions."""
    for key, kind, shape in tensors:
        is_weight = key.endswith(".weight") or (key.endswith(".bias") and len(shape) == 1)
        if is_weight and kind.startswith(_WHOLE):
            raise ModelError(
                f"{name} has {key!r} in whole numbers ({kind}), and says of no quantisation; weights are in floating "
                "point. Fetch or save it anew."
            )


def check_adapter_weights(name: str, folder: Path) -> None:
    """Check that the weights of an adapter are in floating point, and that its settings ask for no more room than they
    have.

    Raises:
        ModelError: if not.
        Exception: of many kinds, if they cannot be read.
    """
    tensors = list(_tensors(folder))
    _check_kinds(name, tensors)
    longest = max((size for _, _, shape in tensors for size in shape), default=0)
    known = read_object(folder / "adapter_config.json")
    pattern = known.get("rank_pattern")
    for rank in (known.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())):
        if isinstance(rank, int) and rank > longest:
            raise ModelError(
                f"{folder / 'adapter_config.json'} says that r is {rank:,}, and no weight of the adapter has more than "
                f"{longest:,} rows or columns; it may have been changed. Fetch or train it anew."
            )


def check_embedding(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that the model's embedding has a row for each token that a text may become. A special token that neither
    stands in the chat template nor is put before a text or behind it may lack one: Gemma's is for images.

    Raises:
        ModelError: if a row is missing.
    """
    rows = cast("torch.nn.Embedding", model.get_input_embeddings()).num_embeddings
    if not tokenizer.is_fast:
        return  # the encoder refuses it
    backend = cast("Tokenizer", tokenizer.backend_tokenizer)
    around = [*backend.encode("").ids, tokenizer.eos_token_id, tokenizer.pad_token_id]
    special, template = {*special_texts(tokenizer)}, str(tokenizer.chat_template or "")
    found = dict([largest_token(backend)])
    for index, token in tokenizer.added_tokens_decoder.items():
        text = token.content
        if index in around or text not in special or text in template:
            found[text] = index
    text, index = max(found.items(), key=itemgetter(1))
    if index >= rows:
        raise ModelError(
            f"the tokenizer of {name} gives {text[:40]!r} the id {index:,}, and the model's embedding has {rows:,} "
            "rows, so they do not belong together. Put the model's own tokenizer beside it, or resize the embedding "
            "and save the model anew."
        )


def check_gguf(path: Path) -> PretrainedConfig:
    """Check that the weights of a GGUF file lie one behind the other, as llama.cpp wants them, that it holds them all,
    and that no list in its head is endless. Return the configuration of its model.

    Raises:
        ModelError: if not, or if it asks for more than it has.
        Exception: of many kinds, if its head cannot be read.
    """
    metadata, _ = read_gguf_metadata(str(path))
    fields: dict[str, object] = read_gguf_metadata(str(path), metadata)[0]
    for key, value in fields.items():
        entries = len(cast("list[object]", value)) if isinstance(value, list) else 0
        if entries > LONGEST:
            raise ModelError(f"{path} has {entries:,} entries in {key!r}, and the limit is {LONGEST:,}.")
    _check_vocabulary(path, fields)
    header, alignment, end = GgufHeader.from_file(str(path)), metadata.get("general.alignment", 32), 0
    for tensor in sorted(header.tensors, key=lambda each: each.offset):
        if tensor.offset != end:
            raise ModelError(
                f"{path} says of {tensor.name!r} that it begins at byte {tensor.offset:,}, not {end:,}; "
                "it may have been changed. Fetch it anew."
            )
        last, end = end + tensor.nbytes, -(-(end + tensor.nbytes) // alignment) * alignment
        if header.data_start + last > path.stat().st_size:
            raise ModelError(f"{path} ends before {tensor.name!r} does; it has been cut. Fetch it anew.")
    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    elements = sum(prod(tensor.shape) for tensor in header.tensors)
    _check_sizes(str(path), config, len(header.tensors), elements)
    return config


def _check_vocabulary(path: Path, fields: Mapping[str, object]) -> None:
    """Refuse a tokenizer in the head of a GGUF file of which an id is no token's, or a merge does not join two."""
    tokens, merges = (fields.get(f"tokenizer.ggml.{name}") for name in ("tokens", "merges"))
    known = len(cast("list[object]", tokens)) if isinstance(tokens, list) else 0
    for key, value in fields.items():
        if (
            key.startswith("tokenizer.ggml.")
            and key.endswith("_token_id")
            and not (type(value) is int and value < known)
        ):
            raise ModelError(f"{path} says that {key} is {value!r}, and it has {known:,} tokens. Fetch it anew.")
    for merge in cast("list[object]", merges) if isinstance(merges, list) else ():
        if not (isinstance(merge, str) and len(merge.split(" ")) == 2):
            raise ModelError(f"{path} has a merge {str(merge)[:40]!r} of tokens; each joins two. Fetch it anew.")


def _check_sizes(name: str, config: PretrainedConfig, tensors: int, elements: int) -> None:
    own = config.get_text_config()
    for size in _SIZES:
        value, key = getattr(own, size, None), own.attribute_map.get(size, size)
        most = tensors if size == "num_hidden_layers" else None if size == "max_position_embeddings" else elements
        if value is not None and not (type(value) is int and value > 0):
            raise ModelError(f"{name} says that {key} is {value!r}; it must be a whole number above 0.")
        if value is not None and most is not None and value > most:
            raise ModelError(
                f"{name} says that {key} is {value:,}, and its files have {tensors:,} tensors with {elements:,} "
                "numbers; it may have been cut or changed."
            )
    if own.is_encoder_decoder:
        raise ModelError(f"{name} says that is_encoder_decoder is true; only models that go on with a text are used.")
    with torch.device("meta"):  # without memory
        wanted = AutoModelForCausalLM.from_config(config, trust_remote_code=False).num_parameters()
    most = elements * (PACKED if getattr(config, "quantization_config", None) else 2)
    if wanted > most:
        raise ModelError(
            f"{name} asks for {wanted:,} weights, and its files have {elements:,}; it may have been cut or changed."
        )
