"""Rehearse the Hugging Face Space on this machine: install what a Space installs, start it as one is, and ask it.

`--here` takes the Python that runs this, with what is installed there, in place of a new environment.
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
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
SPACE, HOST, PORT = "someone/sftdemo", "someone-sftdemo.hf.space", 7860
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
FIRST_PAGE, MASK, END = 180, 300, 15  # seconds
MODEL = "SmolLM2-135M-Instruct"  # the page's own name of the first one in the front matter
ROWS = '[{"instruction": "Say hello", "output": "Hello!"}]'


def front_matter(readme: str) -> dict:
    """Return what a README says to Spaces."""
    return yaml.safe_load(readme.split("---\n")[1])


def environment(home: Path, port: int, signs_in: bool) -> dict[str, str]:
    """Return the variables of a Space. Whoever signs in there (`signs_in`) needs Gradio's extra `oauth`."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    kept |= {name: text for name, text in os.environ.items() if name.lower().endswith("_proxy") or "PIP_" in name}
    space = {"SYSTEM": "spaces", "SPACE_ID": SPACE, "SPACE_HOST": HOST, "HOME": str(home)}
    oauth = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")
    space |= dict.fromkeys(oauth, "https://nowhere.invalid") if signs_in else {}
    return kept | space | {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": str(port), "TMPDIR": str(home)}


def install(python: str, sdk_version: str, folder: Path) -> str:
    """Make an environment as Spaces do, and return its Python."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    inside = str(folder / "bin" / "python")
    pip = [inside, "-m", "pip", "install", "-qq"]
    subprocess.run([*pip, f"gradio[oauth,mcp]=={sdk_version}"], check=True)
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
        python = sys.executable if here else shutil.which(f"python{space['python_version']}") or sys.executable
        if not here:
            begin = time.monotonic()
            python = install(python, space["sdk_version"], Path(scratch, "environment"))
            say(f"Installed in {time.monotonic() - begin:.0f} s; pip finds no conflict")
        version = subprocess.run([python, "--version"], check=True, capture_output=True, text=True).stdout.strip()
        before = copy_code(code)
        say(f"{version} starts {space['app_file']}, {len(before)} files that cannot be written, an empty HOME")
        check_port(port)
        process = subprocess.Popen([python, space["app_file"]], cwd=code, env=environment(home, port, not here))
        try:
            say(f"HTTP 200 for {HOST} on port {port} after {wait_for_page(process, port):.1f} s")
            begin = time.monotonic()
            mask = ask_for_mask(port)
            say(f"A mask of {len(mask):,} characters after {time.monotonic() - begin:.1f} s")
            end(process)
        finally:
            process.kill()
        if files_of(code) != before:
            raise SystemExit("The code's folder has changed.")
        say("The code's folder is as it was")


if __name__ == "__main__":
    main()
