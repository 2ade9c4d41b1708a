"""QEMU, the proxy and the share under Capsule policies: no network, no file but libraries; the rest is inherited.

The share has the one directory that it serves besides; MCP servers are under the policies that their user names. The
policies are Capsule's presets `qemu`, `proxy` and `share`;
`capsule run` puts each into namespaces of its own, under Landlock and a system call filter, and keeps a log of it.
Refuses to start them where Capsule cannot confine them.

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
SHARE_POLICY = "share"


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
    return _python(PROXY_POLICY, log, "capsem.processes.proxy")


def sharing(log: Path, told: int) -> list[str]:
    """The line that starts a share under its policy, in the directory that it serves; descriptor 0 is the guest's port.

    Args:
        log: where Capsule records that run.
        told: a descriptor, inherited, with what it is told.
    """
    return [*_python(SHARE_POLICY, log, "capsem.processes.share", "--pass-fd", str(told)), str(told)]


def serving(log: Path, policy: str, command: Sequence[str]) -> list[str]:
    """The line that starts an MCP server under the policy that its declaration names.

    Args:
        log: where Capsule records that run.
        policy: a preset's name or a file.
        command: the program and its arguments.
    """
    return [str(find_binary()), "run", "--policy", policy, "--log", str(log), "--", *command]


def _python(policy: str, log: Path, module: str, *options: str) -> list[str]:
    line = [str(find_binary()), "run", "--policy", policy, "--log", str(log), *options]
    package = str(Path(capsem.__file__).resolve().parents[1])
    for directory in dict.fromkeys([*interpreter_reads(), package]):
        line += ["--read", directory]
    return [
        *line, "--program", sys.executable, "--", sys.executable, "-I", "-B", "-m", module,
    ]  # fmt: skip
