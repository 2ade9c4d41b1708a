"""Machines made ahead: whose they become, and what is left of them when the service is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

from tests.capsem.conftest import end_service
from tests.vm.logged import logged
from tests.vm.marks import machines
from tests.vm.processes import qemus_of, until_gone
from tests.vm.test_machines import Home, home

__all__ = ["home"]

pytestmark = machines(900)


def until_ready(home: Home, number: int) -> None:
    """So many QEMUs have been told to run, and their monitors listen."""
    until = time.monotonic() + 120
    while len(list((home.path / "run").glob("m-*.sock"))) != number:
        assert time.monotonic() < until, list((home.path / "run").iterdir())
        time.sleep(0.05)


def test_a_machine_made_ahead_becomes_one_and_is_like_any_other(home: Home, capsule_binary: Path) -> None:
    end_service(home.path)
    home.env["CAPSEM_POOL"] = "2"
    ask = ("sh", "-c", "hostname; echo $X; head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n'")
    try:
        assert home.create("-n", "first") == "first"
        until_ready(home, 3)
        ahead = {path.stem for path in (home.path / "run").glob("m-*.sock")} - {home.info("first")["id"]}
        assert home.machines() == [home.info("first")["id"]], "what is nobody's is not shown"
        assert not [one for one in ahead if (home.path / "logs" / f"{one}.log").exists()], (
            "it has nothing to record"
        )
        for name in ("second", "third"):
            assert home.create("-n", name, "-e", f"X={name}") == name
        found = [home.info(name) for name in ("second", "third")]
        assert {one["id"] for one in found} == ahead
        said = [home.text("exec", name, "--", *ask).split() for name in ("first", "second", "third")]
        assert [words[:-1] for words in said] == [["first"], ["second", "second"], ["third", "third"]]
        assert all(re.fullmatch("[0-9a-f]{32}", words[-1]) for words in said)
        assert len({words[-1] for words in said}) == 3, "no two have the same random numbers"
        entries = logged(found[0]["log"])
        kinds = [entry["type"] for entry in entries if str(entry.get("type", "")).startswith("machine.")]
        assert kinds[0] == "machine.started", "nothing was run in it before, for anybody"
        until_ready(home, 5)
        # One without a name is who it was told to be when it was made; its clock is this host's.
        unnamed = home.create()
        told = home.text("exec", unnamed, "--", "sh", "-c", "hostname; date +%s").split()
        assert told[0] == unnamed
        assert abs(int(told[1]) - time.time()) < 30
        kinds = [entry.get("type") for entry in logged(home.info(unnamed)["log"])]
        assert kinds.index("machine.started") < kinds.index("machine.exec")
        home.capsem("delete", "--force", unnamed)
        until_ready(home, 5)
        # It is suspended and resumed as any other, and is gone on with past the service.
        home.capsem("exec", "second", "--", "sh", "-c", "echo mem >/tmp/m")
        home.capsem("suspend", "second")
        home.capsem("resume", "second")
        assert home.text("exec", "second", "--", "cat", "/tmp/m") == "mem"
        # A name that is taken is refused, and costs nothing that is somebody's.
        home.capsem("create", "--image", "minimal", "-n", "third", code=1)
        # Killed, the service takes with it what was nobody's, and only that.
        service = home.service()
        os.kill(service, signal.SIGKILL)
        until_gone(service)
        until_ready(home, 3)
        until = time.monotonic() + 20
        while len(qemus_of(home.path)) != 3:
            assert time.monotonic() < until, qemus_of(home.path)
            time.sleep(0.05)
        del home.env["CAPSEM_POOL"]
        assert len(home.machines()) == 3
        assert len(list((home.path / "sessions").iterdir())) == 3, (
            "a half of one is put in order by the next service"
        )
        assert home.text("exec", "third", "--", "echo", "still") == "still"
        for name in ("first", "second", "third"):
            home.capsem("delete", "--force", name)
        verified = subprocess.run(
            [capsule_binary, "verify", found[0]["log"]],
            env=home.env,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert qemus_of(home.path) == []
    finally:
        home.env.pop("CAPSEM_POOL", None)
