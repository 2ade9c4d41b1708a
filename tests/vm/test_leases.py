"""Whose machine it is: one made for a program ends with the program, however that ends; any other does not."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vm.logged import logged
from tests.vm.marks import machines
from tests.vm.processes import alive, qemus_of, until_gone
from tests.vm.test_crashes import begun, ended, until
from tests.vm.test_lives import home_line
from tests.vm.test_machines import Home, home

__all__ = ["home"]

pytestmark = machines(900)


def temporary(home: Home) -> list[dict[str, Any]]:
    """The machines without a name that run, as they are listed."""
    found = json.loads(home.capsem("list", "--json"))
    return [one for one in found if one["name"] is None and one["status"] is not None]


def the_one(home: Home) -> dict[str, Any]:
    until(lambda: temporary(home), "there is no temporary machine")
    (one,) = temporary(home)
    return one


@contextlib.contextmanager
def shell(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    """A bare shell on a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*home_line(), "shell", "--image", "minimal"], env=home.env, stdin=theirs, stdout=theirs,
        stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize("verb", ["run", "shell"])
def test_what_a_killed_client_made_for_itself_is_gone(home: Home, verb: str) -> None:
    kept = home.create("-n", "kept")
    try:
        with contextlib.ExitStack() as stack:
            if verb == "run":
                client = begun(home, "run", "--image", "minimal", "--", "sleep", "1000")
                stack.callback(ended, client)
            else:
                client = stack.enter_context(shell(home))
            until(lambda: [one for one in temporary(home) if one["status"]["jobs"]], "nothing runs in it")
            machine = the_one(home)
            status, directory = machine["status"], Path(machine["directory"])
            # Paused it is still there, and so is its machine.
            os.kill(client.pid, signal.SIGSTOP)
            assert home.info(machine["id"])["state"] == "running"
            os.kill(client.pid, signal.SIGKILL)
            for pid in (status["qemu_pid"], status["pid"]):
                until_gone(pid, 120)
            # The service sees to what is left, without being asked.
            until(lambda: not directory.exists(), "its directory is left")
        log = logged(machine["log"])
        (stopped,) = [entry for entry in log if entry.get("type") == "machine.stopped"]
        assert stopped["reason"] == "the client that it was made for has gone"
        assert [one["name"] for one in json.loads(home.capsem("list", "--json"))] == [kept]
        assert alive(home.info(kept)["status"]["qemu_pid"])
    finally:
        home.capsem("delete", "--force", kept)
    assert qemus_of(home.path) == []


def test_a_client_that_was_stopped_does_not_keep_its_machine_from_being_started(home: Home) -> None:
    """Its monitor stays a while for whoever may still read; another takes over meanwhile."""
    home.create("-n", "again")
    client = begun(home, "exec", "again", "--", "sleep", "1000")
    try:
        started = time.monotonic()
        home.capsem("restart", "again", "--force")
        usual = time.monotonic() - started
        ended(client)
        for verbs in ((("stop", "again"), ("start", "again")), (("restart", "again"),)):
            client = begun(home, "exec", "again", "--", "yes")
            until(lambda: home.info("again")["status"]["jobs"], "nothing runs in it")
            monitor = home.info("again")["status"]["pid"]
            os.kill(client.pid, signal.SIGSTOP)
            time.sleep(1)  # it writes on, until nothing more fits between them
            started = time.monotonic()
            for words in verbs:
                home.capsem(*words)
            took = time.monotonic() - started
            assert took < usual + 5, f"{verbs} took {took:.1f} s, a restart {usual:.1f} s"
            assert home.text("exec", "again", "--", "echo", "there") == "there"
            until_gone(monitor, 60)
            assert home.text("exec", "again", "--", "echo", "still") == "still"
            assert home.info("again")["state"] == "running"
            os.kill(client.pid, signal.SIGCONT)
            assert ended(client)[0] != 0
    finally:
        client.kill()
        home.capsem("delete", "--force", "again")
    assert qemus_of(home.path) == []


def test_a_machine_that_was_created_outlives_who_made_it(home: Home) -> None:
    making = begun(home, "create", "--image", "minimal")
    out, _ = making.communicate(timeout=300)
    machine = out.decode().strip()
    assert home.text("exec", machine, "--", "echo", "there") == "there"
    # Neither does it end with the service.
    service = home.service()
    os.kill(service, signal.SIGKILL)
    until_gone(service)
    assert home.text("exec", machine, "--", "echo", "there") == "there"
    home.capsem("delete", "--force", machine)


