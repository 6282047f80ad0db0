from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from forked import Forked
from saved import load_saved
from tiny import tokenizer_named
from transformers import AutoModelForCausalLM, AutoTokenizer

from sftdemo import __version__
from sftdemo.core.config import DEFAULT_MODEL, RunConfig
from sftdemo.core.events import Finished, Phase
from sftdemo.data.examples import parse_examples
from sftdemo.data.templates import get_template
from sftdemo.mask.labels import Masker
from sftdemo.terminal.cli import main

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "tokenizers", "gradio", "trl", "peft", "datasets", "rich"}
SEED_DATA = [
    {"instruction": "Say hello", "output": ["Hello world!"]},
    {"instruction": "Count to 3", "output": ["1 2 3"]},
]
LINES = [
    '{"instruction": "Say hello", "output": "Hello world!"}',
    '{"instruction": "No answer"}',
    "",
    "{broken",
    '{"instruction": "Capital of Italy?", "output": "Rome!"}',
    '{"instruction": "Asked", "output": "Kept back", "held_out": true}',
]
SHORT = ["--batch-size", "2", "--max-length", "128", "--max-new-tokens", "4"]


@pytest.fixture(autouse=True)
def in_a_plain_terminal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture
def data(tmp_path) -> str:
    (tmp_path / "data.jsonl").write_text("\n".join(LINES))
    return "data.jsonl"


def python(*words: str, **settings) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings
    )


def called(capsys, *words: str | Path) -> tuple[int, list[str], list[str]]:
    """Exit code and the lines of stdout and stderr."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as error:
        code = error.code
    out, err = capsys.readouterr()
    return code, out.splitlines(), err.splitlines()


def of(event: str, lines: list[str]) -> list[dict]:
    return [record for record in map(json.loads, lines) if record["event"] == event]


def one_line(lines: list[str]) -> str:
    """The program's only line, beside the blank ones that its spinner leaves."""
    (line,) = [line for line in lines if line.strip()]
    assert line.startswith("sftdemo: ")
    return line


class TestLightness:
    def test_help(self):
        commands = ["", "mask", "train", "ablate", "generate", "samples", "bench", "app"]
        code = f"""
import sys
from contextlib import suppress
from sftdemo.terminal.cli import main
for command in {commands}:
    with suppress(SystemExit):
        main([*command.split(), "--help"])
    print(command, sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)
"""
        with python("-c", code) as process:
            out, err = process.communicate()
        assert (process.returncode, err.splitlines()) == (0, [f"{command} []" for command in commands])
        assert re.findall(r"^usage: sftdemo ([a-z]*)", out, re.MULTILINE) == commands

    def test_version_as_a_module(self):
        with python("-X", "importtime", "-m", "sftdemo", "--version") as process:
            out, err = process.communicate()
        assert (process.returncode, out) == (0, f"sftdemo {__version__}\n")
        imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in err.splitlines()}
        assert "argparse" in imported
        assert not imported & HEAVY


