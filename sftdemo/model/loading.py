"""Load the tokenizer, the longest position and the weights of a model: safetensors only, no remote code."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..core.config import RunConfig
from ..core.errors import ModelError, reason
from ..core.events import Model, Phase
from ..core.json_files import MOST, read_object
from ..data.templates import template_of
from ..mask.encoding import largest_token
from ..mask.labels import Masker
from .devices import choose_device, describe_device, precision_of, precision_on
from .gguf import check_complete, check_shapes
from .sources import RUN_RECORD, ModelSource, check_adapter, resolve, resolve_tokenizer

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from tokenizers import Tokenizer
    from torch.nn import Module
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MOST_LABELS = 1_000_000
MOST_ID = 2**24 - 1  # of a token; the largest vocabularies have an eightieth of it
_READ_WHOLE = {".json", ".jinja", ".model", ".txt"}


@dataclass(frozen=True)
class OpenModel:
    """A model that was found, with its tokenizer, before its weights are loaded.

    Args:
        config (`RunConfig`):
            Its `max_length` is no more than the model has positions.
    """

    config: RunConfig
    source: ModelSource
    tokenizer: PreTrainedTokenizerBase

    @property
    def masker(self) -> Masker:
        """Return what masks rows for this model under these settings.

        Raises:
            TemplateError: when the template is malformed.
        """
        config = self.config
        return Masker(self.tokenizer, template_of(config), config.max_length, stop_ids(self.source), config.too_long)

    def load(
        self, trains: bool = False, loaded: PreTrainedModel | None = None
    ) -> Generator[Model, None, PreTrainedModel]:
        """Load the weights onto the device of `config`, yield a `Model` and return the model. The `Model` says bf16 if
        the model `trains` in it. Where it is `loaded` already, that one is returned.

        Raises:
            ModelError: if the weights cannot be loaded, if they are not of the tokenizer's model, or if the device does
                not exist or has no room for them.
        """
        from .bounds import check_embedding

        device = choose_device(self.config.device)
        precision_on(device, self.config.precision if trains else "auto")  # refuses one that the device does not have
        model = load_model(self.source, device, trains, self.config.load_in_4bit) if loaded is None else loaded
        check_embedding(self.source.name, model, self.tokenizer)
        dtype = precision_of(model, self.config.precision) if trains else "float32"
        copy = f"{self.source.copy}, in 4 bits" if self.config.load_in_4bit else self.source.copy
        yield Model(self.source.name, copy, describe_device(model.device), dtype, model.num_parameters())
        return model


def open_model(config: RunConfig, weights: bool = True) -> Generator[Phase, None, OpenModel]:
    """Find the model of `config`, fetch what is missing, load the tokenizer and return the `OpenModel`. Without
    `weights` the tokenizer's files are enough; the result cannot be loaded then.

    Raises:
        ModelError: if the model cannot be found or fetched, or if its tokenizer cannot be loaded.
    """
    source = yield from (resolve if weights else resolve_tokenizer)(config.model)
    yield Phase("load", "Loading the model" if weights else "Loading the tokenizer")
    tokenizer = load_tokenizer(source)
    return OpenModel(replace(config, max_length=effective_max_length(config.max_length, source)), source, tokenizer)


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """Load the tokenizer of the source. Without a padding token, EOS is used.

    Raises:
        ModelError: if it cannot be loaded.
    """
    folder = source.folder
    for each in filter(None, (source, source.base)):
        _check_labels(each)
        _check_bytes(each)
    if source.base is not None and not (folder / "tokenizer_config.json").is_file():
        folder = source.base.folder
    try:
        tokenizer = _tokenizer_class(folder).from_pretrained(folder, trust_remote_code=False)
    except ModelError:
        raise
    except Exception as error:  # of many kinds, as its files may be anyone's
        raise ModelError(f"the tokenizer of {source.name} cannot be loaded: {reason(error)}") from error
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # transformers makes an empty one where files are missing
        raise ModelError(f"the tokenizer of {source.name} cannot be loaded: {folder} holds no vocabulary.")
    if tokenizer.is_fast:
        _check_ids(source.name, tokenizer.backend_tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if (folder / RUN_RECORD).is_file():  # a saved run's template is the prompt it was trained on, not the model's own
        record = read_object(folder / RUN_RECORD)
        tokenizer.chat_template = record.get("chat_template", tokenizer.chat_template)
    return tokenizer


def _check_bytes(source: ModelSource) -> None:
    """Refuse what is read whole with a tokenizer, if it is longer than any."""
    for path in source.folder.iterdir():
        if path.suffix in _READ_WHOLE and (size := path.stat().st_size) > MOST:
            raise ModelError(
                f"the tokenizer of {source.name} cannot be loaded: {path.name} has {size:,} bytes, and the limit is "
                f"{MOST:,}; it may have been changed."
            )


def _check_ids(name: str, backend: Tokenizer) -> None:
    """Refuse ids between which there are too many gaps, each of which the tokenizers library walks through. Also turn
    off BPE's dropout, with which no two masks of a row are the same."""
    from tokenizers.models import BPE

    text, index = largest_token(backend)
    if index > MOST_ID:
        raise ModelError(
            f"the tokenizer of {name} cannot be loaded: it gives {text[:40]!r} the id {index:,}, and the limit is "
            f"{MOST_ID:,}; it may have been changed."
        )
    if isinstance(backend.model, BPE):
        backend.model.dropout = None


