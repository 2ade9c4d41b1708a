"""`capsule trace`: what a command used, as `capsule profile` reads it."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest

from capsule.profile.observation import FileUse, Observation, parse_observation

pytestmark = pytest.mark.needs("userns")


def trace(binary: Path, script: str, *options: str) -> tuple[subprocess.CompletedProcess[str], Observation]:
    answer = subprocess.run(
        [binary, "trace", "--out", "seen.json", *options, "--", "/bin/sh", "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return answer, parse_observation(Path("seen.json").read_bytes())


def uses(seen: Observation, path: Path | str) -> FileUse:
    return next(use for use in seen.files if use.path == str(path))


def test_files_programs_and_calls_are_counted(workspace: Path, home: Path, capsule_binary: Path) -> None:
    (workspace / "in").write_text("x\n")
    script = "/bin/cat in > out; mv out moved; rm moved; chmod 600 in; ls . > /dev/null; cat none; uname"
    answer, seen = trace(capsule_binary, script)
    assert answer.returncode == 0, answer.stderr
    assert uses(seen, workspace / "in").read == 1
    assert uses(seen, workspace / "in").change == 1
    assert uses(seen, workspace / "out").create == 1
    assert uses(seen, workspace / "out").remove == 1
    assert uses(seen, workspace / "moved").remove == 1
    assert uses(seen, workspace / "none").absent == 1
    assert uses(seen, workspace).list >= 1
    assert {Path(use.path).name for use in seen.programs} >= {"cat", "mv", "rm", "chmod", "ls", "uname"}
    counted = {use.name: use.count for use in seen.syscalls}
    assert counted["uname"] >= 1
    assert {"read", "mmap", "exit_group"} <= set(seen.implied)
    assert not set(counted) & set(seen.implied)
    assert (seen.workspace, seen.home, seen.cause, seen.code, seen.lost) == (
        str(workspace), str(home), "exited", 0, 0,
    )  # fmt: skip


def test_the_walls_stand_and_what_is_refused_is_counted(
    workspace: Path, home: Path, capsule_binary: Path
) -> None:
    (workspace / ".git" / "hooks").mkdir(parents=True)
    _, seen = trace(capsule_binary, f"cat {home}/.ssh/id_ed25519; echo x > .git/hooks/pre-commit; exit 3")
    assert seen.code == 3
    assert uses(seen, workspace / ".git/hooks/pre-commit").refused == 1
    assert uses(seen, home / ".ssh/id_ed25519").refused + uses(seen, home / ".ssh/id_ed25519").absent >= 1
    assert not (workspace / ".git/hooks/pre-commit").exists()


def test_restricted_calls_stay_restricted(workspace: Path, home: Path, capsule_binary: Path) -> None:
    # TIOCSTI and a raw socket are let through by no policy; a trace asks about more calls, and allows no more.
    code = (
        "import fcntl, socket\n"
        "for do in (lambda: fcntl.ioctl(0, 0x5412, b'x'), lambda: socket.socket(17, 3, 0),\n"
        "           lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)):\n"
        "    try:\n"
        "        do()\n"
        "        print('done')\n"
        "    except OSError as error:\n"
        "        print('refused', error.errno)\n"
    )
    (workspace / "try.py").write_text(code)
    answer, seen = trace(capsule_binary, "/usr/bin/python3 try.py")
    assert answer.stdout.count("refused") == 3, answer.stdout + answer.stderr
    assert "done" not in answer.stdout
    assert seen.lost == 0


def test_addresses_are_seen(workspace: Path, home: Path, capsule_binary: Path) -> None:
    code = "import socket; socket.create_connection(('203.0.113.7', 443), 1)"
    _, seen = trace(capsule_binary, f'/usr/bin/python3 -c "{code}"')
    assert [(a.address, a.operation, a.refused) for a in seen.addresses] == [
        ("tcp:203.0.113.7:443", "connect", 1)
    ]


def test_nothing_is_followed_to_where_the_result_goes(
    workspace: Path, home: Path, capsule_binary: Path
) -> None:
    (workspace / "target").write_text("keep")
    (workspace / "link.json").symlink_to("target")
    answer = subprocess.run(
        [capsule_binary, "trace", "--out", "link.json", "--", "/bin/true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 125
    assert (workspace / "target").read_text() == "keep"


def test_its_report_comes_in_json(workspace: Path, home: Path, capsule_binary: Path) -> None:
    answer, seen = trace(capsule_binary, f"cat {home}/.ssh/id_ed25519; exit 3", "--json")
    report = json.loads(answer.stderr.splitlines()[-1])
    assert (answer.returncode, report["exit"]["code"], report["run"][:2]) == (3, 3, "r-")
    assert seen.code == 3


def test_a_connection_that_met_nobody_is_told_apart_from_one_to_a_server_of_the_host(
    workspace: Path, home: Path, capsule_binary: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        there, nowhere = server.getsockname()[1], free.getsockname()[1]
        tries = "".join(f"(exec 3<>/dev/tcp/127.0.0.1/{port});" for port in (there, nowhere, nowhere))
        _, seen = trace(capsule_binary, f"bash -c '{tries}'")
    assert {(use.address, use.operation, use.count, use.refused) for use in seen.addresses} == {
        (f"tcp:127.0.0.1:{there}", "connect", 1, 1),
        (f"tcp:127.0.0.1:{nowhere}", "unanswered", 2, 0),
    }
