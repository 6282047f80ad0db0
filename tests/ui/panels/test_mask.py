"""The mask on the page: examples, their tokens page by page, what the audit says, masks made by hand, the export."""

from __future__ import annotations

import json
from types import SimpleNamespace

import gradio as gr
import pytest
from desk import CUT, EVIL, ROWS, SKIP, TEXT, TRAINED, drawn, event, made, named, parts, scanned
from tiny import tokenizer_named
from transformers import AutoTokenizer

from sftdemo.data.examples import parse_examples
from sftdemo.data.templates import get_template
from sftdemo.mask.labels import Masker
from sftdemo.ui import state

LONG = {"instruction": "Say hello", "output": "Hello " * 40}
OF_ANOTHER_TEXT = ROWS[1] | {"mask": {"text": "another", "trained": [[0, 3]]}}
NOTHING_TO_TRAIN = [
    ({"examples": ""}, "no examples yet"),
    ({"examples": None}, "no examples yet"),
    ({"examples": "Dear diary"}, "neither JSON nor CSV"),
    ({"examples": "[{"}, ""),
    ({"examples": '[{"instruction": "a"}]'}, "No example to train on yet"),
    ({"examples": json.dumps(ROWS[2:])}, "No example to train on yet"),
    ({"template": "chat"}, "No example to train on yet"),
]
# A setting that is wrong, the id of its input, and what is said there; then whether the mask depends on it.
WRONG = [
    ({"model": None}, "model", "model is empty", True),
    ({"template": "custom", "custom": "Q:"}, "custom", "has no {instruction} in it", True),
    ({"template": "custom", "custom": ""}, "custom", "has no {instruction} in it", True),
    ({"max_length": None}, "max-length", "Max length is empty", True),
    ({"max_length": 2.5}, "max-length", "Max length is 2.5", True),
    ({"max_length": 1}, "max-length", "max_length is 1", True),
    ({"steps": 0}, "steps", "steps is 0", False),
    ({"steps": float("inf")}, "steps", "inf", False),
    ({"seed": float("nan")}, "seed", "nan", True),
    ({"batch_size": 10**9}, "batch-size", "batch_size is 1,000,000,000", True),
    ({"lora_r": -1}, "lora-r", "lora_r is -1", False),
    ({"learning_rate": "fast"}, "learning-rate", "Learning rate is 'fast'", False),
    ({"learning_rate": "nan"}, "learning-rate", "learning_rate is nan", False),
    ({"device": "tpu"}, "device", "device is 'tpu'", False),
    ({"device": "cuda"}, "device", "There is no cuda device here", False),
    ({"set": "weight_dekay=1"}, "set", "the nearest is weight_decay", False),
    ({"set": "lora.alpha=4", "full": True}, "set", "there is no adapter", False),
]