class TestWrongCalls:
    @pytest.mark.parametrize(
        "words",
        [
            [],
            ["nonsense"],
            ["mask"],
            ["generate"],
            ["losses"],
            ["train", "d", "--steps", "1", "--epochs", "1"],
            ["train", "d", "--full", "--lora-r", "4"],
            ["train", "d", "--steps", "many"],
            ["train", "d", "--device", "tpu"],
            ["train", "d", "--turns", "first"],
            ["train", "d", "--audit"],
            ["ablate"],
            ["ablate", "d", "--weights"],
            ["ablate", "d", "--weights", "none"],
            ["ablate", "d", "--prompt-loss-weight", "1"],
            ["mask", "d", "--turns"],
            ["mask", "d", "--rows"],
            ["mask", "d", "--rows", "first"],
            ["mask", "d", "--batch-size", "all"],
            ["mask", "d", "--prove", "--device", "tpu"],
            ["mask", "d", "--anyway"],
        ],
        ids=" ".join,
    )
    def test_usage(self, capsys, words):
        code, out, err = called(capsys, *words)
        assert (code, out) == (2, [])
        assert err[0].startswith("usage: sftdemo")

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["mask", "--max-length", "4"], "max_length is 4; it must lie between 8 and 10,000,000 tokens"),
            (["train", "--steps", "0"], "steps is 0"),
            (["train", "--learning-rate", "nan"], "learning_rate is nan"),
            (["train", "--full", "--merge"], "no adapter to merge"),
            (["ablate", "--steps", "0"], "steps is 0"),
            (["ablate", "--weights", "0", "1.5"], "prompt_loss_weight is 1.5; it must lie between 0 and 1"),
            (["ablate", "--weights", "1"], "there is one weight; two to 4 can be compared"),
            (["ablate", "--weights", "0", "1", "0"], "the weights 0, 1, 0 are not all different"),
            (["ablate", "--weights", "0", ".1", ".2", ".3", ".4"], "there are 5 weights; two to 4 can be compared"),
            (["study", "--weights", "1"], "there is one weight; two to 8 can be compared"),
            (["study", "--seeds", "1"], "there is one seed, and nothing could be said of the spread"),
            (["study", "--sizes", "0"], "the size 0 trains nothing"),
            (["mask", "--model", ""], "model is empty"),
            (["mask", "--audit", "--batch-size", "0"], "batch_size is 0; it must lie between 1 and 1,024"),
        ],
        ids=lambda part: " ".join(part) if isinstance(part, list) else "",
    )
    def test_settings(self, capsys, data, words, says):
        code, out, err = called(capsys, words[0], data, *words[1:])
        assert (code, out) == (2, [])
        assert says in one_line(err)

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["generate", "x"], "give at least one --prompt, or with a saved run --strength"),
            (["generate", "x", "--strength", "9"], "strength is 9; it must lie between 0 (off) and 1.5"),
            (["generate", "x", "--strength", "1", "--template", "chat"], "leave --template and --load-in-4bit out"),
        ],
        ids=lambda part: " ".join(part) if isinstance(part, list) else "",
    )
    def test_a_model_that_is_asked_nothing(self, capsys, words, says):
        code, out, err = called(capsys, *words)
        assert (code, out) == (2, [])
        assert says in one_line(err)

    @pytest.mark.parametrize(
        "words", [["losses", "nowhere"], ["generate", "nowhere", "--strength", "0.5"]], ids=" ".join
    )
    def test_no_run_there(self, capsys, words):
        code, out, err = called(capsys, *words)
        assert (code, out) == (1, [])
        assert "There is no run that can be read in nowhere" in one_line(err)

    @pytest.mark.parametrize("command", ["mask", "train", "ablate"])
    def test_a_missing_file(self, capsys, command):
        code, out, err = called(capsys, command, "nowhere.jsonl")
        assert (code, out) == (1, [])
        assert "nowhere.jsonl cannot be read: No such file" in one_line(err)

    def test_a_missing_file_by_a_process(self, tmp_path):
        with python("-m", "sftdemo", "mask", "nowhere.jsonl", cwd=tmp_path) as process:
            out, err = process.communicate()
        assert (process.returncode, out) == (1, "")
        assert "nowhere.jsonl" in one_line(err.splitlines())

    def test_a_name_that_is_not_utf_8(self, monkeypatch):
        err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
        monkeypatch.setattr(sys, "stderr", err)
        assert main(["mask", "no\udcff.jsonl"]) == 1
        err.flush()
        assert err.buffer.getvalue() == rb"sftdemo: no\udcff.jsonl cannot be read: No such file or directory." + b"\n"

    @pytest.mark.parametrize("command", ["mask", "train --resume", "film", "bench --draw"])
    def test_a_text_in_place_of_a_files_name(self, capsys, command):
        code, _, err = called(capsys, *command.split(), "x" * 300)
        assert code == 2
        assert re.match(
            rf"sftdemo: '{'x' * 40}'… has 3\d\d characters, more than a file's name can; put", one_line(err)
        )

    def test_a_template_without_a_place_for_the_instruction(self, capsys, data, gpt2_folder):
        code, out, err = called(capsys, "mask", data, "--model", gpt2_folder, "--template", "Q: {question}")
        assert (code in (1, 2), out) == (True, [])
        assert "has no {instruction} in it" in one_line(err)

    def test_a_model_that_is_not_there(self, capsys, tmp_path):
        (tmp_path / "train.json").write_text(json.dumps(SEED_DATA))
        code, out, err = called(capsys, "mask", "train.json", "--model", "no/such/folder")
        assert (code, out) == (1, [])
        assert "'no/such/folder' is no folder or file here" in one_line(err)

    def test_no_row_to_show(self, capsys, tmp_path, gpt2_folder):
        (tmp_path / "bad.json").write_text('[{"instruction": "No answer"}]')
        code, _, err = called(capsys, "mask", "bad.json", "--model", gpt2_folder, "--json")
        assert code == 1
        assert err[0].startswith('sftdemo: refused row 0: has no "output"')
        assert err[-1] == "sftdemo: there is no row to show."


