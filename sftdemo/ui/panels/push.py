"""Push a saved run to the account of a visitor who has signed in, on a Space where that is possible."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import gradio as gr

from ...core.errors import ConfigError, SftdemoError
from ...core.events import Failed, Phase, Saved, Upload
from ...data.records import short
from ...export.push import NAME, ON_PAGE, push
from ...runs.jobs import BusyError
from ..places import sentence
from ..state import Desk
from ..toasts import warn
from ..widgets import progress, progress_widget
from .handlers import PRIVATE, Updates
from .train import RunOutputs

AS_TRAINED, MERGED = "as trained", "merged"
FORMS = [("As it was trained", AS_TRAINED), ("Merged: all weights", MERGED)]
SIGN_IN = "Sign in with Hugging Face"
_HOW = f"{SIGN_IN} to push this run to your own account."
_SENT = "The rows stay here, but the card and run.json hold prompts and their answers."


class PushPanel:
    """The components of the panel. There is nothing to push with until a visitor has signed in."""

    def __init__(self):
        with gr.Row(equal_height=True):
            self.name = gr.Textbox(
                label="Push it to your account as",
                placeholder="my-first-run",
                max_length=96,
                interactive=False,
                scale=3,
                min_width=200,
                elem_id="push-name",
            )
            self.form = gr.Dropdown(
                FORMS, value=AS_TRAINED, label="Form", scale=2, min_width=180, interactive=False, elem_id="push-form"
            )
            self.private = gr.Checkbox(True, label="Private", interactive=False, scale=1, min_width=100)
        with gr.Row(equal_height=True):
            self.sign_in = gr.LoginButton(SIGN_IN, size="md", scale=1, min_width=200, elem_id="sign-in")
            self.sign_in.load_event_to_attach = None  # it would be an endpoint with a name; `greet` does the same
            self.push = gr.Button("Push it", size="md", scale=1, min_width=140, interactive=False, elem_id="push")
        self.status = progress_widget("push-status", progress("idle", _HOW))


class PushHandlers:
    """Push the current run. The visitor's token is handed on to the Hub, and kept nowhere."""

    def __init__(self, desk: Desk, panel: PushPanel, out: RunOutputs):
        self.desk, self.panel, self.out = desk, panel, out

    def wire(self, page: gr.Blocks) -> None:
        """Connect components and handlers."""
        panel, out = self.panel, self.out
        inputs = [panel.name, panel.form, panel.private, panel.push]
        page.load(self.greet, None, [*inputs, panel.sign_in, panel.status], **PRIVATE)
        asked = [out.run_id, out.arm, panel.name, panel.form, panel.private]
        panel.push.click(self.push, asked, [panel.push, panel.status], **PRIVATE)

    def greet(self, profile: gr.OAuthProfile | None) -> Updates:
        """Let those push who have signed in, and tell the others how to."""
        panel, ready = self.panel, gr.update(interactive=profile is not None)
        updates: Updates = dict.fromkeys((panel.name, panel.form, panel.private, panel.push), ready)
        if profile is None:
            return updates | {panel.sign_in: SIGN_IN, panel.status: progress("idle", _HOW)}
        updates[panel.name] = gr.update(interactive=True, label=f"Push it to {profile.username}/…")
        return updates | {panel.sign_in: f"Sign out of {profile.username}", panel.status: progress("idle", "", _SENT)}

    def push(
        self,
        run_id: str | None,
        weight: float | None,
        name: str | None,
        form: str,
        private: bool,
        profile: gr.OAuthProfile | None,
        token: gr.OAuthToken | None,
    ) -> Iterator[Updates]:
        """Upload the current run into a repository of the visitor's own, and tell what is sent."""
        panel, notes = self.panel, list[str]()
        try:
            if profile is None or token is None or not token.token:
                raise ConfigError(f"there is nobody signed in here any more. {_HOW}")
            to = f"{profile.username}/{_checked(name or '')}"
            folder = self.desk.backend.folder(run_id, weight)
            yield {panel.push: gr.update(interactive=False), panel.status: progress("working", f"Looking for {to}")}
            kind = MERGED if form == MERGED else None
            work = partial(
                push, folder, to, private=private is not False, kind=kind, remedies=ON_PAGE, token=token.token
            )
            for event in self.desk.backend.apart(work):
                match event:
                    case Upload():
                        notes.append(f"{len(event.files)} files: {', '.join(event.files)}")
                        notes.append(f"with prompts and answers: {', '.join(event.with_prompts)}")
                    case Phase():
                        yield {panel.status: progress("working", event.message, "", event.fraction, notes)}
                    case Saved():
                        link = {"words": event.path, "address": event.path}
                        yield {panel.status: progress("done", f"Pushed to {to}", notes=notes, link=link)}
                    case Failed():
                        yield {panel.status: progress("failed", event.message)}
        except BusyError as error:
            warn(error)
            yield {panel.status: progress("idle", "", _SENT)}
        except SftdemoError as error:
            yield {panel.status: progress("failed", sentence(error))}
        yield {panel.push: gr.update(interactive=True)}


def _checked(name: str) -> str:
    """Return the name of a repository without its owner.

    Raises:
        ConfigError: if it is empty, names another owner, or has characters that no name has.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if not name.strip():
        raise ConfigError("the name is empty; write one for the repository, such as my-first-run.")
    if "/" in name:
        raise ConfigError(f"the name is {short(name)}; write it without an owner: it goes to your own account.")
    try:
        validate_repo_id(name.strip())
    except HFValidationError as error:
        raise ConfigError(f"the name is {short(name)}; write {NAME}.") from error
    return name.strip()
