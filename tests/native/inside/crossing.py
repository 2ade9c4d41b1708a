"""Reach files through links whose names a glob covers. Run inside; prints one JSON object of what came of each try."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable
from functools import partial

HERE = os.getcwd()
RESULTS: dict[str, str] = {}


def attempt(label: str, work: Callable[[], object]) -> None:
    try:
        done = work()
        RESULTS[label] = done if isinstance(done, str) else "done"
    except OSError as refusal:
        RESULTS[label] = f"E{refusal.errno}"


def read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def write(path: str) -> None:
    with open(path, "w") as file:
        file.write("EVIL\n")


def constrained(path: str, resolve: int) -> str:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    how = ctypes.create_string_buffer(struct.pack("QQQ", os.O_RDONLY, 0, resolve))
    base = os.open(".", os.O_RDONLY)
    descriptor = libc.syscall(437, base, path.encode(), how, 24)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), path)
    return os.read(descriptor, 99).decode().strip()


for name, path in {
    "in the middle": "a/private.d/file",
    "absolute": f"{HERE}/a/private.d/file",
    "with a detour": "a/../a/./private.d//file",
    "a link to the link": "way/file",
    "two links": "way2/file",
    "by descriptor of the directory": "/proc/self/cwd/a/private.d/file",
    "at the end": "a/private.txt",
    "in a chain at the end": "chain",
}.items():
    attempt(f"read {name}", partial(read, path))
attempt("read beneath", lambda: constrained("a/private.d/file", 0x08))
attempt("read in root", lambda: constrained("/a/private.d/file", 0x10))
attempt("write in the middle", lambda: write("a/kept.d/file"))
attempt("create in the middle", lambda: write("a/kept.d/new"))
attempt("remove in the middle", lambda: os.unlink("a/kept.d/file2"))
attempt("rename in the middle", lambda: os.rename("a/kept.d/file2", "a/moved"))
attempt("change in the middle", lambda: os.chmod("a/kept.d/file2", 0o777))
attempt(
    "execute in the middle", lambda: os.spawnv(os.P_WAIT, "a/private.d/program", ["program"]) == 127 or "ran"
)
attempt("control read through a link", lambda: read("open/file"))
attempt("control write through a link", lambda: write("open/written"))
attempt("control the kept may be read", lambda: read("a/kept.d/file"))
json.dump(RESULTS, sys.stdout)
