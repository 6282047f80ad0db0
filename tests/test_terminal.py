from __future__ import annotations

import json

import pytest
from tiny import tokenizer_named

from sftdemo.audit import Audit
from sftdemo.boundary import Remedy, inspect_boundary, newline_remedy
from sftdemo.config import RunConfig
from sftdemo.events import Answer, Comparison, Failed, Finished, Isolation, Model, Phase, Prepared, Saved, Step
from sftdemo.examples import Example, parse_examples
from sftdemo.packing import layouts
from sftdemo.samples import SampleResult
from sftdemo.templates import get_template
from sftdemo.terminal import (
    BAR_WIDTH,
    EventPrinter,
    Status,
    print_audit,
    print_boundary,
    print_layouts,
    print_remedy,
    print_rows,
    print_samples,
    print_totals,
)
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


def looked_over(*rows, name="gpt2", max_length=128):
    """The rows masked, and an audit that has seen them."""
    data, audit = parse_examples(json.dumps(rows)), Audit(8, max_length)
    examples, _ = tokenize_examples(data.train, tokenizer_named(name), get_template("instruction"), max_length)
    for example, masked in zip(data.train, examples, strict=True):
        audit.add(example, masked)
    return examples, audit


def mask_of(capsys, *rows, name="gpt2", max_length=128, held_out=0) -> str:
    examples, audit = looked_over(*rows, name=name, max_length=max_length)
    print_rows(examples, tokenizer_named(name))
    print_totals(audit, held_out)
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

    def test_the_totals_count_the_audits_findings(self, capsys):
        assert "--audit" not in mask_of(capsys, {"instruction": "Hi", "output": "Yo"})
        assert "\n1 finding: --audit tells\n" in mask_of(capsys, {"instruction": "Hi", "output": " "})
        rows = [{"instruction": "Hi", "output": " "}] * 2
        assert "\n2 findings: --audit tells\n" in mask_of(capsys, *rows)

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


class TestAudit:
    def printed(self, capsys, *rows, held_out=0, **settings) -> list[str]:
        _, audit = looked_over(*rows, **settings)
        print_audit(audit, audit.findings(), held_out)
        return capsys.readouterr().out.splitlines()

    def test_a_finding_is_what_and_where_then_why_then_what_to_do(self, capsys):
        lines = self.printed(capsys, {"instruction": "Hi", "output": " "}, {"instruction": "Ho", "output": "x"})
        assert lines[:3] == [
            "⚠ warning: the answer is empty or only whitespace (row 0)",
            "  The model learns to say nothing.",
            "  → Write an answer, or delete the row.",
        ]
        assert len(lines) == 4

    def test_each_severity_has_its_sign_and_errors_come_first(self, capsys):
        rows = [{"instruction": "Hi", "output": " </s>"}] * 2 + [{"instruction": "Hi <s>", "output": "a" * 90}] * 3
        lines = self.printed(capsys, *rows, name="characters", max_length=90)
        assert [line for line in lines if not line.startswith("  ")][:-1] == [
            "✗ error: the answer is cut by max length, by up to 40 tokens and EOS (rows 2, 3, 4)",
            "⚠ warning: the answer ends in a special token's text (rows 0, 1)",
            "· note: the same example stands there more than once (rows 0, 1, 2, 3, 4)",
            "· note: the text looks like a special token (rows 2, 3, 4)",
        ]

    def test_nothing_found(self, capsys):
        lines = self.printed(capsys, {"instruction": "Hi", "output": "Yo ho!"}, name="characters", held_out=1)
        assert lines == ["✓ nothing found", "1 example · 43 tokens · 7 trained (16%) · 1 held out"]

    def test_every_line_stays_whole(self, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "40")
        lines = self.printed(capsys, {"instruction": "Hi", "output": "Yo </s>"}, name="characters")
        assert (
            "  Typed text stays text, and the real EOS is added by itself: the model learns to write these letters"
            in (lines[1])
        )


