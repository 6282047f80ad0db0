from __future__ import annotations

import json
import re
from contextlib import nullcontext

import pytest
from rich.console import Console
from tiny import tokenizer_named

from sftdemo.bench.samples import SampleResult
from sftdemo.core.config import EXPORT_FORMATS
from sftdemo.core.events import (
    Answer,
    Arm,
    Before,
    Columns,
    Comparison,
    Conclusion,
    Failed,
    Figures,
    Finished,
    HeldOut,
    Isolation,
    Model,
    Phase,
    Prepared,
    Saved,
    Step,
    Upload,
    Weights,
)
from sftdemo.data.examples import Example, parse_examples
from sftdemo.data.templates import get_template
from sftdemo.mask.audit import Audit
from sftdemo.mask.boundary import Remedy, inspect_boundary, newline_remedy
from sftdemo.mask.labels import Masker
from sftdemo.mask.layouts import layouts
from sftdemo.terminal.mask import (
    BAR_WIDTH,
    Status,
    print_audit,
    print_boundary,
    print_layouts,
    print_remedy,
    print_rows,
    print_samples,
    print_totals,
)
from sftdemo.terminal.run import EventPrinter

TOLD = [
    Phase("load", "Loading the model"),
    Model("gpt2", "local folder", "CPU (2 threads)", "float32", 124_000_000),
    Prepared(2, 1040, 11, 4, 2_500_000, ["row 3: has no [answer]"], rows_a_step=8, rows=2),
    Step(1, 4, 2.5, 0.25, 0.75),
    Phase("after", "Answering"),
    Comparison("Why [b]not[/b]?", "cold tea", "Arr, matey", "length", "EOS", "held out"),
    Weights("1a2b3c4d5e6f7890", "1a2b3c4d5e6f7890", False),
    Conclusion("The loss was lowered. One seed."),
    Phase("save", "Saving"),
    Saved("outputs", "adapter"),
    Finished(4, 4, 3.4, False),
]


def arm_told(index: int, *losses: float, left_out: tuple[str, ...] = ()) -> list:
    """What one of two arms tells: held-out rows before the first step, and after each but the first."""
    steps = [
        (Step(step, len(losses), loss, step / 4, 0.5), HeldOut(step, loss / 2, loss / 4, 60, 97))
        for step, loss in enumerate(losses, 1)
    ]
    return [
        Arm(index, [0.0, 1.0]),
        Phase("train", "Training"),
        Prepared(3, 1040, 11, len(losses), 2_500_000, list(left_out)),
        HeldOut(0, 9.5, 8.25, 60, 97),
        *[event for pair in steps for event in pair if event != steps[0][1]],
        Phase("after", "Answering"),
    ]


