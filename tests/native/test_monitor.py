"""The monitor decides names at the time of the call: no alias, sibling call, race or exhausted table gets past it.

Judged by what the host sees afterwards; each family of attempts has controls that must succeed.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import stat
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from capsule.sandbox.syscalls import numbers

# The real interpreter: the environment's own lies where the policy hides it.
PYTHON = str(Path(sys.executable).resolve())
INSIDE = Path(__file__).parent / "inside"
POLICY = """\
version: 1
extends: [workspace]
audit: {audit}
filesystem:
  deny: [{deny}]
  protect: [keep.txt]
"""

COLUMN = {"x86_64": 0, "aarch64": 1}[platform.machine()]
TRIED = (INSIDE / "siblings.py").read_text()
NUMBERS = {name: row[COLUMN] for name, row in numbers().items() if f'"{name}"' in TRIED}

pytestmark = pytest.mark.needs("userns", "landlock", "seccomp-notify")


@pytest.fixture
def prepared(workspace: Path) -> Path:
    """A workspace with a protected file, an absent protected one, a denied file and directory, and links to them."""
    for name in (".git", "secretdir", "prepared", "sub", "other"):
        (workspace / name).mkdir()
    for name, text in {
        "keep.txt": "keep",
        "mine": "mine",
        "mine2": "mine",
        "secret": "SECRET",
        "secretdir/x": "SECRET",
        "prepared/pre-commit": "evil",
        "other/keep.txt": "other",
    }.items():
        (workspace / name).write_text(text + "\n")
    for name, target in {
        "slink": "secret",
        "sdlink": "secretdir",
        "link": "keep.txt",
        "linkdir": ".",
    }.items():
        (workspace / name).symlink_to(target)
    os.utime(workspace / "keep.txt", (978307200, 978307200))
    (workspace / "capsule.yaml").write_text(POLICY.format(audit="writes", deny="secret, secretdir"))
    return workspace


def state(path: Path) -> tuple[object, ...]:
    """Everything about a file that could be changed."""
    seen = path.lstat()
    attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return (
        path.read_bytes(),
        stat.filemode(seen.st_mode),
        seen.st_nlink,
        seen.st_mtime_ns,
        seen.st_ino,
        attributes,
    )


def run(binary: Path, *command: str, timeout: float = 240) -> tuple[str, dict[str, object]]:
    """Run inside; what it printed, and the report."""
    done = subprocess.run(
        [binary, "run", "--json", "--", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, object] = json.loads(done.stderr.splitlines()[-1])
    return done.stdout, report


def test_no_sibling_call_and_no_alias_reaches_a_guarded_name(capsule_binary: Path, prepared: Path) -> None:
    shutil.copy(INSIDE / "siblings.py", prepared)
    before = {name: state(prepared / name) for name in ("keep.txt", "secret", "secretdir/x")}
    printed, report = run(capsule_binary, PYTHON, "-I", "siblings.py", json.dumps(NUMBERS))
    results: dict[str, int] = json.loads(printed)
    controls = {label: result for label, result in results.items() if label.startswith("control")}
    assert len(controls) > 10
    assert {label: result for label, result in controls.items() if result < 0} == {}
    attacks = {label: result for label, result in results.items() if label not in controls}
    assert len(attacks) > 200
    assert {label: result for label, result in attacks.items() if result >= 0} == {}
    assert {name: state(prepared / name) for name in before} == before
    assert list((prepared / ".git").iterdir()) == []
    assert not {"hard", "k2", "old", "s2", "s3", "sd2"} & set(os.listdir(prepared))
    assert (prepared / "new3").exists()
    denials = report["denials"]
    assert isinstance(denials, list)
    rules = {denial["rule"]["text"] for denial in denials if denial["rule"]}
    assert {'protect: ["./keep.txt"]', 'deny: ["./secret"]', 'protect: ["/**/.git/hooks"]'} <= rules


@pytest.fixture(scope="session")
def race(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("race") / "race"
    subprocess.run(["gcc", "-O2", "-static", "-pthread", "-o", binary, INSIDE / "race.c"], check=True)
    return binary


@pytest.mark.slow
@pytest.mark.needs("gcc")
@pytest.mark.parametrize("mode", ["path", "flags", "link", "parent"])
def test_changing_what_a_call_looks_at_gains_nothing(
    capsule_binary: Path, prepared: Path, race: Path, mode: str
) -> None:
    shutil.copy(race, prepared / "race")
    before = state(prepared / "keep.txt")
    printed, _ = run(capsule_binary, "./race", mode, "100000" if mode == "path" else "20000")
    through, refused = map(int, printed.split())
    # Both answers occur, or nothing raced.
    assert through > 0
    assert refused > 0
    assert state(prepared / "keep.txt") == before
    if mode == "link":
        assert (prepared / "mine").read_text() == "EVIL\n"
        assert stat.S_IMODE((prepared / "mine").stat().st_mode) == 0o777


def test_a_full_table_of_descriptors_is_an_error_and_no_way_round(
    capsule_binary: Path, prepared: Path
) -> None:
    before = state(prepared / "keep.txt")
    code = (
        "import os,resource,errno\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE,(20,20))\n"
        "kept=[]\n"
        "try:\n"
        "  while True: kept.append(os.open('mine',os.O_WRONLY))\n"
        "except OSError as e: print(errno.errorcode[e.errno], len(kept))\n"
        "for path in ('keep.txt','mine'):\n"
        "  try: print(path, os.open(path,os.O_WRONLY|os.O_TRUNC))\n"
        "  except OSError as e: print(path, errno.errorcode[e.errno])\n"
    )
    printed, _ = run(capsule_binary, PYTHON, "-I", "-c", code)
    first, keep, mine = printed.splitlines()
    assert first.startswith("EMFILE")
    assert int(first.split()[1]) > 5
    assert (keep, mine) == ("keep.txt EACCES", "mine EMFILE")
    assert state(prepared / "keep.txt") == before


class Answering:
    """Host sockets that say their own name to whoever reaches them, and who did."""

    def __init__(self, stack: ExitStack) -> None:
        self.reached: list[str] = []
        self._stack = stack

    def serve(self, server: socket.socket, name: str) -> None:
        server.listen()
        self._stack.callback(server.close)
        self._stack.callback(server.shutdown, socket.SHUT_RDWR)
        threading.Thread(target=self._answer, args=(server, name), daemon=True).start()

    def _answer(self, server: socket.socket, name: str) -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                self.reached.append(name)
                with connection:
                    connection.sendall(name.encode())


def test_only_the_sockets_the_policy_names_are_reached(capsule_binary: Path, workspace: Path) -> None:
    with ExitStack() as stack:
        host = Answering(stack)
        ports = {}
        for name in ("port", "other port"):
            server = socket.create_server(("127.0.0.1", 0))
            ports[name] = server.getsockname()[1]
            host.serve(server, name)
        for name in ("named.sock", "other.sock"):
            server = socket.socket(socket.AF_UNIX)
            server.bind(name)
            host.serve(server, name)
        (workspace / "capsule.yaml").write_text(
            "version: 1\nextends: [workspace]\n"
            f"network:\n  ports: [{ports['port']}]\n  unix: [./named.sock]\n"
        )
        shutil.copy(INSIDE / "reach.py", workspace)
        subprocess.run([capsule_binary, "policy", "accept"], check=True, capture_output=True)
        printed, report = run(
            capsule_binary, PYTHON, "-I", "reach.py", str(ports["port"]), str(ports["other port"])
        )
    results: dict[str, str] = json.loads(printed)
    assert results == {
        "port": "port",
        "asyncio port": "port",
        "named.sock": "named.sock",
        "asyncio named.sock": "named.sock",
        "own listener": "own",
        "other port": "ECONNREFUSED",
        "other.sock": "EACCES",
        "other.sock by another name": "EACCES",
        "internet": "EACCES",
        "internet over IPv6": "EACCES",
        "metadata service": "EACCES",
        "metadata service, mapped": "EACCES",
        "datagram": "EACCES",
        "datagram by sendmsg": "ENETUNREACH",
        "fast open": "EOPNOTSUPP",
        "unix datagram": "EACCES",
        "unix datagram pair": "EACCES",
        "multipath": "EPERM",
        "raw": "EPERM",
        "packet": "EPERM",
    }
    assert sorted(host.reached) == ["named.sock", "named.sock", "port", "port"]
    denials = report["denials"]
    assert isinstance(denials, list)
    by_target = {denial["target"]: denial for denial in denials}
    assert by_target["tcp:192.0.2.1:80"]["layer"] == "network"
    assert by_target[f"unix:{workspace}/other.sock"]["allow"] == f'network: unix: ["{workspace}/other.sock"]'


@pytest.mark.needs("git")
@pytest.mark.parametrize("deny", ["", "secret"], ids=["reads continue", "reads are brokered"])
def test_ordinary_work_gives_the_same_inside_as_outside(
    capsule_binary: Path, workspace: Path, tmp_path: Path, deny: str
) -> None:
    outside = tmp_path / "outside"
    inside = ["run", "--json", "--log", str(tmp_path / "log"), "--"]
    printed = []
    for directory, prefix in ((outside, []), (workspace, [str(capsule_binary), *inside])):
        (directory / "w").mkdir(parents=True)
        for name in ("ordinary.sh", "ordinary.py"):
            shutil.copy(INSIDE / name, directory)
        (directory / "capsule.yaml").write_text(POLICY.format(audit="all", deny=deny))
        done = subprocess.run(
            [*prefix, "sh", "../ordinary.sh", PYTHON, "../ordinary.py"],
            cwd=directory / "w",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            start_new_session=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert printed[0].count("\n") > 150, printed[0]
    assert printed[1].splitlines() == printed[0].splitlines()


ON_ONE_PROCESSOR = """\
import os, sys
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
os.execv(sys.argv[1], sys.argv[1:])
"""
PIPES = """\
mkfifo pipe; i=0
while [ $i -lt 40 ]; do
    i=$((i+1))
    (echo through > pipe) & cat pipe; wait
    (cat pipe > got) & echo again > pipe; wait; cat got
