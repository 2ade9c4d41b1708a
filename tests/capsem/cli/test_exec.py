from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from capsem.host import places
from tests.capsem.cli.served import capsem, served
from tests.capsem.processes.monitor.standing import ID, USER

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]
AS = ("-u", str(USER), "-w", "/")


async def test_streams_and_the_exit_code_are_ours_and_every_verb_knows_the_machine(tmp_path: Path) -> None:
    async with served(tmp_path):
        done = await capsem(
            "exec",
            *AS,
            "-e",
            "A=b",
            "build",
            "--",
            "/bin/sh",
            "-c",
            "cat; echo $A; echo e >&2; exit 7",
            given=b"in\n",
        )
        assert (done.returncode, done.stdout, done.stderr) == (7, b"in\nb\n", b"e\n")
        late = await capsem("exec", *AS, "--timeout", "0.2", "build", "--", "sleep", "60")
        assert (late.returncode, late.stderr) == (
            124,
            b"capsem: the command's time was over; it was killed\n",
        )
        assert (await capsem("exec", *AS, "build", "no-such-program")).returncode == 127
        unread = await capsem("exec", *AS, "build", "no-such-program", given=b"in\n" * 500_000)
        assert unread.returncode == 127
        assert all(line.startswith(b"capsem: ") for line in unread.stderr.splitlines()), unread.stderr
        assert (await capsem("exec", *AS, "build", "--", "/bin/sh", "-c", "kill -9 $$")).returncode == 137
        assert (await capsem("exec", "none", "true")).stderr.startswith(b"capsem: no machine named 'none'\n")
        assert (await capsem("exec", "-t", "build", "true")).returncode == 2, "no terminal here"

        listed = await capsem("list")
        assert [line.split() for line in listed.stdout.decode().splitlines()][1][:4] == [
            ID,
            "build",
            "default",
            "running",
        ]
        (machine,) = json.loads((await capsem("list", "--json")).stdout)
        assert machine["status"]["state"] == "running"
        info = json.loads((await capsem("info", "build", "--json")).stdout)
        assert (info["id"], info["name"]) == (ID, "build")
        assert b"state:        running" in (await capsem("info", ID)).stdout
        refused = await capsem("delete", "build")
        assert refused.returncode == 1
        assert b"stop" in refused.stderr
        (Path(info["directory"]) / "console.log").write_bytes(b"booted \x1b[31mred\r\n")
        assert (await capsem("logs", "build")).stdout == b"booted \\x1b[31mred\n"


@pytest.mark.needs("root")
async def test_files_in_and_out(tmp_path: Path) -> None:
    content = os.urandom(700_000)
    (tmp_path / "here").write_bytes(content)
    (tmp_path / "here").chmod(0o640)
    async with served(tmp_path):
        inside = tmp_path / "inside"
        inside.mkdir()
        assert (await capsem("cp", str(tmp_path / "here"), f"build:{inside}/")).returncode == 0
        assert (inside / "here").read_bytes() == content
        assert (inside / "here").stat().st_mode & 0o777 == 0o640
        assert (await capsem("cp", f"build:{inside}/here", str(tmp_path / "back"))).returncode == 0
        assert (tmp_path / "back").read_bytes() == content
        missing = await capsem("cp", f"build:{inside}/none", str(tmp_path / "kept"))
        assert missing.returncode == 1
        assert not (tmp_path / "kept").exists()
        assert not list(tmp_path.glob(".kept.*"))


