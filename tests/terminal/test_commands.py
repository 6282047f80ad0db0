"""The views of `mask` and the ways of `train`, as a person calls them."""

from __future__ import annotations

import json
from argparse import Namespace

import pytest
from tiny import tokenizer_named

from sftdemo.data.examples import Origin, ParsedExamples, read_examples
from sftdemo.model.prefix_tree import prefix_tree
from sftdemo.terminal.commands import _command

from .test_cli import called, in_a_plain_terminal, of, one_line

__all__ = ["in_a_plain_terminal"]  # a fixture that every test here uses

LONG = "word " * 60
ROWS = [
    {"instruction": "Say hello", "output": "Hello world!"},
    {"instruction": "say hello!", "output": "Good day"},
    {"instruction": "Capital of Italy?", "output": "Rome!"},
    {"instruction": "No answer"},
    {"instruction": "Kept back", "output": "x", "held_out": True},
    {"instruction": "Count to 3", "output": "1 2 3"},
]
TURNS = [("user", "a b"), ("assistant", "one two"), ("user", "c"), ("assistant", "three")]
TALK = {"messages": [{"role": role, "content": content} for role, content in TURNS]}
TEXT = "Q: a\nA: one two"
OUT = ["--output", "out", "--overwrite"]
SHORT = ["--steps", "1", "--max-new-tokens", "2", "--json"]


def marked(*trained: str, eos: bool = True, text: str = TEXT) -> dict:
    spans = [[text.index(words), text.index(words) + len(words)] for words in trained]
    mask = {"text": text, "trained": spans, "eos": eos}
    return {"prompt": "Q: a\nA:", "completion": " one two", "mask": mask}


@pytest.fixture
def mask(capsys, tmp_path, gpt2_folder):
    """Calls `mask` on rows; options follow. Gives the exit code and the lines of stdout and stderr."""

    def call(rows, *options, model=gpt2_folder):
        (tmp_path / "rows.json").write_text(json.dumps(rows))
        return called(capsys, "mask", "rows.json", "--model", model, *options)

    return call


@pytest.fixture
def train(capsys, tmp_path, gpt2_folder):
    def call(rows, *options, model=gpt2_folder):
        (tmp_path / "rows.json").write_text(json.dumps(rows))
        return called(capsys, "train", "rows.json", "--model", model, *OUT, *SHORT, *options)

    return call


def trained_text(record: dict) -> list[str]:
    return [text for text, label in zip(record["tokens"], record["labels"], strict=True) if label != -100]


