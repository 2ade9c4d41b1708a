"""Attacks on other processes: reaching out of the run, outliving it, and running what must not run.

FAMILY.cases  # the list, in order
"""

from __future__ import annotations

import ctypes
import os
import pty
import select
import signal
import subprocess
import sys
import time

from capsule.attack import host
from capsule.attack.case import Family, Launch
from capsule.attack.inside import Inside
from capsule.attack.judges import no_harm, on_time
from capsule.attack.stage import Stage

FAMILY = Family(no_harm)
case = FAMILY.case
# What `capsule run` gets as --timeout where the clock is what is attacked.
_SECONDS = 3


def _with_victim(stage: Stage) -> None:
    words = [sys.executable, "-I", "-c", "import time, sys; s = sys.argv[1]; time.sleep(60)", stage.secret]
    victim = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
    stage.notes["victim"] = victim
    stage.extra["victim"] = victim.pid
    stage.extra["parent"] = os.getpid()
    stage.resources.callback(victim.wait)
    stage.resources.callback(victim.kill)
    time.sleep(0.05)


def _victim_hurt(stage: Stage) -> str | None:
    victim = stage.notes["victim"]
    assert isinstance(victim, subprocess.Popen)
    time.sleep(0.05)
    code = victim.poll()
    if code is not None:
        return f"a process of the host was ended ({code})"
    if host.status(victim.pid)["State"].startswith(("T", "t")):
        return "a process of the host was stopped"
    return no_harm(stage)


def _kill_the_victim(a: Inside) -> None:
    os.kill(a.extra["victim"], signal.SIGKILL)


@case(
    "process.kill-all",
    36,
    "kill(-1), kill(parent), and a host process by every signal call",
    prepare=_with_victim,
    judge=_victim_hurt,
    control=_kill_the_victim,
    may_die=True,
)
def kill_all(a: Inside) -> None:
    victim = a.extra["victim"]
    a.attempt(os.kill, victim, signal.SIGKILL)
    a.attempt(os.killpg, victim, signal.SIGKILL)
    a.attempt(a.sys, "tgkill", victim, victim, 9)
    descriptor = a.attempt(a.sys, "pidfd_open", victim, 0)
    if descriptor is not None:
        a.attempt(a.sys, "pidfd_send_signal", descriptor, 9, 0, 0)
    # Beyond the victim only where a PID namespace of our own bounds it, whatever else may have failed.
    if a.elsewhere("pid"):
        for number in (signal.SIGSTOP, signal.SIGKILL):
            a.attempt(os.kill, os.getppid(), number)
            a.attempt(os.kill, 1, number)
        a.attempt(os.kill, -1, signal.SIGKILL)


@case(
    "process.read-memory",
    26,
    "ptrace, process_vm_readv and /proc/PID/mem of a process of the host",
    prepare=_with_victim,
    judge=_victim_hurt,
)
def read_memory(a: Inside) -> None:
    others = (a.extra["parent"], 1, os.getppid()) if a.elsewhere("pid") else ()
    for pid in (a.extra["victim"], *others):
        for name in ("cmdline", "environ", "maps", "mem", "root/etc/hostname", "cwd/canary"):
            a.say(a.attempt(a.read, f"/proc/{pid}/{name}"))
        a.attempt(a.sys, "ptrace", 0x4206, pid, 0, 0)
        descriptor = a.attempt(a.sys, "pidfd_open", pid, 0)
        if descriptor is not None:
            for number in range(8):
                stolen = a.attempt(a.sys, "pidfd_getfd", descriptor, number, 0)
                if stolen is not None:
                    a.say(a.attempt(os.pread, stolen, 400, 0))


@case("process.monitor-memory", 0, "/proc/1 of the sandbox: memory, descriptors, root", judge=no_harm)
def monitor_memory(a: Inside) -> None:
    if not a.elsewhere("pid"):
        a.say(a.read(a.outside + "/canary"))
        return
    for pid in ("1", str(os.getppid())):
        for name in ("mem", "maps", "environ", "auxv", "stack", "syscall", "cwd/.attack-denied", "map_files"):
            a.say(a.attempt(a.read, f"/proc/{pid}/{name}"))
        for number in range(40):
            path = f"/proc/{pid}/fd/{number}"
            a.say(a.attempt(a.read, path))
            a.attempt(a.write, path, os.O_WRONLY)
        a.say(a.attempt(a.read, f"/proc/{pid}/root{a.outside}/canary"))
        a.attempt(a.write, f"/proc/{pid}/mem", os.O_WRONLY)
        a.attempt(a.write, f"/proc/{pid}/root{a.outside}/canary", os.O_WRONLY)


@case(
    "process.monitor-limits",
    0,
    "take the monitor's descriptors, processor and turn: prlimit, setpriority, sched_setaffinity on it",
    judge=on_time(_SECONDS, no_harm),
    may_die=True,
    launch=Launch(seconds=_SECONDS),
    tried_without="the run ended in time; without a sandbox there is no monitor to starve",
)
def monitor_limits(a: Inside) -> None:
    import resource

    if not a.elsewhere("pid"):
        raise RuntimeError("not in a PID namespace of its own: there is no monitor to starve")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for number in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_AS):
        a.attempt(resource.prlimit, 1, number, (0, 0))
    for who in ((os.PRIO_PROCESS, 1), (os.PRIO_PGRP, 1), (os.PRIO_USER, os.getuid()), (os.PRIO_USER, 0)):
        a.attempt(os.setpriority, *who, 19)
    a.attempt(os.sched_setscheduler, 1, os.SCHED_IDLE, os.sched_param(0))
    a.attempt(os.sched_setaffinity, 1, {0})
    open(a.ws + "/still-served", "w").close()
    time.sleep(60)


