from __future__ import annotations

import json

import pytest
from tiny import tokenizer_named

from sftdemo.events import Answer, Comparison, Failed, Finished, Model, Phase, Prepared, Saved, Step
from sftdemo.examples import parse_examples
from sftdemo.samples import SampleResult
from sftdemo.templates import get_template
from sftdemo.terminal import EventPrinter, Status, print_mask, print_samples
from sftdemo.tokenization import tokenize_examples

TOLD = [
    Phase("load", "Loading the model"),
    Model("gpt2", "local folder", "CPU (2 threads)", "float32", 124_000_000),
    Prepared(2, 1040, 11, 4, 2_500_000, ["row 3: has no [answer]"]),
    Step(1, 4, 2.5, 0.25, 0.75),
    Phase("after", "Answering"),
    Comparison("Why [b]not[/b]?", "cold tea", "Arr, matey", "length", "EOS", "held out"),
    Phase("save", "Saving"),
    Saved("outputs", "adapter"),
    Finished(4, 4, 3.4, False),
]


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def printed(capsys, *events) -> tuple[str, str]:
    with EventPrinter() as printer:
        for event in events:
            printer.print(event)
    return capsys.readouterr()


def mask_of(capsys, *rows, name="gpt2", max_length=128, held_out=0) -> str:
    data = parse_examples(json.dumps(rows))
    tokenizer = tokenizer_named(name)
    examples, _ = tokenize_examples(data.train, tokenizer, get_template("instruction"), max_length)
    print_mask(examples, tokenizer, held_out)
    return capsys.readouterr().out


class TestMask:
    def test_trained_tokens_stand_in_brackets(self, capsys):
        out = mask_of(capsys, {"instruction": "Hi", "output": "Yo"}, name="characters")
        assert "[Y][o][</s>]" in out
        assert "<s>###␣Instruction:↵" in out.replace(" ", "␣")
        assert "[H]" not in out
        assert "\x1b" not in out

    def test_on_a_colour_terminal_they_stand_on_colour(self, capsys, monkeypatch):
        monkeypatch.delenv("NO_COLOR")
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm-256color")
        out = mask_of(capsys, {"instruction": "Hi", "output": "Yo"}, name="characters")
        assert "[Y]" not in out
        assert "\x1b[4;30;48;5;" in out

    def test_counts_and_totals(self, capsys):
        out = mask_of(capsys, {"instruction": "Hi", "output": "Yo"}, name="characters", held_out=2)
        prompt = len("### Instruction:\nHi\n\n### Response:\n") + 1
        assert f"row 0 · {prompt} tokens of prompt (not trained) · 3 trained" in out
        assert f"1 example · {prompt + 3} tokens · 3 trained" in out
        assert "2 held out" in out

    def test_lines_break_where_the_text_does(self, capsys):
        lines = mask_of(capsys, {"instruction": "Hi", "output": "a\nb"}, name="characters").splitlines()
        assert "Hi↵" in lines
        assert lines[lines.index("###␣Response:↵") + 1 :][:2] == ["[a][↵]", "[b][</s>]"]

    def test_a_cut_row_says_so(self, capsys):
        out = mask_of(capsys, {"instruction": "Hi", "output": "Yo" * 100}, name="characters", max_length=60)
        assert "✂" in out
        assert "tokens cut off by max_length" in out
        assert "⚠ eos cut: EOS is cut off" in out

    def test_text_is_no_markup_and_no_control_sequence(self, capsys):
        out = mask_of(capsys, {"instruction": "[bold]x[/bold] [/]\x1b[2J", "output": "y"}, name="characters")
        assert "[bold]x[/bold]" in out.replace("␣", " ")
        assert "\x1b" not in out
        assert "␛[2J" in out


class TestEventPrinter:
    def test_a_run(self, capsys):
        out, _ = printed(capsys, *TOLD)
        for line in (
            "gpt2 · local folder · 124M · CPU (2 threads), float32",
            "left out: row 3: has no [answer]",
            "2 examples, 1,040 tokens, 11 of them trained; 2.5M parameters learn",
            "step    1  loss 2.5000",
            "Saved to outputs: ",
            "Done in 3 s.",
        ):
            assert line in out
        assert "\x1b" not in out

    def test_the_comparison_is_a_table(self, capsys):
        out, _ = printed(capsys, *TOLD)
        (header,) = [line for line in out.splitlines() if "Before" in line]
        assert "Prompt" in header
        assert "After" in header
        (row,) = [line for line in out.splitlines() if "cold tea" in line]
        assert row.index("Why [b]not[/b]?") < row.index("cold tea") < row.index("Arr, matey")
        assert "(held out)" in out
        assert out.index("⟨length⟩") < out.index("⟨EOS⟩")

    def test_an_answer(self, capsys):
        out, _ = printed(capsys, Answer("Why?", "[red]So[/red]", "EOS"))
        assert out.splitlines()[:2] == ["Why?", "[red]So[/red]  ⟨EOS⟩"]

    def test_what_a_model_says_cannot_steer_the_terminal(self, capsys):
        evil = "\x1b]0;title\x07\x1b[2Jgone\x9b1m"
        pair = Comparison(evil, evil, evil, "EOS", "EOS", "typed")
        out, err = printed(capsys, Answer(evil, evil, "EOS"), pair, Phase("save", "Saving"), Failed(evil))
        assert "gone" in out
        assert not {"\x1b", "\x07", "\x9b"} & set(out + err)

    def test_a_stopped_run(self, capsys):
        out, _ = printed(capsys, Finished(2, 12, 3.4, True))
        assert "Done in 3 s, stopped after step 2 of 12." in out

    def test_a_failed_run_is_one_line_on_stderr(self, capsys):
        message = "The loss became [nan]. " + "Lower the learning rate. " * 8
        out, err = printed(capsys, *TOLD[:3], Failed(message))
        assert "nan" not in out
        assert [line.strip() for line in err.splitlines() if "nan" in line] == [f"sftdemo: {message}".strip()]

    def test_a_long_path_stays_whole(self, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "40")
        path = "/home/someone/" + "folder/" * 12 + "outputs"
        out, _ = printed(capsys, Saved(path, "full"))
        assert path in out


def test_status_writes_to_stderr_only(capsys):
    with Status() as status:
        for event in TOLD:
            status.show(event)
    assert capsys.readouterr().out == ""


def test_samples_as_markdown(capsys):
    print_samples([SampleResult("pirate", 0, 6, 0, 5, 20.4), SampleResult("greek", 1, 4, 1, 4, 9.0)])
    lines = capsys.readouterr().out.splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2:] == ["| pirate | 0 | 0 of 6 | 5 of 6 | 20 |", "| greek | 1 | 1 of 4 | 4 of 4 | 9 |"]
