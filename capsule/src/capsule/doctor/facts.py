"""What was measured on this host, as plain values; `measure` is the only part that touches it.

Refused: judging. See `capsule.doctor.verdicts`.

    facts = measure(capsule="/usr/bin/capsule", policy="capsule.yaml")
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from capsule import temporary

PROBES = (
    "namespaces",
    "mounts",
    "network",
    "landlock",
    "landlock_abi",
    "seccomp",
    "notify",
    "capabilities",
    "tree_kill",
    "process_limit",
)
SWITCHES = (
    "user/max_user_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
    "kernel/yama/ptrace_scope",
    "dev/tty/legacy_tiocsti",
)


@dataclass(frozen=True)
class Attempt:
    """One thing tried for real.

    Attributes:
        ok: Whether it worked.
        at: The step that did not.
        errno: The error number of that step, 0 for none.
        value: A number the probe answers with (the Landlock version).
    """

    ok: bool
    at: str = ""
    errno: int = 0
    value: int = 0


@dataclass(frozen=True)
class Place:
    """A file or directory that must be private: whether it is there, its mode, whether it is ours."""

    path: str
    exists: bool
    mode: int = 0
    ours: bool = True


@dataclass(frozen=True)
class Facts:
    """Everything the verdicts are made from.

    Attributes:
        system: `platform.system()`.
        machine: `platform.machine()`.
        release: Kernel release, for the reader only: no verdict depends on it.
        root: Whether we are root on this host.
        container: The container engine we seem to be inside of, or "".
        probes: Name of a probe → what came of it.
        switches: Name below /proc/sys → its value; absent ones are missing.
        controllers: Controllers of our own cgroup v2 group; None without one.
        places: The key and state directories and the key.
        python: Version of the interpreter, for example (3, 11, 7).
        run: The report of `capsule run -- true` under the policy; None when it could not be started.
        run_error: What it said instead.
        clock: Seconds since 1970 now, and the newest time in capsule's own state.
    """

    system: str
    machine: str
    release: str
    root: bool
    container: str = ""
    probes: Mapping[str, Attempt] = field(default_factory=dict)
    switches: Mapping[str, str] = field(default_factory=dict)
    controllers: tuple[str, ...] | None = None
    places: tuple[Place, ...] = ()
    python: tuple[int, int, int] = (3, 11, 0)
    run: Mapping[str, object] | None = None
    run_error: str = ""
    clock: tuple[float, float] = (0.0, 0.0)


def measure(*, capsule: str, policy: str) -> Facts:
    """Try everything once.

    Args:
        capsule: Path of the native binary.
        policy: The policy file or preset to run `true` under; its compilation is part of the question.
    """
    report, error = _run_true(capsule, policy)
    return Facts(
        system=platform.system(),
        machine=platform.machine(),
        release=platform.release(),
        root=os.geteuid() == 0,
        container=_container(),
        probes={name: _probe(name) for name in PROBES} if platform.system() == "Linux" else {},
        switches=_switches(),
        controllers=_controllers(),
        places=_places(),
        python=sys.version_info[:3],
        run=report,
        run_error=error,
        clock=(time.time(), _newest_state()),
    )


def _probe(name: str) -> Attempt:
    text = resources.files("capsule.doctor").joinpath("child.py").read_text()
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", text, name], capture_output=True, timeout=20, check=False
        )
        return Attempt(**json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        return Attempt(False, "timeout")
    except (ValueError, TypeError):
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        return Attempt(False, lines[-1][:120] if lines else f"the probe died ({done.returncode})")


def _switches() -> dict[str, str]:
    found = {}
    for name in SWITCHES:
        with contextlib.suppress(OSError):
            found[name] = Path("/proc/sys", name).read_text().strip()
    return found


def _container() -> str:
    if Path("/.dockerenv").exists():
        return "docker"
    if Path("/run/.containerenv").exists():
        return "podman"
    with contextlib.suppress(OSError):
        for word in Path("/proc/1/environ").read_bytes().split(b"\0"):
            if word.startswith(b"container="):
                return word[10:].decode(errors="replace")
    return "kubernetes" if "KUBERNETES_SERVICE_HOST" in os.environ else ""


def _controllers() -> tuple[str, ...] | None:
    try:
        rows = Path("/proc/self/cgroup").read_text().splitlines()
        own = next(row[3:] for row in rows if row.startswith("0::"))
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        top = next(words[1] for words in mounts if words[2] == "cgroup2")
        return tuple(Path(top + own, "cgroup.controllers").read_text().split())
    except (OSError, StopIteration):
        return None


def _base(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / default


def _places() -> tuple[Place, ...]:
    data = _base("XDG_DATA_HOME", ".local/share") / "capsule"
    found = []
    for path in (data, data / "log.key", _base("XDG_STATE_HOME", ".local/state") / "capsule"):
        try:
            facts = path.lstat()
            found.append(Place(str(path), True, stat.S_IMODE(facts.st_mode), facts.st_uid == os.geteuid()))
        except OSError:
            found.append(Place(str(path), False))
    return tuple(found)


def _newest_state() -> float:
    heads = _base("XDG_STATE_HOME", ".local/state") / "capsule" / "heads"
    with contextlib.suppress(OSError):
        return max((path.stat().st_mtime for path in heads.iterdir()), default=0.0)
    return 0.0


def _run_true(capsule: str, policy: str) -> tuple[Mapping[str, object] | None, str]:
    with temporary.directory("capsule-doctor-") as folder:
        log = folder / "capsule.log"
        words = [capsule, "run", "--policy", policy, "--log", str(log), "--json", "--", "true"]
        # A throw-away home for the key and the heads: a question leaves nothing behind.
        environment = dict(os.environ) | {
            "XDG_DATA_HOME": str(folder / "data"),
            "XDG_STATE_HOME": str(folder / "state"),
        }
        try:
            done = subprocess.run(words, capture_output=True, env=environment, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as failure:
            return None, str(failure)
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        try:
            report = json.loads(lines[-1])
            return (report, "") if isinstance(report, dict) else (None, lines[-1])
        except (ValueError, IndexError):
            return None, " ".join(lines)[-300:] or f"exit {done.returncode}, and nothing was said"
