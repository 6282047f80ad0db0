"""Find the page's words in the code, and bring the catalogues up to date: what is new waits there for its translation,
what is gone is taken out. `make words` runs this."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path

import polib
import yaml

from sftdemo.core.config import SETTINGS
from sftdemo.data.samples import SAMPLES
from sftdemo.mask.view import SAYS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sftdemo"
FOLDERS = ("core", "data", "mask", "model", "train", "runs", "export", "ui")
# Modules whose texts do not reach the page: what is written into files, and what only a terminal or a program asks for.
ELSEWHERE = (
    *("core/apart.py", "core/files.py", "core/foreign.py", "core/machine.py", "core/settings_file.py"),
    *("data/row_file.py", "data/samples.py", "data/text_files.py"),
    *("mask/document.py", "mask/markup.py", "mask/report.py", "train/mask_callback.py"),
    *("runs/card.py", "runs/checkpoint.py", "runs/estimate.py", "runs/output.py", "runs/parts.py"),
    *("runs/prompt_template.py", "runs/use.py"),
    *("export/certificate.py", "export/certify.py", "export/engines.py", "export/film_page.py", "export/handout.py"),
    *("export/ollama.py", "export/recipe.py", "export/script.py", "export/trl_config.py", "export/upload.py"),
    *("ui/api.py", "ui/calls.py", "ui/guard.py", "ui/serve.py", "ui/lesson.py"),
)
# Words by themselves are words of the page under these names, or as the first of these.
_KEYWORDS = {"label", "title", "info", "placeholder", "what", "why", "remedy", "unit", "name"}
_TERMINAL = {"help", "metavar", "elem_id", "elem_classes", "js", "storage_key", "secret"}
_COMPONENTS = {"Accordion", "Button", "DownloadButton", "LoginButton", "Tab", "UploadButton"}
_LOGGERS = {"_LOG", "re"}
_PROSE = re.compile(r"[A-Za-z']{2,}[,;:.…]?\s+[A-Za-z{(“']|\{\w+\} [a-z]{2,}|[a-z]{2,}:? \{|\}[a-z]{3,}")
_CODE = re.compile(
    r"^[\W\d_]*$|\\[dsw.]|=>|^--|^\w+=\w+ |;\s*$|\{\s*$|import |^(\w+[._]\w+ ){2}|^dict\[|^list\[|[|]|widget \{|\}\w*_"
    r"|^(?:uv|python|ollama|gguf|fp16) |^sftdemo (?:app|train|export|certify|push) |vllm serve|^weight_decay="
    r"|^my-first-run$|^###|^Below is|^paired with"
)
# What other packages say, which is looked for in their words.
_THEIRS = {"pending credits", "illegal duration", "Space app has reached", "runs limit", "No GPU was available"}
_THEIRS |= {"proxy token", "GPU task aborted", "worker error", "can't allocate memory", "Found missing adapter keys"}
_PLACE = re.compile(r"\{\w*\}")
_SCRIPT = re.compile(r'\bt\(\s*("(?:[^"\\]|\\.)*")')
_LESSON_WORDS = {"title", "text", "then", "write", "says", "question"}
# Single words, and a text that looks like code: they stand where nothing says that they are shown.
MORE = (
    *("against", "and", "arm", "fell", "rose", "step", "Done", "length"),
    # What Python says of JSON and CSV, which is passed on.
    *("Expecting value", "Expecting property name enclosed in double quotes", "Expecting ',' delimiter", "Extra data"),
    *("Expecting ':' delimiter", "Unterminated string starting at", "Invalid control character at", "Invalid \\escape"),
    *("Illegal trailing comma before end of object", "unexpected end of data"),
    *(each.title.split(",")[0].split(":")[0] for each in SETTINGS.values()),
    *("after", "alone", "base", "before", "both", "masked", "together", "typed", "unmasked", "used", "training"),
    *("id", "label", "position", "role", "token", "answers", "prompts", "models", "unchanged", "CHANGED", "empty"),
    *("error", "errors", "note", "warning", "held out"),
    "0 masks the prompt; 1 trains it like the answer, as plain fine-tuning does",
)


def python_texts(path: Path) -> Iterator[str]:
    """Yield the texts of a module that may be shown, with a place for each value."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped, shown = set[ast.AST](), set[ast.AST]()
    for node in ast.walk(tree):
        match node:
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                skipped |= {each.value for each in node.body[:1] if isinstance(each, ast.Expr)}
            case ast.JoinedStr():
                skipped |= {each for each in node.values if isinstance(each, ast.Constant)}
                skipped |= {part for each in node.values for part in ast.walk(_spec(each))}
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=name)) if owner in _LOGGERS:
                skipped |= {part for each in node.args for part in ast.walk(each)}
            case ast.Call():  # a setting's first words are for the terminal
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                shown |= {each for each in node.args[:1] if name in _COMPONENTS}
                shown |= {each for each in node.args[1:3] if name in ("progress", "tell", "Phase", "_step", "setting")}
                skipped |= {each for each in node.args[1:2] if name == "setting"}
                shown |= {each.value for each in node.keywords if each.arg in _KEYWORDS}
                skipped |= {each.value for each in node.keywords if each.arg in _TERMINAL}
            case ast.Subscript():
                skipped.add(node.slice)
            case ast.AnnAssign():
                skipped |= set(ast.walk(node.annotation))
    for node in ast.walk(tree):
        for text in () if node in skipped else _texts(node):
            is_prose = _PROSE.search(text) or (node in shown and re.search("[a-z]", text))
            if is_prose and len(re.findall("[a-z]", _PLACE.sub("", text))) > 1 and not _CODE.search(text):
                yield from () if text in _THEIRS else (text,)


