"""Whatever is killed, and in whichever step: nothing lost that was told, nothing that runs on, a state that is clear.

A step is known by what is seen of it from outside (a file, a process, an entry), never by the clock. More of it, and
what hangs, is in test_lives.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.vm.beginnings import anew
from tests.vm.logged import logged
from tests.vm.marks import machines
from tests.vm.processes import alive, qemus_of, until_gone
from tests.vm.test_lives import answered, home_line, types
from tests.vm.test_machines import Home, home

__all__ = ["home"]

pytestmark = machines(1800)


def until(seen: Callable[[], object], what: str, seconds: float = 180.0) -> None:
    """Returns as soon as it is so; that it never is fails the test."""
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, what
        time.sleep(0.001)


def begun(home: Home, *words: str) -> subprocess.Popen[bytes]:
    """The program, at work."""
    return subprocess.Popen(
        [*home_line(), *words],
        env=home.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """How it ended, and what it complained of."""
    _, said = process.communicate(timeout=300)
    return process.returncode, said.decode()


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    until_gone(pid)


def _parents() -> dict[int, int]:
    found = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError):
                found[int(directory.name)] = int(
                    (directory / "stat").read_text().rpartition(") ")[2].split()[1]
                )
    return found


def _of_home(pid: int, home: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes() + b"\0" + Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return alive(pid) and os.fsencode(home) in words


def children_of(pid: int, word: str) -> list[int]:
    """The processes that a process began, or their own did, whose command line has the word."""
    parents, found = _parents(), []
    for one in parents:
        above = one
        while above in parents and above != pid:
            above = parents[above]
        with contextlib.suppress(OSError):
            if above == pid and one != pid and word.encode() in Path(f"/proc/{one}/cmdline").read_bytes():
                found.append(one)
    return found


def strays(home: Home) -> list[int]:
    """Processes of this home that belong to neither its service nor a machine that is listed, nor to us."""
    known = {one["status"]["pid"] for one in json.loads(home.capsem("list", "--json")) if one["status"]}
    known |= {os.getpid(), home.service()}
    parents = _parents()
    found = []
    for pid in {*(one for one in parents if _of_home(one, home.path)), *qemus_of(home.path)}:
        above = pid
        while above in parents and above not in known:
            above = parents[above]
        if above not in known and alive(pid):
            found.append(pid)
    return found


def in_order(home: Home, *names: str) -> None:
    """Machines of these names and no other are there, and every process belongs to one; nothing half-made is left."""
    listed = {one["name"] for one in json.loads(home.capsem("list", "--json"))}
    assert listed == set(names)
    until(lambda: not strays(home), "processes that belong to nobody")
    home.capsem("clean")
    left = [
        *home.path.glob("images/.[bfr]*ing-*"),
        *home.path.glob("images/.removed-*"),
        *home.path.glob("templates/*.new"),
    ]
    assert left == []
    assert len(list((home.path / "sessions").iterdir())) == len(names)


def verified(home: Home, binary: Path, log: str) -> None:
    """A log is whole."""
    done = subprocess.run(
        [binary, "verify", log], env=home.env, capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def running(home: Home, name: str) -> None:
    """It runs, started again where it has crashed, and has what was written to its disk."""
    if home.info(name)["state"] != "running":
        home.capsem("start", name)
    assert home.text("exec", name, "--", "cat", "/root/d") == "disk"


def test_the_service_while_a_template_boots(home: Home) -> None:
    anew(home.path)
    making = begun(home, "create", "--image", "minimal", "-n", "first")
    until(
        lambda: [*home.path.glob("templates/*.new/console.log")] and qemus_of(home.path), "no template boots"
    )
    kill(home.service())
    code, said = ended(making)
    assert code != 0
    assert "the service broke off" in said
    until(lambda: not qemus_of(home.path), "a template boots for nobody")
    in_order(home)


def test_the_service_while_a_machine_starts(home: Home) -> None:
    home.create("-n", "kept")
    home.capsem("exec", "kept", "--", "sh", "-c", "echo disk >/root/d; echo mem >/tmp/m; sync")
    monitors = len([*(home.path / "run").glob("m-*.sock")])
    making = begun(home, "create", "--image", "minimal", "-n", "second")
    until(lambda: len(qemus_of(home.path)) > monitors or making.poll() is not None, "no machine starts")
    kill(home.service())
    told = ended(making)[0] == 0
    found = {one["name"]: one for one in json.loads(home.capsem("list", "--json"))}
    if told:
        assert found["second"]["state"] == "running"
    if "second" in found:
        state = home.info("second")
        assert state["state"] == "running" or state["next_step"], state
        home.capsem("delete", "--force", "second")
    in_order(home, "kept")

    # And while one is resumed: what was in its memory is not lost, whenever that is.
    home.capsem("suspend", "kept")
    directory = Path(home.info("kept")["directory"])
    resuming = begun(home, "resume", "kept")
    until(lambda: not (directory / "suspended").exists() or resuming.poll() is not None, "it is not resumed")
    kill(home.service())
    ended(resuming)
    until(lambda: home.info("kept")["state"] in {"running", "suspended"}, "neither runs nor is suspended")
    if home.info("kept")["state"] == "suspended":
        home.capsem("resume", "kept")
    assert home.text("exec", "kept", "--", "cat", "/tmp/m") == "mem"
    home.capsem("delete", "--force", "kept")
    in_order(home)


@pytest.mark.needs("root")
def test_a_full_disk_is_said_and_leaves_nothing_half_made(home: Home, tmp_path: Path) -> None:
    sessions = home.path / "sessions"
    home.capsem("list")
    assert list(sessions.iterdir()) == []
    work = tmp_path / "work"
    work.mkdir()
    (work / "a").write_text("a\n")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=0700", "full", sessions], check=True)
    try:
        home.create("-n", "full", "--workspace", str(work))
        home.capsem(
            "exec", "full", "--", "sh", "-c", "head -c 2000000 /dev/urandom >b; echo disk >/root/d; sync"
        )
        # What is left is less than one more disk's blocks: an empty file system of ext4, and what was written.
        space = os.statvfs(sessions)
        (sessions / "filling").write_bytes(b"x" * max(0, space.f_bavail * space.f_frsize - (64 << 10)))
        for words in (
            ("create", "--image", "minimal", "-n", "more"), ("fork", "full", "image"), ("branch", "full", "2"),
            ("snapshot", "create", "full", "before"),
        ):  # fmt: skip
            code, said = answered(home, *words)
            assert code != 0, words
            assert "is full (" in said, (words, said)
            assert "room" in said, (words, said)
            assert home.text("exec", "full", "--", "cat", "/root/d") == "disk", words
        # In the machine a write that does not fit fails, and nothing stands still.
        write = "dd if=/dev/urandom of=/root/big bs=64k count=512 conv=fsync 2>/dev/null; echo $?"
        assert home.text("exec", "full", "--", "sh", "-c", write) != "0"
        assert home.text("exec", "full", "--", "cat", "/root/d") == "disk"
        (sessions / "filling").unlink()
        assert {one["name"] for one in json.loads(home.capsem("list", "--json"))} == {"full"}
        assert not [*home.path.glob("images/.forking-*")]
        home.capsem("snapshot", "create", "full", "before")
        home.capsem("delete", "--force", "full")
        assert list(sessions.iterdir()) == []
    finally:
        home.end()
        subprocess.run(["umount", "-l", sessions], check=True)
    assert qemus_of(home.path) == []


@contextlib.contextmanager
def small(place: Path, size: str) -> Iterator[Callable[[int], None]]:
    """A file system of that size in a directory; what comes fills it up to so many bytes."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "full", place], check=True)

    def filled(left: int) -> None:
        (place / "filling").unlink(missing_ok=True)
        space = os.statvfs(place)
        with (place / "filling").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - left)

    try:
        yield filled
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.needs("root")
def test_on_a_full_disk_machines_are_stopped_seen_and_deleted(home: Home) -> None:
    home.capsem("list")
    with small(home.path / "sessions", "64m") as filled:
        try:
            for name in ("one", "two"):
                home.create("-n", name)
            home.capsem("exec", "one", "--", "sh", "-c", "echo disk >/root/d; sync")
            filled(0)
            home.capsem("stop", "one")
            assert home.info("one")["state"] == "stopped"
            code, said = answered(home, "start", "one")
            assert code != 0
            assert "is full (0.0 MB are free)" in said, "the control: nothing can be written"
            os.kill(home.info("two")["status"]["pid"], signal.SIGKILL)
            until(lambda: home.info("two")["state"] == "crashed", "its end is not seen")
            os.kill(home.service(), signal.SIGKILL)
            assert {one["name"] for one in json.loads(home.capsem("list", "--json"))} == {"one", "two"}
            home.capsem("delete", "--force", "two")
            (home.path / "sessions/filling").unlink()
            home.capsem("start", "one")
            assert home.text("exec", "one", "--", "cat", "/root/d") == "disk"
            home.capsem("delete", "--force", "one")
        finally:
            home.end()
    assert qemus_of(home.path) == []


