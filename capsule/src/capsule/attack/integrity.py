"""Attacks on the evidence: the policy, the log, its key, and the verifier.

FAMILY.cases  # the list, in order
"""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from capsule.attack.case import Family, Launch
from capsule.attack.inside import Inside
from capsule.attack.judges import log_sound, no_change, on_time
from capsule.attack.stage import Stage

FAMILY = Family(log_sound)
case = FAMILY.case
# What `capsule run` gets as --timeout where the clock is what is attacked.
_SECONDS = 3


@case("log.write", 61, "write to the log, truncate it, append a line of one's own")
def log_write(a: Inside) -> None:
    path = a.ws + "/capsule.log"
    for flags in (
        os.O_WRONLY,
        os.O_RDWR,
        os.O_WRONLY | os.O_APPEND,
        os.O_WRONLY | os.O_TRUNC,
        os.O_RDONLY | os.O_TRUNC,
    ):
        a.attempt(a.write, path, flags)
    a.attempt(os.truncate, path, 10)
    descriptor = a.attempt(os.open, path, os.O_RDONLY)
    if descriptor is not None:
        a.attempt(a.write, f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_APPEND)
        a.attempt(os.fchmod, descriptor, 0o666)


@case("log.replace", 61, "unlink, rename, or replace the log, also by exchange and link")
def log_replace(a: Inside) -> None:
    path = a.ws + "/capsule.log"
    a.write(a.ws + "/mine")
    a.attempt(os.rename, a.ws + "/mine", path)
    a.attempt(a.write, a.ws + "/mine")
    a.attempt(a.sys, "renameat2", -100, a.ws + "/mine", -100, path, 2)
    a.attempt(os.rename, path, a.ws + "/old.log")
    a.attempt(os.unlink, path)
    a.attempt(os.symlink, a.ws + "/mine", path)
    a.attempt(a.write, path)


@case("log.directory", 61, "rename or exchange the directory that holds the log")
def log_directory(a: Inside) -> None:
    above = os.path.dirname(a.ws)
    os.mkdir(a.ws + "/twin")
    a.attempt(a.write, a.ws + "/twin/capsule.log")
    a.attempt(os.rename, a.ws, above + "/gone")
    a.attempt(a.sys, "renameat2", -100, a.ws + "/twin", -100, a.ws, 2)
    a.attempt(os.rename, a.ws + "/twin", a.ws)


@case("log.companions", 61, "write beside the log under the names of its companions")
def log_companions(a: Inside) -> None:
    if not a.confined:
        a.write(a.ws + "/capsule.log")
    for name in (".lock", ".torn-0", ".head", ".checkpoint", ".tmp", ".torn-1"):
        a.attempt(os.symlink, a.outside + "/canary", a.ws + "/capsule.log" + name)


def _key_leaked(stage: Stage) -> str | None:
    folder = stage.home / ".local/share/capsule"
    for path in folder.glob("*") if folder.is_dir() else []:
        key = path.read_bytes().strip()
        forms = {key, key.hex().encode(), base64.b64encode(key)}
        if any(len(form) > 8 and form in stage.out for form in forms):
            return f"the log's key came out: {path.name}"
    return log_sound(stage) if stage.confined else None


def _key_of_a_control(stage: Stage) -> None:
    if not stage.confined:
        folder = stage.home / ".local/share/capsule"
        folder.mkdir(parents=True)
        (folder / "log.key").write_text(stage.secret)


@case("log.key", 61, "read or replace the log's signing key", prepare=_key_of_a_control, judge=_key_leaked)
def log_key(a: Inside) -> None:
    for folder in (".local/share/capsule", ".local/state/capsule", ".cache/capsule"):
        top = a.home + "/" + folder
        for where, _, names in os.walk(top):
            for name in names:
                path = os.path.join(where, name)
                a.say(a.attempt(a.read, path))
                a.attempt(a.write, path, os.O_WRONLY | os.O_TRUNC) if a.confined else None
        for name in ("log.key", "heads"):
            a.say(a.attempt(a.read, top + "/" + name))
            if a.confined:
                a.attempt(a.write, top + "/" + name)
        if a.confined:
            a.attempt(os.rename, top, top + "-moved")


