"""Time whole commands side by side: interleaved rounds, medians, ratios. Refuses to time what does not work.

Example:
    rounds = interleaved({"bare": ["/bin/true"]}, rounds=20)
    print(summarise(rounds, reference="bare"))
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One measured command: times in milliseconds, ratio of medians to the reference."""

    name: str
    rounds: int
    minimum: float
    median: float
    p95: float
    ratio: float


class NotWorkingError(Exception):
    """A command that should be timed does not do its work."""


def once(argv: Sequence[str], env: Mapping[str, str], cwd: str | None = None) -> float:
    """Run ``argv`` to its end; milliseconds from spawn to wait. Raises NotWorkingError on a non-zero exit."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
    ]
    before = Path.cwd() if cwd else None
    if cwd:
        os.chdir(cwd)
    try:
        start = time.perf_counter_ns()
        pid = os.posix_spawn(argv[0], list(argv), dict(env), file_actions=actions)
        _, status = os.waitpid(pid, 0)
        elapsed = (time.perf_counter_ns() - start) / 1e6
    finally:
        if before:
            os.chdir(before)
    if status != 0:
        raise NotWorkingError(f"{' '.join(argv)[:200]}: status {status}")
    return elapsed


def interleaved(
    commands: Mapping[str, Sequence[str]],
    rounds: int,
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    seldom: Mapping[str, int] | None = None,
    warmup: int = 2,
) -> dict[str, list[float]]:
    """Time every command once per round, in a new random order each round, so that drift falls on all alike.

    ``seldom`` names slow commands and how many rounds they take part in.
    """
    environment = dict(os.environ if env is None else env)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for argv in commands.values():
        for _ in range(warmup):
            once(argv, environment, cwd)
    order = random.Random(1)
    for index in range(rounds):
        names = [n for n in commands if index < (seldom or {}).get(n, rounds)]
        order.shuffle(names)
        for name in names:
            times[name].append(once(commands[name], environment, cwd))
    return times


def summarise(times: Mapping[str, Sequence[float]], reference: str) -> list[Row]:
    """Median, minimum, 95th percentile per command, and the ratio of medians to ``reference``."""
    base = statistics.median(times[reference])
    rows = []
    for name, values in times.items():
        ordered = sorted(values)
        rows.append(
            Row(
                name,
                len(ordered),
                round(ordered[0], 3),
                round(statistics.median(ordered), 3),
                round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 3),
                round(statistics.median(ordered) / base, 3),
            )
        )
    return rows


def machine() -> dict[str, str]:
    """What was measured on: processor, cores, memory, kernel, Python, and how busy it was meanwhile."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = next(
        line.split()[1]
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal")
    )
    return {
        "processor": cpu,
        "cores": str(os.cpu_count()),
        "memory_gib": f"{int(memory) / 2**20:.0f}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def version(argv: Sequence[str]) -> str:
    """First line of a program's version output, or ``absent``."""
    try:
        out = subprocess.run(list(argv), capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "absent"
    return (
        (out.stdout or out.stderr).strip().splitlines()[0]
        if (out.stdout or out.stderr).strip()
        else "unknown"
    )


def save(question: str, command: str, sections: Mapping[str, Sequence[Row]], **facts: object) -> Path:
    """Write ``results/<question>.json``: the machine, the command that repeats it, and every row."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{question}.json"
    document = {
        "question": question,
        "command": command,
        "machine": machine(),
        "facts": facts,
        "sections": {title: [asdict(row) for row in rows] for title, rows in sections.items()},
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def table(rows: Sequence[Row]) -> str:
    """A plain table that fits 80 columns."""
    lines = [f"{'':<34}{'min ms':>10}{'median ms':>11}{'p95 ms':>10}{'ratio':>9}{'n':>6}"]
    lines += [
        f"{r.name[:33]:<34}{r.minimum:>10.3f}{r.median:>11.3f}{r.p95:>10.3f}{r.ratio:>9.2f}{r.rounds:>6}"
        for r in rows
    ]
    return "\n".join(lines)
