"""Attacks on the end of a run: going on after the timeout, after Ctrl-C, after the supervisor's death.

FAMILY.cases  # the list, in order
"""

from __future__ import annotations

import os
import signal
import time

from capsule.attack.case import Family, Launch
from capsule.attack.inside import Inside
from capsule.attack.judges import none_left
from capsule.attack.stage import Stage

FAMILY = Family(none_left)
case = FAMILY.case


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
