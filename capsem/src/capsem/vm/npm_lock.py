"""The lock of a recipe's npm packages: npm's own `package-lock.json`, checked before npm may follow it.

Every package that it names comes from the registry that npm is set to and has a SHA-512; what would be fetched from
anywhere else (`resolved`, links, folders) is refused, and so is a lock of other packages or versions than the recipe's.

    lock = read(text, {"@openai/codex": "0.171.0"}, "agents.npm.json")
    lock.links["codex"]          # '@openai/codex/bin/codex.js'
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capsem.errors import ImageError

_NAME = r"node_modules/(?:@[a-z0-9_~-][a-z0-9._~-]*/)?[a-z0-9_~-][a-z0-9._~-]*"
_PLACE = re.compile(f"{_NAME}(?:/{_NAME})*")
_SHA512 = re.compile(r"sha512-[A-Za-z0-9+/]{86}==")
_PROGRAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FILE = re.compile(r"(?:\./)?([A-Za-z0-9_@-][A-Za-z0-9._@-]*(?:/[A-Za-z0-9_@-][A-Za-z0-9._@-]*)*)")


@dataclass(frozen=True, slots=True)
class Locked:
    """One package of a lock: what it is called in the registry, its version, npm's integrity (`sha512-…`)."""

    name: str
    version: str
    integrity: str


@dataclass(frozen=True, slots=True)
class NpmLock:
    """A lock.

    Attributes:
        packages: by where they lie, as `node_modules/@openai/codex`.
        links: program → the file of `node_modules` that it is, of the packages that the recipe names.
    """

    packages: Mapping[str, Locked]
    links: Mapping[str, str]

    def installed(self, places: frozenset[str]) -> str:
        """A list, in npm's form, of those of the packages that lie in these places: the same for the same packages."""
        rows = {
            place: {"name": one.name, "version": one.version, "integrity": one.integrity}
            for place, one in sorted(self.packages.items())
            if place in places
        }
        return json.dumps({"lockfileVersion": 3, "packages": rows}, sort_keys=True, indent=1) + "\n"


def manifest(wanted: Mapping[str, str]) -> str:
    """A `package.json` that asks for these packages, name → exact version."""
    return json.dumps({"name": "recipe", "version": "1.0.0", "private": True, "dependencies": dict(wanted)})


def read(untrusted_text: str, wanted: Mapping[str, str], place: str) -> NpmLock:
    """The lock in this text.

    Args:
        untrusted_text: a `package-lock.json`, version 3, without addresses.
        wanted: name → exact version, as the recipe has them.
        place: what to call it in errors.

    Raises:
        ImageError: it is no such lock, or is one of other packages.
    """
    try:
        document = json.loads(untrusted_text)
        rows: dict[str, dict[str, Any]] = dict(document["packages"])
        root = rows.pop("")
        asked = dict(root.get("dependencies", {}))
        version = document["lockfileVersion"]
        found = {where: _locked(where, row, place) for where, row in rows.items()}
        links = {
            program: f"{name}/{file}"
            for name in wanted
            for program, file in _programs(rows.get(f"node_modules/{name}", {}), name, place).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _wrong(place, f"it is no package-lock.json of version 3: {error!r}") from error
    if version != 3:
        raise _wrong(place, f"it is of version {version}, not 3")
    if asked != dict(wanted):
        raise _wrong(place, "it is a lock of other packages than the recipe's npm")
    for name, exact in wanted.items():
        have = found.get(f"node_modules/{name}")
        if have is None or have.version != exact:
            raise _wrong(place, f"it has {name} {have.version if have else 'not'}, and the recipe {exact}")
    return NpmLock(found, links)


def _locked(where: str, row: dict[str, Any], place: str) -> Locked:
    if not _PLACE.fullmatch(where):
        raise _wrong(place, f"{where!r} is no place of a package")
    if "resolved" in row or row.get("link"):
        raise _wrong(
            place, f"{where} names where it comes from; only the registry that npm is set to is asked"
        )
    integrity = row.get("integrity")
    if not isinstance(integrity, str) or not _SHA512.fullmatch(integrity):
        raise _wrong(place, f"{where} has no SHA-512")
    name = row.get("name") or where.rpartition("node_modules/")[2]
    return Locked(str(name), str(row["version"]), integrity)


def _programs(row: dict[str, Any], name: str, place: str) -> dict[str, str]:
    found = {}
    for program, file in row.get("bin", {}).items():
        match = _FILE.fullmatch(file)
        if not _PROGRAM.fullmatch(program) or match is None:
            raise _wrong(place, f"{name} calls {file!r} {program!r}")
        found[program] = match[1]
    return found


def _wrong(place: str, what: str) -> ImageError:
    return ImageError(
        f"{place}: {what}",
        next_step="write it again, in a folder with the recipe's packages as dependencies: "
        "npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved",
    )
