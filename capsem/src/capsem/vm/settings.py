"""The settings: every key with its meaning, two files read, and which of them decides (docs/formats/settings.md). Pure.

The organisation's file wins over the user's, which wins over what is built in; a key that the organisation's file has
is locked. Refuses an unknown key, naming the nearest, and a value out of its bounds, with file and line.

    settings = merged(read(corp, "corp.toml"), read(user, "settings.toml"))
    settings.of("machine.memory").value             # '512M'
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capsem.errors import UsageError
from capsem.vm.bounds import LEAST_DISK, LEAST_MEMORY, MOST_CPUS, MOST_DISK, MOST_MEMORY
from capsem.vm.kinds import NONE, Days, Kind, Number, Size, Text, Value
from capsem.vm.quantities import mebibytes

BUILT_IN = "built-in"
MOST_AHEAD = 64
_MOST_HOME = 9_999_999
"""MiB; the longest that is written as a size."""


class SettingsError(UsageError):
    """A file of settings cannot be used as it is."""


@dataclass(frozen=True, slots=True)
class Key:
    """One setting.

    Attributes:
        name: `section.key`.
        default: what is built in.
        about: what it is for.
        kind: what a value may be.
    """

    name: str
    default: Value
    about: str
    kind: Kind


KEYS: Mapping[str, Key] = {
    key.name: key
    for key in (
        Key("machine.image", "default", "image of a machine: a name or a digest", Text()),
        Key("machine.cpu", 1, "virtual processors", Number(1, MOST_CPUS)),
        Key("machine.memory", "512M", "memory", Size(LEAST_MEMORY, MOST_MEMORY)),
        Key(
            "machine.disk",
            "4G",
            "the most its own disk may hold, or none",
            Size(LEAST_DISK, MOST_DISK, none=True),
        ),
        Key("machine.policy", "none", "file of the policy for what it may reach, or none", Text()),
        Key(
            "service.idle",
            900,
            "seconds without a question after which the service ends",
            Number(1, 86400 * 365),
        ),
        Key("service.pool", 0, "machines made ahead, like the last one", Number(0, MOST_AHEAD)),
        Key("limits.machines", 64, "the most machines there may be", Number(1, 4096)),
        Key(
            "limits.disk",
            "none",
            "the largest disk a machine may be made with, or none",
            Size(LEAST_DISK, MOST_DISK, none=True),
        ),
        Key(
            "limits.home",
            "none",
            "the most that everything in CAPSEM_HOME may take, or none",
            Size(1, _MOST_HOME, none=True),
        ),
        Key(
            "limits.log",
            "1G",
            "the most that the log of a machine may take, or none; then nothing more is done in it",
            Size(1, _MOST_HOME, none=True),
        ),
        Key("clean.templates", 30, "days without use after which a template goes, or none", Days()),
        Key(
            "clean.images",
            "none",
            "days without use after which an image goes that has no name and that nothing needs, or none",
            Days(),
        ),
        Key(
            "clean.logs",
            "none",
            "days after its last entry in which the log of a machine that is gone goes, or none",
            Days(),
        ),
        Key("share.files", 100_000, "names a live share may add to its directory", Number(0, 10_000_000)),
        Key("share.size", "4G", "bytes a live share may add to its directory", Size(1, MOST_DISK)),
        Key("share.handles", 1024, "files a live share may have open at once", Number(16, 3072)),
    )
}


@dataclass(frozen=True, slots=True)
class Setting:
    """What holds for one key.

    Attributes:
        key: which.
        value: of the file that decides.
        place: `FILE:LINE`, or `built-in`.
        locked: whether the organisation's file decides, which no other may change.
        passed_over: places whose value does not count, and the value.
    """

    key: Key
    value: Value
    place: str
    locked: bool
    passed_over: tuple[tuple[str, Value], ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """One file, read: values by key, each with its place."""

    values: Mapping[str, tuple[Value, str]]


class Settings:
    """All keys, decided.

    Args:
        corp: the organisation's file; None: there is none.
        user: the user's file; None: there is none.
    """

    def __init__(self, corp: Source | None, user: Source | None) -> None:
        self._found: dict[str, Setting] = {}
        for name, key in KEYS.items():
            held = [
                source.values[name] for source in (corp, user) if source is not None and name in source.values
            ]
            over = (*((place, value) for value, place in held), (BUILT_IN, key.default))
            place, value = over[0]
            locked = corp is not None and name in corp.values
            self._found[name] = Setting(key, value, place, locked, over[1:])

    def of(self, name: str) -> Setting:
        """What holds for a key.

        Raises:
            UsageError: there is no such key; the nearest is named.
        """
        found = self._found.get(name)
        if found is None:
            raise UsageError(f"there is no setting {name!r}", next_step=_nearest(name))
        return found

    def mebibytes(self, name: str) -> int | None:
        """What a size is, MiB; None: `none`."""
        value = self.of(name).value
        return None if value == NONE else mebibytes(str(value), what=name, least=1, most=_MOST_HOME)

    def days(self, name: str) -> int | None:
        """How many days; None: `none`."""
        value = self.of(name).value
        return None if value == NONE else int(value)

    def all(self) -> tuple[Setting, ...]:
        """Every key, in order."""
        return tuple(self._found.values())


def _nearest(name: str) -> str:
    # Loaded for a name that there is not.
    import difflib

    close = difflib.get_close_matches(name, KEYS, n=1, cutoff=0.4)
    return f"did you mean {close[0]}?" if close else f"there are: {', '.join(KEYS)}"


def read(text: str, file: str) -> Source:
    """The settings of a file.

    Raises:
        SettingsError: it is no TOML, has an unknown key, or a value out of its bounds; with file and line.
    """
    # Loaded where there is a file.
    import tomllib

    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(
            f"{file} is no TOML: {error}", next_step="mend it, see docs/formats/settings.md"
        ) from None
    values: dict[str, tuple[Value, str]] = {}
    for section, content in document.items():
        if not isinstance(content, dict):
            raise _unknown(text, file, section)
        for key, value in content.items():
            name, place = f"{section}.{key}", f"{file}:{line_of(text, section, key)}"
            if name not in KEYS:
                raise _unknown(text, file, section, key)
            try:
                KEYS[name].kind.check(value)
            except UsageError as error:
                raise SettingsError(f"{place}: {name}: {error.message}", next_step=error.next_step) from None
            values[name] = (value, place)
    return Source(values)


def _unknown(text: str, file: str, section: str, key: str | None = None) -> SettingsError:
    name = section if key is None else f"{section}.{key}"
    place = f"{file}:{line_of(text, section, key)}"
    return SettingsError(f"{place}: there is no setting {name!r}", next_step=_nearest(name))


def line_of(text: str, section: str, key: str | None) -> int:
    """The line of a key, or of a section; where it is written in another way, the first."""
    inside: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if head := re.fullmatch(r"\s*\[\s*\"?([\w-]+)\"?\s*\]\s*(#.*)?", line):
            inside = head[1]
            if key is None and inside == section:
                return number
        elif found := re.match(r"\s*\"?([\w-]+)\"?\s*(?:\.\s*\"?([\w-]+)\"?\s*)?=", line):
            named = (inside, found[1]) if found[2] is None else (found[1], found[2])
            if named == (section, key) or (key is None and named == (None, section)):
                return number
    return 1


def changed(text: str, name: str, value: Value) -> str:
    """The text of a file with one key changed; what stands beside it stays."""
    section, _, key = name.partition(".")
    shown = (
        str(value) if isinstance(value, int) else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    )
    lines, inside, last = text.splitlines(), None, None
    for at, line in enumerate(lines):
        if head := re.fullmatch(r"\s*\[\s*\"?([\w-]+)\"?\s*\]\s*(#.*)?", line):
            inside = head[1]
        if inside == section:
            last = at if line.strip() else last
            if re.match(rf"\s*\"?{re.escape(key)}\"?\s*=", line):
                lines[at] = f"{key} = {shown}"
                return "\n".join(lines) + "\n"
    if last is None:
        lines += [*([""] if lines else []), f"[{section}]", f"{key} = {shown}"]
    else:
        lines.insert(last + 1, f"{key} = {shown}")
    return "\n".join(lines) + "\n"


def value_of(name: str, text: str) -> Value:
    """A value as a person gives it on the command line.

    Raises:
        UsageError: there is no such key, or the value is out of its bounds.
    """
    if name not in KEYS:
        raise UsageError(f"there is no setting {name!r}", next_step=_nearest(name))
    key = KEYS[name]
    value = key.kind.read(text)
    try:
        key.kind.check(value)
    except UsageError as error:
        raise UsageError(f"{name}: {error.message}", next_step=error.next_step) from None
    return value


def schema() -> dict[str, Any]:
    """Every setting as JSON Schema (2020-12), for editors; what reads the files decides."""
    sections: dict[str, Any] = {}
    for key in KEYS.values():
        section, _, name = key.name.partition(".")
        found = sections.setdefault(
            section, {"type": "object", "additionalProperties": False, "properties": {}}
        )
        found["properties"][name] = {"description": key.about, "default": key.default, **key.kind.schema()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "settings of capsem",
        "type": "object",
        "additionalProperties": False,
        "properties": sections,
    }