class TestBoundary:
    def lines(self, capsys, spec, instruction="Say", answer="hello hello", name="gpt2"):
        tokenizer = tokenizer_named(name)
        example = Example(3, answer, instruction=instruction)
        boundary = inspect_boundary(example, tokenizer, get_template(spec))
        print_boundary(boundary)
        return boundary, capsys.readouterr().out.splitlines()

    @pytest.mark.parametrize("name", ["gpt2", "llama3", "digits", "unigram", "characters"])
    @pytest.mark.parametrize("spec", ["Q: {instruction} A: ", "Q: {instruction}\nA:\n", "{instruction} "])
    def test_edges_at_one_place_stand_under_each_other(self, capsys, name, spec):
        boundary, lines = self.lines(capsys, spec, name=name)
        lanes = {"prompt alone": boundary.alone, "together": boundary.together, "used": boundary.used}
        assert [line[:13].strip() for line in lines[1:4]] == list(lanes)
        columns = {}
        for line, pieces in zip(lines[1:4], lanes.values(), strict=True):
            edges = [place for piece in pieces[:1] for place in (piece.begin,)] + [piece.end for piece in pieces]
            bars = [column for column, sign in enumerate(line) if sign == "|"]
            for place, column in zip(edges, bars, strict=True):
                if sum(edge == place for edge in edges) == 1:  # BOS has two edges at one place
                    assert columns.setdefault(place, column) == column
        assert boundary.at in columns

    def test_a_merge_is_named(self, capsys):
        boundary, lines = self.lines(capsys, "Q: {instruction} A: ")
        assert boundary.merged
        assert lines[0].startswith("row 3 · a token merges ─")
        assert [line[13:].replace(" ", "") for line in lines[1:4]] == [
            "|Say|␣A|:|␣|",
            "|Say|␣A|:|␣hello|␣hello|",
            "|Say|␣A|:|␣|hello|␣hello|",
        ]
        assert lines[4] == boundary.sentence
        _, lines = self.lines(capsys, "Q: {instruction}\nA:\n")
        assert lines[0].startswith("row 3 ─")
        assert "between two tokens" in lines[4]

    def test_on_a_colour_terminal_the_merged_token_is_red(self, capsys, monkeypatch):
        monkeypatch.delenv("NO_COLOR")
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm-256color")
        _, lines = self.lines(capsys, "Q: {instruction} A: ")
        assert ["30;41m" in line for line in lines[1:4]] == [False, True, False]
        assert ["30;48;5;214m" in line for line in lines[1:4]] == [False, False, True]

    def test_what_the_user_wrote_cannot_steer_the_terminal(self, capsys):
        _, lines = self.lines(capsys, "{instruction} ", "[bold]\x1b[2J", "\x1b[2J[/bold]")
        assert "\x1b" not in "".join(lines)
        _, lines = self.lines(capsys, "{instruction}\n", "[/b]", "b", name="characters")
        assert lines[1].endswith("|/|b|]|↵|")

    def test_the_lost_text_is_no_markup(self, capsys):
        boundary, lines = self.lines(capsys, "{instruction}", "%", "[/]", "unigram")
        assert boundary.lost == "[/]"
        assert "would lose '[/]' of the answer" in lines[4]

    def test_the_remedy(self, capsys):
        template = get_template("Q: {instruction} A: ")
        examples = [Example(row, "hello", instruction="Say") for row in range(3)]
        print_remedy(newline_remedy(examples, tokenizer_named("gpt2"), template))
        out = capsys.readouterr().out
        assert out.startswith("→ 3 rows merge; with --template ")
        assert out.endswith(" 0\n")
        print_remedy(Remedy("[bold]{instruction}[/]\n", 2, 1))
        assert "[bold]{instruction}[/]" in capsys.readouterr().out


def test_layouts(capsys):
    config = RunConfig(batch_size=3, max_length=40)
    found = layouts([10, 20, 30, 50], [9, 10, 0, 39], config.batch_size, config.max_length)
    print_layouts(found, config)
    out = capsys.readouterr().out
    for name in ("padded: batches of 3", "shared: batches of 3", "packed: rows of up to 40", "cut or padded to 128"):
        assert name in out
    for layout in found:
        assert f"{layout.positions:,}" in out
    assert "\x1b" not in out
    lines = out.splitlines()
    at = lines.index("shared: batches of 3, each common beginning once")
    assert lines[at + 1] == "  58 positions · 42 of 100 tokens saved · 10 tokens cut off"
    bars = [line.strip() for line in lines[at + 2 : at + 4]]
    assert [len(bar) for bar in bars] == [round(19 / 39 * BAR_WIDTH), BAR_WIDTH]
    assert set(bars[0]) == set("█▓")  # the third example adds nothing
    print_layouts(layouts([], [], config.batch_size, config.max_length), config)  # where no row has a trained token
    assert "no rows" in capsys.readouterr().out


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
        out, _ = printed(capsys, Answer("Why?", "[red]So[/red]", "EOS", 2))
        assert out.splitlines()[:2] == ["Why?", "[red]So[/red]  ⟨EOS⟩"]

    def test_what_a_model_says_cannot_steer_the_terminal(self, capsys):
        evil = "\x1b]0;title\x07\x1b[2Jgone\x9b1m"
        pair = Comparison(evil, evil, evil, "EOS", "EOS", "typed")
        out, err = printed(capsys, Answer(evil, evil, "EOS", 1), pair, Phase("save", "Saving"), Failed(evil))
        assert "gone" in out
        assert not {"\x1b", "\x07", "\x9b"} & set(out + err)

    def test_a_proof(self, capsys):
        out, _ = printed(capsys, Isolation("bfd", 0.0, 4, 1, 17), Isolation("wrapped", 0.51234, 4, 3, 1700))
        first, second = out.splitlines()
        assert first.startswith("packed (bfd), each example by itself: exchanging every token of row 4 changed ")
        assert first.endswith("of the 17 tokens of 1 other example by 0 nats at most")
        assert second.startswith("the control, wrapped into one text: ")
        assert second.endswith("of 3 other examples by 0.51 nats at most")

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
