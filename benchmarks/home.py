"""A home with an image for benchmarks of machines, and what its machines' processes take of this host.

Every process of a machine counts: its monitor, its recorder, the supervisors of its sandboxes, QEMU, its proxy. Refuses
a machine whose monitor has gone.

    with bench_home("stock") as home:
        ...                                # CAPSEM_HOME is home, the image is IMAGE
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import NotWorkingError
from capsem.vm.image import Flavour

IMAGE = "bench"
RECIPE = """version = 1
name = "bench"
suite = "bookworm"
epoch = 2025-11-01T00:00:00Z
base = "essential"
packages = ["ca-certificates", "curl"]

[environment]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LANG = "C.UTF-8"

[[users]]
name = "agent"
uid = 1000
"""


@contextlib.contextmanager
def bench_home(kernel: Flavour) -> Iterator[Path]:
    """A home of its own with the image, of which nothing is left; the packages and the kernel stay in the cache."""
    path = Path(tempfile.mkdtemp(prefix="cb-", dir="/tmp"))
    cache = os.environ.get("CAPSEM_CACHE", f"{pwd.getpwuid(os.getuid()).pw_dir}/.cache/capsem")
    kept = {name: value for name, value in os.environ.items() if name.startswith("XDG_")}
    for name in kept:
        del os.environ[name]
    # As a user has it: an interpreter keeps what it compiled.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ |= {"CAPSEM_HOME": str(path), "CAPSEM_CACHE": cache, "HOME": str(path)}
    from capsem.host import recipes
    from capsem.host.build import BuildSpec, build
    from capsem.host.progress import Silent
    from tests.capsem.conftest import end_service

    (path / "bench.toml").write_text(RECIPE)
    try:
        build(BuildSpec(recipe=recipes.load(str(path / "bench.toml")), kernel=kernel), Silent())
        yield path
    finally:
        # Machines outlive the service, also when what was measured did not work.
        purge = [sys.executable, "-m", "capsem.cli", "purge", "--all"]
        subprocess.run(purge, capture_output=True, timeout=120, check=False)
        end_service(path)
        shutil.rmtree(path, ignore_errors=True)


def children() -> dict[int, list[int]]:
    """Who started whom, of all processes of this host."""
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(") ")[2].split()
                found.setdefault(int(fields[1]), []).append(int(entry.name))
    return found


def processes_of(monitor: int) -> list[int]:
    """A machine's processes, by its monitor."""
    tree, found, waiting = children(), [], [monitor]
    while waiting:
        found.append(one := waiting.pop())
        waiting += tree.get(one, [])
    return found


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: what they have alone, and that and their part of what they share (proc_pid_smaps(5))."""

    unique: int
    proportional: int


def memory_of(pids: Iterable[int]) -> Memory:
    """The memory of some processes."""
    unique = proportional = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        fields = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
        unique += (fields["Private_Clean"] + fields["Private_Dirty"]) << 10
        proportional += fields["Pss"] << 10
    return Memory(unique, proportional)


def processor_of(pids: Iterable[int]) -> float:
    """Processor seconds that some processes have used, by the scheduler's count: ticks miss what is short."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def service_of(home: Path) -> int:
    """The service's process."""
    return int((home / "run/service.lock").read_text())


def monitor_of(info: dict[str, Any]) -> int:
    """The monitor's process, of what is known of a machine.

    Raises:
        NotWorkingError: it has none.
    """
    if info["status"] is None:
        raise NotWorkingError(f"{info['id']} is {info['state']}")
    return int(info["status"]["pid"])
