"""Print what requirements.txt has installed here, with all that it needs, as a CycloneDX bill of materials (JSON)."""

from __future__ import annotations

import json
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import quote

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


def needed(lines: list[str], extras: frozenset[str] = frozenset()) -> list[Requirement]:
    """Return the requirements that count on this machine."""
    found = [Requirement(line) for line in lines]
    names = [*extras, ""]
    return [
        each for each in found if each.marker is None or any(each.marker.evaluate({"extra": name}) for name in names)
    ]


def installed(lines: list[str]) -> dict[str, tuple[Distribution, list[str]]]:
    """Return what is installed of the requirements and of all that they need: by its name, with the names it needs."""
    found: dict[str, tuple[Distribution, list[str]]] = {}
    waiting = needed(lines)
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        try:
            package = distribution(name)
        except PackageNotFoundError:  # for another machine, such as a GPU's libraries
            continue
        requires = needed(package.requires or [], frozenset(wanted.extras))
        known = found.get(name, (package, []))[1]
        names = sorted({*known, *(canonicalize_name(each.name) for each in requires)})
        if name not in found or names != known:
            found[name] = (package, names)
            waiting += requires
    return found


def bill(lines: list[str]) -> dict:
    """Return the bill of materials."""
    found = installed(lines)
    place = {name: f"pkg:pypi/{name}@{quote(package.version)}" for name, (package, _) in sorted(found.items())}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "sftdemo", "bom-ref": "sftdemo"}},
        "components": [
            {"type": "library", "bom-ref": ref, "name": name, "version": found[name][0].version, "purl": ref}
            for name, ref in place.items()
        ],
        "dependencies": [
            {"ref": "sftdemo", "dependsOn": sorted(place[canonicalize_name(each.name)] for each in needed(lines))},
            *(
                {"ref": ref, "dependsOn": [place[each] for each in found[name][1] if each in place]}
                for name, ref in place.items()
            ),
        ],
    }


if __name__ == "__main__":
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    json.dump(bill([line for line in text.splitlines() if line and not line.startswith("#")]), sys.stdout, indent=1)
