"""Ordinary work with files and sockets, and the errors it meets. Run once outside and once inside: same output.

Run as a script by `ordinary.sh`; it imports nothing of capsule's.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import mmap
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any


def attempt(name: str, act: Callable[[], Any]) -> None:
    """Print what an act gives, or the name of its error."""
    try:
        print(name, act())
    except OSError as error:
        print(name, errno.errorcode[error.errno or 0])


def trees() -> None:
    Path("p/q/r").mkdir(parents=True)
    Path("p/q/r/file").write_text("hello")
    shutil.copytree("p", "p2")
    shutil.move("p2", "p3")
    print(sorted(os.walk("p3")))
    shutil.rmtree("p3")
    print(Path("p3").exists())


def databases_and_locks() -> None:
    database = sqlite3.connect("d.db")
    database.execute("pragma journal_mode=wal")
    database.execute("create table t(x)")
    database.executemany("insert into t values(?)", [(n,) for n in range(100)])
    database.commit()
    print(database.execute("select sum(x) from t").fetchone())
    database.close()
    with open("lock", "w") as one, open("lock", "w") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        attempt("flock", lambda: fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB))
        fcntl.lockf(one, fcntl.LOCK_EX)
    with open("mm", "wb+") as file:
        file.truncate(4096)
        mapped = mmap.mmap(file.fileno(), 4096)
        mapped[0:3] = b"abc"
        mapped.flush()
        mapped.close()
    print(Path("mm").read_bytes()[:3])


def opened(path: str, flags: int) -> str:
    os.open(path, flags)
    return "opened"


def errors_of_open() -> None:
    write, creat, read = os.O_WRONLY, os.O_CREAT, os.O_RDONLY
    os.symlink("loop2", "loop1")
    os.symlink("loop1", "loop2")
    cases: list[tuple[str, int]] = [
        ("mm", creat | os.O_EXCL),
        ("p", write),
        ("p", creat),
        ("mm/", read),
        ("new/", creat | write),
        ("s", write | os.O_NOFOLLOW),
        ("mm", read | os.O_DIRECTORY),
        ("zz/yy", write | creat),
        ("mm/yy", write | creat),
        ("", write | creat),
        ("x" * 300, write | creat),
        ("x/" * 3000, write | creat),
        ("loop1", write),
        ("loop1/x", write),
        (".", write),
        ("..", write | creat),
        ("zz", write),
        ("dang", creat | os.O_EXCL | write),
    ]
    for path, flags in cases:
        attempt(f"open {path[:20]!r} {flags:o}", partial(opened, path, flags))


def errors_of_names() -> None:
    acts: list[Callable[[], Any]] = [
        *(lambda p=p: os.mkdir(p) for p in ("p", "p/", ".", "..", "/", "n1/", "zz/x", "mm/x", "dang/")),
        *(lambda p=p: os.rmdir(p) for p in ("p", "n1/", "mm", ".", "p/..", "/", "s", "zz")),
        *(lambda p=p: os.unlink(p) for p in ("p", "mm/", "zz", ".", "p/..")),
        *(
            lambda a=a, b=b: os.rename(a, b)
            for a, b in [
                ("zz", "y"),
                ("p", "p/q/z"),
                ("mm", "p"),
                ("p", "mm"),
                (".", "y"),
                ("mm/", "y"),
                ("p/", "p9/"),
                ("p9", "p"),
                ("mm", "mm"),
                ("mm", "zz/y"),
            ]
        ),
        *(lambda a=a, b=b: os.link(a, b) for a, b in [("p", "y"), ("zz", "y"), ("mm", "mm"), ("mm", "mm2/")]),
        lambda: os.link("s", "s2", follow_symlinks=False),
        lambda: os.path.islink("s2"),
        *(lambda a=a, b=b: os.symlink(a, b) for a, b in [("t", "mm"), ("", "e"), ("t", "e/")]),
        lambda: os.mknod("node", 0o600 | stat.S_IFREG),
        lambda: os.mknod("node"),
        lambda: os.mkfifo("fifo2"),
    ]
    for number, act in enumerate(acts):
        attempt(f"name {number}", act)


def attributes() -> None:
    acts: list[Callable[[], Any]] = [
        lambda: os.chmod("zz", 0),
        lambda: os.chmod("mm", 0o600),
        lambda: os.utime("zz"),
        lambda: os.utime("mm", (1, 2)),
        lambda: os.utime("s", (3, 4), follow_symlinks=False),
        lambda: (os.lstat("s").st_mtime, os.stat("mm").st_mtime),
        lambda: os.truncate("mm", 7),
        lambda: os.truncate("p", 7),
        lambda: os.truncate("mm", -1),
        lambda: os.setxattr("mm", "user.a", b"1"),
        lambda: os.getxattr("mm", "user.a"),
        lambda: os.setxattr("mm", "user.a", b"1", os.XATTR_CREATE),
        lambda: os.removexattr("mm", "user.a"),
        lambda: os.removexattr("mm", "user.a"),
        lambda: os.setxattr("s", "user.a", b"1", follow_symlinks=False),
        lambda: os.setxattr("mm", "bad", b"1"),
        lambda: os.setxattr("mm", "x" * 300, b"1"),
        lambda: os.chown("mm", -1, -1),
        lambda: os.chown("s", -1, -1, follow_symlinks=False),
    ]
    for number, act in enumerate(acts):
        attempt(f"attribute {number}", act)


def descriptors() -> None:
    directory = os.open("p", os.O_RDONLY)
    fd = os.open("rel", os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=directory)
    os.write(fd, b"x")
    os.fchmod(fd, 0o600)
    os.fchown(fd, -1, -1)
    os.utime(fd, (9, 9))
    print(oct(os.stat("p/rel").st_mode), os.stat("rel", dir_fd=directory).st_size)
    os.rename("rel", "rel2", src_dir_fd=directory, dst_dir_fd=directory)
    os.unlink("rel2", dir_fd=directory)
    os.mkdir("sd", dir_fd=directory)
    os.rmdir("sd", dir_fd=directory)
    attempt("badfd", lambda: os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=99))
    attempt("not a directory", lambda: os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    unnamed = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(unnamed, b"tmp")
    os.link(f"/proc/self/fd/{unnamed}", "fromtmp", src_dir_fd=directory)
    os.write(os.open(f"/proc/self/fd/{unnamed}", os.O_WRONLY | os.O_APPEND), b"!")
    print(Path("fromtmp").read_text())
    memory = os.memfd_create("m")
    os.write(memory, b"q")
    print(os.read(os.open(f"/proc/self/fd/{memory}", os.O_RDWR), 9))
    gone = os.open("unl", os.O_CREAT | os.O_RDWR)
    os.unlink("unl")
    os.write(os.open(f"/proc/self/fd/{gone}", os.O_RDWR), b"z")
    print(os.fstat(gone).st_size, os.fstat(gone).st_nlink)
    reading, writing = os.pipe()
    os.write(os.open(f"/proc/self/fd/{writing}", os.O_WRONLY), b"pp")
    print(os.read(reading, 9))
    flags = fcntl.fcntl(os.open("mm", os.O_WRONLY | os.O_APPEND), fcntl.F_GETFL)
    print(bool(flags & os.O_APPEND), flags & 3, bool(flags & os.O_NONBLOCK))
    libc = ctypes.CDLL(None)
    print(
        fcntl.fcntl(libc.open(b"mm", os.O_RDWR), fcntl.F_GETFD),
        os.get_inheritable(os.open("mm", os.O_WRONLY)),
    )


def selves() -> None:
    print(
        Path("/proc/self/comm").read_text().startswith("python"),
        os.readlink("/proc/self") == str(os.getpid()),
    )

    def thread() -> None:
        Path("fromthread").write_text("t")
        status = Path("/proc/thread-self/status").read_text()
        print(f"Pid:\t{threading.get_native_id()}\n" in status, f"Tgid:\t{os.getpid()}\n" in status)

    other = threading.Thread(target=thread)
    other.start()
    other.join()


def unix_sockets() -> None:
    def new() -> socket.socket:
        return socket.socket(socket.AF_UNIX)

    server, client = new(), new()
    server.bind("sock")
    print(server.getsockname(), oct(os.stat("sock").st_mode))
    server.listen()
    client.connect("sock")
    accepted, _ = server.accept()
    accepted.send(b"hi")
    print(client.recv(9), client.getpeername())
    attempt("bound twice", lambda: new().bind("sock"))
    attempt("no socket", lambda: new().connect("nosock"))
    attempt("a file", lambda: new().connect("mm"))
    os.rename("sock", "sock3")
    new().connect("sock3")
    server, client = new(), new()
    server.bind(f"\0capsule-{os.getpid()}-{os.getcwd()}")
    server.listen()
    client.connect(server.getsockname())
    print("abstract", client.getpeername() == server.getsockname())


def internet_sockets() -> None:
    for family, loopback in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        server = socket.socket(family)
        server.bind((loopback, 0))
        server.listen()
        client = socket.create_connection(server.getsockname()[:2])
        server.accept()[0].send(b"tcp")
        print(client.recv(5))
        attempt("refused", partial(socket.create_connection, (loopback, 1)))
        one, two = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        one.bind((loopback, 0))
        two.sendto(b"udp", one.getsockname())
        print(one.recv(9))
        two.connect(one.getsockname())
        two.send(b"u2")
        print(one.recv(9))
    client, server = socket.socket(), socket.socket()
    client.setblocking(False)
    server.bind(("127.0.0.1", 0))
    server.listen()
    print(client.connect_ex(server.getsockname()) in (0, errno.EINPROGRESS))


async def streams() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"ok")
        writer.close()

    server = await asyncio.start_unix_server(answer, path="as")
    reader, _ = await asyncio.open_unix_connection("as")
    print(await reader.read())
    server.close()


def square(number: int) -> int:
    return number * number


def processes() -> None:
    with multiprocessing.Pool(3) as pool:
        print(pool.map(square, range(5)))
    done = subprocess.run(["sh", "-c", "echo $0 > subout; cat subout"], capture_output=True, check=True)
    print(done.stdout)
    with tempfile.NamedTemporaryFile(dir=".") as file:
        file.write(b"x")
        file.flush()
        print(os.stat(file.name).st_size, oct(os.stat(file.name).st_mode))


class AlarmError(Exception):
    """The alarm rang."""


def interruptions() -> None:
    def ring(*_: object) -> None:
        raise AlarmError

    os.mkfifo("alarm")
    signal.signal(signal.SIGALRM, ring)
    signal.alarm(1)
    try:
        os.open("alarm", os.O_RDONLY)
    except AlarmError:
        print("an alarm ends the opening of a pipe")
    signal.alarm(0)


def exhaustion() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
    kept = []
    try:
        while True:
            kept.append(os.open("mm", os.O_WRONLY))
    except OSError as error:
        print("too many", errno.errorcode[error.errno or 0])


if __name__ == "__main__":
    trees()
    databases_and_locks()
    errors_of_open()
    errors_of_names()
    attributes()
    descriptors()
    selves()
    unix_sockets()
    internet_sockets()
    asyncio.run(streams())
    processes()
    interruptions()
    exhaustion()
