"""Two ordinary users of one machine, at once: each has an egress, an authority and secrets of its own, and stays out.

What one user lays out for the other (a squatted socket, a directory) is not used. Made by root, who has what an
ordinary user lacks here: accounts, and an installation that both can read.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.native.egress_outside import Installation, Outside

pytestmark = [
    pytest.mark.needs("root", "userns", "landlock", "seccomp-notify", "egress", "curl"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = ("capsule-test-1", "capsule-test-2")
CURL = "curl -sS -m 30"
SECRET = (
    "secrets: [{name: t, from: {env: MINE}, to: [a.example], as: header, field: Authorization, env: TOKEN}]\n"
)
SQUAT = """
import os, socket, sys
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
listening.listen()
print("listens", flush=True)
heard = b""
listening.settimeout(1)
while not os.path.exists(sys.argv[2]):
    try:
        connection, _ = listening.accept()
    except TimeoutError:
        continue
    connection.settimeout(1)
    try:
        while part := connection.recv(65536):
            heard += part
    except OSError:
        pass
print("heard", len(heard), flush=True)
"""


@dataclass
class Person:
    """One account, with a home of its own below the common directory."""

    account: pwd.struct_passwd
    home: Path
    binary: Path
    installation: Installation

    def words(self, *words: str, **env: str) -> list[str]:
        """A command line as this person."""
        held = {"HOME": str(self.home), "PATH": os.defpath, "CAPSULE_EGRESS_IDLE": "3", **env}
        held.setdefault("XDG_STATE_HOME", str(self.installation.state))
        identity = [f"--reuid={self.account.pw_uid}", f"--regid={self.account.pw_gid}", "--clear-groups"]
        return ["setpriv", *identity, "env", "-i", *(f"{key}={value}" for key, value in held.items()), *words]

    def run(self, script: str, **env: str) -> list[str]:
        """`capsule run` of a shell's script."""
        run = (str(self.binary), "run", "--policy", "./policy.yaml", "--", "/bin/sh", "-c", script)
        return self.words(*run, **env)

    def start(self, argv: list[str]) -> subprocess.Popen[str]:
        """In its workspace."""
        return subprocess.Popen(
            argv, cwd=self.home / "workspace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def tell(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        """The same, waited for."""
        running = self.start(argv)
        out, err = running.communicate(timeout=120)
        return subprocess.CompletedProcess(argv, running.returncode, out, err)


def _account(name: str) -> tuple[pwd.struct_passwd, bool]:
    try:
        return pwd.getpwnam(name), False
    except KeyError:
        subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", name], check=True)
        return pwd.getpwnam(name), True


def _installed(root: Path, binary: Path) -> Path:
    """An installation that everybody may read: an interpreter, what it needs, the binary beside it."""
    base = Path(sys.base_prefix).resolve() / f"bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    if base.is_relative_to("/root"):
        subprocess.run([REPOSITORY / "scripts/copy-python", base, root / "python"], check=True)
        base = root / "python/bin/python3"
    subprocess.run([base, "-m", "venv", "--without-pip", root / "venv"], check=True)
    packages = root / "venv/lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    packages.rmdir()
    shutil.copytree(sysconfig.get_path("purelib"), packages, symlinks=True, copy_function=_linked)
    for old in packages.glob("*.pth"):
        old.unlink()
    shutil.copytree(REPOSITORY / "capsule/src/capsule", packages / "capsule", dirs_exist_ok=True)
    shutil.copyfile(binary, root / "venv/bin/capsule")
    (root / "venv/bin/capsule").chmod(0o755)
    return root / "venv/bin/capsule"


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    with Outside(tmp_path_factory.mktemp("outside"), "a.example") as found:
        yield found


@pytest.fixture(scope="module")
def people(capsule_binary: Path, outside: Outside) -> Iterator[tuple[Person, Person]]:
    root = Path(tempfile.mkdtemp(prefix="capsule-two-", dir="/var/tmp"))
    root.chmod(0o755)
    made, found = [], []
    try:
        binary = _installed(root, capsule_binary)
        authority = root / "outside.pem"
        shutil.copyfile(outside.authority, authority)
        for name in NAMES:
            account, new = _account(name)
            made += [name] if new else []
            home = root / name
            (home / "workspace").mkdir(parents=True)
            text = outside.network("a.example").replace(str(outside.authority), str(authority))
            policy = f"version: 1\nname: test\nextends: [workspace]\n{text}{SECRET}"
            (home / "workspace/policy.yaml").write_text(policy)
            for place in (home, home / "workspace", home / "workspace/policy.yaml"):
                os.chown(place, account.pw_uid, account.pw_gid)
            home.chmod(0o700)
            installation = Installation(account.pw_uid)
            found.append(Person(account, home, binary, installation))
        yield found[0], found[1]
    finally:
        for person in found:
            person.installation.close()
        shutil.rmtree(root)
        for name in made:
            subprocess.run(["userdel", name], check=True)


def _owner(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def _wait(place: Path, running: subprocess.Popen[str]) -> None:
    """Until a run has made a file; it is ended when it does not."""
    until = time.monotonic() + 150
    while not place.exists():
        if running.poll() is not None or time.monotonic() > until:
            running.terminate()
            raise AssertionError(f"{place} did not come: {running.communicate(timeout=30)}")
        time.sleep(0.05)


def test_two_at_once_share_nothing(people: tuple[Person, Person], outside: Outside) -> None:
    script = f"""
        printf %s "$TOKEN" > token; cp /run/capsule/ca.pem ca.pem; touch ready
        for turn in $(seq 2000); do [ -e go ] || sleep 0.1; done
        {CURL} -H "Authorization: $TOKEN" https://a.example/own
        {CURL} -H "Authorization: $(cat theirs)" https://a.example/theirs
    """
    running = [person.start(person.run(script, MINE=f"value-of-{n}")) for n, person in enumerate(people)]
    spaces = [person.home / "workspace" for person in people]
    for space, one in zip(spaces, running, strict=True):
        _wait(space / "ready", one)
    daemons = [person.installation.interpreter() for person in people]
    assert daemons[0] != daemons[1]
    assert [_owner(pid) for pid in daemons] == [person.account.pw_uid for person in people]
    before = len(outside.requests)
    for space, other in zip(spaces, reversed(spaces), strict=True):
        (space / "theirs").write_bytes((other / "token").read_bytes())
        (space / "theirs").chmod(0o644)
        (space / "go").touch()
    for one in running:
        _, err = one.communicate(timeout=120)
        assert one.returncode == 0, err
    sent = [(one.target, one.headers["authorization"]) for one in outside.requests[before:]]
    own = {value for target, value in sent if target == "/own"}
    assert own == {"value-of-0", "value-of-1"}
    theirs = [value for target, value in sent if target == "/theirs"]
    assert not [value for value in theirs if value.startswith("value-of-")], (
        "a placeholder is only its own run's"
    )
    assert (spaces[0] / "ca.pem").read_bytes() != (spaces[1] / "ca.pem").read_bytes()
    for space, n in zip(spaces, (1, 0), strict=True):
        assert f"value-of-{n}" not in (space / "capsule.log").read_text()


def test_one_reaches_neither_the_others_socket_nor_its_files(people: tuple[Person, Person]) -> None:
    first, second = people
    running = first.start(
        first.run("touch serving; for turn in $(seq 2000); do [ -e over ] || sleep 0.1; done", MINE="x")
    )
    _wait(first.home / "workspace/serving", running)
    egress = first.installation.egress
    tries = (
        "import json, socket, sys, os\nfound = {}\n"
        "def tried(name, act):\n    try:\n        act()\n        found[name] = 'done'\n"
        "    except OSError as error:\n        found[name] = error.strerror\n"
        f"place = {str(egress)!r}\n"
        "tried('socket', lambda: socket.socket(socket.AF_UNIX).connect(place + '/socket'))\n"
        "tried('key', lambda: open(place + '/authority.key').read())\n"
        "tried('log', lambda: open(place + '/egress.capsule.log').read())\n"
        f"tried('workspace', lambda: open({str(first.home / 'workspace/capsule.log')!r}).read())\n"
        f"tried('signal', lambda: os.kill({first.installation.interpreter()}, 0))\n"
        "print(json.dumps(found))\n"
    )
    try:
        python = str(first.binary.with_name("python3"))
        control = json.loads(first.tell(first.words(python, "-c", tries)).stdout)
        assert set(control.values()) == {"done"}, control
        outside = json.loads(second.tell(second.words(python, "-c", tries)).stdout)
        assert {*outside.values()} <= {"Permission denied", "Operation not permitted"}, outside
        run = (str(second.binary), "run", "--read", str(egress), "--", python, "-c", tries)
        ran = second.tell(second.words(*run))
        if ran.stdout:  # what cannot be granted refuses the run, or its program finds nothing
            assert "done" not in json.loads(ran.stdout).values(), ran.stdout
        asked = second.tell(
            second.words(str(second.binary), "asks", XDG_STATE_HOME=str(first.installation.state))
        )
        assert asked.returncode != 0, "nobody answers the questions of another user's runs"
    finally:
        (first.home / "workspace/over").touch()
        running.communicate(timeout=60)


def test_what_one_lays_out_for_the_other_is_not_used(people: tuple[Person, Person], outside: Outside) -> None:
    """A directory of another user's; and a socket of another user's in the own directory, which root put there."""
    first, second = people
    trap = Path(tempfile.mkdtemp(prefix="capsule-trap-", dir="/var/tmp"))
    trap.chmod(0o777)
    ask = f'{CURL} -H "Authorization: $TOKEN" https://a.example/trapped; echo " $?"'
    assert second.tell(second.run(ask, MINE="value-of-second")).stdout == "hello /trapped 0\n"  # the control
    before = len(outside.requests)
    squatter = first.start(
        first.words(
            str(first.binary.with_name("python3")), "-c", SQUAT, str(trap / "socket"), str(trap / "over")
        )
    )
    try:
        assert squatter.stdout is not None
        assert squatter.stdout.readline() == "listens\n"
        lain = trap / "capsule/egress"
        lain.mkdir(parents=True)
        for place in (lain.parent, lain):
            os.chown(place, first.account.pw_uid, first.account.pw_gid)
            place.chmod(0o777)
        os.link(trap / "socket", lain / "socket")
        ran = second.tell(second.run(ask, MINE="value-of-second", XDG_STATE_HOME=str(trap)))
        assert ran.returncode == 125, ran.stdout
        assert len(outside.requests) == before
        own = second.installation.egress
        assert second.installation.gone(20)
        (own / "socket").unlink(missing_ok=True)
        os.link(trap / "socket", own / "socket")
        ran = second.tell(second.run(ask, MINE="value-of-second"))
        assert ran.stdout == "hello /trapped 0\n", ran.stderr
        assert _owner(second.installation.interpreter()) == second.account.pw_uid
        assert outside.requests[-1].headers["authorization"] == "value-of-second"
    finally:
        (trap / "over").touch()
        out, _ = squatter.communicate(timeout=30)
        shutil.rmtree(trap)
    assert out == "heard 0\n", "not a byte of a session goes to another user's socket"
