"""A workspace with a module of tools in it; every sandbox of a test ends with it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = '''
import asyncio, ctypes, os, pathlib, signal, socket, subprocess, sys, threading, time
import capsule

COUNTER = 0

@capsule.tool
def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b

@capsule.tool
def echo(value: object) -> object:
    return value

@capsule.tool
def kill_the_worker() -> None:
    os.kill(os.getppid(), signal.SIGKILL)

@capsule.tool
def count() -> int:
    global COUNTER
    COUNTER += 1
    return COUNTER

@capsule.tool
def read(path: str) -> str:
    return pathlib.Path(path).read_text()

@capsule.tool
def write(path: str, text: str) -> int:
    return pathlib.Path(path).write_text(text)

@capsule.tool
def fail(kind: str) -> None:
    class OddError(Exception): pass
    if kind == "odd":
        raise OddError("strange")
    if kind == "exit":
        sys.exit(3)
    if kind == "os":
        open("/nonexistent/x")
    raise {"key": KeyError, "value": ValueError}[kind](kind)

@capsule.tool
async def later(text: str) -> str:
    await asyncio.sleep(0.001)
    return text * 2

@capsule.tool
async def later_forever() -> None:
    await asyncio.sleep(1000)

@capsule.tool(timeout=0.5)
def outlive(mark: str) -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                pathlib.Path(mark).write_text(str(time.time()))
                time.sleep(0.02)
        os._exit(0)
    time.sleep(1000)

@capsule.tool
def leave_behind(mark: str) -> str:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(3, 100):
                try: os.close(number)
                except OSError: pass
            while True:
                pathlib.Path(mark).write_text(str(time.time()))
                time.sleep(0.02)
        os._exit(0)
    return "left"

@capsule.tool
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds

@capsule.tool(timeout=30)
def connection() -> int:
    """The descriptor of this call's own connection: what a hostile body would look for."""
    import stat
    for number in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode): return number
        except OSError: pass
    return -1

@capsule.tool(timeout=2)
def say(words: bytes, end: str) -> str:
    """Send raw bytes as the answer, then return or go."""
    number = connection.__wrapped__()
    view = memoryview(words)
    while view:
        try: view = view[os.write(number, view):]
        except (BrokenPipeError, ConnectionResetError): break
    if end == "exit":
        os._exit(0)
    if end == "hang":
        time.sleep(1000)
    return "a second answer"

@capsule.tool
def die(number: int) -> None:
    os.kill(os.getpid(), number)

@capsule.tool
def bad_result() -> object:
    return {"a": [1, {2}]}

@capsule.tool(result_limit=1000)
def big(size: int) -> str:
    return "x" * size

@capsule.tool
def nested() -> int:
    return add(20, b=1)

@capsule.tool
def open_descriptors() -> list:
    return sorted(os.listdir("/proc/self/fd"))

def plain(a: int) -> int:
    return a * 3
'''


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, which is the current one."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def tools(workspace: Path, monkeypatch: pytest.MonkeyPatch, capsule_binary: Path) -> Iterator[ModuleType]:
    """The module above, imported from the workspace."""
    from capsule.sdk.pool import POOL

    monkeypatch.setenv("CAPSULE_BINARY", str(capsule_binary))
    name = f"sample_tools_{abs(hash(workspace))}"
    (workspace / f"{name}.py").write_text(TOOLS)
    monkeypatch.syspath_prepend(str(workspace))
    importlib.invalidate_caches()
    yield importlib.import_module(name)
    POOL.close()
    sys.modules.pop(name, None)
