"""The limit on everything in CAPSEM_HOME, asked before something is made there.

Refuses what might not fit, naming the limit, the file that it is from, what takes most, and what to do. Where there is
no limit nothing is measured.

    check("a fork of 'build'", 120_000_000)
"""

from __future__ import annotations

from capsem.errors import ConflictError
from capsem.host.settings import load
from capsem.host.usage import Usage, measured

_TOLD = 3


def limited() -> bool:
    """Whether there is a limit now, so that it takes its time to measure.

    Raises:
        SettingsError: the settings cannot be read, so nothing says that there is none.
    """
    return load().mebibytes("limits.home") is not None


def check(what: str, adding: int = 0, *, also: int = 0) -> None:
    """Returns when it fits.

    Args:
        what: is to be made, for the error.
        adding: the most bytes that it may take.
        also: bytes that others who are not done yet may take.

    Raises:
        ConflictError: it might not fit.
        SettingsError: the settings cannot be read, so nothing says that it may.
    """
    settings = load()
    limit = settings.mebibytes("limits.home")
    if limit is None:
        return
    used, most = measured(), limit << 20
    if used.total + adding + also <= most:
        return
    held = settings.of("limits.home")
    more = f" and may take {shown(adding)} more" if adding else ""
    more += f", others that are being made {shown(also)}" if also else ""
    raise ConflictError(
        f"{what} does not fit{more}: CAPSEM_HOME takes {shown(used.total)}, and limits.home is {held.value} "
        f"({held.place}); most is taken by {largest(used)}",
        next_step="capsem disk shows all of it, capsem clean --dry-run what can go; capsem delete, capsem image rm"
        + ("" if held.locked else ", or capsem config set limits.home"),
    )


def largest(used: Usage) -> str:
    """What takes most, for a person."""
    return ", ".join(f"{part.kind} {part.name} ({shown(part.size)})" for part in used.parts[:_TOLD])


def shown(size: int) -> str:
    """Bytes for a person, as sizes are written in settings: `90.3M`."""
    return f"{size / (1 << 20):.1f}M"