@pytest.mark.needs("root")
@pytest.mark.parametrize(
    ("left", "told"), [(1 << 20, "a disk cannot be made"), (8 << 20, "the template cannot be kept")]
)
def test_a_disk_too_full_for_a_template_is_said(home: Home, left: int, told: str) -> None:
    home.end()  # the service has the template in its memory
    anew(home.path)
    (home.path / "templates").mkdir(mode=0o700)
    with small(home.path / "templates", "64m") as filled:
        try:
            filled(left)
            code, said = answered(home, "create", "--image", "minimal", "-n", "first")
            assert code != 0
            assert told in said, said
            assert (
                "No space left" if left == 1 << 20 else f"disk of {home.path}/templates is full ("
            ) in said
            assert [one.name for one in (home.path / "templates").iterdir()] == ["filling"]
        finally:
            home.end()
    assert list((home.path / "sessions").iterdir()) == []


@pytest.mark.needs("root")
def test_a_full_disk_under_a_log_loses_nothing_and_lets_nothing_happen(
    home: Home, capsule_binary: Path
) -> None:
    home.capsem("list")
    logs = home.path / "logs"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "full", logs], check=True)
    try:
        home.create("-n", "full")
        info = home.info("full")
        log, monitor = info["log"], info["status"]["pid"]
        # Others fill the disk to its last byte while commands are run: what was done is on the log, then or later.
        acknowledged = []
        filling = subprocess.Popen(
            ["sh", "-c", f"sleep 3; dd if=/dev/zero of={logs}/filling bs=64k 2>/dev/null"],
            stderr=subprocess.DEVNULL,
        )
        for number in range(200):
            code, said = answered(home, "exec", "full", "--", "sh", "-c", f"echo {number} >>/root/done")
            if code != 0:
                break
            acknowledged.append(str(number))
        assert filling.wait() != 0 or code != 0
        assert code == 125, said
        assert f"the disk of {logs} is full" in said
        assert "make room there: capsem disk" in said
        for words in (
            ("exec", "full", "--", "touch", "/root/refused"),
            ("cp", "full:/root/done", "/dev/null"),
        ):
            code, said = answered(home, *words)
            assert code == 125, words
            assert "cannot be recorded" in said, (words, said)
        # It runs, and it is asked about.
        assert home.info("full")["state"] == "running"
        assert home.info("full")["status"]["pid"] == monitor
        (logs / "filling").unlink()
        assert home.text("exec", "full", "--", "cat", "/root/done").split() == acknowledged
        assert answered(home, "exec", "full", "--", "test", "-e", "/root/refused")[0] == 1, (
            "what was refused happened"
        )
        kinds = types(log)
        assert (kinds.count("machine.log_full"), kinds.count("machine.log_goes_on")) == (1, 1)
        ran = [one["process"]["argv"][-1] for one in logged(log) if one.get("type") == "machine.exec"]
        for one in acknowledged:
            assert f"echo {one} >>/root/done" in ran, "what was acknowledged is not on the log"
        assert "/root/refused" not in ran[:-1]
        # One that is to start is told the same.
        home.capsem("stop", "full")
        (logs / "filling").write_bytes(b"x" * (5 << 20))
        code, said = answered(home, "start", "full")
        assert code != 0
        assert f"the disk of {logs} is full" in said
        (logs / "filling").unlink()
        home.capsem("start", "full")
        assert home.text("exec", "full", "--", "cat", "/root/done").split() == acknowledged
        home.capsem("stop", "full")
        verified(home, capsule_binary, log)
        home.capsem("delete", "--force", "full")
        in_order(home)
    finally:
        home.end()
        subprocess.run(["umount", "-l", logs], check=True)
    assert qemus_of(home.path) == []


