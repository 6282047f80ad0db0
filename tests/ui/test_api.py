"""What a program asks the page for: the same as the page shows, under the same limits, and every refusal a sentence."""

from __future__ import annotations

import io
import json
import re
import urllib.error
import urllib.request
from contextlib import redirect_stdout
from inspect import signature
from pathlib import Path

import gradio as gr
import pytest
from desk import ROWS, TEXT, Busy, OnLentGpu
from gradio_client import Client
from gradio_client.exceptions import AppError
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import awaited, free_port
from starlette.datastructures import Headers

from sftdemo.core.events import Phase
from sftdemo.runs.queue import Queued
from sftdemo.ui import build
from sftdemo.ui.api import Api
from sftdemo.ui.serve import _listen

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Call the page")[2].partition("\n## ")[0]
HUB_ID = '"HuggingFaceTB/SmolLM2-135M-Instruct"'
NAMES = ["audit", "compare_tokenizers", "generate", "mask", "result", "train"]
SHORT = {"steps": 2, "max_length": 64, "max_new_tokens": 4}
CODES = {"ConfigError", "DataError", "ModelError", "TemplateError", "TrainingError", "BusyError", "SftdemoError"}
PYTHON = re.compile(r"Traceback|object at 0x|NoneType|\b(Type|Value|Key|Attribute|Index)Error\b|<class ")


@pytest.fixture
def api() -> Api:
    return Api(OnLentGpu())


def told(call, *values, **more) -> tuple[str, str]:
    """The code and the sentence of the refusal."""
    with pytest.raises(gr.Error) as caught:
        call(*values, **more)
    return caught.value.title, caught.value.message


class TestTheMask:
    def test_the_rows_are_those_of_the_page(self, api, ui, values, gpt2_folder):
        shown = api.mask(TEXT, str(gpt2_folder))
        view = ui.desk.view(values(max_length=512))
        rows, _ = view.masker.tokenize(view.data.train)
        assert [row["labels"] for row in shown["rows"]] == [list(row.labels) for row in rows]
        assert "".join(shown["rows"][0]["tokens"]) == rows[0].text
        assert (shown["pages"], shown["held_out"], shown["refused"]) == (1, 1, [])

    def test_what_is_refused_or_guessed_is_told(self, api, gpt2_folder):
        shown = api.mask(json.dumps([*ROWS, {"instruction": "Hi"}]), str(gpt2_folder))
        assert shown["refused"] == ['row 3: has no "output"; write the answer to learn: "output": "…".']
        shown = api.mask(json.dumps([{"question_text": "Hi", "reply": "Hello there"}] * 2), str(gpt2_folder))
        assert "question_text as instruction" in shown["notes"][-1]

    def test_pages(self, api, gpt2_folder):
        text = json.dumps([{"instruction": "Hi", "output": str(row)} for row in range(60)])
        last = api.mask(text, str(gpt2_folder), page=1)
        assert [row["row"] for row in last["rows"]] == list(range(50, 60))
        assert told(api.mask, text, str(gpt2_folder), page=2) == (
            "DataError",
            "page is 2; the rows fill 2, counted from 0.",
        )

    def test_settings_and_their_limits(self, api, gpt2_folder, monkeypatch):
        cut = api.mask(TEXT, str(gpt2_folder), settings={"max_length": 14})["rows"][0]
        assert "answer_cut" in cut["flags"]
        assert told(api.mask, TEXT, settings={"steps": 3})[1].startswith("steps decides nothing of the mask; ")
        assert "argument of its own" in told(api.mask, TEXT, settings={"model": "gpt2"})[1]
        assert "terminal only" in told(lambda: list(api.train(TEXT, settings={"report_to": "wandb"})))[1]
        monkeypatch.setenv("SFTDEMO_MAX_MAX_LENGTH", "100")
        assert "SFTDEMO_MAX_MAX_LENGTH" in told(api.mask, TEXT, settings={"max_length": 101})[1]
        monkeypatch.delenv("SFTDEMO_MAX_MAX_LENGTH")
        monkeypatch.setenv("SFTDEMO_MAX_CHARACTERS", "9")
        assert told(api.audit, TEXT, str(gpt2_folder))[0] == "DataError"

    def test_the_audits_hash_is_that_of_the_page(self, api, ui, values, gpt2_folder):
        found = api.audit(json.dumps(ROWS + ROWS[:1]), str(gpt2_folder))
        assert [finding["check"] for finding in found["findings"]] == ["duplicates"]
        assert len(found["mask_hash"]) == 64
        assert found["totals"].endswith("1 held out")

    def test_one_row_under_two_models(self, api, gpt2_folder, llama_folder):
        ways = api.compare_tokenizers(TEXT, str(gpt2_folder), str(llama_folder), other_template="chat", row=1)["ways"]
        assert [way["template"] for way in ways] == ["instruction", "chat"]
        assert ways[0]["rows"][0]["text"] != ways[1]["rows"][0]["text"]
        assert told(api.compare_tokenizers, TEXT, str(gpt2_folder), str(gpt2_folder), row=9)[0] == "DataError"