class TestAudit:
    def test_for_a_person(self, mask):
        code, out, err = mask(ROWS, "--audit")
        assert code == 0
        assert out[0] == "⚠ warning: the same prompt has different answers (rows 0, 1)"
        assert out[1].startswith("  Apart from case, spacing and closing punctuation")
        assert out[2].startswith("  → ")
        assert out[-2].startswith("4 examples · ")
        assert out[-2].endswith(" · 1 held out")
        assert 'refused row 3: has no "output"' in one_line(err)
        assert "### Instruction" not in "".join(out)

    def test_json(self, mask):
        code, out, _ = mask(ROWS, "--audit", "--json")
        (record,) = map(json.loads, out)
        assert code == 0
        assert set(record) == {"examples", "tokens", "trained", "mask_hash", "findings"}
        _, rows, _ = mask(ROWS, "--json")
        rows = [json.loads(line) for line in rows]
        assert record["examples"] == len(rows) == 4
        assert record["tokens"] == sum(len(row["input_ids"]) for row in rows)
        assert record["trained"] == sum(row["trained"] for row in rows)
        (finding,) = record["findings"]
        assert set(finding) == {"check", "severity", "what", "why", "remedy", "count", "rows"}
        assert (finding["check"], finding["severity"]) == ("conflicting_answers", "warning")
        assert (finding["count"], finding["rows"]) == (2, [0, 1])

    @pytest.mark.parametrize("form", [[], ["--json"]])
    def test_an_error_is_an_exit_code(self, mask, form):
        bad = [*ROWS, {"instruction": LONG, "output": "x"}]
        code, out, _ = mask(bad, "--audit", "--max-length", "50", *form)
        assert code == 1
        assert "the prompt alone reaches max length" in out[0]
        assert form or out[0] == "✗ error: the prompt alone reaches max length (row 6)"
        assert mask(bad, "--audit", "--max-length", "150", *form)[0] == 0
        assert mask(bad, "--max-length", "50", *form)[0] == 0

    def test_nothing_to_mend(self, mask):
        code, out, _ = mask(ROWS[2:3], "--audit")
        assert (code, out[0], len(out)) == (0, "✓ nothing found", 3)

    def test_the_length_is_the_models_at_most(self, mask):
        code, out, _ = mask([{"instruction": "a", "output": "word " * 300}], "--audit", "--max-length", "4096")
        assert (code, out[0].startswith("✗ error: the answer is cut by max length, by up to ")) == (1, True)

    def test_held_out_rows_are_looked_at(self, mask):
        _, out, _ = mask([*ROWS[2:], {"instruction": "kept back.", "output": "y"}], "--audit")
        assert out[0] == "⚠ warning: a held-out prompt is trained as well (row 4)"

    def test_the_padding_is_that_of_the_batch_size(self, mask):
        rows = [{"instruction": "a", "output": "b"}, {"instruction": "c", "output": LONG}]
        assert "· note: padded, " in "\n".join(mask(rows, "--audit")[1])
        assert "padded" not in "\n".join(mask(rows, "--audit", "--batch-size", "1")[1])
        assert "1 finding: --audit tells" in mask(rows)[1]
        assert "1 finding: --audit tells" not in mask(rows, "--batch-size", "1")[1]

    def test_no_row(self, mask):
        for rows in (ROWS[3:5], [TALK]):
            code, out, err = mask(rows, "--audit")
            assert (code, out) == (1, [])
            assert err[-1] == "sftdemo: there is no row to look over."


class TestPacking:
    def test_no_row_has_a_trained_token(self, mask):
        code, out, _ = mask([marked(eos=False)], "--packing")
        assert code == 0
        assert "  no rows" in out

    def test_for_a_person(self, mask):
        code, out, _ = mask(ROWS, "--packing", "--batch-size", "2", "--max-length", "60")
        assert code == 0
        titles = [line for line in out if not line.startswith(" ")]
        assert [title.partition(":")[0] for title in titles[:3]] == ["padded", "shared", "packed"]
        assert "128" in titles[3]
        assert "batches of 2" in titles[0]
        assert "rows of up to 60" in titles[2]

    def test_json(self, mask):
        code, out, _ = mask(ROWS, "--packing", "--json", "--batch-size", "3", "--max-length", "60")
        (record,) = map(json.loads, out)
        assert code == 0
        layouts = {layout["name"]: layout for layout in record["layouts"]}
        assert list(layouts) == ["padded", "shared", "packed", "seed"]
        _, rows, _ = mask(ROWS, "--json")
        examples = [json.loads(line) for line in rows]
        lengths = [len(example["input_ids"]) for example in examples]
        for layout in layouts.values():
            blocks = [block for row in layout["rows"] for block in row]
            assert sorted(index for index, _ in blocks) == list(range(len(lengths)))
            if layout["name"] != "shared":
                assert sorted(blocks) == [[index, length] for index, length in enumerate(lengths)]
            assert layout["tokens"] + layout["saved"] == sum(lengths)
            assert layout["positions"] == sum(layout["widths"])
            assert layout["lost"] == 0
        assert layouts["padded"]["positions"] == 3 * max(lengths[:3]) + lengths[3]
        pairs = [(example["input_ids"], example["labels"]) for example in examples]
        trees = prefix_tree(pairs[:3]), prefix_tree(pairs[3:])
        assert layouts["shared"]["widths"] == [len(tree.input_ids) for tree in trees]
        assert [len(row) for row in layouts["shared"]["rows"]] == [3, 1]
        assert layouts["shared"]["saved"] > len(lengths)  # more than the last tokens: they begin alike
        assert layouts["seed"]["widths"] == [128] * 4

    def test_what_is_cut_is_lost(self, mask):
        _, out, _ = mask(ROWS[:1], "--packing", "--json", "--max-length", "20")
        _, rows, _ = mask(ROWS[:1], "--json", "--max-length", "20")
        lost = {layout["name"]: layout["lost"] for layout in json.loads(out[0])["layouts"]}
        assert lost == dict.fromkeys(["padded", "shared", "packed"], json.loads(rows[0])["cut"]) | {"seed": 0}

    def test_an_error_is_no_exit_code_where_the_audit_was_not_asked(self, mask):
        rows = [*ROWS, {"instruction": LONG, "output": "x"}]
        assert mask(rows, "--packing", "--max-length", "50")[0] == 0
        assert mask(rows, "--packing", "--audit", "--max-length", "50")[0] == 1


