"""The share's conversation with a guest's kernel: order, form, floods; and the process itself, as it is confined."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsem.host.confinement import sharing
from capsem.host.memory import blank
from capsem.host.sharing import told
from capsem.processes.share import PROCESS
from capsem.processes.share.serving import REPORTS, Reports, begun, serve
from capsem.wire import fuse
from capsem.wire.frame import FrameError
from capsem.wire.fuse import Op
from capsem.workspace.live import Limits
from tests.capsem.processes.share.kernel import INIT, Kernel, request, serving


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    place.mkdir()
    (place / "a").write_bytes(b"inside")
    return place


def test_requests_are_answered_in_whatever_pieces_they_come(root: Path) -> None:
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=serve, args=(theirs, serving(root)[0]))
    thread.start()
    stream = request(Op.INIT, 0, INIT) + request(Op.LOOKUP, 1, b"a\0") + request(Op.INTERRUPT, 0, bytes(8))
    for byte in stream:
        ours.send(bytes([byte]))
    ours.send(request(Op.GETATTR, 1, bytes(16)) + request(Op.DESTROY, 0))
    thread.join(30)
    assert not thread.is_alive()
    theirs.close()
    answers = b"".join(iter(lambda: ours.recv(1 << 16), b""))
    sizes = []
    while answers:
        size, error, _ = fuse.ANSWER.unpack_from(answers)
        assert error == 0
        sizes.append(size)
        answers = answers[size:]
    ours.close()
    assert sizes == [16 + 64, 16 + 128, 16 + 104, 16]


@pytest.mark.parametrize(
    "stream",
    [
        request(Op.LOOKUP, 1, b"a\0"),
        request(Op.INIT, 0, INIT) * 2,
        request(Op.INIT, 0, b"\x07\0\0\0\x08\0\0\0" + bytes(8)),
        request(Op.INIT, 0, INIT) + request(Op.LOOKUP, 1, b"a"),
        request(Op.INIT, 0, INIT) + request(Op.READ, 1, b"short"),
        request(Op.INIT, 0, INIT) + request(Op.WRITE, 1, fuse.WRITE.pack(1, 0, 9, 0, 0, 0, 0) + b"short"),
        request(Op.INIT, 0, INIT) + request(Op.BATCH_FORGET, 0, fuse.BATCH.pack(9, 0)),
        b"\xff\xff\xff\xff",
        b"\x27\0\0\0",
    ],
)
def test_what_no_kernel_sends_ends_it(root: Path, stream: bytes) -> None:
    ours, theirs = socket.socketpair()
    ours.send(stream)
    with pytest.raises(FrameError), theirs:
        serve(theirs, serving(root)[0])
    ours.close()


def test_what_nobody_knows_is_refused_and_it_goes_on(root: Path) -> None:
    kernel = Kernel(serving(root)[0])
    for op in (21, 22, 23, 37, 39, 43, 46, 47, 4096):
        with pytest.raises(OSError, match="not implemented"):
            kernel.ask(op, 1, bytes(64))
    assert kernel.find("a") == 2


def test_a_guest_that_says_anything_changes_nothing_outside(root: Path, tmp_path: Path) -> None:
    """Random requests, of the right form and of none: an answer or an end, and nothing outside of the directory."""
    (tmp_path / "outside").write_bytes(b"as it was")
    chance = random.Random(20)
    for _ in range(40):
        kernel = Kernel(serving(root, Limits(files=20, size=1 << 16, open_files=20))[0])
        with contextlib.suppress(FrameError):
            for _ in range(200):
                op = chance.choice([*Op, chance.randrange(60)])
                if op in {Op.INIT, Op.DESTROY}:
                    continue
                names = [b"a\0", b"b\0", b"../outside\0" if chance.random() < 0.01 else b"c\0"]
                numbers = bytes(
                    chance.choice([0, 1, 2, 255]) for _ in range(chance.choice([0, 8, 16, 40, 88]))
                )
                body = chance.choice([b"", numbers]) + b"".join(chance.sample(names, chance.randrange(3)))
                with contextlib.suppress(OSError):
                    kernel.ask(op, chance.choice([1, 1, 2, 3, 4, 1 << 63]), body)
    assert (tmp_path / "outside").read_bytes() == b"as it was"
    assert sorted(os.listdir(tmp_path)) == ["outside", "project"]
    assert not any(place.is_symlink() for place in root.rglob("*"))


def test_what_is_told_is_bounded(root: Path) -> None:
    lines: list[str] = []
    reports = Reports(lines.append)
    for number in range(2 * REPORTS):
        reports("make", "\udcff" * 5000 + str(number // 2), "why" * 5000)
    assert len(lines) == REPORTS
    assert max(map(len, lines)) < 8000
    assert json.loads(lines[0])["act"] == "make"


def test_a_directory_that_stands_in_another_s_place_is_not_served(root: Path, tmp_path: Path) -> None:
    about = told(root, Limits())
    assert begun(about, lambda _: None, time.time_ns) is not None, "the positive control"
    root.rename(tmp_path / "kept")
    root.mkdir()
    with pytest.raises(OSError, match="another directory now"):
        begun(about, lambda _: None, time.time_ns)


@contextlib.contextmanager
def process(root: Path, room: Path) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """The share as the monitor starts it, once it serves."""
    content = blank("told")
    os.write(content, json.dumps(told(root, Limits())).encode())
    ours, theirs = socket.socketpair()
    line = sharing(room / "share.log", content)
    with subprocess.Popen(
        line,
        stdin=theirs.fileno(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=[content],
        cwd=root,
        start_new_session=True,
    ) as started:
        theirs.close()
        os.close(content)
        assert started.stdout is not None
        try:
            assert started.stdout.readline() == b'{"serves": true}\n'
            yield started, ours
        finally:
            ours.close()
            started.kill()


def children(pid: int) -> list[int]:
    """All processes below one."""
    try:
        direct = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [*direct, *(below for one in direct for below in children(one))]


@pytest.mark.needs("userns", "landlock")
def test_the_process_has_its_directory_and_nothing_else(root: Path, tmp_path: Path) -> None:
    with process(root, tmp_path) as (started, ours):
        [pid] = [
            one for one in children(started.pid)
            if b"capsem.processes.share" in Path(f"/proc/{one}/cmdline").read_bytes().split(b"\0")
        ][-1:]  # fmt: skip
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert (int(status["CapEff"], 16), status["NoNewPrivs"], status["Seccomp"]) == (0, "1", "2")
        for space in ("net", "mnt", "pid", "user"):
            assert os.readlink(f"/proc/{pid}/ns/{space}") != os.readlink(f"/proc/self/ns/{space}")
        opened = {os.readlink(place) for place in Path(f"/proc/{pid}/fd").iterdir()}
        named = {
            one for one in opened if one.startswith("/") and not one.startswith(("/memfd:", "/dev/null"))
        }
        assert named == {str(root)}
        ours.send(request(Op.INIT, 0, INIT))
        assert len(ours.recv(4096)) == 80
        # It ends when its machine hangs up.
        ours.close()
        assert started.wait(60) == 0
    assert PROCESS.name == "capsem-share"


@pytest.mark.needs("userns", "landlock")
def test_the_kernel_holds_the_process_to_its_directory(root: Path, tmp_path: Path) -> None:
    """What a share that was taken over could do: a program in its place, under the same policy."""
    (tmp_path / "outside").write_bytes(b"as it was")
    (root / ".git/hooks").mkdir(parents=True)
    (root / ".git/config").write_bytes(b"as it was")
    tried = f"""
