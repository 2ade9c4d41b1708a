"""A present policy beside what was observed: what it would refuse, what it grants for nothing. Pure.

unused_grants(observation, grants)      # entries of the policy that nothing used
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from ruamel.yaml import YAML

from capsule.profile.observation import FileUse, Observation

Want = Literal["read", "write", "execute"]
Decide = Callable[[Want, str], bool]


@dataclass(frozen=True, slots=True)
class Grant:
    """An entry of the present policy: ``want`` is read, write or execute; ``path`` absolute; where it was written."""

    want: Want
    path: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Missing:
    """A use that the present policy refuses."""

    want: Want
    path: str
    count: int


def unused_grants(seen: Observation, grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """The grants beneath which nothing of their kind was used."""
    return tuple(grant for grant in grants if not _used_any(seen, grant))


def _used(use: FileUse, grant: Grant) -> bool:
    if use.path != grant.path and not use.path.startswith(grant.path.rstrip("/") + "/"):
        return False
    if grant.want == "write":
        return use.written > 0
    if grant.want == "execute":
        return use.execute > 0
    return use.read + use.list + use.execute > 0


def missing_grants(seen: Observation, allowed: Decide) -> tuple[Missing, ...]:
    """The uses that ``allowed(want, path)`` refuses, most frequent first."""
    found = []
    for use in seen.files:
        wants: tuple[tuple[Want, int], ...] = (
            ("read", use.read + use.list),
            ("write", use.written),
            ("execute", use.execute),
        )
        found += [
            Missing(want, use.path, count) for want, count in wants if count and not allowed(want, use.path)
        ]
    return tuple(sorted(found, key=lambda missing: (-missing.count, missing.path, missing.want)))


def prune(text: str, unused: Iterable[Grant], seen: Observation, resolve: Callable[[str], str]) -> str:
    """A policy's text without the grants that nothing used, everything else as it was written.

    A place that was granted for writing and only read becomes one for reading. A list that loses its last entry stays,
    as an empty one. `resolve` gives the absolute path of one that is written in the policy.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    if found := _NESTED.search(text):
        offset = len(found[2]) - len(found[1])
        yaml.indent(mapping=2, sequence=offset + 2, offset=offset)
    document = yaml.load(text)
    files = document.get("filesystem", {})
    gone = {(grant.want, grant.path) for grant in unused}
    read_only = [
        path for want, path in gone if want == "write" and _used_any(seen, Grant("read", path, "", 0))
    ]
    for want in ("read", "write", "execute"):
        entries = files.get(want) or []
        for index in reversed(range(len(entries))):
            path = resolve(_path(entries[index]))
            if (want, path) not in gone:
                continue
            if want == "write" and path in read_only:
                _also_read(files, entries[index], resolve)
            del entries[index]
    out = _Text()
    yaml.dump(document, out)
    return b"".join(out.parts).decode()


_NESTED = re.compile(r"^( *)[a-z_]+:[^\S\n]*(?:#[^\n]*)?\n( *)- ", re.MULTILINE)


class _Text:
    """What ruamel writes to."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, part: bytes) -> None:
        self.parts.append(part)


def _also_read(files: Any, entry: Any, resolve: Callable[[str], str]) -> None:
    if not files.get("read"):
        files["read"] = [entry]
    elif resolve(_path(entry)) not in {resolve(_path(each)) for each in files["read"]}:
        files["read"].append(entry)


def _path(entry: Any) -> str:
    return str(entry["path"] if isinstance(entry, dict) else entry)


def _used_any(seen: Observation, grant: Grant) -> bool:
    return any(_used(use, grant) for use in seen.files)