class TestBoundary:
    MERGING = (ROWS[3], {"instruction": "Say", "output": "the answer"}, {"instruction": "Ask", "output": "world"})

    def test_for_a_person(self, mask):
        code, out, err = mask(self.MERGING, "--boundary", "--template", "Q: {instruction} A: ")
        assert code == 0
        assert [line.split(" ─")[0] for line in out if line.startswith("row ")] == [
            "row 1 · a token merges",
            "row 2 · a token merges",
        ]
        assert "refused row 0" in one_line(err)
        assert [line[:13].strip() for line in out[1:4]] == ["prompt alone", "together", "used"]
        assert out[4].startswith("Together, a token reaches across the end of the prompt.")
        assert out[-1].startswith("→ 2 rows merge; with --template ")

    def test_a_row_that_cannot_be_rendered_does_not_hide_the_others(self, mask):
        code, out, err = mask([TALK, ROWS[0]], "--boundary", "--json")
        assert (code, [json.loads(line)["row"] for line in out]) == (0, [1])
        assert "refused row 0: this model has no chat template" in one_line(err)
        code, out, err = mask([TALK], "--boundary")
        assert (code, out, err[-1]) == (1, [], "sftdemo: there is no row to show.")

    def test_no_merge_needs_no_remedy(self, mask):
        code, out, _ = mask(ROWS[:1], "--boundary")
        assert (code, len(out)) == (0, 5)
        assert out[4].startswith("Prompt and answer meet between two tokens")

    def test_json(self, mask):
        code, out, _ = mask(self.MERGING, "--boundary", "--json", "--template", "Q: {instruction} A: ")
        records = [json.loads(line) for line in out]
        assert code == 0
        assert [record["row"] for record in records] == [1, 2]
        assert records[0]["text"] == "Q: Say A: the answer"
        assert records[0]["text"][: records[0]["at"]] == "Q: Say A: "
        assert (records[0]["merged"], records[0]["lost"]) == (True, "the")
        tokenizer = tokenizer_named("gpt2")
        alone = tokenizer("Q: Say A: ")["input_ids"]
        assert [piece["id"] for piece in records[0]["alone"]] == alone[-len(records[0]["alone"]) :]


class TestProve:
    def test_for_a_person(self, mask):
        code, out, _ = mask(ROWS, "--prove", "--device", "cpu")
        assert code == 0
        packed, control = [line for line in out if "log-probabilities" in line]
        assert packed.startswith("packed (bfd), each example by itself")
        assert control.startswith("the control, wrapped into one text")
        assert out[-1].startswith("Done in ")

    def test_json(self, mask):
        code, out, _ = mask(ROWS, "--prove", "--json")
        assert code == 0
        packed, control = of("isolation", out)
        assert (packed["packing"], packed["row"], packed["examples"]) == ("bfd", 0, 3)
        assert packed["change"] < 1e-5 < 1e-3 < control["change"]
        assert json.loads(out[-1])["event"] == "finished"

    @pytest.mark.parametrize("form", [[], ["--json"]])
    def test_one_row_is_not_enough(self, mask, form):
        code, out, err = mask(ROWS, "--prove", "--rows", "0", *form)
        assert code == 1
        told = json.loads(out[-1])["message"] if form else "\n".join(err)
        assert "Two examples to train on are needed" in told


