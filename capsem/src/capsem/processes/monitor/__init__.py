"""The monitor of one machine: owns its QEMU and its channels, answers on one Unix socket, writes its record.

Refuses a peer that is another user, and reading what a machine says to the network. It outlives the service, so that a
service's end harms no machine; QEMU never outlives it.
"""

from __future__ import annotations

from capsem.process import STARTS_SANDBOXES, Power, Process, Trust

PROCESS = Process(
    name="capsem-process",
    trust=Trust.POWER,
    peers=("capsem-service", "capsem"),
    powers=(Power.SPAWN, Power.GUEST, Power.RECORD),
    refuses="reading network payloads, serving HTTP",
    never_loads=("fastapi", "uvicorn", "capsem.processes.service"),
    confinement=STARTS_SANDBOXES,
)
