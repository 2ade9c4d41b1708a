"""A machine at rest leaves its host alone, and the first commands of a new one wait for nothing that could be there."""

from __future__ import annotations

import time
from pathlib import Path

from tests.vm.marks import machines
from tests.vm.processes import qemus_of
from tests.vm.test_machines import Home, home

__all__ = ["home"]

pytestmark = machines(900)

# The interval timer alone woke an idle QEMU 36 times a second.
WAKES_A_SECOND = 25.0
WINDOW_SECONDS, WINDOWS = 3.0, 60


def wakes(pid: int) -> int:
    """How often the first thread of a process has waited for something so far."""
    lines = Path(f"/proc/{pid}/task/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def test_a_machine_at_rest_seldom_wakes_its_emulator(home: Home) -> None:
    home.create("-n", "rests")
    try:
        assert home.text("exec", "rests", "--", "cat", "/proc/sys/vm/stat_interval") == "60"
        (qemu,) = qemus_of(home.path)
        seen: list[float] = []
        # What a start leaves to be done is done some time later.
        while not seen or seen[-1] > WAKES_A_SECOND:
            assert len(seen) < WINDOWS, seen
            before, begun = wakes(qemu), time.monotonic()
            time.sleep(WINDOW_SECONDS)
            seen.append((wakes(qemu) - before) / (time.monotonic() - begun))
        # It sleeps, and is there all the same.
        assert home.text("exec", "rests", "--", "echo", "awake") == "awake"
        assert wakes(qemu) > before
    finally:
        home.capsem("delete", "--force", "rests")


def test_the_first_commands_of_a_machine_read_nothing_of_its_image(home: Home) -> None:
    # A shell's own `read`: what counts reads nothing itself.
    script = """
        count() { while read -r reads rest; do echo $reads; done < /sys/block/vda/stat; }
        count; count
        /usr/bin/true; /usr/bin/cat /dev/null; /usr/bin/head /dev/null; /usr/bin/env >/dev/null; count
        /usr/bin/od /dev/null >/dev/null; count
    """
    home.create("-n", "reads")
    try:
        said = home.text("exec", "reads", "--", "sh", "-c", script).split()
        warm, before, after, other = map(int, said)
        assert warm == before, "counting costs nothing"
        assert after == before, "the template has all of it in its memory"
        assert other > after, "what it has not is read, and seen here"
    finally:
        home.capsem("delete", "--force", "reads")


def test_a_machine_that_wrote_nothing_has_nothing_to_write_to_its_disk(home: Home) -> None:
    # What its template's boot wrote is on the disk that each clone has a copy of. A kernel writes what is 5 s old.
    script = """
        count() { while read -r _ _ _ _ writes rest; do echo $writes; done < /sys/block/vdb/stat; }
        count; sleep 8; count
        echo mine > /root/mine; sync; count
    """
    home.create("-n", "writes")
    try:
        fresh, rested, wrote = map(int, home.text("exec", "writes", "--", "sh", "-c", script).split())
        assert rested == fresh
        assert wrote > rested, "what it does write is seen here"
    finally:
        home.capsem("delete", "--force", "writes")
