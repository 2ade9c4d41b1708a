"""Machines as a person has them: the program, its service, monitors, QEMU and a guest, with nothing taken out.

Every file of tests has a home of its own; the image and the template in it are those of the first that needs them.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capsem.host import recipes
from capsem.host.build import BuildSpec, build
from capsem.host.progress import Silent
from capsem.vm.image import Flavour
from tests.capsem.conftest import end_service
from tests.vm.beginnings import copied
from tests.vm.logged import logged
from tests.vm.machines import flavours
from tests.vm.marks import machines
from tests.vm.processes import alive, qemus_of, until_gone

pytestmark = machines(900)


OF_THE_KERNEL = {"system calls", "kernel interfaces"}


class Home:
    """One `CAPSEM_HOME` with an image, and the program that works in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # The service lives longer than a test: keys and logs are those of one HOME throughout.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
        self.env = {**kept, "CAPSEM_HOME": str(path), "HOME": str(path)}

    def capsem(self, *words: str, given: bytes = b"", code: int = 0, seconds: float = 180) -> bytes:
        """Run the program; what it wrote to standard output. It has to end with `code`, and in time."""
        done = subprocess.run(
            [sys.executable, "-m", "capsem.cli", *words],
            input=given, capture_output=True, env=self.env, timeout=seconds, check=False,
        )  # fmt: skip
        assert done.returncode == code, (words, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    def text(self, *words: str) -> str:
        return self.capsem(*words).decode().strip()

    def complaints(self, *words: str) -> str:
        """What it wrote to standard error."""
        done = subprocess.run(
            [sys.executable, "-m", "capsem.cli", *words],
            capture_output=True, text=True, env=self.env, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (words, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done.stderr

    def build(self, name: str, kernel: Flavour) -> None:
        """An image of the recipe `minimal`, from what is kept of earlier ones."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CAPSEM_HOME", str(self.path))
            patch.setenv("CAPSEM_CACHE", f"{pwd.getpwuid(os.getuid()).pw_dir}/.cache/capsem")
            build(BuildSpec(recipe=recipes.load("minimal"), kernel=kernel, name=name), Silent())

    def create(self, *words: str) -> str:
        return self.text("create", "--image", "minimal", *words)

    def doctor(self, machine: str) -> dict[str, tuple[str, str]]:
        """What the agent found inside: group and outcome by name. Debian's kernel brings what ours has not."""
        report = json.loads(self.capsem("doctor", "--json", machine, code=int(flavours()[0] == "stock")))
        found = {check["name"]: (check["group"], check["outcome"]) for check in report["checks"]}
        failed = {name: group for name, (group, outcome) in found.items() if outcome == "failed"}
        if flavours()[0] == "stock":
            failed = {name: failed[name] for name in failed if failed[name] not in OF_THE_KERNEL}
        assert failed == {}
        return found

    def info(self, machine: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.capsem("info", "--json", machine))
        return found

    def machines(self) -> list[str]:
        return [one["id"] for one in json.loads(self.capsem("list", "--json"))]

    def service(self) -> int:
        return int((self.path / "run/service.lock").read_text())

    def end(self) -> None:
        """Whatever a test did, nothing of it runs on."""
        if (self.path / "run").exists():
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                self.capsem("purge", "--all")
        end_service(self.path)
        for pid in qemus_of(self.path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def begun(path: Path) -> None:
    """An image and its template in a home, and nothing that runs."""
    home = Home(path)
    try:
        home.build("minimal", flavours()[0])
        home.capsem("run", "--image", "minimal", "--", "true", seconds=600)
    finally:
        home.end()


@pytest.fixture(scope="module")
def home(first_home: Path) -> Iterator[Home]:
    home = Home(Path(tempfile.mkdtemp(prefix="cm-", dir="/tmp")))
    try:
        copied(first_home, home.path)
        yield home
    finally:
        home.end()
        shutil.rmtree(home.path, ignore_errors=True)


@pytest.fixture
def build_machine(home: Home) -> Iterator[str]:
    """A machine named `build` that runs."""
    assert home.create("-n", "build") == "build"
    try:
        yield "build"
    finally:
        home.capsem("delete", "--force", "build")


def test_a_command_in_a_machine_of_its_own(home: Home) -> None:
    run = ("run", "--image", "minimal", "--")
    assert home.capsem(*run, "true") == b""
    home.capsem(*run, "sh", "-c", "exit 3", code=3)
    given = os.urandom(300_000)
    assert home.capsem(*run, "cat", given=given) == given
    kernel = home.text(*run, "uname", "-r")
    assert kernel != os.uname().release, "the kernel is the machine's"
    assert home.machines() == []
    assert qemus_of(home.path) == []


def test_a_whole_life(home: Home, tmp_path: Path, capsule_binary: Path) -> None:
    content = os.urandom(400_000)
    (tmp_path / "in").write_bytes(content)
    said = home.complaints("create", "--image", "minimal", "-n", "life", "--disk", "64M")
    assert said == ""
    log = home.info("life")["log"]
    home.capsem("cp", str(tmp_path / "in"), "life:/root/there")
    home.capsem("exec", "life", "--", "sh", "-c", "cp /root/there /root/back; sync")
    home.capsem("cp", "life:/root/back", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == content
    assert home.text("exec", "life", "--", "hostname") == "life"
    home.capsem("delete", "life", code=1)
    home.capsem("stop", "life")
    assert qemus_of(home.path) == []
    home.capsem("exec", "life", "--", "true", code=1)
    home.capsem("start", "life")
    assert home.capsem("exec", "life", "--", "cat", "/root/back") == content, "its disk outlives its stop"
    home.capsem("stop", "life")
    home.capsem("delete", "life")
    assert home.machines() == []
    verified = subprocess.run(
        [capsule_binary, "verify", log],
        capture_output=True,
        text=True,
        env=home.env,
        timeout=60,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    entries = logged(log)
    kinds = [entry["type"] for entry in entries if str(entry.get("type", "")).startswith("machine.")]
    assert kinds.count("machine.started") == kinds.count("machine.stopped") == 2
    assert [entry["argv"] for entry in entries if entry.get("type") == "machine.exec"][1] == ["hostname"]
    spoiled = tmp_path / "spoiled.log"
    spoiled.write_bytes(Path(log).read_bytes().replace(b'"hostname"', b'"hostmane"'))
    refused = subprocess.run(
        [capsule_binary, "verify", spoiled], capture_output=True, timeout=60, check=False
    )
    assert refused.returncode != 0, "a record that was changed is not accepted"


def test_two_clones_of_one_template_are_two_machines(home: Home) -> None:
    ask = ("sh", "-c", "hostname; head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n'")
    names = [home.create("-n", name) for name in ("one", "two")]
    try:
        assert all(home.info(name)["template"] for name in names)
        said = [home.text("exec", name, "--", *ask).split() for name in names]
    finally:
        for name in names:
            home.capsem("delete", "--force", name)
    assert [hostname for hostname, _ in said] == names
    assert all(re.fullmatch("[0-9a-f]{64}", random) for _, random in said)
    assert said[0][1] != said[1][1]


def test_qemu_is_held(home: Home, build_machine: str) -> None:
    found = home.info(build_machine)
    (pid,) = qemus_of(home.path)
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert status["CapEff"] == status["CapPrm"] == "0" * 16
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    for kind in ("net", "mnt", "pid", "user", "ipc"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
    cards = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    assert {line.split(":")[0].strip() for line in cards} <= {"lo"}
    links = []
    for entry in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/{pid}/fd/{entry}"))
    image = home.path / "images" / found["digest"] / "root.squashfs"
    files = {link for link in links if link.startswith("/") and not link.startswith(("/dev/", "/memfd:"))}
    assert files == {str(image), f"{found['directory']}/disk"}, "no file but its image and its disk"
    assert any(link.startswith("/memfd:") for link in links), "its memory"


def test_a_monitor_that_is_killed_leaves_no_machine(home: Home) -> None:
    name = "lost"
    said = home.complaints("create", "--image", "minimal", "-n", name, "--disk", "none")
    assert "a stop loses what was written in it" in said
    found = home.info(name)
    (pid,) = qemus_of(home.path)
    os.kill(found["status"]["pid"], signal.SIGKILL)
    until_gone(pid)
    assert home.info(name)["state"] == "crashed"
    home.capsem("start", name)
    assert home.text("exec", name, "--", "echo", "again") == "again"
    home.capsem("delete", "--force", name)
    assert qemus_of(home.path) == []


def test_a_service_that_is_killed_leaves_machines_and_no_orphans(home: Home) -> None:
    kept, temporary = home.create("-n", "kept"), home.create()
    before = home.service()
    ended = home.info(temporary)["status"]["pid"]
    os.kill(before, signal.SIGKILL)
    until_gone(before)
    os.kill(ended, signal.SIGKILL)
    until_gone(ended)
    assert home.text("exec", kept, "--", "echo", "still") == "still"
    assert home.service() != before
    assert home.machines() == [home.info(kept)["id"]], "what ended meanwhile is put in order"
    assert not (home.path / "sessions" / temporary).exists()
    assert len(qemus_of(home.path)) == 1
    home.capsem("delete", "--force", kept)
    assert qemus_of(home.path) == []


def test_a_client_that_is_killed_ends_its_command(home: Home, build_machine: str) -> None:
    client = subprocess.Popen(
        [sys.executable, "-m", "capsem.cli", "exec", build_machine, "--", "sh", "-c", "echo here; exec sleep 300"],
        env=home.env, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert client.stdout is not None
    assert client.stdout.readline() == b"here\n"
    client.kill()
    client.wait()
    client.stdout.close()
    until = time.monotonic() + 20
    while home.info(build_machine)["status"]["jobs"]:
        assert time.monotonic() < until
        time.sleep(0.05)
    count = "cat /proc/[0-9]*/comm 2>/dev/null | grep -c ^sleep || true"
    assert home.text("exec", build_machine, "--", "sh", "-c", count) == "0"
    assert alive(home.service())


_ATTENDS = """
import sys
from capsem import Sandbox
box = Sandbox.connect(sys.argv[1])
running = box.commands.run("read x; echo $x; exec sleep 300", background=True, timeout=None)
box.commands.send_stdin(running.pid, "from another\\n")
assert box.commands.kill(running.pid)
box.set_timeout(1000)
box.set_timeout(5)
print(running.pid)
"""


def test_who_attends_and_a_deadline_are_recorded_and_a_stopped_client_holds_nothing(home: Home) -> None:
    machine = home.create("-n", "timed")
    client = None
    try:
        log, status = home.info(machine)["log"], home.info(machine)["status"]
        client = subprocess.Popen(
            [sys.executable, "-m", "capsem.cli", "exec", machine, "--", "cat", "/dev/zero"],
            env=home.env, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert client.stdout is not None
        assert client.stdout.read(1) == b"\0"
        client.send_signal(signal.SIGSTOP)
        told = subprocess.run(
            [sys.executable, "-c", _ATTENDS, machine], env=home.env, capture_output=True, text=True, timeout=180,
            check=True,
        )  # fmt: skip
        pid = int(told.stdout)
        # Its time ends it, and its monitor does not wait for who will never read.
        for process in (status["qemu_pid"], status["pid"]):
            until_gone(process, 60)
        found = [
            one for one in logged(log) if str(one.get("type")).startswith(("machine.att", "machine.dead"))
        ]
        first = next(one for one in logged(log) if "read x" in str(one.get("argv")))
        acts = [(one["as"], one["exec"], one["pid"]) for one in found if one["type"] == "machine.attended"]
        assert acts == [(how, first["event"]["id"], pid) for how in ("connect", "stdin", "connect", "kill")]
        assert [(one["type"], one.get("reason"), one["after_ms"]) for one in found[4:]] == [
            ("machine.deadline", "set", 1_000_000), ("machine.deadline", "moved", 5000),
            ("machine.deadline_came", None, 5000),
        ]  # fmt: skip
        assert "its time of 5 s was over" in home.text("timeline", machine)
        assert "signal 9, process" in home.text("history", machine)
        asked = "SELECT count(*) FROM events WHERE entry = 'machine.attended'"
        assert json.loads(home.capsem("query", "--json", machine, asked))["rows"] == [[4]]
        home.capsem("verify", machine)
        home.capsem("start", machine)
        assert home.text("exec", machine, "--", "echo", "again") == "again"
    finally:
        if client is not None:
            client.kill()
            client.wait()
            assert client.stdout is not None
            client.stdout.close()
        home.capsem("delete", "--force", machine)