@case("log.policy", 60, "overwrite, remove or replace the policy while it is in force", judge=no_change)
def policy_overwritten(a: Inside) -> None:
    path = a.ws + "/capsule.yaml"
    a.attempt(a.write, path, os.O_WRONLY | os.O_TRUNC)
    a.attempt(os.unlink, path)
    a.attempt(os.chmod, path, 0o666)
    a.write(a.ws + "/better.yaml")
    a.attempt(os.rename, a.ws + "/better.yaml", path)
    a.attempt(os.link, path, a.ws + "/other.yaml")
    a.attempt(a.write, a.ws + "/other.yaml", os.O_WRONLY)


def _shows_the_last(stage: Stage) -> str | None:
    text = stage.log.read_text(errors="replace") if stage.log.is_file() else ""
    if "final/.attack-kept" not in text:
        return "the one denial that mattered is not on the log"
    return log_sound(stage)


@case(
    "log.flood",
    62,
    "bury one denial under as many others as fit into two seconds",
    source="microsoft/agent-governance-toolkit 3572",
    judge=_shows_the_last,
    launch=Launch(seconds=20),
)
def flood(a: Inside) -> None:
    os.mkdir(a.ws + "/final")

    def deny(_: int) -> None:
        os.open(a.ws + "/src/.attack-kept", os.O_WRONLY | os.O_CREAT)

    def deny_another(index: int) -> None:
        a.sys("keyctl", time.monotonic_ns() & 0xFFFF, index)

    if a.confined:
        a.together(deny, 1.0)
        a.together(deny_another, 1.0)
    a.attempt(a.write, a.ws + "/final/.attack-kept")


def _kill_now(stage: Stage) -> None:
    assert stage.process
    time.sleep(0.3)
    os.kill(stage.process.pid, signal.SIGKILL)


def _verify(stage: Stage, *words: str) -> int:
    verdict = subprocess.run(
        [stage.capsule, "verify", *words, str(stage.log)],
        env=stage.environment,
        capture_output=True,
        timeout=20,
        check=False,
    )
    return verdict.returncode


@case(
    "log.killed",
    64,
    "kill -9 the supervisor while it writes",
    during=_kill_now,
    judge=lambda stage: (
        None
        if (code := _verify(stage)) in {0, 19, 20}
        else f"after kill -9 the log says {code}, not what happened"
    ),
    may_die=True,
    refusal_holds=True,
    tried_without="held; verify names the cause (0, torn or unsealed), and the start of the run is on the log",
)
def log_killed(a: Inside) -> None:
    a.ready()
    time.sleep(2)


def _tampered(change: Callable[[bytes], bytes], name: str) -> Callable[[Stage], str | None]:
    def judge(stage: Stage) -> str | None:
        if not stage.confined:
            return None
        if _verify(stage) != 0:
            return f"the log does not verify even before it is {name}"
        stage.log.write_bytes(change(stage.log.read_bytes()))
        return f"a log that was {name} verifies" if _verify(stage) == 0 else None

    return judge


for _id, _name, _change in (
    ("edited", "edited in one byte", lambda data: data.replace(b'"run.started"', b'"run.startee"', 1)),
    ("cut", "cut before its last block", lambda data: data[: data.rindex(b'{"block":')]),
    ("emptied", "emptied", lambda data: data[:0]),
    ("doubled", "given its last block twice", lambda data: data + data[data.rindex(b'{"block":') :]),
    (
        "reordered",
        "given two lines in the other order",
        lambda data: data[:0].join(sorted(data.splitlines(keepends=True))),
    ),
):

    def _work(a: Inside) -> None:
        a.write(a.ws + "/work")
        a.attempt(a.write, a.ws + "/.attack-kept", os.O_WRONLY)

    case(
        f"log.{_id}",
        65,
        f"outside, without the key: the log is {_name}",
        judge=_tampered(_change, _name),
        tried_without="found; the same log verified before it was changed",
    )(_work)


def _secret_on_the_log(stage: Stage) -> str | None:
    if not stage.log.is_file():
        return "there is no log"
    return "a secret is on the log" if stage.secret.encode() in stage.log.read_bytes() else None


def _log_their_arguments(a: Inside) -> None:
    a.write(a.ws + "/capsule.log", text=" ".join(sys.argv))


@case(
    "log.secrets",
    67,
    "secrets in arguments, addresses and variables come to rest on the log",
    source="the log outlives the secret",
    launch=Launch(
        arguments=("--env", "API_TOKEN={secret}"),
        words=(
            "--password={secret}",
            "https://user:{secret}@example.org/?token={secret}",
            "Authorization: Bearer {secret}",
        ),
    ),
    judge=_secret_on_the_log,
    control=_log_their_arguments,
)
def log_secrets(a: Inside) -> None:
    a.attempt(a.read, a.ws + "/src/main.py")