def told(err: list[str]) -> list[str]:
    """What the program says of itself, without the lines of its progress."""
    return [line for line in err if line.startswith("sftdemo: ")]


class TestColumns:
    ROWS = (*({"q": f"Say {word}", "a": word, "id": 1} for word in ("one", "two", "three")),)
    COLUMNS = ("--columns", "prompt=q", "completion=a")

    def test_are_read_under_our_names(self, mask):
        code, out, err = mask(self.ROWS, "--json", *self.COLUMNS)
        assert code == 0
        assert [json.loads(line)["text"] for line in out] == ["Say oneone", "Say twotwo", "Say threethree"]
        assert told(err) == ["sftdemo: columns not used: 'id' (3 rows)."]

    def test_in_training_too_where_the_export_has_our_names(self, train, tmp_path):
        assert train(self.ROWS, *self.COLUMNS)[0] == 0
        (first, *_) = (tmp_path / "out" / "examples.jsonl").read_text().splitlines()
        assert json.loads(first) == {"prompt": "Say one", "completion": "one"}

    def test_one_of_ours_that_is_none_is_a_wrong_call(self, mask):
        code, out, err = mask(self.ROWS, "--columns", "question=q", "reply=a")
        assert (code, out) == (2, [])
        assert "columns names 'reply'; left of = stands one of answer, " in one_line(err)

    def test_one_of_the_files_that_is_none_is_refused(self, mask):
        code, out, err = mask(self.ROWS, "--columns", "prompt=question", "completion=a")
        assert (code, out) == (1, [])
        assert 'no row has the column "question" that columns names; the columns are "q", "a", "id".' in one_line(err)


class TestProblems:
    BAD = ({"instruction": "a"},) * 30 + ({"instruction": "a", "output": "b"},)

    def test_of_one_reason_are_told_together(self, mask):
        _, _, err = mask(self.BAD, "--json")
        (line,) = told(err)
        assert line.startswith('sftdemo: refused 30 rows: has no "output"; write')
        assert line.endswith(", first in row 0, row 1, row 2.")

    @pytest.mark.parametrize("view", [[], ["--audit"]])
    def test_that_the_model_causes_as_well(self, mask, view):
        _, _, err = mask([*[TALK] * 30, {"instruction": "a", "output": "b"}], "--json", *view)
        (line,) = told(err)
        assert line.startswith("sftdemo: refused 30 rows: this model has no chat template")

    def test_every_one_where_that_is_asked_for(self, mask):
        _, _, err = mask(self.BAD, "--json", "--all-problems")
        assert [line.split(":")[1] for line in told(err)] == [f" refused row {row}" for row in range(30)]


class TestViewsTogether:
    def test_json_lines_in_a_fixed_order(self, mask):
        code, out, _ = mask(ROWS[:1], "--boundary", "--packing", "--audit", "--json")
        assert code == 0
        assert [next(iter(set(json.loads(line)) & {"findings", "layouts", "at"})) for line in out] == [
            *("findings", "layouts", "at")
        ]

    def test_an_error_stays_the_exit_code(self, mask):
        rows = [*ROWS, {"instruction": LONG, "output": "x"}]
        assert mask(rows, "--audit", "--boundary", "--prove", "--max-length", "50")[0] == 1