class TestMask:
    def test_json_is_what_the_trainer_gets(self, capsys, data, gpt2_folder):
        code, out, _ = called(capsys, "mask", data, "--model", gpt2_folder, "--json")
        assert code == 0
        parsed = parse_examples("\n".join(LINES))
        template = get_template("instruction")
        examples, _ = Masker(AutoTokenizer.from_pretrained(gpt2_folder), template, 256).tokenize(parsed.train)
        records = [json.loads(line) for line in out]
        assert [record["row"] for record in records] == [0, 3]
        for record, example in zip(records, examples, strict=True):
            for name in ("input_ids", "labels", "tokens", "kinds", "flags"):
                assert record[name] == list(getattr(example, name)), name
            assert "".join(record["tokens"]) == record["text"] == example.text

    def test_the_prompt_is_not_trained_and_the_rest_is(self, capsys, data, gpt2_folder):
        _, out, _ = called(capsys, "mask", data, "--model", gpt2_folder, "--json")
        record = json.loads(out[0])
        tokenizer = tokenizer_named("gpt2")
        prompt = tokenizer("### Instruction:\nSay hello\n\n### Response:\n")["input_ids"]
        answer = [*tokenizer("Hello world!")["input_ids"], tokenizer.eos_token_id]
        assert record["input_ids"] == prompt + answer
        assert record["labels"] == [-100] * len(prompt) + answer
        assert record["flags"] == []

    def test_refused_rows_are_named_on_stderr(self, capsys, data, gpt2_folder):
        _, _, err = called(capsys, "mask", data, "--model", gpt2_folder, "--json")
        first, second = [line for line in err if line.strip()]
        assert first.startswith('sftdemo: refused row 1 (line 2): has no "output"')
        assert second.startswith("sftdemo: refused row 2 (line 4): not valid JSON at column 2")

    def test_rows_the_model_cannot_render_are_refused_too(self, capsys, tmp_path, gpt2_folder):
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        (tmp_path / "chat.jsonl").write_text(json.dumps({"messages": turns}) + "\n" + LINES[0])
        code, out, err = called(capsys, "mask", "chat.jsonl", "--model", gpt2_folder, "--json")
        assert (code, [json.loads(line)["row"] for line in out]) == (0, [1])
        assert "refused row 0 (line 1): this model has no chat template" in one_line(err)

    def test_max_length(self, capsys, data, gpt2_folder):
        _, out, _ = called(capsys, "mask", data, "--model", gpt2_folder, "--json", "--max-length", "12")
        record = json.loads(out[0])
        assert len(record["input_ids"]) == len(record["labels"]) == 12
        assert record["cut"] > 0
        assert "eos_cut" in record["flags"]

    @pytest.mark.parametrize("template", [r"Q: {instruction}\nA:\n", "Q: {instruction}\nA:\n"])
    def test_a_template_of_ones_own(self, capsys, data, gpt2_folder, template):
        _, out, _ = called(capsys, "mask", data, "--model", gpt2_folder, "--json", "--template", template)
        record = json.loads(out[0])
        assert record["text"] == "Q: Say hello\nA:\nHello world!"
        trained = [text for text, label in zip(record["tokens"], record["labels"], strict=True) if label != -100]
        assert "".join(trained) == "Hello world!"

    def test_without_colour_trained_tokens_stand_in_brackets(self, capsys, data, gpt2_folder):
        code, out, _ = called(capsys, "mask", data, "--model", gpt2_folder)
        assert code == 0
        text = "\n".join(out)
        tokens = tokenizer_named("gpt2").convert_ids_to_tokens(tokenizer_named("gpt2")("Hello world!")["input_ids"])
        assert f"[{']['.join(tokens)}][<|endoftext|>]".replace("Ġ", "␣") in text.replace(" ", "␣")
        assert "[Say" not in text
        assert "row 3" in text
        assert "2 examples" in text
        assert "1 held out" in text
        assert "\x1b" not in text

    @pytest.mark.parametrize(("weight", "signs"), [("0.5", "()"), ("1", "[]")])
    def test_what_the_prompts_weight_makes_of_the_rows(self, capsys, data, gpt2_folder, weight, signs):
        options = "mask", data, "--model", gpt2_folder, "--rows", "0", "--prompt-loss-weight", weight
        _, out, _ = called(capsys, *options)
        text = "\n".join(out)
        assert text.count(signs[0] + "S") + text.count(signs[0] + "␣") > 1
        if weight == "1":
            assert "1 not trained" in text
            assert "[trained], the prompt too" in text
        else:
            assert len(re.findall(r"more count 0\.5 times|count 0\.5 times ·", text)) == 2

    def test_a_process_into_a_pipe(self, data, tmp_path, gpt2_folder, monkeypatch):
        monkeypatch.delenv("NO_COLOR")
        with Forked("-m", "sftdemo", "mask", data, "--model", gpt2_folder, folder=tmp_path) as process:
            code, out, err = process.ended()
        assert code == 0
        assert "[<|endoftext|>]" in out
        assert "\x1b" not in out
        assert "Traceback" not in err
        assert len([line for line in err.splitlines() if "refused row" in line]) == 2