class TestRuns:
    def test_a_run_its_result_and_its_answers(self, api, gpt2_folder):
        mask_hash = api.audit(TEXT, str(gpt2_folder), settings={"max_length": 64})["mask_hash"]
        events = list(api.train(TEXT, str(gpt2_folder), settings=SHORT, mask_hash=mask_hash))
        assert [events[0]["event"], events[-1]["event"]] == ["started", "finished"]
        key = events[-1]["run"]
        found = api.result(key)
        assert (found["state"], found["record"]["config"]["steps"]) == ("finished", 2)
        assert str(gpt2_folder) not in json.dumps(found)
        assert '"path"' not in json.dumps([events, found])  # Gradio's clients would fetch what has one
        answers = api.generate(key, ["Say hello"], strength=1)["answers"]
        assert [(each["prompt"], each["typed"]) for each in answers] == [
            ("Say hello", True),
            ("Capital of Italy?", False),
        ]

    def test_another_mask_is_not_trained(self, api, gpt2_folder):
        *_, last = api.train(TEXT, str(gpt2_folder), settings=SHORT, mask_hash="0" * 64)
        assert last["event"] == "failed"
        assert "mask" in last["message"]

    def test_a_place_in_the_queue_takes_no_events_place(self, gpt2_folder, monkeypatch):
        backend = OnLentGpu()
        second, first = (Queued("queue", f"{place} in the queue") for place in ("2nd", "1st"))
        loading, training = Phase("load", "Loading"), Phase("train", "Training")
        watched = [[second], [second], [first], [], [loading], [loading, training]]
        monkeypatch.setattr(backend, "start", lambda *_: "key")
        monkeypatch.setattr(backend, "watch", lambda _: iter(watched))
        events = list(Api(backend).train(TEXT, str(gpt2_folder), settings=SHORT))
        own = [event["message"] for event in events if "run" in event and "message" in event]
        assert own == ["2nd in the queue", "1st in the queue", "Loading", "Training"]

    def test_an_address_has_one_run_at_a_time(self, gpt2_folder, monkeypatch):
        backend, turns, running = OnLentGpu(), [], set()

        def start(config, data, weights, shown, turn):
            turns.append(list(turn.own))
            running.add(key := f"{len(turns)}")
            return key

        monkeypatch.setattr(backend, "start", start)
        monkeypatch.setattr(backend, "watch", lambda _: iter([]))
        monkeypatch.setattr(backend, "is_running", lambda key: key in running)
        api = Api(backend)
        monkeypatch.setattr("sftdemo.ui.api.is_public", lambda: True)
        for visitor in ("9.9.9.9", "9.9.9.9, 10.0.0.1", "8.8.8.8", "made, 7.7.7.7, 8.8.8.8, 10.0.0.1", None, None):
            headers = {} if visitor is None else {"x-forwarded-for": visitor}
            asked = gr.Request(headers=Headers(headers), client={"host": "10.0.0.1"})
            list(api.train(TEXT, str(gpt2_folder), settings=SHORT, request=asked))
        assert turns == [[], ["1"], [], ["3"], [], ["5"]]
        running.clear()
        list(api.train(TEXT, str(gpt2_folder), settings=SHORT, request=asked))
        assert turns[-1] == []
        monkeypatch.setattr("sftdemo.ui.api.is_public", lambda: False)
        other = gr.Request(headers=Headers({"x-forwarded-for": "7.7.7.7"}), client={"host": "10.0.0.1"})
        list(api.train(TEXT, str(gpt2_folder), settings=SHORT, request=other))
        assert turns[-1] == ["7"], "an address that the caller makes up makes no other visitor"

    def test_a_key_that_is_none_and_a_busy_server(self, api, gpt2_folder):
        for key in ("", "../..", "0a" * 8, "x\ud800"):
            assert told(api.result, key)[0] == "DataError"
            assert told(api.generate, key, ["Hi"])[0] == "DataError"
        assert told(lambda: list(Api(Busy()).train(TEXT, str(gpt2_folder)))) == (
            "BusyError",
            "Another run is under way.",
        )