class TestPage:
    def test_the_tokens_and_the_audit_are_written_to_a_file(self, mask, tmp_path):
        code, out, err = mask(ROWS, "--html", "mask.html")
        assert (code, len(out), len(err)) == (0, 1, 1)
        assert out[0].startswith("Saved to mask.html: 4 examples · ")
        page = (tmp_path / "mask.html").read_text(encoding="ascii")
        assert "<title>The mask of rows.json</title>" in page
        assert page.count('<section class="sftdemo-row">') == 4
        assert "the same prompt has different answers" in page

    def test_json_names_it_with_the_masks_hash(self, mask):
        _, (line,), _ = mask(ROWS, "--html", "mask.html", "--json", "--rows", "0")
        told = json.loads(line)
        assert (told["saved"], len(told["mask_hash"])) == ("mask.html", 64)

    @pytest.mark.parametrize(("place", "code"), [("none/mask.html", 2), ("mask.html", 1)])
    def test_what_cannot_be_written(self, mask, place, code):
        rows = ROWS if code == 2 else [{"instruction": "No answer"}]
        found, out, err = mask(rows, "--html", place)
        assert (found, out) == (code, [])
        assert ("none/mask.html cannot be written" if code == 2 else "there is no row to show") in " ".join(err)


class TestRows:
    @pytest.mark.parametrize("view", [[], ["--boundary"]])
    def test_only_these(self, mask, view):
        _, out, _ = mask(ROWS, "--rows", "5", "0", *view, "--json")
        assert [json.loads(line)["row"] for line in out] == [0, 5]

    def test_the_audit_sees_no_other(self, mask):
        code, out, _ = mask(ROWS, "--rows", "1", "2", "--audit", "--json")
        assert (code, json.loads(out[0])["examples"], json.loads(out[0])["findings"]) == (0, 2, [])

    @pytest.mark.parametrize("row", ["3", "4", "6", "-1"], ids=["refused", "held out", "past the end", "negative"])
    @pytest.mark.parametrize("view", [[], ["--audit"], ["--boundary"]], ids=["mask", "audit", "boundary"])
    def test_one_that_is_not_there(self, mask, row, view):
        code, out, err = mask(ROWS, *view, "--rows", "0", row)
        assert (code, out) == (1, [])
        assert err[-1] == f"sftdemo: there is no row {row} to train on; rows are counted from 0."


class TestTurns:
    def test_all_are_trained_or_the_last(self, mask, llama_folder):
        texts = {}
        for turns in ("all", "last"):
            code, out, _ = mask([TALK], "--turns", turns, "--json", model=llama_folder)
            texts[turns] = "".join(trained_text(json.loads(out[0])))
            assert code == 0
        assert texts == {"all": "one two<|im_end|>three", "last": "three"}  # the last EOS has no text

    def test_all_is_what_is_done_unasked(self, mask, llama_folder):
        assert mask([TALK], "--json", model=llama_folder) == mask(
            [TALK], "--turns", "all", "--json", model=llama_folder
        )

    def test_of_training(self, train, mask, llama_folder):
        counts = {}
        for turns in ("all", "last"):
            code, out, _ = train([TALK], "--turns", turns, model=llama_folder)
            assert code == 0
            (prepared,) = of("prepared", out)
            counts[turns] = prepared["trained_tokens"]
            _, shown, _ = mask([TALK], "--turns", turns, "--json", model=llama_folder)
            assert counts[turns] == json.loads(shown[0])["trained"]
        assert counts["all"] > counts["last"]