class TestDraw:
    def test_the_mask_is_the_trainers(self, ui, values, gpt2_folder):
        mask, asked, command = drawn(ui, values())
        tokenizer = AutoTokenizer.from_pretrained(gpt2_folder)
        examples, _ = Masker(tokenizer, get_template("instruction"), 128).tokenize(parse_examples(TEXT).train)
        assert [row["row"] for row in mask["rows"]] == [0, 1]
        kinds = {}
        for row, example in zip(mask["rows"], examples, strict=True):
            tokens = row["tokens"]
            assert [index for _, _, index, _, _ in tokens] == list(example.input_ids)
            assert [index if bits & TRAINED else -100 for _, _, index, bits, _ in tokens] == list(example.labels)
            assert not any(bits & CUT for _, _, _, bits, _ in tokens)
            for token, kind in zip(tokens, example.kinds, strict=True):
                assert kinds.setdefault(token[1], kind) == kind
            assert (row["trained"], row["prompt"]) == (example.trained, len(tokens) - example.trained)
            assert not row["hand"]
        assert len(kinds) == 4
        assert asked["questions"] == [{"text": "Capital of Italy?", "source": "held out"}]
        assert command.startswith("python -m sftdemo train examples.jsonl --model")

    def test_max_length_and_template_are_followed(self, ui, values):
        mask, *_ = drawn(ui, values(template="custom", custom="Q: {instruction}\nA:\n", max_length=10))
        row = mask["rows"][0]
        kept = [token for token in row["tokens"] if not token[3] & CUT]
        assert len(kept) == 10
        assert "".join(text for text, *_ in row["tokens"]).startswith("Q:␣")
        assert row["cut"] == len(row["tokens"]) - 10 > 0
        assert all(token[3] & CUT for token in row["tokens"][10:])
        assert any(words.startswith("EOS is cut") for _, words in row["flags"])

    def test_of_a_long_row_some_of_what_is_cut_off_is_drawn(self, ui, values):
        rows = [{"instruction": "Count", "output": "1 2 3 " * 200}]
        mask, *_ = drawn(ui, values(examples=json.dumps(rows), max_length=20))
        (row,) = mask["rows"]
        assert len(row["tokens"]) == 20 + 200
        assert row["more"] == row["cut"] - 200 > 0

    def test_good_rows_survive_beside_refused_ones(self, ui, values):
        mask, *_ = drawn(ui, values(examples=json.dumps([ROWS[0], {"instruction": "a"}, 5])))
        assert len(mask["rows"]) == 1
        assert [problem["words"][:6] for problem in mask["problems"]] == ["row 1:", "row 2:"]

    @pytest.mark.parametrize(("changed", "says"), NOTHING_TO_TRAIN, ids=str)
    def test_what_cannot_be_trained_is_a_sentence_and_no_button(self, ui, values, changed, says):
        mask, _, command = drawn(ui, values(**changed))
        assert says in mask["message"]
        assert (mask["rows"], command) == ([], "")
        (scan,) = scanned(ui, values(**changed))
        assert (scan.train["interactive"], scan.train["value"]) == (False, "Nothing to train yet")
        assert not scan.anyway["visible"]
        assert (scan.totals["summary"], scan.audit) == ("", {"findings": [], "message": ""})
        assert scan.kept is None or not scan.kept.rows

    @pytest.mark.parametrize(("changed", "at", "says", "decides"), WRONG, ids=str)
    def test_what_is_wrong_stands_at_its_input_and_leaves_the_rest(self, ui, values, changed, at, says, decides):
        """The mask follows the text all the same, unless it depends on the setting: then it stays as it was."""
        out, audit = ui.masking.out, scanned(ui, values())[-1].kept
        given = values(examples=json.dumps(ROWS[:1]), audit=audit, **changed)
        updates = ui.masking.draw(given)
        (error,) = json.loads(updates[out.wrong])["errors"]
        assert (error["id"], says in error["words"]) == (at, True), error
        assert out.command not in updates
        *_, last = ui.masking.scan(given)
        assert last[out.train]["value"] == f"Mend: {error['title']}"
        assert not last[out.both]["interactive"]
        if decides:
            assert updates.keys() == {out.wrong}
            assert last.keys() == {out.train, out.both}
        else:
            assert len(json.loads(updates[out.mask])["rows"]) == 1
            assert json.loads(last[out.totals])["summary"].startswith("1 example ")

    def test_no_second_run_while_the_one_that_is_shown_is_under_way(self, ui, values, monkeypatch):
        monkeypatch.setattr(ui.desk.backend, "is_running", "0a".__eq__)
        last = scanned(ui, values(run_id="0a"))[-1]
        assert (last.train["interactive"], last.both["interactive"]) == (False, False)
        assert last.train["value"].startswith("Train 2 steps")
        assert scanned(ui, values(run_id="0b"))[-1].train["interactive"]

    def test_what_is_wrong_on_arrival_stands_in_the_masks_place_too(self, ui, values):
        mask, *_ = drawn(ui, values(max_length=1))
        assert mask["message"].startswith("max_length is 1")

    def test_other_names_in_braces_are_told_at_the_template(self, ui, values):
        updates = ui.masking.draw(values(template="custom", custom="{foo} {instruction} {bar}\n"))
        told = json.loads(updates[ui.masking.out.wrong])
        assert told["errors"] == []
        assert told["notes"][0]["words"].startswith("{foo}, {bar} stay as written")

    def test_a_model_that_is_still_to_come_leaves_the_page_as_it_is(self, ui, values):
        waiting = values(model="someone/something")
        assert ui.masking.draw(waiting).keys() == {ui.masking.out.wrong}
        (look,) = ui.masking.scan(waiting)  # counts of another model do not stay, and Gradio wants one update at least
        assert (json.loads(look[ui.masking.out.totals])["summary"], ui.masking.out.train in look) == ("", False)
        assert ui.masking.turn(waiting, event(page=1)) == {ui.masking.out.mask: SKIP}
        assert parts(ui, ui.masking.go_to(waiting, event(row=1)), "mask", "picked") == (SKIP, 1)

    @pytest.mark.parametrize("evil", EVIL)
    def test_user_text_travels_inside_the_json_only(self, ui, values, evil):
        rows = [{"instruction": evil, "output": evil}, {"instruction": "a", evil: evil}]
        changed = values(examples=json.dumps(rows), prompts=evil, template="custom", custom=evil + "{instruction}\n")
        updates = ui.masking.draw(changed)
        assert all(isinstance(updates[each], str) for each in updates if isinstance(each, gr.HTML))
        mask, asked, _ = drawn(ui, changed)
        text = "".join(token[0] for token in mask["rows"][0]["tokens"])
        assert text.replace("␣", " ").count(evil) == 3
        assert [question["text"] for question in asked["questions"]] == [evil]
        for scan in scanned(ui, changed):
            assert evil not in json.dumps([scan.train, scan.anyway])


