"""Ask a server that was given the exported model: llama.cpp's own, Ollama, or any that speaks OpenAI's chat API."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..core.errors import ModelError

TIMEOUT = 600.0  # seconds that an answer may take
_MOST_CONTEXT = 4096  # tokens that a server in this process has room for


@dataclass(frozen=True)
class Served:
    """What a server makes of a question.

    Args:
        prompt_ids (`tuple[int, ...]`, *optional*):
            The ids that its model reads; None where it does not tell.
        answer_ids (`tuple[int, ...]`, *optional*):
            The ids of the answer, with the one that ended it; None where it does not tell.
        answer (`str`):
            The answer's text.
        ended (`bool`):
            Whether it ended by itself, and was not cut.
    """

    prompt_ids: tuple[int, ...] | None
    answer_ids: tuple[int, ...] | None
    answer: str
    ended: bool


class Server:
    """A running server.

    Args:
        url (`str`):
            Its address, such as `http://127.0.0.1:8080`.

    Raises:
        ModelError: if nothing answers there that can be asked.
    """

    def __init__(self, url: str):
        import httpx2

        self._client = httpx2.Client(base_url=url.rstrip("/").removesuffix("/v1"), timeout=TIMEOUT)
        self.url = url
        known = self._asked("GET", "/props", may_fail=True) or {}
        self.is_llama_cpp = "chat_template" in known
        self.name, self._model = "llama.cpp", ""
        self.weights = str(known.get("model_ftype", "weights that it does not tell")).lower()
        if not self.is_llama_cpp:
            models = (self._asked("GET", "/v1/models") or {}).get("data") or []
            if not models:
                raise ModelError(f"the server at {url} has no model.")
            self._model = models[0]["id"]
            self.name = f"{self._model} at {url}"

    def ask(self, messages: Sequence[dict[str, Any]], max_new_tokens: int) -> Served:
        """Return what the server makes of a conversation, greedily.

        Raises:
            ModelError: if it does not answer, or refuses.
        """
        if not self.is_llama_cpp:
            return self._chat(messages, max_new_tokens)
        prompt = self._asked("POST", "/apply-template", _conversation(messages))["prompt"]
        ids = self.tokenize(prompt)
        told = self._asked(
            "POST",
            "/completion",
            {"prompt": ids, "n_predict": max_new_tokens, "temperature": 0, "top_k": 1, "return_tokens": True}
            | {"cache_prompt": False},
        )
        return Served(tuple(ids), tuple(told["tokens"]), told["content"], told["stop_type"] != "limit")

    def tokenize(self, prompt: str) -> list[int]:
        """Return the ids of a prompt that the server's template wrote. Only llama.cpp has this."""
        return self._asked("POST", "/tokenize", {"content": prompt, "add_special": True, "parse_special": True})[
            "tokens"
        ]

    def _chat(self, messages: Sequence[dict[str, Any]], max_new_tokens: int) -> Served:
        asked = {"model": self._model, "max_tokens": max_new_tokens, "temperature": 0} | _conversation(messages)
        (choice,) = self._asked("POST", "/v1/chat/completions", asked)["choices"]
        return Served(None, None, choice["message"]["content"] or "", choice["finish_reason"] == "stop")

    def _asked(self, method: str, path: str, content: dict[str, Any] | None = None, may_fail: bool = False) -> Any:
        import httpx2

        try:
            answer = self._client.request(method, path, json=content)
            if may_fail and answer.status_code >= 400:
                return None
            answer.raise_for_status()
            return answer.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise ModelError(f"the server at {self.url} did not answer {path} ({error}).") from error


def _conversation(messages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a conversation as servers take it. They drop a message's key `input`, so it is an argument of the chat
    template; see `TrainedPrompt.to_jinja`."""
    known = [{name: text for name, text in message.items() if name != "input"} for message in messages]
    given = messages[-1].get("input")
    return {"messages": known} | ({"chat_template_kwargs": {"input": given}} if given else {})


@contextmanager
def llama_cpp(gguf: Path, positions: int | None) -> Generator[Server]:
    """Serve a GGUF file with llama.cpp in this process, on a port of this machine.

    Args:
        positions (`int`, *optional*):
            How many the model has; the server gets no room for more.

    Raises:
        ModelError: if `xllamacpp` is not installed, or if llama.cpp cannot load the file.
    """
    try:
        xllamacpp: Any = import_module("xllamacpp")  # an extra
    except ImportError as error:
        raise ModelError(
            "llama.cpp is not here: `pip install xllamacpp`, or name a running server with --url."
        ) from error
    settings = xllamacpp.CommonParams()
    settings.model.path = str(gguf)
    settings.n_ctx = min(positions or _MOST_CONTEXT, _MOST_CONTEXT)
    settings.use_jinja = True
    settings.verbosity = -1
    try:
        server = xllamacpp.Server(settings)
    except RuntimeError as error:
        raise ModelError(f"llama.cpp cannot load {gguf}: {str(error).rstrip('.')}.") from error
    yield Server(server.listening_address)
    del server