def _check_labels(source: ModelSource) -> None:
    """Refuse more labels than a list has room for: transformers gives each a name, of whatever model."""
    path = source.folder / "config.json"
    labels = read_object(path).get("num_labels") if path.is_file() else None
    if isinstance(labels, int) and labels > MOST_LABELS:
        raise ModelError(
            f"the configuration of {source.name} cannot be read: num_labels is {labels:,}, and the limit is "
            f"{MOST_LABELS:,}."
        )


def _tokenizer_class(folder: Path):
    """Return the class that loads the tokenizer of a folder: AutoTokenizer, or the class that it would choose if the
    folder says that its tokenizer needs none of its own, as the folders that this program writes do.

    AutoTokenizer loads torch and the model's code to find that out. With it, the first mask came 6.6 s after the page,
    and without it 2.4 s (`bench --only start`, 2 cores).
    """
    path = folder / "tokenizer_config.json"
    known = read_object(path) if path.is_file() else {}
    if known.get("tokenizer_class") == "TokenizersBackend" and "auto_map" not in known:
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast
    from transformers import AutoTokenizer

    return AutoTokenizer


def max_positions(source: ModelSource) -> int | None:
    """Return the longest sequence the model has positions for, in tokens; None if its configuration names none, or if
    there is a tokenizer alone."""
    folder = source.folder if source.base is None else source.base.folder
    if not (folder / "config.json").is_file() and (folder / "tokenizer.json").is_file():
        return None
    try:
        written = read_object(folder / "config.json")
    except ModelError as error:
        raise ModelError(f"the configuration of {source.name} cannot be read: {error}") from error
    if "max_position_embeddings" in written and "text_config" not in written:
        return _positions(written["max_position_embeddings"], source)  # without loading torch and the model's code
    try:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
    except Exception as error:  # of many kinds, as the file may be anyone's
        raise ModelError(f"the configuration of {source.name} cannot be read: {reason(error)}") from error
    return _positions(getattr(config, "max_position_embeddings", None), source)


def _positions(found: object, source: ModelSource) -> int | None:
    if found is None or (type(found) is int and found > 0):
        return found
    raise ModelError(
        f"the configuration of {source.name} cannot be read: max_position_embeddings is {found!r}; it must be a whole "
        "number above 0."
    )


def stop_ids(source: ModelSource) -> frozenset[int]:
    """Return the ids at which the model's own `generate` stops: `eos_token_id` of its generation config, or of its
    configuration if it has none. Empty if neither names one."""
    folder = source.folder if source.base is None else source.base.folder
    found: object = None
    for path in (folder / "config.json", folder / "generation_config.json", source.folder / "generation_config.json"):
        if path.is_file():
            found = read_object(path).get("eos_token_id", found)
    named = found if isinstance(found, list) else [found]
    return frozenset(index for index in named if type(index) is int and 0 <= index <= MOST_ID)


