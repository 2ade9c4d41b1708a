"""The client against the real service, which it starts itself."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from capsem.errors import NotFoundError, ServiceError, UsageError
from capsem.host import places
from capsem.host.service import call

pytestmark = pytest.mark.asyncio


async def test_it_is_started_once_and_answers(capsem_home: Path) -> None:
    with pytest.raises(ServiceError, match="does not run"):
        await call("GET", "/machines", start=False)
    answers = await asyncio.gather(*(call("GET", "/machines") for _ in range(4)))
    assert answers == [[], [], [], []]
    pid = int((capsem_home / "run/service.lock").read_text())
    again = subprocess.run([sys.executable, "-m", "capsem.processes.service"], check=False, timeout=60)
    assert again.returncode == 0, "a second one leaves at once"
    assert int((capsem_home / "run/service.lock").read_text()) == pid
    assert (await call("GET", "/version"))["capsem"]
    for method, path, body, error in (
        ("GET", "/machines/none", None, NotFoundError),
        ("POST", "/machines", {"image": "x", "more": 1}, UsageError),
        ("POST", "/machines", {"cpus": 99}, UsageError),
        ("POST", "/machines", {"image": "no-such-image"}, NotFoundError),
    ):
        with pytest.raises(error) as caught:
            await call(method, path, body)
        assert caught.value.next_step
    assert await call("GET", "/machines") == [], "what failed left nothing"
    assert places.run().stat().st_mode & 0o777 == 0o700
    assert places.service_socket().stat().st_mode & 0o777 == 0o600


@pytest.mark.needs("ordinary-user")
async def test_a_home_in_another_s_closed_directory_is_told_as_such(
    capsem_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (closed := capsem_home / "closed").mkdir(mode=0o400)  # may be read, and so removed, but not entered
    monkeypatch.setenv("CAPSEM_HOME", str(closed / "home"))
    with pytest.raises(ServiceError, match="Permission denied") as caught:
        await call("GET", "/machines")
    assert str(closed) in caught.value.message
    assert caught.value.next_step == "set CAPSEM_HOME to a directory of yours"


async def test_a_service_that_was_killed_is_replaced(capsem_home: Path) -> None:
    assert await call("GET", "/machines") == []
    pid = int((capsem_home / "run/service.lock").read_text())
    os.kill(pid, 9)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        with socket.socket(socket.AF_UNIX) as attempt:
            if attempt.connect_ex(str(places.service_socket())) != 0:
                break
        await asyncio.sleep(0.01)
    assert await call("GET", "/machines") == []
    assert int((capsem_home / "run/service.lock").read_text()) != pid


async def test_a_home_in_which_no_service_can_be_is_told_as_such(
    capsem_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPSEM_HOME", str(capsem_home / ("x" * 90)))
    with pytest.raises(UsageError, match="too long for the name of a socket"):
        await call("GET", "/machines")
    (capsem_home / "file").touch()
    (capsem_home / "link").symlink_to("file")
    monkeypatch.setenv("CAPSEM_HOME", str(capsem_home / "link"))
    with pytest.raises(UsageError, match="link"):
        await call("GET", "/machines")
