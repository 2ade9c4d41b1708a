"""Versions that differ, as real processes: a newer client gets a service of its own version, and machines run on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import capsem
from capsem.wire.versions import VERSION, WIRE
from tests.vm.marks import machines
from tests.vm.processes import alive, qemus_of, until_gone
from tests.vm.test_crashes import begun, ended, in_order, until, verified
from tests.vm.test_lives import answered
from tests.vm.test_machines import Home, home

__all__ = ["home"]

pytestmark = machines(1800)


def installation(place: Path, version: str, *changes: tuple[str, str, str]) -> Path:
    """The same program elsewhere, as of another version; `changes` are of a file, from what, to what."""
    source = Path(capsem.__file__).parent
    shutil.copytree(source, place / "capsem", ignore=shutil.ignore_patterns("__pycache__"))
    for file, before, after in changes:
        text = (place / "capsem" / file).read_text()
        assert before in text, (file, before)
        (place / "capsem" / file).write_text(text.replace(before, after))
    versions = place / "capsem/wire/versions.py"
    text = versions.read_text()
    assert f'VERSION = "{VERSION}"' in text
    versions.write_text(text.replace(f'VERSION = "{VERSION}"', f'VERSION = "{version}"'))
    about = place / f"capsem-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: capsem\nVersion: {version}\n")
    return place


@contextlib.contextmanager
def installed(home: Home, place: Path) -> Iterator[None]:
    """What is run meanwhile is that installation's."""
    home.env["PYTHONPATH"] = str(place)
    try:
        yield
    finally:
        del home.env["PYTHONPATH"]


def is_of(pid: int, place: Path) -> bool:
    """Whether a process is one of that installation."""
    return alive(pid) and os.fsencode(place) in Path(f"/proc/{pid}/environ").read_bytes()


@pytest.fixture
def on(home: Home) -> Iterator[str]:
    """A machine that runs, with something in its memory."""
    home.create("-n", "on")
    home.capsem("exec", "on", "--", "sh", "-c", "echo mem >/tmp/m")
    try:
        yield "on"
    finally:
        answered(home, "delete", "--force", "on")


def pids(home: Home, name: str) -> tuple[int, int]:
    status = home.info(name)["status"]
    return status["pid"], status["qemu_pid"]


def test_a_newer_client_replaces_the_service_and_no_machine(
    home: Home, on: str, tmp_path: Path, capsule_binary: Path
) -> None:
    before, old, log = pids(home, on), home.service(), home.info(on)["log"]
    # Something is at work meanwhile: it is finished, and whoever asked is told.
    making = begun(home, "create", "--image", "minimal", "-n", "meanwhile")
    until(lambda: len([*(home.path / "sessions").iterdir()]) > 1 or making.poll() is not None, "none is made")
    newer = installation(tmp_path, "99.0.0")
    with installed(home, newer):
        told = json.loads(home.capsem("version", "--json"))
        assert (told["capsem"], told["service"]["pid"]) == ("99.0.0", old)
        assert told["service"]["capsem"] == metadata.version("capsem")
        assert alive(old), "asking for versions replaces nothing"
        assert pids(home, on) == before
        assert ended(making)[0] == 0
        until_gone(old)
        service = home.service()
        assert is_of(service, newer)
        assert json.loads(home.capsem("version", "--json"))["service"]["capsem"] == "99.0.0"
        assert home.text("exec", on, "--", "cat", "/tmp/m") == "mem"
        in_order(home, on, "meanwhile")
        home.capsem("suspend", on)
        home.capsem("resume", on)
        assert home.text("exec", on, "--", "cat", "/tmp/m") == "mem"
    # The older client says the same to it, and is served.
    assert home.text("exec", on, "--", "cat", "/tmp/m") == "mem"
    assert home.service() == service
    home.capsem("delete", "--force", "meanwhile")
    os.kill(service, signal.SIGTERM)
    until_gone(service)
    assert home.text("exec", on, "--", "cat", "/tmp/m") == "mem"
    in_order(home, on)
    home.capsem("delete", "--force", on)
    verified(home, capsule_binary, log)