def _ran(stage: Stage) -> str | None:
    return "the command ran" if (stage.ws / "ran").exists() else None


for _id, _title, _text in (
    ("empty", "an empty policy", b""),
    (
        "unknown-key",
        "a policy with an unknown key",
        b"version: 1\nextends: [workspace]\nfilesytem:\n  read: [/]\n",
    ),
    ("duplicate", "a policy with a duplicate key", b"version: 1\nversion: 1\nextends: [workspace]\n"),
    ("not-utf8", "a policy that is not UTF-8", b"version: 1\nextends: [workspace]\n# \xff\xfe\n"),
    (
        "missing-base",
        "a policy that extends a file that is not there",
        b"version: 1\nextends: [./absent.yaml]\n",
    ),
    ("bomb", "a YAML bomb", b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\nversion: 1\n"),
    (
        "wrong-type",
        "a policy whose list is a text",
        b"version: 1\nextends: [workspace]\nfilesystem:\n  read: /etc\n  deny: {}\n",
    ),
    ("version", "a policy of another version", b"version: 99\nextends: [workspace]\n"),
):

    def _leave_a_trace(a: Inside) -> None:
        a.write(a.ws + "/ran")

    case(
        f"start.{_id}",
        40,
        f"{_title} must not run anything",
        source="fails open: PizzaPi 120, lince 237",
        judge=_ran,
        refusal_holds=True,
        launch=Launch(policy=_text or b"\n"),
    )(_leave_a_trace)


def _write_outside(a: Inside) -> None:
    a.attempt(a.write, a.outside + "/canary", os.O_WRONLY)
    for name in (".bashrc", ".vimrc", "bin/ls", "notes"):
        a.attempt(a.write, a.home + "/" + name)


def _home_grew(stage: Stage) -> str | None:
    for name in (".vimrc", "bin", "notes"):
        if (stage.home / name).exists():
            return f"the home directory became the workspace: {name} was made in it"
    return no_change(stage)


for _id, _cwd, _title in (("root", "/", "the root directory"), ("home", "home", "the home directory")):
    case(
        f"start.in-{_id}",
        19,
        f"started in {_title}, with no policy: it must not become the writable workspace",
        source="CVE-2025-59532",
        judge=_home_grew,
        refusal_holds=True,
        launch=Launch(cwd=_cwd, bare=True),
    )(_write_outside)


@case(
    "log.lock",
    0,
    "hold every lock and a lease on the log: the clock and other writers must not wait for it",
    judge=on_time(_SECONDS, no_change),
    may_die=True,
    launch=Launch(seconds=_SECONDS),
    tried_without="the run ended in time; without a sandbox nobody writes the log",
)
def hold_the_lock(a: Inside) -> None:
    import fcntl
    import signal

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    held = a.attempt(os.open, a.ws + "/capsule.log", os.O_RDONLY)
    if held is not None:
        a.attempt(fcntl.flock, held, fcntl.LOCK_EX)
        a.attempt(fcntl.lockf, held, fcntl.LOCK_SH)
        a.attempt(fcntl.fcntl, held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        a.attempt(fcntl.fcntl, held, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    # Something to be written down, while it is held.
    a.attempt(a.read, a.outside + "/canary")
    time.sleep(60)


def _linked_log(stage: Stage) -> None:
    stage.log.unlink(missing_ok=True)
    stage.log.symlink_to(stage.outside / "canary")


@case(
    "start.linked-log",
    61,
    "a log that is a symbolic link (a cloned repository brings one)",
    prepare=_linked_log,
    judge=no_change,
    refusal_holds=True,
)
def linked_log(a: Inside) -> None:
    a.attempt(a.write, a.ws + "/capsule.log", os.O_WRONLY)


def _hard_linked_log(stage: Stage) -> None:
    stage.log.unlink(missing_ok=True)
    os.link(stage.outside / "canary", stage.log)


@case(
    "start.hard-linked-log",
    61,
    "a log that is a second name of another file",
    prepare=_hard_linked_log,
    judge=no_change,
    refusal_holds=True,
)
def hard_linked_log(a: Inside) -> None:
    a.attempt(a.write, a.ws + "/capsule.log", os.O_WRONLY)