def lost(log: Path) -> list[int]:
    """How much of what a guest told was not recorded, as the host counted it."""
    return [
        one["count"] for one in logged(str(log)) if one.get("type") == "guest.lost" and one["by"] == "host"
    ]


def test_a_guest_that_floods_its_log_fills_no_disk(home: Home) -> None:
    home.capsem("config", "set", "limits.log", "1M")
    home.create("-n", "flood")
    log = Path(home.info("flood")["log"])
    try:
        flood = "i=0; while :; do i=$((i+1)); : >/root/$(printf %0200d $i); rm -f /root/0*; done"
        flooding = begun(home, "exec", "flood", "--", "sh", "-c", flood)
        until(lambda: b"machine.log_full" in log.read_bytes(), "its log has no end")
        size = log.stat().st_size
        assert size < 2 << 20
        time.sleep(5)
        assert log.stat().st_size - size < 64 << 10, "it grows on"
        code, said = answered(home, "exec", "flood", "--", "true")
        assert code == 125
        assert "and limits.log is 1M" in said
        assert "capsem config set limits.log" in said
        home.capsem("config", "set", "limits.log", "8M")
        flooding.kill()
        ended(flooding)
        assert home.text("exec", "flood", "--", "echo", "there") == "there"
        until(lambda: b"machine.log_goes_on" in log.read_bytes(), "that it goes on is not told")
        until(lambda: lost(log), "what was told meanwhile is not counted")
    finally:
        home.capsem("config", "set", "limits.log", "1G")
        home.capsem("delete", "--force", "flood")
        in_order(home)


