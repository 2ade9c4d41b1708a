"""The user's daemon: HTTP over a Unix socket, the registry of machines, one monitor started for each.

Refuses a peer that is another user, and to read what a guest says: that is the monitors' work. It is started by the
first client that needs it, runs once (flock), and takes over what an earlier one left.
"""

from __future__ import annotations

from capsem.process import STARTS_SANDBOXES, Power, Process, Trust

PROCESS = Process(
    name="capsem-service",
    trust=Trust.POWER,
    peers=("capsem", "capsem-process"),
    powers=(Power.SPAWN, Power.STATE),
    refuses="reading what a guest sends, driving QEMU",
    never_loads=("qemu.qmp", "capsem.host.qemu", "capsem.host.channel", "capsem.wire.guest"),
    confinement=STARTS_SANDBOXES,
)