def test_the_client_is_killed_while_no_service_is_there(home: Home) -> None:
    client = begun(home, "run", "--image", "minimal", "--", "sleep", "1000")
    until(lambda: [one for one in temporary(home) if one["status"]["jobs"]], "nothing runs in it")
    machine = the_one(home)
    service = home.service()
    os.kill(service, signal.SIGKILL)
    until_gone(service)
    os.kill(client.pid, signal.SIGKILL)
    ended(client)
    for pid in (machine["status"]["qemu_pid"], machine["status"]["pid"]):
        until_gone(pid, 120)
    assert home.machines() == []
    assert not Path(machine["directory"]).exists()


def test_a_machine_that_was_given_a_name_stays(home: Home) -> None:
    client = begun(home, "run", "--image", "minimal", "--", "sh", "-c", "echo d >/root/d; sync; sleep 1000")
    until(lambda: [one for one in temporary(home) if one["status"]["jobs"]], "nothing runs in it")
    machine = the_one(home)["id"]
    home.capsem("persist", machine, "mine")
    os.kill(client.pid, signal.SIGTERM)
    code, said = ended(client)
    assert code != 0
    until(lambda: home.info("mine")["status"]["jobs"] == 0, "its command runs on")
    assert home.info("mine")["state"] == "running", said
    assert home.text("exec", "mine", "--", "cat", "/root/d") == "d"
    home.capsem("delete", "--force", "mine")


def program(home: Home, text: str) -> subprocess.Popen[bytes]:
    """A Python program that makes machines."""
    return subprocess.Popen(
        [sys.executable, "-c", text], env=home.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )


def told_by(process: subprocess.Popen[bytes]) -> list[str]:
    """One line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline().decode().split()


MANY = """
import time
from capsem import Sandbox
own, kept, named = (Sandbox.create("minimal", **how) for how in ({}, {"detached": True}, {"name": "mine"}))
later, again = Sandbox.create("minimal"), Sandbox.create("minimal")
later.detach()
(child,) = own.branch(1)
again.commands.run("echo m >/tmp/m")
again.pause()
again.resume()
assert again.commands.run("cat /tmp/m").stdout == "m\\n"
assert Sandbox.connect(own.sandbox_id).commands.run("true").exit_code == 0
print(*(box.sandbox_id for box in (own, child, again, kept, later, named)), flush=True)
time.sleep(1000)
"""


def test_what_a_python_program_made_ends_with_it_unless_it_was_let_stay(home: Home) -> None:
    with program(home, MANY) as made:
        ids = told_by(made)
        assert len(ids) == 6
        gone, stays = ids[:3], ids[3:]
        found = {one["id"]: one for one in json.loads(home.capsem("list", "--json"))}
        assert set(ids) == set(found)
        # Another program works in it while its own is there.
        assert home.text("exec", gone[0], "--", "echo", "there") == "there"
        made.kill()
        for one in gone:
            for pid in (found[one]["status"]["qemu_pid"], found[one]["status"]["pid"]):
                until_gone(pid, 120)
        until(lambda: set(home.machines()) == set(stays), "what ended is still listed")
        until(lambda: not [one for one in gone if Path(found[one]["directory"]).exists()], "one is left")
        other = program(
            home,
            f"""
from capsem import Sandbox
for name in {stays!r}:
    box = Sandbox.connect(name)
    print(box.commands.run("echo there").stdout, end="")
    box.kill()
""",
        )
        out, _ = other.communicate(timeout=300)
        assert out.decode().split() == ["there"] * 3
        until(lambda: home.machines() == [], "it was killed")
    assert qemus_of(home.path) == []


LET_GO = """
import asyncio
from capsem import AsyncSandbox
async def make():
    return (await AsyncSandbox.create("minimal")).sandbox_id
async def use(machine):
    return (await (await AsyncSandbox.connect(machine)).commands.run("echo there")).stdout
machine = asyncio.run(make())
import gc
gc.collect()
print(machine, asyncio.run(use(machine)), flush=True)
"""


def test_the_program_holds_it_not_the_object_or_its_loop(home: Home) -> None:
    made = program(home, LET_GO)
    out, _ = made.communicate(timeout=300)
    machine, said = out.decode().split()
    assert said == "there"
    # It has ended in order and left nothing.
    until(lambda: machine not in home.machines(), "it outlives its program")
    until(lambda: not qemus_of(home.path), "a QEMU runs for nobody")
