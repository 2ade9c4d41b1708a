"""The proxy of one machine: reads what the guest sends to the network and what the internet answers.

Refuses to have anything else: no file of this user's, no program, no connection of its own. What it needs it asks its
monitor for, over one inherited socket: connections, which the monitor decides on and opens, and the record. Its key is
this machine's own, and ends with it.
"""

from __future__ import annotations

from capsem.process import Confinement, Power, Process, Trust

PROCESS = Process(
    name="capsem-proxy",
    trust=Trust.HOSTILE_INPUT,
    peers=("capsem-process",),
    powers=(Power.GUEST,),
    refuses="files, programs, connections of its own",
    never_loads=(
        "qemu.qmp", "capsem.host.qemu", "sqlite3", "capsule.sessions", "fastapi", "uvicorn", "capsem.processes.monitor",
        "capsem.processes.service",
    ),
    confinement=Confinement(dies_with="capsem-process"),
)  # fmt: skip
