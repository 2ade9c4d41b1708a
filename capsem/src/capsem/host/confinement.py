"""QEMU and the proxy under Capsule policies: no network, no file but libraries; what they work on is inherited.

The policies are Capsule's presets `qemu` and `proxy`; `capsule run` puts each into namespaces of its own, under
Landlock and a system call filter, and keeps a log of it. Refuses to start them where Capsule cannot confine them.

    await launch(line, files, confine=confined(directory / "qemu.log"))
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import capsem
from capsem.host.qemu import Confine
from capsule.sandbox.launcher import find_binary, interpreter_reads

POLICY = "qemu"
PROXY_POLICY = "proxy"


def confined(log: Path, *, reads: str | None = None) -> Confine:
    """What puts a QEMU under the policy.

    Args:
        log: where Capsule records that run.
        reads: a file whose directory QEMU may read: a boot's kernel and initrd are named by path.
    """

    def confine(line: Sequence[str], descriptors: Sequence[int]) -> Sequence[str]:
        before = [str(find_binary()), "run", "--policy", POLICY, "--log", str(log)]
        if reads is not None:
            before += ["--read", str(Path(reads).parent)]
        for number in descriptors:
            before += ["--pass-fd", str(number)]
        return [*before, "--", *line]

    return confine


def proxied(log: Path) -> list[str]:
    """The line that starts a proxy under its policy; its monitor's socket is its descriptor 0.

    Args:
        log: where Capsule records that run.
    """
    line = [str(find_binary()), "run", "--policy", PROXY_POLICY, "--log", str(log)]
    package = str(Path(capsem.__file__).resolve().parents[1])
    for directory in dict.fromkeys([*interpreter_reads(), package]):
        line += ["--read", directory]
    return [
        *line, "--program", sys.executable, "--", sys.executable, "-I", "-B", "-m", "capsem.processes.proxy",
    ]  # fmt: skip
