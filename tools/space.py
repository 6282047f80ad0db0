"""Rehearse the Hugging Face Space on this machine: install what a Space installs, start it as one is, and ask it.

`--here` takes the Python that runs this, with what is installed there, in place of a new environment, and opens no
browser.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parent.parent
SPACE, HOST, PORT = "someone/sftdemo", "someone-sftdemo.hf.space", 7860
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
FIRST_PAGE, MASK, RUN, END = 180, 300, 300, 15  # seconds
USER = 1000  # whose id a Space runs under
# the first is Chromium without the browser around it, which opens a page with about two thirds of the work
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
MODEL = "SmolLM2-135M-Instruct"  # the page's own name of the first one in the front matter
ROWS = '[{"instruction": "Say hello", "output": "Hello!"}]'


def front_matter(readme: str) -> dict:
    """Return what a README says to Spaces."""
    return yaml.safe_load(readme.split("---\n")[1])


def environment(home: Path, port: int, scopes: list[str] | None) -> dict[str, str]:
    """Return the variables of a Space. With `scopes`, visitors sign in there, for which Gradio needs its extra `oauth`.
    A mirror of the Hub, or a folder with its models, is used as it is here."""
    names = ("PATH", "LANG", "HF_ENDPOINT", "HF_HUB_CACHE", "HF_HUB_OFFLINE")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    kept |= {name: text for name, text in os.environ.items() if name.lower().endswith("_proxy") or "PIP_" in name}
    space = {"SYSTEM": "spaces", "SPACE_ID": SPACE, "SPACE_HOST": HOST, "HOME": str(home)}
    if scopes is not None:
        space |= {"OAUTH_CLIENT_ID": "nobody", "OAUTH_CLIENT_SECRET": "nothing"}
        space |= {"OAUTH_SCOPES": " ".join(["openid", "profile", *scopes])}
        space |= {"OPENID_PROVIDER_URL": "https://huggingface.co"}
    return kept | space | {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": str(port), "TMPDIR": str(home)}


def another_user() -> dict[str, Any]:
    """Return how a process is started as a Space's is: under an id that is not root's."""
    return {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}


def find_python(version: str) -> str:
    """Return the first Python of this version that a Space's user may start; without one, that which runs this."""
    for folder in os.get_exec_path():
        found = Path(folder, f"python{version}")
        if found.is_file() and runs(str(found)):
            return str(found)
    if runs(sys.executable):
        return sys.executable
    raise SystemExit(f"User {USER} may not start {sys.executable}; install Python {version} where all may read it.")


def runs(python: str) -> bool:
    """Return whether a Space's user may start a Python. A shim that finds its version by the folder may fail there."""
    try:
        answer = subprocess.run(
            [python, "-c", "import venv, ensurepip"], cwd="/", **another_user(), capture_output=True
        )
    except PermissionError:
        return False
    return answer.returncode == 0


def install(python: str, sdk_version: str, folder: Path) -> str:
    """Make an environment as Spaces do, and return its Python."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    inside = str(folder / "bin" / "python")
    pip = [inside, "-m", "pip", "install", "-qq"]
    subprocess.run([*pip, f"gradio[oauth,mcp]=={sdk_version}", "spaces"], check=True)
    subprocess.run([*pip, "-r", ROOT / "requirements.txt"], check=True)
    subprocess.run([inside, "-m", "pip", "check"], check=True)
    found = f"{inside} -c 'import gradio; print(gradio.__version__)'"
    version = subprocess.run(found, shell=True, check=True, capture_output=True, text=True).stdout.strip()
    if version != sdk_version:
        raise SystemExit(f"requirements.txt has put Gradio {version} in place of sdk_version {sdk_version}.")
    return inside


def copy_code(folder: Path) -> list[Path]:
    """Put the tracked files where nothing can be written (but by root), and return them."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in tracked.strip("\0").split("\0"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    return files_of(folder)


def files_of(folder: Path) -> list[Path]:
    """Return all files below a folder but compiled ones, which only root could write there."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def ask(port: int, path: str, body: dict | None = None) -> str:
    """Return what the Space answers to its own name."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data, {"Host": HOST, "Content-Type": "application/json"}
    )
    with DIRECT.open(request, timeout=MASK) as answer:
        return answer.read().decode()


def wait_for_page(process: subprocess.Popen, port: int) -> float:
    """Return the seconds until the page is served."""
    begin = time.monotonic()
    while time.monotonic() - begin < FIRST_PAGE and process.poll() is None:
        try:
            ask(port, "/")
            return time.monotonic() - begin
        except urllib.error.HTTPError as error:
            raise SystemExit(f"The page answers {HOST} with {error.code}: {error.read().decode()[:300]}") from error
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"No page came within {FIRST_PAGE} s (exit code {process.poll()}).")


def ask_for_mask(port: int) -> str:
    """Return the mask of a row, as the server sends it."""
    event = json.loads(ask(port, "/gradio_api/call/mask", {"data": [ROWS, MODEL, "instruction", {}, 0]}))["event_id"]
    kind, _, answer = ask(port, f"/gradio_api/call/mask/{event}").strip().rpartition("\n\n")[2].partition("\n")
    if kind != "event: complete":
        raise SystemExit(f"The mask is refused: {answer[:500]}")
    return answer


