"""A QEMU state that is put together: what the machine was started with, and its devices as they are now.

QEMU writes the devices alone with `xen-save-devices-state`, in the sections that a whole state has after its memory
(qemu: docs/devel/migration.rst). What comes before them, firmware and tables that the guest does not change, is of the
state it started from. Pure. Refuses two states that do not fit.

    whole = put_together(began, devices)
"""

from __future__ import annotations

from capsem.errors import MachineError

_HEAD = 8  # the mark and the version
_FULL, _FOOTER, _DESCRIPTION = 0x04, 0x7E, 0x06


def put_together(began: bytes, devices: bytes) -> bytes:
    """A state that QEMU loads.

    Args:
        began: the whole state that the machine was started with.
        devices: what `xen-save-devices-state` wrote.

    Raises:
        MachineError: they are not of one machine, or of another form.
    """
    first = devices[_HEAD:]
    # A section: its kind, its number, the length of its name, the name, instance, version.
    header = first[: 6 + (first[5] if len(first) > 5 else 0) + 8]
    place = began.find(header)
    if (
        devices[:_HEAD] != began[:_HEAD]
        or header[:1] != bytes((_FULL,))
        or place < _HEAD + 5
        or began[place - 5] != _FOOTER
    ):
        raise MachineError(
            "QEMU's devices are of another form than what it was started with",
            next_step="report this, with QEMU's version",
        )
    # A whole state ends with a description of itself, which QEMU reads and does not look at.
    return began[:place] + first + bytes((_DESCRIPTION,)) + (2).to_bytes(4, "big") + b"{}"