def _places(name: str) -> list[str]:
    """The arguments of an endpoint that a caller gives."""
    return [place for place in signature(getattr(Api, name)).parameters if place not in ("self", "request")]


def is_no_name(value: object) -> bool:
    """Whether no model is looked for under this name, which would take a process of its own."""
    return not isinstance(value, str) or not value.strip()


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
SETTING = st.dictionaries(st.sampled_from(["max_length", "steps", "set", "turns", "chat_template_kwargs"]), ANY)


@settings(max_examples=40)
@given(st.data(), st.sampled_from(NAMES))
def test_any_json_in_any_place(gpt2_folder, data, name):
    """It is answered, or refused in a sentence of ours."""
    endpoint = getattr(Api(Busy()), name)
    usual = {"text": TEXT, "settings": data.draw(SETTING)}
    values = {}
    for place in _places(name):
        good = st.just(str(gpt2_folder)) if "model" in place else st.just(usual[place]) if place in usual else ANY
        values[place] = data.draw(good | (ANY.filter(is_no_name) if "model" in place else ANY))
    refused = None
    try:
        answer = endpoint(**values)
        json.dumps(list(answer) if name == "train" else answer, ensure_ascii=False).encode()
    except gr.Error as error:
        refused = error
    if refused is not None:
        assert refused.title in CODES
        assert not PYTHON.search(refused.message)
        refused.message.encode()