def effective_max_length(max_length: int, source: ModelSource) -> int:
    """Return `max_length`, or the number of the model's positions if that is smaller."""
    return min(max_length, max_positions(source) or max_length)


def load_model(
    source: ModelSource, device: torch.device, trains: bool = False, four_bits: bool = False
) -> PreTrainedModel:
    """Load the model onto `device`, with weights in float32, or with `four_bits` as `four_bits.settings` says. A saved
    adapter is put on top of its base; if the model `trains`, the adapter's weights are what learns.

    Raises:
        ModelError: if the weights cannot be loaded, or if the device has no room for them.
    """
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig
    from transformers.utils import logging

    from .bounds import check_adapter_weights, check_folder
    from .four_bits import settings

    logging.disable_progress_bar()
    folder = source.folder if source.base is None else source.base.folder
    try:
        check_folder(source.name, folder)
        words: dict[str, Any] = (
            {"quantization_config": settings(device), "device_map": {"": device}} if four_bits else {}
        )
        found: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, by name
            **words,
        )
        model, told = found
        check_shapes(source.name, told["mismatched_keys"])
        check_complete(source.name, told["missing_keys"])
        known = source.base or source
        model.config._name_or_path = model.name_or_path = known.public_name  # what a saved adapter names as its base
        if source.base is not None:
            from peft import PeftModel

            check_adapter(source.folder)
            check_adapter_weights(source.name, source.folder)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Found missing adapter keys")  # an error, told below
                model = PeftModel.from_pretrained(model, source.folder, is_trainable=trains)
            _check_adapter_names(source.name, model, source.folder)
            if (source.folder / "generation_config.json").is_file():  # it stops where the adapter was trained to
                own = GenerationConfig.from_pretrained(source.folder)
                model.generation_config = own  # pyright: ignore[reportArgumentType] - a module takes anything
        if four_bits:
            return cast("PreTrainedModel", model)  # it is there already
        # transformers decorates `to` in a way that loses its first parameter; an adapter is called as its model is
        return cast("PreTrainedModel", model.to(device))  # pyright: ignore[reportArgumentType]
    except torch.OutOfMemoryError as error:
        raise ModelError(f"{source.name} does not fit into the memory of {device}; choose another device.") from error
    except ModelError:
        raise
    except Exception as error:  # of many kinds, as its files may be anyone's
        raise ModelError(f"{source.name} cannot be loaded: {reason(error)}") from error


def put_adapter(model: PeftModel, folder: Path) -> None:
    """Give the model the adapter saved in `folder`, of the same shape, in place of its own.

    Raises:
        ModelError: if a weight of it is missing, left over or of another kind.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    from .bounds import check_adapter_weights

    check_adapter_weights(str(folder), folder)
    _check_adapter_names(str(folder), model, folder)
    set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))


def _check_adapter_names(name: str, model: PeftModel, folder: Path) -> None:
    """Refuse an adapter whose file lacks weights, of which peft only warns, or has some that nothing would use."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        found, wanted = {*file.keys()}, {*get_peft_model_state_dict(model, save_embedding_layers=False)}
    check_complete(name, wanted - found)
    unused = {key for key in found - wanted if ".lora_" in key}  # whole layers may be saved besides
    if unused:
        raise ModelError(
            f"{name} has {len(unused):,} weights that its adapter_config.json has no place for, {min(unused)} first; "
            "it may have been changed. Fetch or train it anew."
        )


def weights_sha256(model: Module) -> str:
    """Return the SHA-256 of a model's own weights, with names and shapes, but without those of an adapter.
    About 0.35 s for 135 million weights in float32 on a processor that computes SHA-256 in hardware."""
    import torch

    named = ((_own_name(name), weight) for name, weight in model.named_parameters() if ".lora_" not in name)
    digest = hashlib.sha256()
    for name, weight in sorted(named, key=lambda pair: pair[0]):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _own_name(name: str) -> str:
    """Return the name of a weight in the model without PEFT."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")