def browser_here() -> str | None:
    """Return a Chromium that Playwright can steer, if both are here."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return found if find_spec("playwright") else None


def use_page(browser: str, port: int) -> None:
    """Do what a visitor does: look at the mask, train, compare, take the model away."""
    from playwright.sync_api import sync_playwright

    way = ["--no-sandbox", "--disable-gpu", "--no-proxy-server", f"--host-resolver-rules=MAP {HOST} 127.0.0.1"]
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=browser, args=[*way, "--disable-features=HttpsUpgrades"])
        page = opened.new_page()
        page.set_default_timeout(RUN * 1000)
        failures: list[str] = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("response", lambda got: failures.append(f"{got.status} {got.url}") if got.status >= 400 else None)
        page.goto(f"http://{HOST}:{port}/")
        for words in visit(page):
            say(words)
        opened.close()
    if failures:
        raise SystemExit("The page had errors: " + "; ".join(failures))


def visit(page: Page) -> Iterator[str]:
    """Go through the page, and yield what each step has shown."""
    begin = time.monotonic()
    page.locator("#mask .row").first.wait_for()
    yield f"Chromium: {page.locator('#mask .row').count()} rows of the mask after {time.monotonic() - begin:.1f} s"
    page.get_by_role("button", name="Training settings").click()
    page.fill("#steps input", "4")
    page.press("#steps input", "Tab")
    page.get_by_label("Answer length, tokens").fill("12")
    page.locator("#train:not([disabled])", has_text="Train 4 steps").click()
    begin = time.monotonic()
    page.locator("#download", has_text="Download the model").wait_for()
    answers = page.locator("#compare .answer.after .text").all_inner_texts()
    if not answers:
        raise SystemExit(f"No answers are compared: {page.inner_text('#run-status')}")
    yield f"Chromium: trained after {time.monotonic() - begin:.1f} s, {len(answers)} answers to compare"
    with page.expect_download() as taken:
        page.click("#download")
    with zipfile.ZipFile(taken.value.path()) as archive:
        if broken := archive.testzip():
            raise SystemExit(f"{broken} in the download is broken.")
        size = sum(each.file_size for each in archive.infolist())
        yield f"Chromium: a download of {len(archive.namelist())} files, {size:,} bytes"


def end(process: subprocess.Popen) -> None:
    """End the Space as Spaces do."""
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=END)
    if code:
        raise SystemExit(f"It ended with {code}.")
    say(f"SIGTERM: it ended with 0 after {time.monotonic() - begin:.1f} s")


def check_port(port: int) -> None:
    """End unless the port is free: another server's answers would be taken for this one's."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            raise SystemExit(f"Port {port} is taken here; end what listens there, or give another --port.") from error


def say(words: str) -> None:
    print(words, flush=True)


def main() -> None:
    """Rehearse, and say each step in a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--here", action="store_true", help="install nothing; take the Python that runs this")
    parser.add_argument("--port", type=int, default=PORT, help="a Space has 7860")
    arguments = parser.parse_args()
    here, port = arguments.here, arguments.port
    check_port(port)
    space = front_matter((ROOT / "README.md").read_text(encoding="utf-8"))
    say(f"README.md asks for {space['sdk']} {space['sdk_version']} and Python {space['python_version']}")
    with tempfile.TemporaryDirectory(prefix="sftdemo-space-", ignore_cleanup_errors=True) as scratch:
        home, code = Path(scratch, "home"), Path(scratch, "code")
        home.mkdir()
        Path(scratch).chmod(0o755)  # for the Space's user
        python, user = sys.executable, {}
        if not here:
            begin, user = time.monotonic(), another_user()
            python = install(find_python(space["python_version"]), space["sdk_version"], Path(scratch, "environment"))
            say(f"Installed in {time.monotonic() - begin:.0f} s; pip finds no conflict")
        if user:
            os.chown(home, USER, USER)
        version = subprocess.run([python, "--version"], check=True, capture_output=True, text=True).stdout.strip()
        before = copy_code(code)
        say(f"{version} starts {space['app_file']}, {len(before)} files that cannot be written, an empty HOME")
        scopes = None if here or not space.get("hf_oauth") else space["hf_oauth_scopes"]
        rehearse([python, space["app_file"]], code, environment(home, port, scopes), port, user, not here)
        if files_of(code) != before:
            raise SystemExit("The code's folder has changed.")
        say("The code's folder is as it was")


def rehearse(
    command: list[str], code: Path, variables: dict[str, str], port: int, user: dict[str, Any], is_looked_at: bool
) -> None:
    """Start the Space, ask it, look at it, and end it."""
    check_port(port)
    process = subprocess.Popen(command, cwd=code, env=variables, **user)
    try:
        say(f"HTTP 200 for {HOST} on port {port} after {wait_for_page(process, port):.1f} s")
        begin = time.monotonic()
        mask = ask_for_mask(port)
        say(f"A mask of {len(mask):,} characters after {time.monotonic() - begin:.1f} s")
        browser = browser_here() if is_looked_at else None
        if browser:
            use_page(browser, port)
        elif is_looked_at:
            say("No Chromium is here, or no Playwright: nobody looks at the page")
        end(process)
    finally:
        process.kill()


if __name__ == "__main__":
    main()
