"""A directory shared live with a real machine: both sides see it, and what a guest tries fails on the host."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsem.workspace.live import LINK_BIT
from tests.vm.logged import logged
from tests.vm.marks import machines
from tests.vm.test_machines import Home, home  # noqa: F401 - a fixture

pytestmark = machines(900)
SECRET = "secret of the host"

# Each is a line of the guest's shell; `$D` is where it is tried. What it says is whether it was done.
ATTACKS = """
try() { name=$1; shift; if sh -c "$*" >/dev/null 2>&1; then echo "$name done"; else echo "$name refused"; fi; }
cd $D
try file 'echo x > plain && mkdir tree && echo y > tree/inner'
try link 'ln -s /etc/passwd link'
try 'hard link' 'ln plain hard'
try 'character device' 'mknod character c 1 3'
try 'block device' 'mknod block b 254 0'
try fifo 'mkfifo fifo'
try setuid 'chmod u+s plain && test -u plain'
try owner 'chown 1000:1000 plain'
try hook 'mkdir -p .git/hooks && echo x > .git/hooks/post-commit'
try config 'echo x > .git/config'
try 'step around' 'mv .git old'
try repository 'mkdir tree/.git'
try policy 'echo x > capsule.yaml'
try deep 'i=0; while test $i -lt 150; do mkdir deeper && cd deeper || exit 1; i=$((i+1)); done'
"""
NAMES = [
    "file", "link", "hard link", "character device", "block device", "fifo", "setuid", "owner", "hook", "config",
    "step around", "repository", "policy", "deep",
]  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "outer/project"
    (root / "src").mkdir(parents=True)
    (root / "src/a.py").write_text("x = 1\n")
    (root / ".env").write_text(SECRET)
    (root / ".git/hooks").mkdir(parents=True)
    (root / ".git/config").write_text("[core]\n")
    (root.parent / "secret").write_text(SECRET)
    return root


@pytest.fixture
def live(home: Home, project: Path) -> Iterator[str]:  # noqa: F811 - the fixture
    home.capsem("config", "set", "share.files", "300")
    home.capsem("config", "set", "share.size", "4M")
    box = "-n", "live", "--disk", "none", "--workspace", str(project), "--share", "live"
    assert home.create(*box) == "live"
    try:
        yield "live"
    finally:
        home.capsem("delete", "--force", "live")


def shell(home: Home, script: str, code: int = 0) -> str:  # noqa: F811 - the fixture
    return home.capsem("exec", "live", "--", "sh", "-c", script, code=code).decode()


def guarded(project: Path) -> dict[str, str]:
    """What no machine may change, as it is."""
    return {
        str(place.relative_to(project.parent)): place.read_text()
        for place in (project.parent / "secret", project / ".env", project / ".git/config")
    }


def test_both_sides_see_it_and_attacks_fail(home: Home, live: str, project: Path) -> None:  # noqa: F811
    before = guarded(project)
    assert (
        shell(home, "pwd; cat src/a.py; echo y = 2 > src/b.py; chmod 755 src/b.py") == "/workspace\nx = 1\n"
    )
    assert (project / "src/b.py").read_text() == "y = 2\n"
    assert (project / "src/b.py").stat().st_mode & 0o777 == 0o755
    (project / "src/c.py").write_text("z = 3\n")
    assert shell(home, "cat src/c.py; ls -A; ls -A ..") != ""
    assert ".env" not in shell(home, "ls -A")
    assert SECRET not in shell(home, "cat .env ../secret ../../secret /workspace/../secret 2>/dev/null; true")
    assert home.doctor(live)["no hard link can be made in the live share"][1] == "passed"
    # The positive control: on the machine's own file system all of it works.
    own = shell(home, f"mkdir -p /root/own; D=/root/own; {ATTACKS}").splitlines()
    assert own == [f"{name} done" for name in NAMES]
    found = shell(home, f"D=/workspace; {ATTACKS}").splitlines()
    works = ("file", "link", "repository")
    assert found == [f"{name} {'done' if name in works else 'refused'}" for name in NAMES]
    # One that the machine makes is none of the host.
    make = "mkdir hooks; for name in HEAD config hooks/pre-commit; do echo x >$name; done"
    inside = shell(home, f"cd tree/.git && {make} && cd .. && find . -name inner -prune -o -print").split()
    assert sorted(inside) == [
        ".", "./.git", "./.git/HEAD", "./.git/config", "./.git/hooks", "./.git/hooks/pre-commit",
    ]  # fmt: skip
    assert [str(one.relative_to(project)) for one in project.rglob(".git")] == [".git"]
    assert (project / "tree/.git-of-a-machine/HEAD-of-a-machine").read_text() == "x\n"
    # It leads in the machine, and is a file of the host.
    assert shell(home, "cd /workspace; readlink link; head -c 5 link") == "/etc/passwd\nroot:"
    assert (project / "link").read_bytes() == b"!<link of a machine>\n/etc/passwd"
    assert guarded(project) == before
    assert os.listdir(project / ".git/hooks") == []
    for place in project.rglob("*"):
        about = place.lstat()
        assert place.is_dir() or place.is_file(), place
        assert not place.is_symlink()
        assert about.st_mode & 0o7000 == (LINK_BIT if place.name == "link" else 0), place
        assert about.st_nlink == 1 or place.is_dir(), place
        assert about.st_uid == os.getuid()
        assert len(place.relative_to(project).parts) <= 101
    log = [entry for entry in logged(home.info("live")["log"]) if "type" in entry]
    [shared] = [entry for entry in log if entry["type"] == "machine.shared"]
    assert (shared["directory"], shared["access"], shared["limits"]["files"]) == (str(project), "live", 300)
    refused = {(entry["act"], entry["path"]) for entry in log if entry["type"] == "machine.share_refused"}
    wanted = {
        ("make", ".git/hooks/post-commit"),
        ("write", ".git/config"),
        ("move", ".git"),
    }
    assert wanted <= refused | {("make" if act == "write" else act, path) for act, path in refused} | {
        ("write" if act == "make" else act, path) for act, path in refused
    }


def test_a_guest_stays_within_its_limits(home: Home, live: str, project: Path) -> None:  # noqa: F811
    said = shell(home, "i=0; while test $i -lt 400; do : > f$i ; i=$((i+1)); done", code=2)
    assert said == ""
    assert len(list(project.iterdir())) <= 303
    shell(home, "rm f*; ! head -c 9000000 /dev/zero > big")
    assert sum(place.stat().st_size for place in project.rglob("*") if place.is_file()) <= (4 << 20) + 100
    shell(home, "rm big; ! truncate -s 1T sparse")
    shell(home, "rm -f sparse; echo fits > again")
    assert (project / "again").read_text() == "fits\n", "what was removed is given back"


def test_links_swapped_by_the_host_lead_nowhere(home: Home, live: str, project: Path) -> None:  # noqa: F811
    (project / "file").write_text("inside")
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            (project / "link").symlink_to("../secret")
            os.rename(project / "file", project / "kept")
            os.rename(project / "link", project / "file")
            time.sleep(0.001)
            os.rename(project / "file", project / "link")
            os.rename(project / "kept", project / "file")
            (project / "link").unlink()

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        seen = shell(
            home,
            "i=0; while test $i -lt 100; do "
            "cat file 2>/dev/null; echo; echo inside > file 2>/dev/null; i=$((i+1)); done",
        )
    finally:
        over.set()
        thread.join()
    assert "inside" in seen
    assert SECRET not in seen
    assert (project.parent / "secret").read_text() == SECRET


def test_what_a_live_share_cannot_do_is_refused(home: Home, live: str, project: Path) -> None:  # noqa: F811
    for words, why in (
        (("suspend", "live"), "cannot be suspended"),
        (("branch", "live"), "cannot be branched"),
        (("fork", "live", "copied"), "cannot be forked"),
        (("diff", "live"), "what it writes is there already"),
        (("apply", "live"), "what it writes is there already"),
        (("snapshot", "create", "live"), "what it writes is there already"),
    ):
        line = [sys.executable, "-m", "capsem.cli", *words]
        done = subprocess.run(line, capture_output=True, text=True, env=home.env, check=False)
        assert done.returncode != 0
        assert why in done.stderr, words
    assert home.info("live")["share"] == "live"


def test_a_share_ends_with_its_machine_and_is_there_again(home: Home, live: str, project: Path) -> None:  # noqa: F811
    shell(home, "echo before > kept")
    first = shares(project)
    assert first
    home.capsem("stop", "live")
    until = time.monotonic() + 60
    while first & shares(project):
        assert time.monotonic() < until, "a share outlived its machine"
        time.sleep(0.02)
    home.capsem("start", "live")
    assert shell(home, "cat kept") == "before\n"
    assert shares(project)


def shares(project: Path) -> set[int]:
    """Processes that serve this directory."""
    found = set()
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
            here = os.readlink(place.parent / "cwd")
        except OSError:
            continue
        if b"capsem.processes.share" in words and here == str(project):
            found.add(int(place.parent.name))
    return found