@pytest.mark.needs("root")
def test_an_image_that_does_not_fit_is_no_image(home: Home, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "full", tmp_path], check=True)
    try:
        cache = os.environ.get("CAPSEM_CACHE", f"{Path.home()}/.cache/capsem")
        done = subprocess.run(
            [*home_line(), "image", "build", "--recipe", "minimal", "--kernel", "stock"],
            env={**home.env, "CAPSEM_HOME": str(tmp_path), "CAPSEM_CACHE": cache}, capture_output=True, text=True,
            timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode != 0
        assert "free some space" in done.stderr or "No space left" in done.stderr
        assert [one.name for one in (tmp_path / "images").iterdir() if one.name != ".lock"] == []
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


@pytest.fixture(scope="module")
def hit(home: Home) -> Iterator[str]:
    """A machine that things happen to; it has something on its disk."""
    home.create("-n", "hit")
    home.capsem("exec", "hit", "--", "sh", "-c", "echo disk >/root/d; sync")
    yield "hit"
    home.capsem("delete", "--force", "hit")


def test_the_service_while_a_machine_is_forked_branched_and_deleted(home: Home, hit: str) -> None:
    directory = Path(home.info(hit)["directory"])
    forking = begun(home, "fork", hit, "image")
    until(lambda: [*directory.glob("copies/*")] or forking.poll() is not None, "nothing is copied")
    kill(home.service())
    told = ended(forking)[0] == 0
    running(home, hit)
    names = {name for one in json.loads(home.capsem("image", "list", "--json")) for name in one["names"]}
    assert names in ({"minimal"}, {"minimal", "image"})
    assert not told or "image" in names
    in_order(home, hit)
    if "image" not in names:
        home.capsem("fork", hit, "image")
    home.capsem("image", "rm", "image")

    before = set((home.path / "sessions").iterdir())
    branching = begun(home, "branch", hit, "2", "-n", "one", "-n", "two")
    until(
        lambda: set((home.path / "sessions").iterdir()) != before or branching.poll() is not None, "no child"
    )
    kill(home.service())
    told = ended(branching)[0] == 0
    running(home, hit)
    found = [one["name"] for one in json.loads(home.capsem("list", "--json")) if one["name"] != hit]
    assert not told or set(found) == {"one", "two"}
    for name in found:
        state = home.info(name)
        assert state["state"] == "running" or state["next_step"], state
        home.capsem("delete", "--force", name)
    in_order(home, hit)

    home.create("-n", "gone")
    gone = Path(home.info("gone")["directory"])
    deleting = begun(home, "delete", "--force", "gone")
    until(lambda: not (gone / "session.json").exists(), "it is not deleted")
    kill(home.service())
    ended(deleting)
    in_order(home, hit)
    assert not gone.exists()


def test_the_nursery_the_monitor_and_qemu_while_they_work(home: Home, hit: str, capsule_binary: Path) -> None:
    # What it forked has its command line, and is not the service's child.
    service = home.service()
    (nursery,) = [pid for pid in children_of(service, "--nursery") if _parents().get(pid) == service]
    kill(nursery)
    assert home.create("-n", "second") == "second", "another nursery takes its place"

    # A QEMU that is killed before its machine was ever there is started again, or it is said why not.
    home.capsem("delete", "--force", "second")
    before = set(qemus_of(home.path))
    making = begun(home, "create", "--image", "minimal", "-n", "second")
    until(lambda: set(qemus_of(home.path)) - before or making.poll() is not None, "no QEMU")
    for pid in set(qemus_of(home.path)) - before:
        kill(pid)
    code, said = ended(making)
    assert code == 0 or "does not start" in said or "crashed" in said, said
    names = {one["name"] for one in json.loads(home.capsem("list", "--json"))}
    assert (code == 0) <= ("second" in names)
    if "second" in names:
        home.capsem("delete", "--force", "second")
    in_order(home, hit)

    # The monitor, while a copy is made: who asked is told, and the disk has what it had.
    info = home.info(hit)
    directory, monitor = Path(info["directory"]), int(info["status"]["pid"])
    forking = begun(home, "fork", hit, "image")
    until(lambda: [*directory.glob("copies/*")] or forking.poll() is not None, "nothing is copied")
    kill(monitor)
    code, said = ended(forking)
    names = {name for one in json.loads(home.capsem("image", "list", "--json")) for name in one["names"]}
    assert (code == 0) == ("image" in names), said
    until(lambda: home.info(hit)["state"] == "crashed", "its end is not noticed")
    assert home.info(hit)["problem"]
    until(lambda: not qemus_of(home.path), "a machine runs on without its monitor")
    in_order(home, hit)
    if "image" in names:
        home.capsem("image", "rm", "image")
    running(home, hit)
    home.capsem("stop", hit)
    verified(home, capsule_binary, info["log"])
    running(home, hit)


def test_the_proxy_takes_the_network_with_it_and_nothing_else(home: Home, hit: str) -> None:
    monitor = int(home.info(hit)["status"]["pid"])
    home.capsem("exec", hit, "--", "sh", "-c", "getent hosts nowhere.example || true")
    until(lambda: children_of(monitor, "capsem.processes.proxy"), "no proxy was started")
    for pid in children_of(monitor, "capsem.processes.proxy"):
        kill(pid)
    assert home.text("exec", hit, "--", "cat", "/root/d") == "disk"
    log = home.info(hit)["log"]
    until(lambda: "machine.network_lost" in types(log), "its end is not on the log")
    assert home.info(hit)["state"] == "running"
    in_order(home, hit)


def test_the_program_in_the_middle_of_what_it_asked_for(home: Home, hit: str) -> None:
    # What a command began is ended with who asked for it.
    asking = begun(home, "exec", hit, "--", "sh", "-c", "echo $$ >/tmp/pid; exec sleep 600")
    until(lambda: "machine.exec" in types(home.info(hit)["log"]), "nothing is executed")
    until(lambda: answered(home, "exec", hit, "--", "test", "-s", "/tmp/pid")[0] == 0, "it does not run")
    kill(asking.pid)
    ended(asking)
    gone = ("exec", hit, "--", "sh", "-c", "! kill -0 $(cat /tmp/pid)")
    until(lambda: answered(home, *gone)[0] == 0, "it runs on in the machine")

    before = set((home.path / "sessions").iterdir())
    making = begun(home, "create", "--image", "minimal", "-n", "second")
    until(lambda: set((home.path / "sessions").iterdir()) != before, "no machine is made")
    kill(making.pid)
    ended(making)
    # Nobody was told of it: it goes, or it was told in that moment and runs.
    there = home.path / "sessions"

    def states() -> list[str]:
        return [one["state"] for one in json.loads(home.capsem("list", "--json")) if one["name"] == "second"]

    until(lambda: set(there.iterdir()) == before or states() == ["running"], "it is neither there nor not")
    answered(home, "delete", "--force", "second")
    until(lambda: set(there.iterdir()) == before, "it is not removed")

    env = {**home.env, "CAPSEM_CACHE": os.environ.get("CAPSEM_CACHE", f"{Path.home()}/.cache/capsem")}
    building = subprocess.Popen(
        [*home_line(), "image", "build", "--recipe", "minimal", "--kernel", "stock", "-n", "again"],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until(
        lambda: [*home.path.glob("images/.building-*/*")] or building.poll() is not None, "nothing is built"
    )
    kill(building.pid)
    building.wait()
    in_order(home, hit)
    assert home.text("exec", hit, "--", "cat", "/root/d") == "disk"