done
"""


@pytest.mark.parametrize("deny", ["", "secret"], ids=["reads continue", "reads are brokered"])
def test_an_end_of_a_pipe_is_the_callers_alone_when_its_open_returns(
    capsule_binary: Path, workspace: Path, deny: str
) -> None:
    # On one processor the caller goes on before the thread that opened for it: were that thread still to hold its
    # copy, the next one to open the pipe would meet it, and the partner that comes then would wait for ever.
    (workspace / "capsule.yaml").write_text(POLICY.format(audit="all", deny=deny))
    command = [str(capsule_binary), "run", "--timeout", "60", "--", "sh", "-c", PIPES]
    done = subprocess.run(
        [sys.executable, "-I", "-c", ON_ONE_PROCESSOR, *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "through\nagain\n" * 40), done.stderr


def test_a_link_on_the_way_is_decided_by_its_own_name(capsule_binary: Path, workspace: Path) -> None:
    for name in ("a", "data"):
        (workspace / name).mkdir()
    for name in ("file", "file2"):
        (workspace / "data" / name).write_text("DATA\n")
    shutil.copy("/bin/true", workspace / "data" / "program")
    for name, target in {
        "a/private.d": "../data",
        "a/kept.d": "../data",
        "a/private.txt": "../data/file",
        "way": "a/private.d",
        "way2": "way",
        "chain": "a/private.txt",
        "open": "data",
    }.items():
        (workspace / name).symlink_to(target)
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\nfilesystem:\n  deny: ['**/private.*']\n  protect: ['**/kept.*']\n"
    )
    shutil.copy(INSIDE / "crossing.py", workspace)
    printed, report = run(capsule_binary, PYTHON, "-I", "crossing.py")
    results: dict[str, str] = json.loads(printed)
    controls = {label: result for label, result in results.items() if label.startswith("control")}
    assert controls == {
        "control read through a link": "DATA",
        "control write through a link": "done",
        "control the kept may be read": "DATA",
    }
    attacks = {label: result for label, result in results.items() if label not in controls}
    assert len(attacks) == 16
    # 127 is how a program that may not be executed ends a spawn.
    assert {label: r for label, r in attacks.items() if r != "E13"} == {"execute in the middle": "done"}
    assert (workspace / "data" / "written").read_text() == "EVIL\n"
    assert sorted(os.listdir(workspace / "data")) == ["file", "file2", "program", "written"]
    assert (workspace / "data" / "file").read_text() == "DATA\n"
    denials = report["denials"]
    assert isinstance(denials, list)
    assert {d["rule"]["text"] for d in denials} == {'deny: ["./**/private.*"]', 'protect: ["./**/kept.*"]'}


def test_a_refused_read_is_told_however_its_path_is_written(capsule_binary: Path, workspace: Path) -> None:
    """Straight, by way of `..`, through a link on the way and at the end; what is granted is told of in no form."""
    (workspace / "to").symlink_to("/var")
    (workspace / "at").symlink_to("/var/log")
    (workspace / "fine").write_text("fine\n")
    paths = ["/var/log", "/etc/../var/log", f"{workspace}/to/log", f"{workspace}/at"]
    paths += [f"{workspace}/fine", f"{workspace}/../{workspace.name}/fine", "/usr/lib/../bin/env"]
    script = (
        "import os, sys\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        os.close(os.open(path, os.O_RDONLY))\n"
        "        print('read')\n"
        "    except OSError as error:\n"
        "        print(error.errno)\n"
    )
    for path in paths:
        printed, report = run(capsule_binary, PYTHON, "-I", "-c", script, path)
        denials = report["denials"]
        assert isinstance(denials, list)
        told = [row for row in denials if row["target"] == "/var/log"]
        if path in paths[:4]:
            assert printed.strip() != "read", path
            assert len(told) == 1, (path, denials)
            assert told[0]["operation"] == "read"
        else:
            assert (printed.strip(), told) == ("read", []), path


def test_a_program_whose_name_is_not_text_creates_files_with_its_own_mask(
    capsule_binary: Path, workspace: Path
) -> None:
    script = (
        "import ctypes, os\n"
        "ctypes.CDLL(None).prctl(15, b'\\xff\\xfe', 0, 0, 0)\n"
        "os.umask(0o027)\n"
        "os.close(os.open('made', os.O_CREAT | os.O_WRONLY, 0o666))\n"
    )
    run(capsule_binary, PYTHON, "-I", "-c", script)
    assert stat.S_IMODE((workspace / "made").stat().st_mode) == 0o640