def _held_powers(stage: Stage) -> None:
    for pid in host.actors(stage.id, stage.capsule):
        for target in host.descriptors(pid).values():
            if "seccomp" in target or "notify" in target or target.endswith((".key", "capsule.log")):
                stage.notes["harm"] = f"the command holds {target}"


def _steal_by_name(a: Inside) -> None:
    held = os.open(a.ws + "/capsule.log", os.O_RDWR)
    a.ready()
    os.close(held)


@case(
    "process.listener-theft",
    0,
    "take the seccomp listener or the log's descriptor from the monitor",
    during=_held_powers,
    control=_steal_by_name,
)
def listener_theft(a: Inside) -> None:
    stolen: list[object] = []
    if not a.elsewhere("pid"):
        raise RuntimeError("not in a PID namespace of its own: there is no monitor to steal from")
    for pid in (1, os.getppid()):
        descriptor = a.attempt(a.sys, "pidfd_open", pid, 0)
        if descriptor is None:
            continue
        for number in range(64):
            got = a.attempt(a.sys, "pidfd_getfd", descriptor, number, 0)
            if got is not None:
                stolen.append(got)
    stolen += [a.attempt(os.open, f"/proc/1/fd/{number}", os.O_RDWR) for number in range(64)]
    a.ready()


def _powers(stage: Stage) -> None:
    for pid in host.actors(stage.id, stage.capsule):
        facts = host.status(pid)
        if facts["NoNewPrivs"] != "1":
            stage.notes["harm"] = "no_new_privs is not set"
        if (
            int(facts["CapEff"], 16)
            or int(facts["CapPrm"], 16)
            or int(facts["CapInh"], 16)
            or int(facts["CapAmb"], 16)
        ):
            stage.notes["harm"] = f"the command holds capabilities {facts['CapEff']}"
        if facts["Seccomp"] != "2":
            stage.notes["harm"] = "the command runs without a seccomp filter"


@case(
    "process.privileges",
    31,
    "what set-user-ID programs would give: no_new_privs, capabilities, filter",
    during=_powers,
)
def privileges(a: Inside) -> None:
    a.attempt(os.setuid, 0)
    a.ready()


def _with_terminal(stage: Stage) -> None:
    primary, secondary = pty.openpty()
    stage.resources.callback(os.close, primary)
    stage.resources.callback(os.close, secondary)
    stage.notes["terminal"] = (primary, secondary)
    stage.stdin = secondary


def _terminal_pushed(stage: Stage) -> str | None:
    terminal = stage.notes["terminal"]
    assert isinstance(terminal, tuple)
    os.set_blocking(terminal[1], False)
    pushed = b""
    came = select.poll()
    came.register(terminal[1], select.POLLIN)
    if came.poll(200):
        try:
            pushed = os.read(terminal[1], 200)
        except OSError:
            pushed = b""
    return f"typed into the caller's terminal: {pushed[:20]!r}" if pushed.strip() else None


@case(
    "process.tiocsti",
    22,
    "type into the caller's terminal (TIOCSTI, TIOCLINUX, the high bits of the request)",
    source="CVE-2017-5226",
    needs=("tiocsti",),
    prepare=_with_terminal,
    judge=_terminal_pushed,
)
def tiocsti(a: Inside) -> None:
    import fcntl

    if not a.confined:
        fcntl.ioctl(0, 0x540E, 1)
    # Terminals of others only where a mount namespace of our own says which those are.
    others = (
        ("/dev/pts/0", "/dev/console", "/proc/1/fd/0") if a.elsewhere("mnt") and a.elsewhere("pid") else ()
    )
    for path in ("/proc/self/fd/0", *(("/dev/tty",) if others else ()), *others):
        descriptor = a.attempt(os.open, path, os.O_RDWR | os.O_NOCTTY)
        for number in (0, 1, 2) if descriptor is None else (0, descriptor):
            for byte in b"id\n":
                buffer = ctypes.create_string_buffer(bytes([byte]))
                a.attempt(a.sys, "ioctl", number, 0x5412, buffer)
                a.attempt(a.sys, "ioctl", number, 0x5412 | 1 << 32, buffer)
    a.attempt(a.sys, "ioctl", 0, 0x541C, ctypes.create_string_buffer(b"\x02"))


@case(
    "process.signal-io",
    36,
    "send a signal by way of a descriptor's owner (F_SETOWN, O_ASYNC)",
    prepare=_with_victim,
    judge=_victim_hurt,
)
def signal_io(a: Inside) -> None:
    import fcntl
    import socket

    one, two = socket.socketpair()
    fcntl.fcntl(one, 10, signal.SIGKILL)  # F_SETSIG
    fcntl.fcntl(one, fcntl.F_SETOWN, a.extra["victim"])
    fcntl.fcntl(one, fcntl.F_SETFL, fcntl.fcntl(one, fcntl.F_GETFL) | os.O_ASYNC)
    two.send(b"x")
    time.sleep(0.2)