import os
def attempt(name, act):
    try: act()
    except OSError as error: print(name, "refused")
    else: print(name, "done")
attempt("inside", lambda: open("inside", "w").write("x"))
attempt("outside", lambda: open({str(tmp_path / "outside")!r}, "r+").write("x"))
attempt("link", lambda: os.symlink("/etc/passwd", "link"))
attempt("hard link", lambda: os.link("a", "hard"))
attempt("fifo", lambda: os.mkfifo("fifo"))
attempt("setuid", lambda: os.chmod("a", 0o4755))
attempt("hook", lambda: open(".git/hooks/x", "w"))
attempt("config", lambda: open(".git/config", "w"))
attempt("step around", lambda: os.rename(".git", "old"))
attempt("program", lambda: os.execv("/bin/true", ["true"]))
"""
    line = sharing(tmp_path / "share.log", 0)
    at = line.index("-m")
    command = [part for part in line[:at] if part not in {"--pass-fd", "0"}]
    done = subprocess.run([*command, "-c", tried], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "inside done", "outside refused", "link refused", "hard link refused", "fifo refused", "setuid refused",
        "hook refused", "config refused", "step around refused", "program refused",
    ], done.stderr  # fmt: skip
    assert (tmp_path / "outside").read_bytes() == (root / ".git/config").read_bytes() == b"as it was"
    assert sorted(os.listdir(root)) == [".git", "a", "inside"]