async def test_the_report_is_the_last_line_of_standard_error(tmp_path: Path) -> None:
    async with served(tmp_path) as machine:

        async def report(*words: str) -> tuple[int, bytes, dict[str, Any]]:
            done = await capsem("exec", *AS, "--json", *words)
            said: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
            assert b"capsem: " not in done.stderr
            return done.returncode, done.stdout, said

        running = asyncio.create_task(
            report("build", "--", "/bin/sh", "-c", "echo out; echo e >&2; sleep 1; exit 7")
        )
        async with asyncio.timeout(30):
            while not machine.jobs:
                await asyncio.sleep(0.01)
        blocked = {"action": "block", "by": "grant", "reason": "no", "allow": "network: hosts: [a.example]"}
        program = {"path": "/bin/x\x1b[2J", "reported_by": "guest"}
        await machine.evidence.write(
            "egress.dns", {"dns": {"name": "a.example"}, "decision": blocked, "program": program}
        )
        await machine.evidence.write("egress.model", {"model": {"input_tokens": 5, "output_tokens": 2}})
        code, out, found = await running
        assert (code, out) == (7, b"out\n")
        assert found["exit"] == {
            "code": 7,
            "cause": "exited",
            "signal": None,
            "reason": None,
            "next_step": None,
        }
        assert (found["machine"], found["command"][0], found["log"]) == (ID, "/bin/sh", str(places.log(ID)))
        seen = found["seen"]
        assert (seen["names"], seen["tokens"], seen["refused_total"]) == (1, 7, 1)
        assert (seen["refused"][0]["what"], seen["refused"][0]["reported_by"]) == ("a.example", "guest")
        assert seen["refused"][0]["allow"] == "network: hosts: [a.example]"

        ends = [
            (("build", "--", "/bin/sh", "-c", "kill -9 $$"), 137, "signalled"),
            (("--timeout", "0.2", "build", "--", "sleep", "60"), 124, "timeout"),
            (("build", "no-such-program"), 127, "not_found"),
            (("none", "true"), 1, "failed"),
        ]
        for words, code, cause in ends:
            ended, _, found = await report(*words)
            assert (ended, found["exit"]["code"], found["exit"]["cause"]) == (code, code, cause)
            assert found["timed_out"] is (cause == "timeout")
        assert found["exit"]["next_step"] == "see capsem list"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--timeout", "nan", "build", "true"], "nan is no time that a command may take"),
        (["--timeout", "inf", "build", "true"], "inf is no time that a command may take"),
        (["--timeout", "-1", "build", "true"], "-1 is no time that a command may take"),
        (["--timeout", "0", "build", "true"], "0 is no time that a command may take"),
        (["--timeout", "soon", "build", "true"], "'soon' is no number of seconds"),
        (["-u", "-1", "build", "true"], "-1 is not in the range"),
        (["-u", "4294967295", "build", "true"], "4294967295 is not in the range"),
        (["-w", "here", "build", "true"], "-w here: no absolute directory"),
        (["build", "--timeout", "1", "--", "true"], "--timeout stands behind the machine"),
        (["build", "--"], "there is no command behind --"),
        (["build", "--", *(["x"] * 5000)], "5000 arguments; a machine takes 4096"),
    ],
)
async def test_what_makes_no_sense_is_the_command_lines_fault(
    words: list[str], what: str, capsem_home: Path
) -> None:
    done = await capsem("exec", *words)
    assert (done.returncode, done.stdout) == (2, b"")
    assert what in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert not (capsem_home / "run").exists(), "no service was started for it"


async def test_streams_that_are_closed_or_full_and_words_that_are_no_text(tmp_path: Path) -> None:
    exec_ = f"{sys.executable} -m capsem.cli exec -u {USER} -w / build --"

    async def shell(line: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            "/bin/bash", "-c", line, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(120):
            shown, _ = await process.communicate()
        return process.returncode or 0, shown.decode()

    async with served(tmp_path):
        assert await shell(f"{exec_} sh -c 'cat; exit 3' <&-") == (3, ""), (
            "an input that is closed is at its end"
        )
        assert await shell(f"{exec_} sh -c 'echo lost; exit 4' >&-") == (4, "")
        assert await shell(f"{exec_} sh -c 'echo lost >&2; exit 5' 2>&-") == (5, "")
        code, shown = await shell(f"{exec_} echo much >/dev/full")
        assert (code, "No space left on device" in shown, "Traceback" in shown) == (125, True, False)
        code, shown = await shell(f"{sys.executable} -m capsem.cli list >/dev/full")
        assert (code, "No space left on device" in shown, "Traceback" in shown) == (125, True, False)
        code, shown = await shell(f"{exec_} echo $'\\xff'")
        assert (code, "is not UTF-8" in shown) == (2, True)
        code, shown = await shell(f"{exec_} yes | head -1; echo ${{PIPESTATUS[0]}}")
        assert shown == "y\n141\n"


async def test_a_command_that_takes_no_signal_is_left_with_the_third(tmp_path: Path) -> None:
    async with served(tmp_path) as machine:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "capsem.cli", "exec", *AS, "build", "--", "/bin/sh", "-c",
            "trap 'echo no' INT TERM; echo here; while :; do sleep 0.05; done",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"here\n"
            for _ in range(2):
                process.send_signal(signal.SIGINT)
                assert await process.stdout.readline() == b"no\n"
            process.send_signal(signal.SIGINT)
            _, complained = await process.communicate()
            assert (process.returncode, b"is left, and killed there" in complained) == (130, True)
            while machine.jobs:
                await asyncio.sleep(0.01)
