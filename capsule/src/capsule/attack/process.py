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
from capsule.attack.judges import no_harm, no_leak, none_left
from capsule.attack.stage import Stage

FAMILY = Family(no_harm)
case = FAMILY.case


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


@case(
    "process.survive-timeout",
    34,
    "outlive the timeout: double fork, new session, closed pipes, ignored signals",
    judge=none_left,
    launch=Launch(seconds=1),
    may_die=True,
)
def survive_timeout(a: Inside) -> None:
    for number in range(1, 65):
        if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
            a.attempt(signal.signal, number, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (0, 1, 2):
                os.close(number)
            time.sleep(20)
        os._exit(0)
    time.sleep(20)


@case("process.survive-exit", 34, "a daemon left behind by a command that ends normally", judge=none_left)
def survive_exit(a: Inside) -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (0, 1, 2):
                os.close(number)
            time.sleep(20)
        os._exit(0)
    time.sleep(0.1)


def _kill_supervisor(stage: Stage) -> None:
    assert stage.process
    os.kill(stage.process.pid, signal.SIGKILL)


def _kill_interrupt(stage: Stage) -> None:
    assert stage.process
    os.kill(stage.process.pid, signal.SIGINT)


def _kill_terminate(stage: Stage) -> None:
    assert stage.process
    os.kill(stage.process.pid, signal.SIGTERM)


def _outlive(a: Inside) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(20)
        os._exit(0)
    a.ready()
    time.sleep(1.5)


for _name, _title, _during in (
    ("killed", "go on after the supervisor was killed with SIGKILL", _kill_supervisor),
    ("interrupted", "go on after Ctrl-C", _kill_interrupt),
    ("terminated", "go on after SIGTERM", _kill_terminate),
):
    case(
        f"process.survive-{_name}",
        35 if _name == "killed" else 34,
        _title,
        judge=none_left,
        during=_during,
        may_die=True,
        launch=Launch(seconds=4, listens=True),
    )(_outlive)


@case(
    "process.loader",
    28,
    "run a program that may not be run by way of the dynamic loader, a copy, memfd and execveat",
    needs=("loader", "x86"),
    judge=no_harm,
)
def loader(a: Inside) -> None:
    def show(*words: str) -> None:
        a.say(a.attempt(lambda: subprocess.run(words, capture_output=True, check=False).stdout))

    show(a.outside + "/tool")
    show("/bin/sh", a.outside + "/tool")
    show("/bin/sh", "-c", ". " + a.outside + "/tool")
    show("/lib64/ld-linux-x86-64.so.2", "/bin/cat", a.outside + "/canary", a.ws + "/.attack-denied")
    descriptor = a.attempt(os.open, a.outside + "/tool", os.O_RDONLY)
    if descriptor is not None:
        show("/bin/sh", f"/proc/self/fd/{descriptor}")
    memory = a.attempt(a.sys, "memfd_create", "x", 0)
    if memory is not None:
        os.write(memory, b"#!/bin/cat " + a.outside.encode() + b"/canary\n")
        show(f"/proc/{os.getpid()}/fd/{memory}")


@case(
    "process.environment",
    29,
    "secrets and loader variables of the caller's environment",
    source="CVE-2026-22708",
    launch=Launch(
        environment={
            "AWS_SECRET_ACCESS_KEY": "{secret}",
            "GITHUB_TOKEN": "{secret}",
            "OPENAI_API_KEY": "{secret}",
            "DATABASE_PASSWORD": "{secret}",
            "SSH_AUTH_SOCK": "{outside}/{secret}",
        }
    ),
    judge=no_leak,
)
def environment(a: Inside) -> None:
    a.say(dict(os.environ))
    for name in ("self", "1", str(os.getppid())):
        a.say(a.attempt(a.read, f"/proc/{name}/environ"))


def _loader_variables(stage: Stage) -> None:
    for pid in host.actors(stage.id, stage.capsule):
        with open(f"/proc/{pid}/environ", "rb") as file:
            words = file.read()
        for name in (
            b"LD_PRELOAD=",
            b"LD_AUDIT=",
            b"BASH_ENV=",
            b"PYTHONSTARTUP=",
            b"NODE_OPTIONS=",
            b"GIT_SSH_COMMAND=",
        ):
            if name in words:
                stage.notes["harm"] = f"the command got {name.decode().rstrip('=')} of its caller"


@case(
    "process.loader-variables",
    29,
    "LD_PRELOAD, BASH_ENV, PYTHONSTARTUP, NODE_OPTIONS of the caller reach the command",
    source="CVE-2025-61260",
    during=_loader_variables,
    launch=Launch(
        listens=True,
        environment={
            "LD_PRELOAD": "",
            "LD_AUDIT": "",
            "BASH_ENV": "{ws}/evil",
            "PYTHONSTARTUP": "{ws}/evil",
            "NODE_OPTIONS": "--require={ws}/evil",
            "GIT_SSH_COMMAND": "{ws}/evil",
        },
    ),
)
def loader_variables(a: Inside) -> None:
    a.ready()


def _fake_helpers(stage: Stage) -> None:
    folder = stage.ws / "bin"
    folder.mkdir()
    for name in (
        "python3",
        "python",
        "bwrap",
        "newuidmap",
        "newgidmap",
        "unshare",
        "ip",
        "mount",
        "git",
        "sh",
        "uv",
    ):
        (folder / name).write_text(f"#!/bin/sh\n: > '{stage.planted}'\nexit 1\n")
        (folder / name).chmod(0o755)


def _run_python3(a: Inside) -> None:
    subprocess.call(["python3", "-c", "pass"])


@case(
    "process.fake-helpers",
    41,
    "programs of the workspace, first on PATH, that the launcher might call outside",
    prepare=_fake_helpers,
    launch=Launch(environment={"PATH": "{ws}/bin:{PATH}", "XDG_CACHE_HOME": "{home}/cold"}),
    judge=lambda stage: "a program of the workspace ran outside" if stage.planted.exists() else None,
    control=_run_python3,
    refusal_holds=True,
)
def fake_helpers(a: Inside) -> None:
    a.attempt(subprocess.call, ["true"])


@case(
    "process.argument-text",
    30,
    "arguments that a shell would run: semicolons, substitutions, newlines",
    source="agentsh C1",
)
def argument_text(a: Inside) -> None:
    import shlex

    target = shlex.quote(a.outside + "/canary")
    for words in ("true; echo x > ", "$(echo x > ", "true\necho x >", "true${IFS}&& echo x > "):
        a.attempt(subprocess.call, ["/bin/sh", "-c", words + target + (")" if "$(" in words else "")])


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
    if select.select([terminal[1]], [], [], 0.2)[0]:
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