def _spec(value: ast.expr) -> ast.AST:
    spec = value.format_spec if isinstance(value, ast.FormattedValue) else None
    return spec or ast.Pass()


def _texts(node: ast.AST) -> Iterator[str]:
    """Yield a text of the code as the catalogue has it: for one of a thing, and for several of them."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield _trimmed(node.value.replace("{}", "{count}"))
    elif isinstance(node, ast.JoinedStr):
        counts = dict.fromkeys(filter(None, map(_counted, node.values)))
        for several in product((False, True), repeat=len(counts)):
            yield _trimmed(_joined(node, dict(zip(counts, several, strict=True))))


def _trimmed(text: str) -> str:
    return text.strip(" \n·").lstrip(",;. ")


def _joined(node: ast.JoinedStr, several: Mapping[str, bool]) -> str:
    """Return a text with a place for each value; values that stand side by side have one. `several` says for each count
    whether it is of one thing or of several."""
    text, names = "", list[str]()
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += str(part.value)
        elif count := _counted(part):
            text += _plural(part, several[count])
        elif isinstance(part, ast.FormattedValue) and not re.search(r"\{\w+\}$", text):
            name = _name(part.value) or str(len(names))
            while name in names:
                name = re.sub(r"\d*$", lambda match: str(int(match[0] or 1) + 1), name, count=1)
            names.append(name)
            text += f"{{{name}}}"
    return text


def _counted(part: ast.expr) -> str:
    """Return the count that decides the form of a noun; empty where a part of a text is no such noun."""
    match part:
        case ast.FormattedValue(value=ast.Call(func=ast.Name(id="plural"), args=[count, ast.Constant(), *_])):
            return ast.unparse(count)
    return ""


def _plural(part: ast.expr, many: bool) -> str:
    match part:
        case ast.FormattedValue(value=ast.Call(args=[_, ast.Constant(value=one), *others])):
            several = others[0] if others else ast.Constant(f"{one}s")
            return str(several.value if isinstance(several, ast.Constant) and many else one)
    return ""


def _name(value: ast.expr) -> str:
    match value:
        case ast.Call(func=ast.Name(id="duration")):
            return "duration"
        case ast.Call(args=[only]):
            return _name(only)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_").lower()
        case ast.Subscript(value=of):
            return _name(of)
    return ""


def script_texts(path: Path) -> Iterator[str]:
    """Yield the texts of a script that stand in `t("…")`."""
    for found in _SCRIPT.finditer(path.read_text(encoding="utf-8")):
        yield ast.literal_eval(found[1])


def lesson_texts(path: Path) -> Iterator[str]:
    """Yield the words of a lesson; its rows are data, and the answers in it are a model's."""

    def words(part: object, name: str = "") -> Iterator[str]:
        if isinstance(part, dict):
            for key, each in part.items():
                if key not in ("rows", "recorded", "settings"):
                    yield from words(each, key)
        elif isinstance(part, list):
            for each in part:
                yield from words(each, name)
        elif isinstance(part, str) and name in {*_LESSON_WORDS, "choices"}:
            yield part

    yield from words(yaml.safe_load(path.read_text(encoding="utf-8")))


def all_texts() -> dict[str, list[str]]:
    """Return all words of the page, each with the files that it stands in."""
    found: dict[str, list[str]] = {}
    sources = [(path, python_texts) for folder in FOLDERS for path in sorted((PACKAGE / folder).rglob("*.py"))]
    sources += [(path, script_texts) for path in sorted((PACKAGE / "ui" / "static").glob("*.js"))]
    sources += [(path, lesson_texts) for path in sorted((PACKAGE / "ui" / "lessons").glob("*.yaml"))]
    for path, texts in sources:
        name = path.relative_to(PACKAGE).as_posix()
        for text in () if name in ELSEWHERE else texts(path):
            files = found.setdefault(text, [])
            files += [] if name in files else [name]
    for word in (
        *MORE,
        *(name.replace("_", " ") for name in SETTINGS),
        *(each.title for each in SAMPLES),
        *SAYS.values(),
    ):
        if word:
            found.setdefault(word, ["several"])
    return found


def update(path: Path) -> tuple[int, int]:
    """Bring a catalogue up to date, and return how many texts it has, and how many of them wait."""
    catalogue = polib.pofile(str(path), wrapwidth=120)
    known = {entry.msgid: entry for entry in catalogue}
    catalogue.clear()
    for text, files in all_texts().items():
        old = known.get(text)
        flags = old.flags if old else []
        entry = polib.POEntry(msgid=text, msgstr=old.msgstr if old else "", flags=flags)
        entry.occurrences = [(name, "") for name in files[:3]]
        catalogue.append(entry)
    catalogue.save(str(path))
    return len(catalogue), len([entry for entry in catalogue if not entry.msgstr])


if __name__ == "__main__":
    for name in sorted((PACKAGE / "ui" / "locale").glob("*.po")):
        count, waiting = update(name)
        print(f"{name.stem}: {count} texts, {waiting} of them wait for a translation")
    sys.exit(0)