class TestSurroundings:
    """What stands around the program may be narrow: a pipe that closes, another encoding, a port that is taken."""

    def test_a_reader_that_goes_away(self, data, gpt2_folder, monkeypatch):
        reader, writer = os.pipe()
        os.close(reader)
        pipe = open(writer, "w", buffering=1)  # noqa: SIM115 - closing it fails as well
        monkeypatch.setattr(sys, "stdout", pipe)
        try:
            main(["mask", data, "--model", str(gpt2_folder), "--json"])
        except BrokenPipeError:
            pytest.fail("it ends in a traceback")
        finally:
            with suppress(BrokenPipeError):
                pipe.close()

    @pytest.mark.parametrize("form", [["--json"], []], ids=["json", "drawn"])
    def test_an_output_that_is_not_utf_8(self, tmp_path, gpt2_folder, monkeypatch, form):
        (tmp_path / "other.json").write_text(json.dumps([{"instruction": "Hi ⚠", "output": "こんにちは"}]))
        out = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["mask", "other.json", "--model", str(gpt2_folder), *form]) == 0
        out.flush()
        if form:
            assert json.loads(out.buffer.getvalue())["text"].endswith("こんにちは")

    def test_a_port_that_is_taken(self, capsys):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            code, _, err = called(capsys, "app", "--no-browser", "--port", port)
        assert code == 1
        assert port in one_line(err)

    def test_a_port_that_cannot_be(self, capsys):
        code, _, err = called(capsys, "app", "--no-browser", "--port", "99999")
        assert code == 2
        assert "99999" in err[-1]


class TestTrain:
    def test_json(self, capsys, data, tmp_path, gpt2_folder):
        words = ["--model", gpt2_folder, "--steps", "3", "--prompt", "Why?", "--template", r"Q: {instruction}\nA:\n"]
        code, out, err = called(capsys, "train", data, *words, "--output", "out", "--json", *SHORT)
        assert code == 0
        steps = of("step", out)
        assert [(step["step"], step["total"]) for step in steps] == [(1, 3), (2, 3), (3, 3)]
        assert all(isinstance(step["loss"], float) for step in steps)
        comparisons = of("comparison", out)
        assert [(c["prompt"], c["source"]) for c in comparisons] == [("Why?", "typed"), ("Asked", "held out")]
        assert all({"before", "after"} <= set(comparison) for comparison in comparisons)
        assert json.loads(out[-1])["event"] == "finished"
        assert len([line for line in err if "refused row" in line]) == 2
        load_saved("out")
        _, again, _ = called(capsys, "generate", "out", "--prompt", "Why?", "--json", "--max-new-tokens", "4")
        assert of("answer", again)[0]["answer"] == comparisons[0]["after"]

    def test_a_failed_run(self, capsys, tmp_path):
        (tmp_path / "train.json").write_text(json.dumps(SEED_DATA))
        words = ["train", "train.json", "--model", "no/such/folder"]
        code, out, err = called(capsys, *words, "--json")
        assert (code, err) == (1, [])
        assert "is no folder or file here" in json.loads(out[-1])["message"]
        assert json.loads(out[-1])["event"] == "failed"
        code, out, err = called(capsys, *words)
        assert (code, out) == (1, [])
        assert "is no folder or file here" in one_line(err)
        assert not (tmp_path / "outputs").exists()

    def test_the_seeds_own_call(self, capsys, tmp_path, gpt2_folder):
        (tmp_path / "train.json").write_text(json.dumps(SEED_DATA))
        words = shlex.split("--epochs 1 --learning-rate 5e-5 --batch-size 2 --max-length 128 --full --packing")
        code, out, _ = called(capsys, "train", "train.json", "--model", gpt2_folder, *words)
        assert code == 0
        text = "\n".join(out)
        for part in ("2 examples", "step    1", "Before", "After", "Say hello", "Saved to outputs", "Done"):
            assert part in text
        AutoModelForCausalLM.from_pretrained("outputs")
        AutoTokenizer.from_pretrained("outputs")
        compared = of("comparison", (tmp_path / "outputs" / "events.jsonl").read_text().splitlines())

        words = ["generate", "outputs", "--prompt", "Say hello", "--prompt", "Count to 3"]
        code, out, _ = called(capsys, *words, "--json")
        assert code == 0
        answers = of("answer", out)
        assert [answer["prompt"] for answer in answers] == ["Say hello", "Count to 3"]
        assert [answer["answer"] for answer in answers] == [comparison["after"] for comparison in compared]
        assert json.loads(out[-1])["event"] == "finished"
        code, out, _ = called(capsys, *words, "--max-new-tokens", "1")
        assert (code, {"Say hello", "Count to 3"} <= set(out)) == (0, True)

    def test_generate_without_a_model_fails(self, capsys):
        code, out, err = called(capsys, "generate", "no/such/folder", "--prompt", "a")
        assert (code, out) == (1, [])
        assert "is no folder or file here" in one_line(err)