class TestScan:
    def test_the_totals_and_the_button(self, ui, values):
        (scan,) = scanned(ui, values())
        assert scan.totals["summary"].startswith("2 examples · ")
        assert "1 held out" in scan.totals["summary"]
        assert scan.totals["fraction"] is None
        assert scan.audit == {"findings": [], "message": "✓ The audit finds nothing to mend."}
        assert scan.train["interactive"]
        assert scan.train["value"].startswith("Train 2 steps")
        assert not scan.anyway["visible"]

    def test_many_rows_yield_growing_totals(self, ui, values, monkeypatch):
        monkeypatch.setattr(state, "TICK", 0)
        *meanwhile, last = scanned(ui, values(examples=json.dumps(ROWS[:1] * 60)))
        fractions = [scan.totals["fraction"] for scan in meanwhile]
        counts = [int(scan.totals["summary"].split()[0]) for scan in meanwhile]
        assert len(meanwhile) == 60
        assert fractions == sorted(set(fractions))
        assert (0 <= fractions[0] < 0.1, 0.9 < fractions[-1] < 1) == (True, True)
        assert counts == list(range(1, 61))
        for scan in meanwhile:
            assert scan.audit is None
            assert (scan.train["interactive"], scan.train["value"]) == (False, "Looking the rows over…")
            assert (scan.anyway, scan.kept) == (None, None)
        assert last.totals["fraction"] is None
        assert last.totals["summary"].startswith("60 examples")
        assert last.checks == ["duplicates"]
        assert last.kept.rows == list(range(60))
        assert last.train["interactive"]

    def test_few_rows_are_told_at_once(self, ui, values, monkeypatch):
        monkeypatch.setattr(state, "TICK", 3600)
        assert len(scanned(ui, values(examples=json.dumps(ROWS[:1] * 300)))) == 1

    @pytest.mark.parametrize(
        ("rows", "says"),
        [
            ([LONG], "Mend 1 error that the audit found"),
            ([LONG, OF_ANOTHER_TEXT], "Mend 2 errors that the audit found"),
        ],
        ids=["one", "two"],
    )
    def test_errors_block_the_button_unless_it_is_anyway(self, ui, values, rows, says):
        changed = {"examples": json.dumps(rows), "max_length": 40}
        (blocked,) = scanned(ui, values(**changed))
        assert "answer_cut" in blocked.checks
        assert (blocked.train["interactive"], blocked.train["value"]) == (False, says)
        assert blocked.anyway["visible"]
        assert blocked.audit["message"] == ""
        (anyway,) = scanned(ui, values(anyway=True, **changed))
        assert anyway.train["interactive"]
        assert anyway.train["value"].startswith("Train 2 steps")
        assert anyway.anyway["visible"]  # so that it can be taken back

    def test_warnings_do_not(self, ui, values):
        rows = [*ROWS[:2], ROWS[0] | {"output": "Another hello"}]
        (scan,) = scanned(ui, values(examples=json.dumps(rows)))
        assert scan.checks == ["conflicting_answers"]
        assert scan.audit["findings"][0]["rows"] == [0, 2]
        assert scan.train["interactive"]
        assert not scan.anyway["visible"]

    def test_where_nothing_is_trained_no_anyway_helps(self, ui, values):
        for anyway in (False, True):
            (scan,) = scanned(ui, values(max_length=8, anyway=anyway))
            assert "prompt_too_long" in scan.checks
            assert (scan.train["interactive"], scan.train["value"]) == (False, "Nothing to train yet")
            assert not scan.anyway["visible"]