class TestMasksMadeByHand:
    def test_they_are_shown(self, mask):
        code, out, _ = mask([marked(" two"), marked("a", " one", eos=False), ROWS[0]], "--json")
        first, second, usual = [json.loads(line) for line in out]
        assert code == 0
        assert "".join(trained_text(first)) == " two"
        assert first["labels"][-1] == tokenizer_named("gpt2").eos_token_id
        assert "".join(trained_text(second)) == " a one"  # the token that holds the letter
        assert second["labels"][-1] == -100
        assert [record["flags"] for record in (first, second, usual)] == [
            ["made_by_hand"],
            ["eos_untrained", "made_by_hand"],
            [],
        ]

    def test_one_of_another_text_is_not_used_and_told(self, mask):
        other = marked(" two") | {"completion": " one three"}
        _, out, _ = mask([other], "--json")
        assert json.loads(out[0])["flags"] == ["mask_not_used"]
        assert "".join(trained_text(json.loads(out[0]))) == " one three"
        code, out, _ = mask([other], "--audit")
        assert (code, out[0]) == (1, "✗ error: a hand-made mask belongs to another text (row 0)")

    def test_they_are_trained_and_saved(self, train, mask, tmp_path):
        rows = [marked(" two"), marked("a", " one", eos=False), ROWS[0]]
        code, out, _ = train(rows)
        assert code == 0
        _, shown, _ = mask(rows, "--json")
        (prepared,) = of("prepared", out)
        assert prepared["trained_tokens"] == sum(json.loads(line)["trained"] for line in shown)
        (tmp_path / "again.json").write_text(json.dumps(rows))
        saved = [json.loads(line) for line in (tmp_path / "out" / "examples.jsonl").read_text().splitlines()]
        assert [row.get("mask") for row in saved] == [row.get("mask") for row in rows]
        first, again = read_examples(tmp_path / "again.json"), read_examples(tmp_path / "out" / "examples.jsonl")
        assert [example.masks for example in again.train] == [example.masks for example in first.train]
        _, once_more, _ = mask(saved, "--json")
        assert once_more == shown


class TestAblate:
    """What `train` understands, `ablate` does."""

    @pytest.fixture
    def ablate(self, capsys, tmp_path, gpt2_folder):
        def call(rows, *options, model=gpt2_folder):
            (tmp_path / "rows.json").write_text(json.dumps(rows))
            return called(capsys, "ablate", "rows.json", "--model", model, *OUT, *SHORT, *options)

        return call

    def test_of_training(self, ablate, train, llama_folder):
        """The rows, their masks and the settings are those of `train`, in each arm."""
        rows = [TALK, *ROWS]
        for options in (["--turns", "all"], ["--turns", "last"], ["--packing"], ["--full"], ["--lora-r", "4"]):
            code, out, _ = ablate(rows, *options, model=llama_folder)
            assert code == 0
            _, alone, _ = train(rows, *options, model=llama_folder)
            weights = [{"prompt_loss_weight": weight} for weight in (0.0, 1.0)]
            assert of("prepared", out) == [of("prepared", alone)[0] | weight for weight in weights]

    def test_the_first_arms_loss_is_that_of_train(self, ablate, train):
        code, out, _ = ablate(ROWS, "--weights", "0", "0.5")
        assert code == 0
        for arm, weight in enumerate(("0", "0.5")):
            _, alone, _ = train(ROWS, "--prompt-loss-weight", weight)
            assert of("step", out)[arm]["loss"] == pytest.approx(of("step", alone)[0]["loss"], abs=1e-6)

    @pytest.mark.parametrize(
        ("options", "kind", "file"),
        [
            ([], "adapter", "adapter_model.safetensors"),
            (["--merge"], "merged", "model.safetensors"),
            (["--full"], "full", "model.safetensors"),
        ],
    )
    def test_what_each_arm_is(self, ablate, tmp_path, options, kind, file):
        code, out, _ = ablate(ROWS, *options)
        assert code == 0
        for name in ("weight-0", "weight-1"):
            assert (tmp_path / "out" / name / file).exists()
            assert json.loads((tmp_path / "out" / name / "run.json").read_text())["kind"] == kind
        assert of("weights", out)[0]["full"] == (kind == "full")

    def test_an_error_ends_it_or_not(self, ablate, tmp_path):
        bad = [*ROWS, {"instruction": LONG, "output": "x"}]
        code, out, _ = ablate(bad, "--max-length", "50")
        assert code == 1
        assert json.loads(out[-1])["message"].startswith(
            "The audit found an error: the prompt alone reaches max length"
        )
        assert not (tmp_path / "out").exists()
        code, out, _ = ablate(bad, "--max-length", "50", "--anyway")
        assert (code, {each["examples"] for each in of("prepared", out)}) == (0, {4})

    def test_held_out_rows_without_answers(self, ablate, tmp_path):
        code, out, _ = ablate([*ROWS[:3], {"instruction": "Kept back", "held_out": True}])
        assert code == 1
        assert json.loads(out[-1])["message"].startswith("No held-out row has an answer")
        assert not (tmp_path / "out").exists()