class TestAblate:
    def test_json(self, capsys, data, tmp_path, gpt2_folder):
        words = ["--model", gpt2_folder, "--steps", "3", "--prompt", "Why?", "--weights", "0", "0.5"]
        code, out, err = called(capsys, "ablate", data, *words, "--output", "out", "--json", *SHORT)
        assert code == 0
        assert [(arm["index"], arm["weights"]) for arm in of("arm", out)] == [(0, [0.0, 0.5]), (1, [0.0, 0.5])]
        assert [step["step"] for step in of("step", out)] == [1, 2, 3] * 2
        assert [told["step"] for told in of("heldout", out)] == [0, 1, 2, 3] * 2
        columns = of("columns", out)
        assert [(each["prompt"], each["source"], len(each["answers"])) for each in columns] == [
            ("Why?", "typed", 3),
            ("Asked", "held out", 3),
        ]
        assert [each["prompt_loss_weight"] for each in of("figures", out)] == [None, 0.0, 0.5]
        assert [weights["before"] == weights["after"] for weights in of("weights", out)] == [True]
        assert of("saved", out) == [{"event": "saved", "path": "out", "kind": "ablation"}]
        assert json.loads(out[-1])["event"] == "finished"
        assert len([line for line in err if "refused row" in line]) == 2
        for index, name in ((1, "weight-0"), (2, "weight-0.5")):
            words = ["generate", f"out/{name}", "--prompt", "Why?", "--prompt", "Asked", "--json"]
            code, again, _ = called(capsys, *words, "--max-new-tokens", "4")
            assert code == 0
            assert [each["answer"] for each in of("answer", again)] == [each["answers"][index] for each in columns]

    def test_for_a_person(self, capsys, data, gpt2_folder):
        words = ["--model", gpt2_folder, "--steps", "2", *SHORT]
        code, out, _ = called(capsys, "ablate", data, *words)
        assert code == 0
        assert [line for line in out if line.startswith("Arm ")] == ["Arm masked (1 of 2)", "Arm unmasked (2 of 2)"]
        assert len([line for line in out if re.match(r"step    2  loss .*  held out: completion ", line)]) == 2
        (head,) = [line for line in out if "Prompt" in line]
        assert re.search("base.* masked.* unmasked", head)
        assert [line for line in out if re.search(r"loss on the answers, nats a token, \d+ held-out tokens", line)]
        (weights,) = [line for line in out if line.startswith("The base's weights: sha256")]
        assert weights.endswith("unchanged")
        assert out[-2].startswith("Saved to outputs: a folder for each arm")
        assert out[-1].startswith("Done in ")
        load_saved("outputs/weight-0")
        load_saved("outputs/weight-1")

    @pytest.mark.parametrize(
        ("words", "weights"), [([], [0.0, 1.0]), (["--weights", "1", "0.25", "0"], [1.0, 0.25, 0.0])]
    )
    def test_the_options_are_the_runs(self, capsys, data, monkeypatch, words, weights):
        called_with = []

        def ablate(*words, overwrite):
            called_with.append((*words, overwrite))
            yield Finished(0, 0, 0.0, False)

        monkeypatch.setattr("sftdemo.runs.ablation.ablate", ablate)
        options = ["--seed", "5", "--full", "--epochs", "2", "--template", r"Q: {instruction}\n", "--turns", "last"]
        code, _, _ = called(capsys, "ablate", data, *options, *words, "--output", "here", "--json", *SHORT)
        ((config, examples, output, found, stop, overwrite),) = called_with
        assert code == 0
        assert (list(found), str(output), stop(), overwrite) == (weights, "here", False, False)
        assert config == RunConfig(
            template="Q: {instruction}\n",
            turns="last",
            max_length=128,
            epochs=2,
            batch_size=2,
            full=True,
            seed=5,
            max_new_tokens=4,
        )
        assert [example.row for example in (*examples.train, *examples.held_out)] == [0, 3, 4]

    @pytest.mark.parametrize(
        ("kept", "says"),
        [
            ([4, 5], "There is one row to train on"),
            ([0, 4], "No row is held out"),
            ([5], "There is no example to train on (1 held out)"),
        ],
    )
    def test_rows_on_which_nothing_can_be_compared(self, capsys, tmp_path, gpt2_folder, kept, says):
        (tmp_path / "few.jsonl").write_text("\n".join(LINES[index] for index in kept))
        code, out, err = called(capsys, "ablate", "few.jsonl", "--model", gpt2_folder)
        assert (code, out) == (1, [])
        assert one_line(err).startswith(f"sftdemo: {says}")
        code, out, err = called(capsys, "ablate", "few.jsonl", "--model", gpt2_folder, "--json")
        assert (code, err) == (1, [])
        assert json.loads(out[-1])["event"] == "failed"
        assert json.loads(out[-1])["message"].startswith(says)
        assert not (tmp_path / "outputs").exists()

    def test_an_interrupt_asks_it_to_stop(self, capsys, data, monkeypatch):
        asked = []

        def ablate(config, examples, output, weights, stop, overwrite):
            asked.append(stop())
            signal.raise_signal(signal.SIGINT)
            asked.append(stop())
            yield Finished(0, 0, 0.0, stop())

        monkeypatch.setattr("sftdemo.runs.ablation.ablate", ablate)
        code, out, err = called(capsys, "ablate", data, "--json")
        assert (code, asked, of("finished", out)[0]["stopped"]) == (0, [False, True], True)
        assert "sftdemo: stopping after this step; press Ctrl-C again to give up" in err


