"""The files of settings: the organisation's, which root alone may write, and the user's.

Refuses an organisation's file that another than root could have written, and to set a key that it locks.

    load().of("machine.memory").value
    put("machine.memory", "1G")
"""

from __future__ import annotations

import stat
from pathlib import Path

from capsem.errors import ConflictError
from capsem.host import paths, places
from capsem.host.whole import write_whole
from capsem.vm.settings import Settings, SettingsError, Source, changed, read, value_of

CORP = Path("/etc/capsem/corp.toml")
_LARGEST = 1 << 20


def user_file() -> Path:
    """The user's."""
    return paths.home() / "settings.toml"


def load() -> Settings:
    """What holds now.

    Raises:
        SettingsError: a file cannot be used as it is.
    """
    return Settings(_corp(), _source(user_file()))


def _corp() -> Source | None:
    """The organisation's file, when root alone could have written it and the directory that it is in."""
    for place in (CORP.parent, CORP):
        try:
            found = place.lstat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SettingsError(
                f"{place}: {error.strerror}", next_step="ask who looks after this host"
            ) from error
        if stat.S_ISLNK(found.st_mode) or found.st_uid != 0 or stat.S_IMODE(found.st_mode) & 0o022:
            raise SettingsError(
                f"{place} is not root's alone to write, so it does not speak for this host",
                next_step=f"as root: chown root:root {place} && chmod go-w {place}; no links",
            )
    return _source(CORP)


def _source(place: Path) -> Source | None:
    try:
        with place.open("rb") as file:
            content = file.read(_LARGEST + 1)
        text = content.decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{place} cannot be read: {error}", next_step="mend it or remove it") from error
    if len(content) > _LARGEST:
        raise SettingsError(f"{place} is larger than 1 MiB", next_step="remove what is no setting")
    return read(text, str(place))


def put(name: str, text: str) -> Path:
    """Set a key in the user's file; returns the file.

    Raises:
        ConflictError: the organisation's file locks it.
        UsageError: there is no such key, or the value is out of its bounds.
    """
    value, held = value_of(name, text), load().of(name)
    if held.locked:
        raise ConflictError(
            f"{name} is locked to {held.value!r} by {held.place}", next_step="ask who looks after this host"
        )
    places.prepare()
    place = user_file()
    before = place.read_text(encoding="utf-8") if place.exists() else ""
    after = changed(before, name, value)
    if read(after, str(place)).values[name][0] != value:
        raise SettingsError(
            f"{place} has {name} in a form that is not changed here", next_step="edit the file"
        )
    write_whole(place, after.encode())
    return place
