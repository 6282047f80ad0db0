"""The language of a visit, and a page that speaks it."""

from __future__ import annotations

import asyncio
import contextlib
import json

import gradio as gr
import pytest
from desk import EVIL
from serving import awaited

from sftdemo.ui.backend import Backend
from sftdemo.ui.page import build
from sftdemo.ui.toasts import refusal
from sftdemo.ui.widgets import columns_preview, progress, script
from sftdemo.ui.words import Languages, Speaks, language, language_of, say


@pytest.mark.parametrize(
    ("query", "accepted", "name"),
    [
        ({}, "", "en"),
        ({}, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ({}, "en-US,en;q=0.9,zh;q=0.8", "en"),
        ({}, "fr, zh-TW;q=0.5, en;q=0.1", "zh"),
        ({}, "fr;q=high, de", "en"),
        ({"lang": "en"}, "zh", "en"),
        ({"lang": "zh"}, "en", "zh"),
        ({"lang": "../zh"}, "en", "en"),
    ],
)
def test_the_language_of_a_visit(query, accepted, name):
    assert language_of(query, accepted) == name


def test_the_address_and_the_browser_decide_it_for_each_request():
    heard = []

    async def app(scope, receive, send):
        heard.append(language())

    async def visit(query: bytes, accepted: bytes) -> None:
        scope = {"type": "http", "query_string": query, "headers": [(b"accept-language", accepted)]}
        await Languages(app)(scope, None, None)

    async def visits():
        await asyncio.gather(visit(b"", b"zh"), visit(b"lang=en", b"zh"), visit(b"__theme=dark&lang=zh", b"en"))

    awaited(visits())
    assert (heard, language()) == (["zh", "en", "zh"], "en")


def test_words_are_said_and_what_a_person_wrote_is_not():
    with Speaks("zh"):
        assert say("row 3") == "第 3 行"
        drawn = json.loads(progress("failed", "Stopped before the first step; nothing was trained."))
        assert drawn["title"].startswith("还没走第一步")
        assert refusal("there is no run 'x' any more.").message == "运行 'x' 已经不存在。"
        assert 'const LANG = "zh-CN"' in script("mask")
        assert '"prompt ends here ▾": "提示到此为止 ▾"' in script("boundary")
    assert say("row 3") == "row 3"
    assert "WORDS = {};" in script("mask")


def test_rows_stay_as_they_were_written(ui, values):
    rows = json.dumps([{"instruction": "masked", "output": "all rows"}, {"instruction": EVIL[0], "output": "Train"}])
    with Speaks("zh"):
        english, chinese = ui.masking.draw(values(examples=rows)), json.loads(columns_preview("", []))
        mask = json.loads(english[ui.masking.out.mask])
    assert chinese["rows"] == []
    text = "".join(token[0] for row in mask["rows"] for token in row["tokens"])
    assert "masked" in text
    assert "all␣rows" in text
    assert EVIL[0] in text


class TestPage:
    @pytest.fixture(scope="class")
    def page(self):
        return build(Backend())

    def test_its_layout_is_worded_and_the_english_one_stays(self, page):
        page.config = page.get_config_file()
        english = page.config
        with Speaks("zh"):
            chinese = page.config
            assert page.config is chinese
        assert page.config is english
        one, other = ({each["id"]: each["props"] for each in of["components"]} for of in (english, chinese))
        for part, props in one.items():
            assert props.keys() == other[part].keys()
            assert props.get("elem_id") == other[part].get("elem_id")
            assert [each[1] for each in props.get("choices") or []] == [
                each[1] for each in other[part].get("choices") or []
            ]
        labels = {props["elem_id"]: other[part].get("label") for part, props in one.items() if props.get("elem_id")}
        assert labels["steps"] == "步数"
        assert (
            next(props["value"] for part, props in other.items() if props.get("elem_id") == "start-over") == "从头开始"
        )

    def test_handlers_answer_visits_at_once_each_in_its_language(self, page):
        function = next(each for each in page.fns.values() if each.name == "stop")

        async def answer(accepted: str) -> str:
            request = gr.Request(headers={"accept-language": accepted}, query_params={}, session_hash="one")
            told = await page.process_api(function, [None], request=request)
            return told["data"][0]["value"]

        async def answers():
            return await asyncio.gather(*map(answer, ["zh-CN", "en", "zh"]))

        said = "这一步结束后停止…"
        assert awaited(answers()) == [said, "Stopping after this step…", said]
        assert language() == "en"

    def test_endpoints_answer_programs_in_english(self, page, monkeypatch):
        function = next(each for each in page.fns.values() if each.api_name == "mask")
        heard = []
        monkeypatch.setattr(function, "fn", lambda *values: heard.append(language()))
        request = gr.Request(headers={"accept-language": "zh"}, query_params={}, session_hash="one")
        with contextlib.suppress(Exception):
            awaited(page.process_api(function, [None] * len(function.inputs), request=request))
        assert heard == ["en"]