@pytest.fixture(scope="module")
def address():
    """The page, served with its guard and with the tools."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("torch.cuda.is_available", lambda: False)
        backend, port = OnLentGpu(), free_port()
        page = build(backend)
        _listen(page, backend, "127.0.0.1", port, False, mcp=True)
        yield f"http://127.0.0.1:{port}"
        page.close()


def asked(address: str, name: str, data: object, **headers: str) -> str:
    """What the server answers to a raw call."""
    place, kind = f"{address}/gradio_api/call/{name}", {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(place, json.dumps(data).encode(), kind | headers)) as answer:
            event = json.load(answer)["event_id"]
        with urllib.request.urlopen(f"{place}/{event}", timeout=90) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"


class TestServed:
    def test_the_page_of_the_docs_runs(self, address, gpt2_folder):
        blocks = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", SECTION, re.DOTALL)
        assert len(blocks) >= 3
        names: dict[str, object] = {}
        for code, expected in blocks:
            code = code.replace("http://127.0.0.1:7860", address).replace(HUB_ID, repr(str(gpt2_folder)))
            with redirect_stdout(io.StringIO()) as out:
                exec(compile(code, "docs/api.md", "exec"), names)
            if expected:
                assert out.getvalue() == expected, code

    def test_raw_calls(self, address, gpt2_folder):
        assert "complete" in asked(address, "mask", {"data": [TEXT, str(gpt2_folder), "instruction", None, 0]})
        private = ["draw", "train_1"]  # handlers of the page, under the names that Gradio gives them
        for name in [*NAMES, *private]:
            for data in ([], [5], [None] * (1 if name in private else 40)):
                answer = asked(address, name, {"data": data})
                assert answer.startswith("event: error")
                assert json.loads(answer.partition("data: ")[2])["title"] in CODES, answer
                assert not PYTHON.search(re.sub(r'"title": "\w+"', "", answer)), answer
        file = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
        refused = asked(address, "mask", {"data": [file] * 5})  # by Gradio, whose own words are kept back
        assert refused == 'event: error\ndata: {"error": null}\n\n'
        unread = [("mask", {"data": 5}), ("mask", {}), ("nope", [])]
        unknown = [("nope", {"data": []}), ("v2/nope", {}), ("v2/mask", {"data": []})]
        for status, says, calls in ((422, "The call cannot be read", unread), (400, "There is no endpoint", unknown)):
            for name, data in calls:
                answer = asked(address, name, data)
                assert answer.startswith(f'{status} {{"error": "{says}')
                assert answer.endswith('"title": "ConfigError"}')
        assert asked(address, "mask", {"data": []}, Origin="http://evil.example").startswith("403 ")
        assert asked(address, "mask", {"data": []}, Host="evil.example").startswith("403 ")

    @pytest.mark.parametrize(
        ("status", "path", "body", "says"),
        [
            (400, "queue/join", {"data": [], "fn_index": 0}, "The call names no visit"),
            (404, "nope", None, "There is nothing of this name"),
            (404, "queue/nope", {}, "There is nothing of this name"),
            (405, "queue/join", None, "What has this name is not asked in this way"),
            (405, "info", {}, "What has this name is not asked in this way"),
            (422, "queue/join", [], "The call cannot be read"),
        ],
    )
    def test_what_http_refuses(self, address, status, path, body, says):
        data, kind = None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"}
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(f"{address}/gradio_api/{path}", data, kind), timeout=20)
        told = json.loads(refused.value.read())
        assert (refused.value.code, told["title"]) == (status, "ConfigError")
        assert told["error"].startswith(f"{says}")
        assert told["error"].endswith("GET /gradio_api/info tells the endpoints and what each takes.")

    def test_a_page_that_outlives_its_server_leaves_no_traceback(self, address, caplog):
        with urllib.request.urlopen(f"{address}/gradio_api/queue/data?session_hash=gone", timeout=20) as answer:
            told = json.loads(answer.read().decode().removeprefix("data: "))
        assert told["session_not_found"]
        assert caplog.text == ""

    @settings(max_examples=12)
    @given(st.sampled_from(NAMES), st.data())
    def test_any_json_over_http(self, address, name, data):
        model = ANY.filter(is_no_name)
        given = [data.draw(model if "model" in place else ANY) for place in _places(name)]
        answer = asked(address, name, {"data": given})
        assert answer.startswith("event: error")
        assert json.loads(answer.partition("data: ")[2])["title"] in CODES
        assert not PYTHON.search(re.sub(r'"title": "\w+"', "", answer)), answer

    def test_a_refusal_has_a_code(self, address):
        with pytest.raises(AppError) as caught:
            Client(address, verbose=False).predict("", api_name="/mask")
        assert caught.value.title == "DataError"

    def test_an_agents_tools(self, address, gpt2_folder):
        from mcp import ClientSession
        from mcp.client.streamable_http import streamablehttp_client

        async def ask():
            place = f"{address}/gradio_api/mcp/"
            async with streamablehttp_client(place) as (read, write, _), ClientSession(read, write) as session:
                await session.initialize()
                tools = (await session.list_tools()).tools
                row = {"text": TEXT, "model": str(gpt2_folder)}
                return tools, await session.call_tool("mask", row), await session.call_tool("mask", {"text": ""})

        tools, masked, refused = awaited(ask())
        assert sorted(tool.name for tool in tools) == NAMES
        assert all(tool.description for tool in tools)
        assert "-100" in masked.content[0].text
        assert (refused.isError, refused.content[0].text[:26]) == (True, "There are no examples yet.")
