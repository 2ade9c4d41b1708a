"""The manifest of an overlay, as the launcher wrote it beside the layers.

Pure. What it refuses: unknown versions, unknown or missing fields, paths that are not absolute.

    manifest = decode(data)
    manifest.roots[0].path                      # '/home/u/project'
"""

from __future__ import annotations

import re

import msgspec

from capsule.errors import CapsuleError, Fault
from capsule.overlay.change import Guard
from capsule.policy.glob import Pattern

MAX_BYTES = 4 << 20
RUN = re.compile(r"r-[0-9a-z]{1,64}")
"""A run's name, and so a directory's."""


class OverlayError(CapsuleError):
    """An overlay cannot be shown, taken over or thrown away."""

    fault = Fault.CALLER
    exit_code = 125


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Root(_Strict, frozen=True):
    """A writable directory of the run and the number of its layer."""

    path: str
    layer: int


class Name(_Strict, frozen=True):
    """See `change.Guard`."""

    anchor: str
    tail: str
    why: str


class Manifest(_Strict, frozen=True):
    """What was run and when, and which layers belong to which directories."""

    overlay: int
    run: str
    when: str
    command: tuple[str, ...]
    policy: str
    roots: tuple[Root, ...]
    guards: tuple[Name, ...]

    def patterns(self) -> list[tuple[Pattern, str]]:
        """The names that no change may touch, ready to be asked."""
        return [(Guard(g.anchor, g.tail, g.why).pattern(), g.why) for g in self.guards]


def decode(data: bytes) -> Manifest:
    """The manifest in these bytes.

    Raises:
        OverlayError: when they are not one.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise _bad(str(error)) from None
    if manifest.overlay != 2:
        raise _bad(f"version {manifest.overlay} is not known")
    if RUN.fullmatch(manifest.run) is None:
        raise _bad("its run has no usable name")
    for root in manifest.roots:
        if (
            not root.path.startswith("/")
            or ".." in root.path.split("/")
            or "\0" in root.path
            or root.layer < 0
        ):
            raise _bad(f"the root {root.path!r} is not an absolute path")
    return manifest


def _bad(why: str) -> OverlayError:
    return OverlayError(
        f"the overlay's manifest cannot be used: {why}",
        next_step="throw the overlay away with: capsule discard RUN",
    )