ABLATED = [
    Model("gpt2", "local folder", "CPU (2 threads)", "float32", 124_000_000),
    Before("Why?", "cold tea", "length", "held out"),
    *arm_told(0, 2.5, 1.25, left_out=("row 3: has no [answer]",)),
    *arm_told(1, 3.5, 1.75, left_out=("row 3: has no [answer]",)),
    Columns("Why [b]not[/b]?", "held out", ["cold tea", "Arr, matey", "So"], ["length", "EOS", "stopped"]),
    Figures(None, 2.5, 4.25, 60, 1097, 6, 0, None, 32.0),
    Figures(0.0, 0.75, 4.125, 60, 1097, 6, 5, 1, 9.5),
    Figures(1.0, 0.875, 1.0625, 60, 1097, 6, 6, 2, 10.25),
    Weights("1a2b3c4d5e6f7890", "1a2b3c4d5e6f7890", False),
    Phase("save", "Saving"),
    Saved("outputs", "ablation"),
    Finished(4, 4, 30.4, False),
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
    examples, _ = Masker(tokenizer_named(name), get_template("instruction"), max_length).tokenize(data.train)
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

    def test_the_middle_of_a_row_without_end_is_left_out_and_counted(self, capsys, monkeypatch):
        monkeypatch.setattr("sftdemo.terminal.mask.SHOWN", 20)
        out = mask_of(capsys, {"instruction": "Hi", "output": "Yo"}, name="characters")
        (count,) = re.findall(r"\n… (\d+) tokens of this row are not shown …\n", out)
        (example,), _ = looked_over({"instruction": "Hi", "output": "Yo"}, name="characters")
        assert int(count) == len(example.input_ids) - 20
        assert "<s>###" in out
        assert "Instruction:" not in out
        assert "[Y][o][</s>]" in out

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
        assert "⚠ EOS is cut by max length. The answer is whole" in out

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
        assert len(lines) == 5

    def test_each_severity_has_its_sign_and_errors_come_first(self, capsys):
        rows = [{"instruction": "Hi", "output": " </s>"}] * 2 + [{"instruction": "Hi <s>", "output": "a" * 90}] * 3
        lines = self.printed(capsys, *rows, name="characters", max_length=90)
        assert [line for line in lines if not line.startswith("  ")][:-2] == [
            "✗ error: the answer is cut by max length, by up to 40 tokens and EOS (rows 2, 3, 4)",
            "⚠ warning: the answer ends in a special token's text (rows 0, 1)",
            "· note: the same example stands there more than once (rows 0, 1, 2, 3, 4)",
            "· note: the text looks like a special token (rows 2, 3, 4)",
        ]

    def test_nothing_found(self, capsys):
        lines = self.printed(capsys, {"instruction": "Hi", "output": "Yo ho!"}, name="characters", held_out=1)
        assert lines[:-1] == ["✓ nothing found", "1 example · 43 tokens · 7 trained (16%) · 1 held out"]
        assert re.fullmatch("mask sha256 [0-9a-f]{12}…", lines[-1])

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
        boundary = inspect_boundary(example, Masker(tokenizer, get_template(spec), 10_000))
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
        print_remedy(newline_remedy(examples, Masker(tokenizer_named("gpt2"), template, 10_000)))
        out = capsys.readouterr().out
        assert out.startswith("→ 3 rows merge; with --template ")
        assert out.endswith(" 0\n")
        print_remedy(Remedy("[bold]{instruction}[/]\n", 2, 1))
        assert "[bold]{instruction}[/]" in capsys.readouterr().out


def test_layouts(capsys):
    audit = Audit(3, 40)
    audit.lengths, audit.fresh = [10, 20, 30, 50], [9, 10, 0, 39]
    audit.spans = [((8, 10),), ((0, 5), (15, 20)), ((20, 30),), ((10, 50),)]
    found = layouts(audit.lengths, audit.fresh, 3, 40)
    print_layouts(found, audit)
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
    at = next(index for index, line in enumerate(lines) if line.startswith("padded"))
    # 60 characters are 40 positions: what is trained is solid, wherever it stands, the rest shaded, padding dotted
    assert lines[at + 2].strip() == "▒" * 12 + "█" * 3 + "·" * 30
    assert lines[at + 3].strip() == "█" * 7 + "▒" * 15 + "█" * 8 + "·" * 15
    nothing = Audit(3, 40)
    print_layouts(layouts([], [], 3, 40), nothing)  # where no row has a trained token
    assert "no rows" in capsys.readouterr().out


class TestEventPrinter:
    def test_a_run(self, capsys):
        out, _ = printed(capsys, *TOLD)
        for line in (
            "gpt2 · local folder · 124M · CPU (2 threads), float32",
            "left out: row 3: has no [answer]",
            "2 examples, 1,040 tokens, 11 of them trained; 2.5M parameters learn",
            "4 steps of 8 are 4 epochs of your 2 rows",
            "step    1  loss 2.5000",
            "The loss was lowered. One seed.",
            "The base's weights: sha256 1a2b3c4d5e6f… before and 1a2b3c4d5e6f… after the training, unchanged",
            "Saved to outputs: the LoRA adapter and the tokenizer",
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

    @pytest.mark.parametrize("kind", EXPORT_FORMATS)
    def test_each_export_says_what_it_is(self, capsys, kind):
        out, _ = printed(capsys, Saved("place", kind))
        assert re.fullmatch("Saved to place: .{9,}\n", out)

    def test_a_stopped_run(self, capsys):
        out, _ = printed(capsys, Finished(2, 12, 3.4, True))
        assert "Done in 3 s, stopped after step 2 of 12." in out

    def test_a_failed_run_is_one_line_on_stderr(self, capsys):
        message = "The loss became [nan]. " + "Lower the learning rate. " * 8
        out, err = printed(capsys, *TOLD[:3], Failed(message))
        assert "nan" not in out
        assert [line.strip() for line in err.splitlines() if "nan" in line] == [f"sftdemo: {message}".strip()]

    @pytest.mark.parametrize("kind", [*EXPORT_FORMATS, "full", "ablation", "hub"])
    def test_all_that_is_saved_has_its_words(self, capsys, kind):
        out, _ = printed(capsys, Saved("out", kind))
        assert out.startswith("Saved to out: ")

    def test_what_is_sent_to_the_hub(self, capsys):
        sent = Upload(
            "owner/name", False, ["README.md", "use.py"], 200_000, ["README.md"], ["events.jsonl"], ["old.bin"]
        )
        out, _ = printed(capsys, sent)
        assert out.splitlines() == [
            "owner/name on the Hub will be public: everyone can read it",
            "sent, 0.2 MB: README.md, use.py",
            "with prompts and answers in them: README.md",
            "stays here: events.jsonl",
            "deleted there: old.bin",
        ]

    def test_a_long_path_stays_whole(self, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "40")
        path = "/home/someone/" + "folder/" * 12 + "outputs"
        out, _ = printed(capsys, Saved(path, "full"))
        assert path in out


def cells(lines: list[str], words: str) -> list[str]:
    """Of a table, the cells behind the first one of the row that begins with these words, folded lines joined."""
    (at,) = [index for index, line in enumerate(lines) if line.lstrip("│ ").startswith(words)]
    return [cell.strip() for cell in lines[at].strip("│┃").replace("┃", "│").split("│")][1:]


class TestAblation:
    def lines(self, capsys, *events) -> list[str]:
        out, _ = printed(capsys, *(events or ABLATED))
        return out.splitlines()

    def test_each_arm_begins_with_a_line(self, capsys):
        lines = self.lines(capsys)
        assert [line for line in lines if line.startswith("Arm")] == ["Arm masked (1 of 2)", "Arm unmasked (2 of 2)"]
        assert lines.index("Arm masked (1 of 2)") < lines.index("Arm unmasked (2 of 2)")
        assert "Arm prompt weight 0.25 (2 of 4)" in self.lines(capsys, Arm(1, [0.0, 0.25, 0.5, 1.0]))

    def test_the_held_out_losses_stand_beside_the_steps(self, capsys):
        lines = self.lines(capsys)
        first = lines.index("Arm masked (1 of 2)")
        steps = [line for line in lines[first:] if line.startswith("step")]
        assert steps == [
            "step    0                         held out: completion 9.5000, prompt 8.2500",
            "step    1  loss 2.5000     0.2 s",
            "step    2  loss 1.2500     0.5 s  held out: completion 0.6250, prompt 0.3125",
            "step    0                         held out: completion 9.5000, prompt 8.2500",
            "step    1  loss 3.5000     0.2 s",
            "step    2  loss 1.7500     0.5 s  held out: completion 0.8750, prompt 0.4375",
        ]
        assert steps[0].index("held out") == steps[2].index("held out")

    def test_no_step_is_lost(self, capsys):
        """A step's line waits for the held-out losses: what comes in their place, or an exception, lets it go."""
        arm, step = Arm(0, [0.0, 1.0]), Step(1, 4, 2.5, 0.25, 0.75)
        for last in (
            Step(2, 4, 2.0, 0.5, 0.5),
            Phase("after", "Answering"),
            Arm(1, [0.0, 1.0]),
            Failed("No."),
            Finished,
        ):
            with pytest.raises(TypeError) if last is Finished else nullcontext(), EventPrinter() as printer:
                for event in (arm, step):
                    printer.print(event)
                printer.print(Finished() if last is Finished else last)
            assert "step    1  loss 2.5000     0.2 s" in capsys.readouterr().out.splitlines()

    def test_of_a_training_by_itself_no_step_waits(self, capsys):
        with EventPrinter() as printer:
            printer.print(Step(1, 4, 2.5, 0.25, 0.75))
            assert "step    1  loss 2.5000     0.2 s" in capsys.readouterr().out.splitlines()

    def test_what_all_arms_have_in_common_is_said_once(self, capsys):
        lines = self.lines(capsys)
        assert lines.count("left out: row 3: has no [answer]") == 1
        assert len([line for line in lines if line.startswith("3 examples")]) == 1

    def test_the_answers_are_a_table_with_a_column_each(self, capsys):
        lines = self.lines(capsys)
        assert cells(lines, "┃ Prompt") == ["base", "masked", "unmasked"]
        assert cells(lines, "Why") == ["cold tea", "Arr, matey", "So"]
        assert cells(lines, "[b]not[/b]?") == ["⟨length⟩", "⟨EOS⟩", "⟨stopped⟩"]
        assert cells(lines, "(held out)") == [""] * 3
        assert not [line for line in lines if "Before" in line or "After" in line]

    def test_the_figures_are_a_table(self, capsys):
        lines = self.lines(capsys)
        assert cells(lines, "loss on the answers, nats a token, 60 held-out tokens") == ["2.500", "0.750", "0.875"]
        assert cells(lines, "loss on the prompts, nats a token, 1,097 held-out") == ["4.250", "4.125", "1.062"]
        assert cells(lines, "ended with EOS, of 6 answers") == ["0", "5", "6"]
        assert cells(lines, "ran on into a prompt of its own, of 6 answers") == ["-", "1", "2"]
        assert cells(lines, "length, tokens an answer") == ["32.0", "9.5", "10.2"]
        (head,) = [line for line in lines if line.startswith("┃") and "Prompt" not in line]
        assert head.index("base") < head.index(" masked") < head.index("unmasked")

    def test_four_arms_fit(self, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")
        weights = [None, 0.0, 0.1, 0.5, 1.0]
        figures = [Figures(weight, 2.5, 4.25, 60, 97, 6, 3, 4, 32.0) for weight in weights]
        asked = Columns("Why?", "typed", list("abcde"), ["EOS"] * 5)
        lines = self.lines(capsys, asked, *figures, Phase("save", "Saving"))
        assert cells(lines, "Why?") == list("abcde")
        assert cells(lines, "(typ") == ["⟨EOS⟩"] * 5
        assert max(len(line) for line in lines) <= 80

    def test_first_the_tables_then_the_weights_then_where_it_lies(self, capsys):
        lines = self.lines(capsys)
        places = [
            next(index for index, line in enumerate(lines) if words in line)
            for words in (
                "cold tea",
                "nats a token",
                "unchanged",
                "Saved to outputs: a folder for each arm",
                "Done in 30 s.",
            )
        ]
        assert places == sorted(places)
        assert places[2] == lines.index(
            "The base's weights: sha256 1a2b3c4d5e6f… before and 1a2b3c4d5e6f… after the training, unchanged"
        )

    def test_weights_that_have_changed(self, capsys):
        first, second = "1a2b3c4d5e6f7890", "f6e5d4c3b2a10987"
        (line,) = [
            line for line in self.lines(capsys, Weights(first, second, True), Phase("save", "")) if "sha256" in line
        ]
        assert "in a copy" in line
        assert "1a2b3c4d5e6f…" in line
        assert "f6e5d4c3b2a1…" in line
        assert "unchanged" not in line
        (line,) = [
            line for line in self.lines(capsys, Weights(first, second, False), Phase("save", "")) if "sha256" in line
        ]
        assert line.endswith("CHANGED")

    def test_what_a_model_says_cannot_steer_the_terminal(self, capsys):
        evil = "\x1b]0;title\x07\x1b[2J[bold]gone[/]\x9b1m"
        told = [
            *arm_told(0, 2.5, left_out=(evil,)),
            Columns(evil, "typed", [evil] * 2, ["EOS"] * 2),
            *ABLATED[-7:-5],
            Phase("save", evil),
            Saved(evil, "ablation"),
        ]
        out, err = printed(capsys, *told)
        assert out.count("[bold]gone[/]") >= 5
        assert not {"\x1b", "\x07", "\x9b"} & set(out + err)

    def test_stopped_in_its_second_arm(self, capsys):
        assert "Done in 3 s, stopped after step 14 of 24." in self.lines(capsys, Finished(14, 24, 3.4, True))

    def test_the_bar_says_which_arm(self, capsys):
        with EventPrinter() as printer:
            said = []
            for event in ABLATED:
                printer.print(event)
                said.append(printer._bar.tasks[0].description)
        assert "masked (1 of 2): Training" in said
        assert "unmasked (2 of 2): Answering" in said
        assert said[-1] == "Saving"


@pytest.mark.parametrize("name", ["out[/b]", "[bold]out"])
def test_a_folders_name_is_no_markup_in_the_bar(capsys, name):
    """It is drawn in a thread, where an error would be lost: so here by hand."""
    phase = Phase("save", f"Saving to {name}")
    with EventPrinter() as printer, Status() as status:
        printer.print(phase)
        status.show(phase)
        for bar in (printer._bar, status._progress):
            console = Console(width=100)
            console.print(bar.make_tasks_table(bar.tasks))
            assert f"Saving to {name}" in capsys.readouterr().out


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