class TestInterrupt:
    def test_once_ends_the_run_after_its_step_and_keeps_it(self, data, tmp_path, gpt2_folder):
        words = ["train", data, "--model", str(gpt2_folder), "--steps", "100000", "--output", "out", *SHORT]
        with Forked("-m", "sftdemo", *words, folder=tmp_path) as process:
            for line in process.out:
                if line.startswith("step"):
                    break
            process.send_signal(signal.SIGINT)
            code, out, err = process.ended()
        assert code == 0, err
        assert "stopping after this step" in err
        assert "Traceback" not in err
        assert re.search(r"Prompt.*Before.*After", out)
        (done,) = re.findall(r"stopped after step (\d+) of 100000", out)
        assert json.loads((tmp_path / "out" / "run.json").read_text())["steps"] == int(done) < 100000
        load_saved(tmp_path / "out")

    def test_once_asks_and_twice_gives_up(self, capsys, data, monkeypatch):
        asked = []

        def pressed(times):
            def run(config, examples, output, stop, overwrite):
                yield Phase("train", "Training")
                asked.append(stop())
                for _ in range(times):
                    signal.raise_signal(signal.SIGINT)
                    asked.append(stop())
                yield Finished(0, 0, 0.0, stop())

            return run

        monkeypatch.setattr("sftdemo.runs.run.run", pressed(1))
        code, out, err = called(capsys, "train", data, "--json")
        assert (code, asked, of("finished", out)[0]["stopped"]) == (0, [False, True], True)
        assert "sftdemo: stopping after this step; press Ctrl-C again to give up" in err
        monkeypatch.setattr("sftdemo.runs.run.run", pressed(2))
        code, _, err = called(capsys, "train", data, "--json")
        assert (code, err[-1]) == (130, "sftdemo: interrupted")


def test_samples_by_an_unknown_name(capsys):
    code, out, err = called(capsys, "samples", "nonsense")
    assert (code, out) == (1, [])
    assert "nonsense" in one_line(err)


def test_the_default_model_is_named_in_the_help(capsys):
    _, out, _ = called(capsys, "train", "--help")
    assert DEFAULT_MODEL in "\n".join(out)