class TestGetReady:
    def test_a_model_that_is_there(self, ui, values):
        *phases, last = list(ui.masking.get_ready(values()))
        assert phases
        for updates in phases:
            status, *_ = parts(ui, updates, "model_status", "train", "both")
            assert json.loads(status)["state"] == "working"
        (status,) = parts(ui, last, "model_status")  # the mask is drawn next, of the text as it is by then
        assert json.loads(status)["state"] == "done"
        assert json.loads(status)["title"].endswith("local folder")

    def test_the_device_is_told_once_the_mask_is_there(self, ui, values):
        assert "local folder · CPU" in json.loads(ui.masking.tell_device(values()))["title"]
        for changed in ({"model": "no/such/folder"},):
            assert ui.masking.tell_device(values(**changed)) == SKIP

    def test_a_model_that_is_nowhere(self, ui, values):
        *_, last = ui.masking.get_ready(values(model="no/such/folder"))
        names = ("model_status", "mask", "asked", "command", "train", "both")
        status, mask, asked, command, button, both = parts(ui, last, *names)
        assert json.loads(status)["state"] == "failed"
        assert "'no/such/folder' is no folder or file here" in json.loads(status)["title"]
        assert json.loads(mask)["message"] == json.loads(status)["title"]
        assert (json.loads(asked)["questions"], command) == ([], "")
        assert not button["interactive"]
        assert not both["interactive"]


def test_drawing_and_scanning_follow_every_input(ui):
    """Each change draws at once, then scans beside the scan before, which ends by itself. The draw that a model's
    arrival started is let go: of the text before, it would come late and cover the new one."""
    session = ui.desk.session
    watched = {part._id for part in (*ui.desk.controls.all(), session.opened, session.masks)}
    functions = {
        name: [fn for fn in ui.blocks.fns.values() if getattr(fn.fn, "__name__", "") == name]
        for name in ("draw", "scan", "get_ready")
    }
    triggers = {name: {target[0] for fn in fns for target in fn.targets} for name, fns in functions.items()}
    assert watched <= triggers["draw"] | triggers["get_ready"]
    assert watched - triggers["draw"] == {ui.desk.controls.model._id}
    scans = {fn._id for fn in functions["scan"]}
    late = {fn._id for fn in functions["draw"] if fn.trigger_after is not None}
    assert (len(scans), len(late)) == (2, 1)
    assert {fn.trigger_mode for fn in functions["scan"]} == {"multiple"}
    assert not [fn for fn in ui.blocks.fns.values() if scans & set(fn.cancels)]
    cancelling = [fn for fn in ui.blocks.fns.values() if late <= set(fn.cancels)]
    assert watched - {target[0] for fn in cancelling for target in fn.targets} == {ui.desk.controls.model._id}


def test_the_chosen_row_is_kept(ui):
    assert ui.masking.pick(event(row=3)) == 3


def twins(count: int) -> str:
    """Rows of which each tenth has a twin's answer, so that the audit flags it."""
    return json.dumps(
        [
            {"instruction": "the same" if row % 10 == 0 else f"Count to {row}", "output": f"{row % 20}"}
            for row in range(count)
        ]
    )


class TestOnlyRowsWithAFinding:
    @pytest.fixture
    def looked_over(self, ui, values):
        """The page after the audit of 1,200 rows, of which 120 have a finding."""
        given = values(examples=twins(1200))
        *_, last = ui.masking.scan(given)
        return given | {ui.desk.session.audit: last[ui.desk.session.audit]}, last

    def test_the_choices(self, ui, looked_over):
        _, last = looked_over
        only = last[ui.masking.out.only]
        assert only["interactive"]
        assert [value for _, value in only["choices"]] == ["", "any", "conflicting_answers", "duplicates"]
        assert only["choices"][1][0] == "only rows with a finding (120)"

    @pytest.mark.parametrize("check", ["any", "conflicting_answers"])
    def test_pages_of_those_rows(self, ui, looked_over, check):
        given, _ = looked_over
        out = ui.masking.out
        mask, page, only = parts(ui, ui.masking.show_only(given | {out.only: check}), "mask", "page", "session_only")
        mask = json.loads(mask)
        assert (page, only, mask["total"], mask["pages"]) == (0, check, 120, 3)
        assert [row["row"] for row in mask["rows"]] == list(range(0, 500, 10))
        turned = ui.masking.turn(given | {ui.desk.session.only: check}, event(page=2))
        mask = json.loads(named(ui, turned)["mask"])
        assert [row["row"] for row in mask["rows"]] == list(range(1000, 1200, 10))
        assert drawn(ui, given | {ui.desk.session.only: check})[2]  # the command stands whatever is shown

    def test_the_button_of_a_finding(self, ui, looked_over):
        given, _ = looked_over
        updates = named(ui, ui.masking.show_only_of(given, event(check="duplicates")))
        assert (updates["only"], updates["session_only"]) == ("duplicates", "duplicates")
        assert json.loads(updates["mask"])["total"] == 120

    def test_going_to_a_row_that_is_not_shown_shows_all(self, ui, looked_over):
        given, _ = looked_over
        filtered = given | {ui.desk.session.only: "any"}
        updates = named(ui, ui.masking.go_to(filtered, event(row=1190)))
        assert (json.loads(updates["mask"])["page"], "only" in updates) == (2, False)
        updates = named(ui, ui.masking.go_to(filtered, event(row=1191)))
        assert (json.loads(updates["mask"])["page"], updates["only"], updates["session_only"]) == (23, "", "")

    def test_after_an_edit_the_new_audit_decides(self, ui, values, looked_over):
        given, _ = looked_over
        edited = given | {ui.desk.controls.examples: twins(100), ui.desk.session.only: "any"}
        *_, last = ui.masking.scan(edited)
        assert json.loads(last[ui.masking.out.mask])["total"] == 10
        mended = given | {ui.desk.controls.examples: TEXT, ui.desk.session.only: "any"}
        *_, last = ui.masking.scan(mended)
        assert (last[ui.desk.session.only], last[ui.masking.out.only]["interactive"]) == ("", False)
        assert json.loads(last[ui.masking.out.mask])["total"] == 2


