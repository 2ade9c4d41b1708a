"""The share of one machine: serves one directory of the host to a guest's kernel, which asks over one of its ports.

Refuses to have anything else: no other file, no program, no network. What it may do to that directory the kernel holds
it to, too: it runs under Capsule's preset `share`. It ends when its machine's QEMU or its monitor does.
"""

from __future__ import annotations

from capsem.process import Confinement, Power, Process, Trust

PROCESS = Process(
    name="capsem-share",
    trust=Trust.HOSTILE_INPUT,
    peers=("capsem-process",),
    powers=(Power.GUEST,),
    refuses="files outside of one directory, programs, the network",
    never_loads=(
        "qemu.qmp", "capsem.host.qemu", "sqlite3", "capsule.sessions", "fastapi", "uvicorn", "capsem.processes.monitor",
        "capsem.processes.service", "asyncio", "ruamel.yaml",
    ),
    confinement=Confinement(dies_with="capsem-process"),
)  # fmt: skip
