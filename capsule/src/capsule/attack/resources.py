"""Attacks by appetite: the stage's policy sets limits, and the host counts.

FAMILY.cases  # the list, in order
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from capsule.attack import host
from capsule.attack.case import Family, Launch
from capsule.attack.inside import Inside
from capsule.attack.judges import none_left
from capsule.attack.stage import Stage

FAMILY = Family(none_left)
case = FAMILY.case
MIB = 1 << 20


def _watch(
    measure: Callable[[Stage], int], allowed: int, unit: str, *, grace: float = 0.0
) -> tuple[Callable[[Stage], None], Callable[[Stage], str | None]]:
    """A pair of prepare and judge: the largest value seen from the host while the command ran.

    `grace` is how many seconds it may stay above what is allowed: a limit that is kept by looking ends the
    run at the next look.
    """

    def prepare(stage: Stage) -> None:
        stop = threading.Event()
        over: list[tuple[float, int]] = []
        stage.notes["over"] = over

        def look() -> None:
            while not stop.wait(0.02):
                now = measure(stage)
                if now > allowed:
                    over.append((time.monotonic(), now))

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()

        def finish() -> None:
            stop.set()
            watcher.join()

        stage.resources.callback(finish)

    def judge(stage: Stage) -> str | None:
        over = stage.notes["over"]
        assert isinstance(over, list)
        if over and over[-1][0] - over[0][0] >= grace:
            most = max(value for _, value in over)
            return f"{most} {unit} at once, {allowed} allowed"
        return none_left(stage)

    return prepare, judge


def _tasks(stage: Stage) -> int:
    return len(host.actors(stage.id, stage.capsule))


def _resident(stage: Stage) -> int:
    total = 0
    for pid in host.actors(stage.id, stage.capsule):
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
    return total * os.sysconf("SC_PAGE_SIZE") // MIB


_prepare, _judge = _watch(_tasks, 48, "processes", grace=0.5)


@case(
    "limit.fork-bomb",
    37,
    "fork without end",
    prepare=_prepare,
    judge=_judge,
    may_die=True,
    launch=Launch(narrow={"limits": {"processes": 32}}, seconds=2),
)
def fork_bomb(a: Inside) -> None:
    made = 0
    while made < 100:
        made += 1
        if a.attempt(os.fork) == 0:
            time.sleep(10)
            os._exit(0)
    time.sleep(2)


_prepare, _judge = _watch(_resident, 160, "MiB", grace=0.5)


@case(
    "limit.memory",
    37,
    "touch far more memory than allowed, in several processes",
    prepare=_prepare,
    judge=_judge,
    may_die=True,
    launch=Launch(narrow={"limits": {"memory": "96MiB"}}, seconds=4),
)
def memory(a: Inside) -> None:
    kept = []
    for _ in range(3):
        if a.attempt(os.fork) == 0:
            break
    for _ in range(16):
        kept.append(bytearray(b"x" * (8 << 20)))
        time.sleep(0.02)
    time.sleep(2)


def _big_file(stage: Stage) -> str | None:
    for folder, _, names in os.walk(stage.ws):
        for name in names:
            size = os.lstat(os.path.join(folder, name)).st_size
            if size > 9 * MIB:
                return f"a file of {size // MIB} MiB, 8 MiB allowed"
    return None


@case(
    "limit.file-size",
    37,
    "write, extend and allocate a file beyond the limit",
    judge=_big_file,
    may_die=True,
    launch=Launch(narrow={"limits": {"file_size": "8MiB"}}),
)
def file_size(a: Inside) -> None:
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    descriptor = os.open(a.ws + "/big", os.O_RDWR | os.O_CREAT, 0o644)
    a.attempt(os.posix_fallocate, descriptor, 0, 32 << 20)
    a.attempt(os.ftruncate, descriptor, 32 << 20)
    a.attempt(os.truncate, a.ws + "/big", 32 << 20)
    for _ in range(16):
        a.attempt(os.write, descriptor, bytes(1 << 20))


@case(
    "limit.output",
    37,
    "flood standard output",
    judge=lambda stage: (
        f"{stage.out_total // MIB} MiB came out, 1 MiB allowed" if stage.out_total > 1.5 * MIB else None
    ),
    may_die=True,
    launch=Launch(narrow={"limits": {"output": "1MiB"}}, seconds=5),
)
def output(a: Inside) -> None:
    for _ in range(64):
        os.write(1, b"x" * (256 << 10))


_prepare, _judge = _watch(
    lambda stage: max(
        (len(host.descriptors(pid)) for pid in host.actors(stage.id, stage.capsule)), default=0
    ),
    80,
    "descriptors",
)


@case(
    "limit.open-files",
    37,
    "hold thousands of descriptors",
    prepare=_prepare,
    judge=_judge,
    launch=Launch(narrow={"limits": {"open_files": 64}}),
)
def open_files(a: Inside) -> None:
    import resource

    with contextlib.suppress(ValueError):
        a.attempt(resource.setrlimit, resource.RLIMIT_NOFILE, (4096, 4096))
    for _ in range(600):
        a.attempt(os.dup, 1)
    time.sleep(0.2)


def _processor(stage: Stage) -> int:
    ticks = 0
    for pid in host.actors(stage.id, stage.capsule):
        with contextlib.suppress(OSError, ValueError):
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(words[11]) + int(words[12])
    return ticks * 1000 // os.sysconf("SC_CLK_TCK")


_prepare, _judge = _watch(_processor, 1000, "ms of processor time", grace=0.5)


@case(
    "limit.cpu",
    37,
    "burn the processor in many processes",
    prepare=_prepare,
    judge=_judge,
    may_die=True,
    launch=Launch(narrow={"limits": {"cpu": "1s"}}, seconds=5),
)
def cpu(a: Inside) -> None:
    for _ in range(3):
        a.attempt(os.fork)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        pass


@case(
    "limit.wall-time",
    34,
    "sleep past the policy's wall time",
    judge=lambda stage: (
        "it ran to its end after 4 s, 1 s allowed" if (stage.ws / "overslept").exists() else none_left(stage)
    ),
    may_die=True,
    launch=Launch(narrow={"limits": {"wall_time": "1s"}}),
)
def wall_time(a: Inside) -> None:
    # How long a launch takes says little on a busy machine; whether the end was reached says all.
    time.sleep(4)
    a.write(a.ws + "/overslept", text="x")


def _filled(stage: Stage) -> str | None:
    path = stage.ws / "filled"
    size = path.stat().st_size if path.exists() else 0
    return f"{size // 1024} MiB went into a private directory of 8 MiB" if size > 10 * 1024 else None


@case(
    "limit.private-disk",
    37,
    "fill the private temporary directory",
    judge=_filled,
    launch=Launch(narrow={"limits": {"disk": "8MiB"}}),
)
def private_disk(a: Inside) -> None:
    written = 0
    descriptor = os.open("/tmp/capsule-attack-fill", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        for _ in range(32):
            written += os.write(descriptor, bytes(1 << 20))
    finally:
        if not a.confined:
            os.unlink("/tmp/capsule-attack-fill")
        # The file's size is for the host to see: a copy into the workspace cannot lie about more than it has.
        a.write(a.ws + "/filled", text="x" * (written >> 10))


def _monitor_stuck(stage: Stage) -> str | None:
    if stage.elapsed > 3.5:
        return f"the timeout of 1 s took {stage.elapsed:.1f} s"
    return none_left(stage)


@case(
    "limit.monitor-stall",
    0,
    "stall the monitor: opens of FIFOs that never return, in many threads",
    judge=_monitor_stuck,
    may_die=True,
    launch=Launch(seconds=1),
    tried_without="the run ended in time; without a sandbox there is no monitor to stall",
)
def monitor_stall(a: Inside) -> None:
    import threading

    a.attempt(os.mkfifo, a.ws + "/pipe")

    def stall(flags: int) -> None:
        a.attempt(os.open, a.ws + "/pipe", flags)

    for number in range(40):
        threading.Thread(
            target=stall, args=(os.O_WRONLY if number % 2 else os.O_WRONLY | os.O_CREAT,), daemon=True
        ).start()
    time.sleep(6)