class TestRefusal:
    BAD = (*ROWS[:1], {"instruction": LONG, "output": "x"})

    def test_an_error_ends_the_training(self, train, tmp_path):
        code, out, err = train(self.BAD, "--max-length", "50")
        assert (code, err) == (1, [])
        message = json.loads(out[-1])["message"]
        assert message.startswith("The audit found an error: the prompt alone reaches max length (row 1).")
        assert "--anyway" in message
        assert not of("model", out)
        assert not (tmp_path / "out").exists()

    def test_or_not(self, train, tmp_path):
        code, out, _ = train(self.BAD, "--max-length", "50", "--anyway")
        assert code == 0
        (prepared,) = of("prepared", out)
        assert prepared["examples"] == 1
        assert [reason.partition(":")[0] for reason in prepared["left_out"]] == ["row 1"]
        assert json.loads((tmp_path / "out" / "run.json").read_text())["config"]["anyway"] is True

    def test_for_a_person_it_is_one_line(self, capsys, tmp_path, gpt2_folder):
        (tmp_path / "rows.json").write_text(json.dumps(self.BAD))
        code, out, err = called(capsys, "train", "rows.json", "--model", gpt2_folder, "--max-length", "50")
        assert (code, out) == (1, [])
        assert one_line(err).startswith("sftdemo: The audit found an error: ")


def test_the_command_in_a_report_names_the_commit(monkeypatch):
    """Of a study and of the bench, whose rows may be on the Hub."""
    monkeypatch.setattr("sys.argv", ["sftdemo", "study", "hub:a/b[test]", "--limit", "5"])
    origin = Origin("hub:a/b@c[test]", "c", 5, {})
    options = Namespace(data="hub:a/b[test]")
    told = _command(options, ParsedExamples((), (), (), (), origin))
    assert told == "python -m sftdemo study 'hub:a/b@c[test]' --limit 5"
    assert _command(options, None) == "python -m sftdemo study 'hub:a/b[test]' --limit 5"


class TestSavedProblems:
    ROWS = ({"instruction": "Say hello", "output": "Hello!"}, {"instruction": "a"}, 5)

    def saved(self, tmp_path) -> list:
        lines = (tmp_path / "refused.jsonl").read_text(encoding="utf-8").splitlines()
        return [(json.loads(line)["row"], json.loads(line)["message"][:9]) for line in lines]

    @pytest.mark.parametrize("views", [(), ("--audit",), ("--boundary",)], ids=" ".join)
    def test_by_mask(self, mask, tmp_path, views):
        mask(self.ROWS, "--save-problems", "refused.jsonl", *views)
        assert self.saved(tmp_path) == [(1, 'has no "o'), (2, "is the nu")]

    def test_those_that_the_settings_leave_out_too(self, mask, tmp_path):
        rows = [*self.ROWS, {"instruction": "b", "output": "c " * 50}]
        mask(rows, "--save-problems", "refused.jsonl", "--max-length", "30", "--too-long", "drop")
        assert [row for row, _ in self.saved(tmp_path)] == [1, 2, 3]

    def test_by_train(self, train, tmp_path):
        assert train(self.ROWS, "--save-problems", "refused.jsonl")[0] == 0
        assert [row for row, _ in self.saved(tmp_path)] == [1, 2]
