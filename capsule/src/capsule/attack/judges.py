"""The host's verdicts: each returns the harm it can see, or None.

judge=no_harm            # nothing outside changed, no secret came out
judge=no_trap            # git, run on the host afterwards, executed nothing of the attacker's
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from capsule.attack import host
from capsule.attack.stage import DENIED, Stage

Judge = Callable[[Stage], "str | None"]
SMALL = 4 << 20
# Files of the workspace that hold the secret from the start, wherever they were moved to.
KEEPERS = {DENIED, "secret", "hidden", "key"}


def no_change(stage: Stage) -> str | None:
    """Home, outside and the protected names are byte for byte, mode for mode, as they were."""
    changes = stage.changes()
    return None if not changes else "changed on the host: " + ", ".join(changes[:3])


def no_leak(stage: Stage) -> str | None:
    """No secret came out: not on the output, not in the workspace, not to a listener."""
    secret = stage.secret.encode()
    if secret in stage.out or secret in stage.err:
        return "a secret came out on the output"
    if any(secret in words for words in stage.heard):
        return "a secret reached a listener of the host"
    for folder, _, files in os.walk(stage.ws):
        for name in files:
            path = Path(folder, name)
            if name in KEEPERS or path.is_symlink() or not path.is_file() or path.stat().st_size > SMALL:
                continue
            if secret in path.read_bytes():
                return "a secret was copied to " + str(path.relative_to(stage.root))
    return None


def no_harm(stage: Stage) -> str | None:
    """`no_change` and `no_leak`, and whatever the look during the run wrote down as harm."""
    harm = stage.notes.get("harm")
    return str(harm) if harm else no_change(stage) or no_leak(stage)


def no_trap(stage: Stage) -> str | None:
    """A person who now uses git in this workspace runs nothing of the attacker's."""
    return no_trap_in(".")(stage)


def no_trap_in(folder: str) -> Callable[[Stage], str | None]:
    """The same for a person who stands in a directory of the workspace, and then in the workspace."""

    def judge(stage: Stage) -> str | None:
        for place in dict.fromkeys((folder, ".")):
            if (stage.ws / place).is_dir():
                _use_git(stage, stage.ws / place)
        if stage.planted.exists():
            return "git, run on the host afterwards, executed what was planted"
        return no_leak(stage)

    return judge


def _use_git(stage: Stage, folder: Path) -> None:
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(stage.home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "--no-pager", *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=False,
        )
        return done.stdout.decode("utf-8", "replace").strip()

    git("status", "--short")
    git("add", "src/main.py")
    git("commit", "-q", "-m", "work", "--allow-empty")
    git("diff", "HEAD")
    git("log", "-1")
    git("checkout", "-q", "-b", "other")
    # What can also be done in a bare one.
    made = git("commit-tree", git("hash-object", "-w", "-t", "tree", os.devnull), "-m", "work")
    git("update-ref", "refs/heads/more", made)


def none_left(stage: Stage) -> str | None:
    """Nothing the command started is alive a moment after its end."""
    until = time.monotonic() + 1.5
    while True:
        left = host.named(stage.id)
        if not left:
            return None
        if time.monotonic() > until:
            return f"{len(left)} processes outlived the run (pid {left[0]})"
        time.sleep(0.05)


def not_heard(stage: Stage) -> str | None:
    """No listener of the host heard anything."""
    listeners = stage.notes.get("listeners", [])
    assert isinstance(listeners, list)
    for listener in listeners:
        if listener.heard():
            stage.heard.extend(listener.said)
            return f"a listener of the host was reached at {listener.address!r}"
    return no_leak(stage)


def log_sound(stage: Stage) -> str | None:
    """The log verifies, names this run's start and end, and was never somebody else's."""
    if not stage.confined:
        return (
            None
            if stage.log.is_file() and stage.log.read_text() == '{"block":0}\n'
            else "the log was changed"
        )
    if stage.report and "log" in stage.report:
        verdict = subprocess.run(
            [stage.capsule, "verify", str(stage.log)],
            env=stage.environment,
            capture_output=True,
            timeout=20,
            check=False,
        )
        if verdict.returncode:
            said = (verdict.stdout + verdict.stderr).decode(errors="replace").strip()
            return f"the log no longer verifies ({verdict.returncode}): {said[:120]}"
    text = stage.log.read_text(errors="replace") if stage.log.is_file() else ""
    if '"run.started"' not in text or '"run.ended"' not in text:
        return "the log misses the start or the end of the run"
    if any(not line.startswith(('{"block":', '{"seq":', '{"note":')) for line in text.splitlines()):
        return "there are lines on the log that capsule did not write"
    return no_change(stage)


def both(*judges: Judge) -> Judge:
    """The first harm any of several judges sees."""

    def judge(stage: Stage) -> str | None:
        return next((harm for harm in (one(stage) for one in judges) if harm), None)

    return judge


def on_time(seconds: float, then: Judge) -> Judge:
    """The run ended near its timeout, however busy the host; then what the other judge says."""

    def judge(stage: Stage) -> str | None:
        if stage.elapsed > 10 * seconds or stage.overran:
            return f"the timeout of {seconds:g} s took {stage.elapsed:.1f} s"
        return then(stage)

    return judge