def test_an_older_client_that_would_be_misunderstood_is_told_which_is_which(
    home: Home, on: str, tmp_path: Path
) -> None:
    before = pids(home, on)
    line = f"WIRE = {WIRE}\n"
    newer = installation(tmp_path, "99.0.0", ("wire/versions.py", line, f"WIRE = {WIRE + 1}\n"))
    with installed(home, newer):
        assert pids(home, on) == before
    service = home.service()
    code, said = answered(home, "stop", on)
    assert code == 125
    assert f"(process {service}) is capsem 99.0.0 (wire {WIRE + 1}), newer than this" in said
    assert f"kill {service}" in said
    assert "machines run on" in said
    told = json.loads(home.capsem("version", "--json"))["service"]
    assert (told["capsem"], told["wire"], told["pid"]) == ("99.0.0", WIRE + 1, service)
    with installed(home, newer):
        assert pids(home, on) == before, "nothing was done to it"
    # What it says to do does it.
    os.kill(service, signal.SIGTERM)
    until_gone(service)
    assert pids(home, on) == before
    assert home.text("exec", on, "--", "cat", "/tmp/m") == "mem"


def test_a_service_from_before_versions_were_told_gives_way_where_it_does_not_understand(
    home: Home, on: str, tmp_path: Path
) -> None:
    before, now = pids(home, on), home.service()
    older = installation(
        tmp_path, "0.0.1", ("processes/service/__main__.py", "Versioned(Bounded(build(registry)), OURS)",
                            "Bounded(build(registry))"),
        ("processes/service/app.py", "    leased: bool =", "    unknown: bool ="),
        ("processes/service/app.py", ', "leased", ', ', "unknown", '),
        ("processes/service/app.py", "leased=asked.leased", "leased=False"),
        # Its client did not look at versions, either.
        ("host/service.py", "elif start and answer.version is None:", "elif False:"),
    )  # fmt: skip
    os.kill(now, signal.SIGTERM)
    until_gone(now)
    with installed(home, older):
        home.capsem("list")
    old = home.service()
    assert is_of(old, older)
    told = json.loads(home.capsem("version", "--json"))["service"]
    assert (told["capsem"], told["pid"]) == ("0.0.1", old)
    assert home.text("run", "--image", "minimal", "--", "echo", "understood") == "understood"
    until_gone(old)
    assert not is_of(home.service(), older)
    assert pids(home, on) == before
    in_order(home, on)


def test_a_service_that_does_not_leave_is_named_and_not_killed(home: Home, on: str, tmp_path: Path) -> None:
    before, old = pids(home, on), home.service()
    short = ("host/replacing.py", "LEAVE_SECONDS = 60.0", "LEAVE_SECONDS = 1.0")
    newer = installation(tmp_path, "99.0.0", short)
    first = json.loads(home.capsem("version", "--json"))["service"]
    assert first["pid"] == old
    # It is asked something that takes long: a machine is made whose QEMU stands still.
    seen = set(qemus_of(home.path))
    making = begun(home, "create", "--image", "minimal", "-n", "slow", "--memory", "300M")
    until(lambda: set(qemus_of(home.path)) - seen or making.poll() is not None, "no QEMU")
    stopped = set(qemus_of(home.path)) - seen
    assert making.poll() is None, "it was made before it was seen"
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    with installed(home, newer):
        code, said = answered(home, "list")
        assert code == 125
        assert (
            f"(process {old}) is {metadata.version('capsem')}" in said or f"(process {old}) is capsem" in said
        )
        assert "older than this capsem 99.0.0" in said
        assert f"kill -9 {old}" in said
        assert alive(old)
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        assert ended(making)[0] == 0
        until_gone(old, 180)
        assert pids(home, on) == before
        in_order(home, on, "slow")
        home.capsem("delete", "--force", "slow")
    service = home.service()
    os.kill(service, signal.SIGTERM)
    until_gone(service)