class TestRefusals:
    TEXT = json.dumps([*ROWS, {"instruction": "a"}, 5, {"instruction": "b", "output": "c " * 200}])

    def test_they_are_saved_with_those_left_out(self, ui, values):
        *_, last = ui.masking.scan(values(examples=self.TEXT, max_length=60, too_long="drop"))
        saved = last[ui.masking.out.refusals]
        assert (saved["visible"], saved["label"]) == (True, "Save the 3 refusals")
        with open(made(ui, saved), encoding="utf-8") as file:
            records = [json.loads(line) for line in file]
        assert [(each["row"], each["line"], each["dropped"]) for each in records] == [
            (3, None, False),
            (4, None, False),
            (5, None, True),
        ]
        assert records[0]["message"].startswith('has no "output"')

    def test_without_any_there_is_no_button(self, ui, values):
        for text in (TEXT, "Dear diary"):
            *_, last = ui.masking.scan(values(examples=text))
            assert not last[ui.masking.out.refusals]["visible"]

    def test_what_a_refused_row_says(self, ui, values):
        said = json.loads(ui.masking.read_row(values(examples=self.TEXT), event(row=3, line=None)))
        assert said["row_text"] == [3, '{"instruction": "a"}']
        assert said["rows"]
        late = json.loads(ui.masking.read_row(values(examples="Dear diary"), event(row=3, line=None)))
        assert "neither JSON nor CSV" in late["message"]


class TestTokenizerAlone:
    @pytest.fixture
    def alone(self, tmp_path):
        tokenizer_named("gpt2").save_pretrained(tmp_path)
        return {"model": str(tmp_path)}

    def test_mask_and_audit_work_and_there_is_nothing_to_train(self, ui, values, alone):
        given = values(**alone)
        *_, ready = ui.masking.get_ready(given)
        assert json.loads(named(ui, ready)["model_status"])["title"].endswith("a tokenizer alone, without weights")
        assert len(drawn(ui, given)[0]["rows"]) == 2
        *_, scan = scanned(ui, given)
        assert scan.audit["message"].startswith("✓")
        assert scan.train["value"] == "No weights here to train: a tokenizer alone"
        assert (scan.train["interactive"], scan.both["interactive"]) == (False, False)

    def test_a_click_that_comes_all_the_same_is_answered(self, ui, values, alone):
        (look,) = ui.running.train_both(values(**alone))
        (status,) = parts(ui, look, "run_status")
        assert "has no weights to train" in json.loads(status)["title"]


def test_a_scan_ends_when_the_same_visit_begins_another(ui, values, monkeypatch):
    train, totals = ui.masking.out.train, ui.masking.out.totals
    monkeypatch.setattr(ui.masking, "_scan", lambda values: iter([{train: "waiting"}, {train: "ready"}]))

    def scan(visit):
        return ui.masking.scan(values(), SimpleNamespace(session_hash=visit))

    first, other = scan("a"), scan("b")
    assert next(first) == next(other) == {train: "waiting"}
    assert list(scan("a")) == [{train: "waiting"}, {train: "ready"}]
    assert [list(updates) for updates in first] == [[totals]]
    assert list(other) == [{train: "ready"}]
