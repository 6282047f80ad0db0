"""A run that goes to the account of a visitor who has signed in, on the Hub that the tests play."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import gradio as gr
import pytest
from desk import OnLentGpu, build_page, named, tiny
from model_hub import OWNER, TOKEN, Repository, serve_models, use_in_place_of_the_hub

from sftdemo.export.push import NAME
from sftdemo.ui.panels.push import AS_TRAINED, MERGED, PushHandlers

VISITORS = TOKEN
PROFILE = SimpleNamespace(username=OWNER)
SIGNED_IN = (PROFILE, gr.OAuthToken(VISITORS, "openid contribute-repos", int(time.time()) + 3600))
STATED = "The rows stay here, but the card and run.json hold prompts and their answers."


@pytest.fixture
def hub(monkeypatch):
    with serve_models() as running:
        use_in_place_of_the_hub(running, monkeypatch)
        monkeypatch.setenv("HF_TOKEN", "hf_theServersOwnToken")
        yield running


@pytest.fixture(scope="module")
def space():
    """The page of a Space where visitors can sign in, without Gradio's routes for that, which need packages."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SPACE_ID", "someone/space")
        patched.setenv("OAUTH_CLIENT_ID", "client")
        patched.setattr("gradio.routes.attach_oauth", lambda app: None)
        return build_page(OnLentGpu())


def handlers(page) -> PushHandlers:
    owners = [getattr(fn.fn, "__self__", None) for fn in page.blocks.fns.values()]
    return next(owner for owner in owners if isinstance(owner, PushHandlers))


@pytest.fixture
def run_id(space, gpt2_folder) -> str:
    first, *_ = space.running.train(tiny(space, gpt2_folder, prompts="Why?"))
    return named(space, first)["run_id"]


def pushed(page, run_id, name="pirate", form=AS_TRAINED, private=True, who=SIGNED_IN) -> list[dict]:
    """What the line of status says, one after the other."""
    pushing = handlers(page)
    updates = list(pushing.push(run_id, None, name, form, private, *who))
    assert updates[-1] == {pushing.panel.push: gr.update(interactive=True)}
    return [json.loads(each[pushing.panel.status]) for each in updates if pushing.panel.status in each]


@pytest.mark.parametrize("form", [AS_TRAINED, MERGED])
def test_a_run_goes_to_the_visitors_own_account(hub, space, run_id, tmp_path, capfd, caplog, form):
    *before, last = pushed(space, run_id, form=form)
    assert (last["state"], last["title"]) == ("done", f"Pushed to {OWNER}/pirate"), last
    assert last["link"]["address"] == f"{hub.endpoint}/{OWNER}/pirate"
    assert any("with prompts and answers: README.md, run.json" in note for note in last["notes"])
    repository = hub.repositories[f"{OWNER}/pirate"]
    assert repository.private
    assert ("adapter_config.json" in repository.files) is (form == AS_TRAINED)
    assert "examples.jsonl" not in repository.files
    assert {token for _, token in hub.asked if token} == {VISITORS}  # never the server's own
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if VISITORS.encode() in path.read_bytes()]
    assert not [file for file in repository.files.values() if VISITORS.encode() in file]
    assert VISITORS not in str(before) + str(last) + "".join(capfd.readouterr()) + caplog.text


LONG = 300 * "x"
REFUSED = {
    None: "The name is empty; write one for the repository, such as my-first-run.",
    " ": "The name is empty; write one for the repository, such as my-first-run.",
    "other/pirate": 'The name is "other/pirate"; write it without an owner: it goes to your own account.',
    "a b": f'The name is "a b"; write {NAME}.',
    "a..b": f'The name is "a..b"; write {NAME}.',
    LONG: f'The name is "{LONG[:59]}…"; write {NAME}.',
    "full": f"The repository {OWNER}/full is not empty: it holds model.bin. Name another.",
    "open": f"The repository {OWNER}/open is public; make it private in its settings on the Hub, "
    "untick Private, or name another.",
    "shut": "check the owner's name, or sign out here and in again, and allow this Space to make repositories.",
}


def test_what_is_refused_is_told_with_what_the_page_can_do(hub, space, run_id):
    hub.repositories |= {f"{OWNER}/full": Repository({"model.bin": b""}, private=True), f"{OWNER}/open": Repository()}
    hub.refuses["POST /api/repos/create"] = 403
    for name, says in REFUSED.items():
        last = pushed(space, run_id, name)[-1]
        assert last["state"] == "failed"
        assert last["title"].endswith(says)
    assert "no run" in pushed(space, "0" * 32)[-1]["title"]
    assert not any("/commit/" in path for path, _ in hub.asked)


def test_nobody_pushes_without_signing_in(hub, space, run_id):
    pushing = handlers(space)
    greeted = pushing.greet(None)
    assert greeted[pushing.panel.push] == greeted[pushing.panel.name] == gr.update(interactive=False)
    assert "Sign in with Hugging Face to push" in greeted[pushing.panel.status]
    assert pushed(space, run_id, who=(None, None))[-1]["title"].startswith("There is nobody signed in here any more.")
    assert not hub.asked
    greeted = pushing.greet(PROFILE)
    assert greeted[pushing.panel.push] == gr.update(interactive=True)
    assert greeted[pushing.panel.name]["label"] == f"Push it to {OWNER}/…"
    assert json.loads(greeted[pushing.panel.status])["detail"] == STATED


def test_signing_in_is_offered_where_it_exists_and_is_no_endpoint(ui, space):
    def buttons(page):
        return [each for each in page.blocks.blocks.values() if isinstance(each, gr.LoginButton)]

    assert (len(buttons(space)), len(buttons(ui))) == (1, 0)
    info = space.blocks.get_api_info()
    assert (len(info["named_endpoints"]), info["unnamed_endpoints"]) == (6, {})


@pytest.mark.parametrize("token", ["", None])
def test_the_servers_own_token_takes_no_visitors_place(hub, space, run_id, token):
    nobody = (PROFILE, gr.OAuthToken(token, "openid", int(time.time()) + 3600))
    assert pushed(space, run_id, who=nobody)[-1]["title"].startswith("There is nobody signed in here any more.")
    assert not hub.asked


def test_what_nobody_foresaw_ends_in_a_sentence(hub, space, run_id, monkeypatch):
    def forgetful(*_, **__):
        yield from ()
        raise KeyError("seven")

    monkeypatch.setattr("sftdemo.ui.panels.push.push", forgetful)
    assert pushed(space, run_id)[-1]["title"].startswith("The run failed unexpectedly: KeyError: 'seven'.")
