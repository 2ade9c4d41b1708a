"""The demonstration's last chapter: an agent in a machine of its own, whose model was turned by what it read.

As before every trap is sprung without a machine first, in a throwaway copy; the servers, the record and the host's
files are what is judged by. Refuses to go on when a trap did not spring. Images stay in `.build/machines`, what
they are made of in the user's cache, so that the second time takes seconds.

    with Internet(folder, KEY) as internet:
        chapter(stage, internet, root / ".build/machines")
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import judging
import model
import network
from internet import STRANGER, Internet
from judging import HOOK, LOOT
from stage import Stage, title

HERE = Path(__file__).parent
JOB = "job"  # what the machine is called
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "mksquashfs": "squashfs-tools",
    "mkfs.ext4": "e2fsprogs",
}
_SOCKET_LIMIT = 107  # of a socket's name, unix(7)
_SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin"


def missing() -> list[str]:
    """The Debian packages of the programs that a machine needs and this host has not."""
    wanted = PROGRAMS if os.geteuid() == 0 else PROGRAMS | {"newuidmap": "uidmap"}
    where = f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM}"
    return [package for program, package in wanted.items() if shutil.which(program, path=where) is None]


def lacking() -> str | None:
    """What this host lacks for a machine, or None."""
    if reason := network.lacking():
        return reason
    if importlib.util.find_spec("capsem") is None:
        return "capsem is not installed; `make setup` does it"
    if platform.machine() != "x86_64":
        return f"its image is for x86_64, and this is {platform.machine()}"
    if packages := missing():
        return f"it needs QEMU and what builds images: sudo apt-get install -y {' '.join(packages)}"
    if os.geteuid() != 0:
        ranges = ("unshare", "--user", "--map-auto", "--map-root-user", "true")
        if subprocess.run(ranges, capture_output=True, check=False).returncode != 0:
            return "it needs user namespaces, and a range of numbers for this user in /etc/subuid"
    return None


def chapter(stage: Stage, internet: Internet, home: Path) -> None:
    """The whole of it: an image, the traps, a session, its record."""
    if len(f"{home}/run/m-00000000.sock") > _SOCKET_LIMIT:
        home = Path(tempfile.gettempdir(), f"capsem-demo-{os.getuid()}")
    project = _project(stage)
    internet.forget()
    internet.reply = model.reply
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    more = {
        **network.KEYS,
        "CAPSEM_HOME": str(home),
        "CAPSEM_CACHE": str(_cache()),
        "CAPSEM_SERVICE_IDLE": "60",
    }

    title("A machine of its own: its image")
    print("The first time Debian's packages are fetched and installed: some minutes. They are kept.")
    print("The kernel is Debian's (stock); without that word ours is compiled, hardened, in more minutes.\n")
    build = ("capsem", "image", "build", "--recipe", str(HERE / "machine.toml"), "--kernel", "stock")
    if stage.show(*build, cwd=project.parent, more=more) != 0:
        print("\nThe chapter of the machine is left out: its image could not be built; why is above.")
        return

    title("Without a machine: what does this agent do?")
    if not _control(stage, internet, project):
        return
    stage.quietly(
        "capsem", "delete", "--force", JOB, cwd=project.parent, more=more
    )  # of a run that was interrupted
    try:
        _session(stage, internet, project, more)
    finally:
        stage.quietly("capsem", "delete", "--force", JOB, cwd=project.parent, more=more)
        _end_service(home)


def _session(stage: Stage, internet: Internet, project: Path, more: dict[str, str]) -> None:
    title("In a machine: the same agent, the same model")
    create = (
        "capsem",
        "create",
        "-n",
        JOB,
        "--image",
        "demo",
        "--policy",
        "machine.yaml",
        "--workspace",
        "h11",
    )
    if stage.show(*create, cwd=project.parent, more=more) != 0:
        stage.check("the machine was created", False)
        return
    machine = json.loads(stage.quietly("capsem", "info", "--json", JOB, cwd=project.parent, more=more).stdout)
    print(f"  (its processor: {machine['accelerator']}; emulated it is slower, not weaker)\n")
    stage.show("capsem", "cp", "agent/resident.py", f"{JOB}:/root/resident.py", cwd=project.parent, more=more)
    over = threading.Event()
    answering = threading.Thread(target=_answer, args=(stage, project, more, over), daemon=True)
    answering.start()
    code = stage.show(
        "capsem", "exec", JOB, "--", "python3", "/root/resident.py", cwd=project.parent, more=more
    )
    over.set()
    answering.join(60)
    print()
    stage.check("the session came to its end: exit code 0", code == 0)
    heard = internet.forget()
    seen = stage.folder / "seen-in-the-machine.txt"
    stage.quietly("capsem", "cp", f"{JOB}:/environment.txt", str(seen), cwd=project.parent, more=more)

    title("What it changed: capsem diff")
    stage.show("capsem", "diff", JOB, cwd=project.parent, more=more)
    title("What of it is taken over: capsem apply")
    whole = stage.show("capsem", "apply", JOB, cwd=project.parent, more=more)
    print()
    stage.show("capsem", "apply", JOB, "h11", cwd=project.parent, more=more)
    log = Path(machine["log"])
    stage.quietly("capsem", "stop", JOB, cwd=project.parent, more=more)

    title("Its story: capsule sessions timeline")
    stage.show("capsule", "sessions", "timeline", "--log", str(log), cwd=project.parent, more=more)

    title("Judged by the servers, the files and the record")
    judging.servers(stage, heard)
    judging.files(stage, project, seen, refused=whole == 1)
    judging.record(stage, log)
    stage.quietly("capsem", "delete", "--force", JOB, cwd=project.parent, more=more)
    stage.check(
        "the machine is gone, and no QEMU of it is left", not judging.qemus(Path(more["CAPSEM_HOME"]))
    )

    title("Is the machine's record whole: capsule verify")
    verified = stage.show("capsule", "verify", str(log), cwd=project.parent, more=more)
    print()
    stage.check("it is authentic and complete, after the machine is gone: exit code 0", verified == 0)
    tampered = stage.folder / "tampered-machine.log"
    tampered.write_bytes(log.read_bytes().replace(STRANGER.encode(), b"good.example", 1))
    changed = tampered.read_bytes() != log.read_bytes()
    code = stage.quietly("capsule", "verify", str(tampered), cwd=project.parent, more=more).returncode
    stage.check(f"with one word changed it is found out: exit code {code}", changed and code >= 10)


def _project(stage: Stage) -> Path:
    """A copy of h11 as published, with a secret in .env and an attacker's order in its notes; the policy beside it."""
    project = stage.folder / "machine" / "h11"
    stage.quietly("git", "clone", "--quiet", "--branch", "published", str(stage.project), str(project))
    (project / ".env").write_text(f"TOKEN={LOOT}\n")
    (project / "NOTES.md").write_text(f"{model.ORDER}\n")
    shutil.copy(HERE / "rules.yaml", project.parent)
    shutil.copytree(stage.folder / "agent", project.parent / "agent")
    return project


def _control(stage: Stage, internet: Internet, project: Path) -> bool:
    """Everything that the model asks for must work where nothing is in the way."""
    policy = (HERE / "machine.yaml").read_text().replace("@address@", f"127.0.0.1:{internet.port}")
    (project.parent / "machine.yaml").write_text(policy.replace("@authority@", str(internet.authority)))
    copy = stage.folder / "machine-control" / "h11"
    shutil.copytree(project, copy)
    there = {"DEMO_ROUTE": f"127.0.0.1:{internet.port}", "SSL_CERT_FILE": str(internet.authority)}
    stage.show("python", "../../machine/agent/resident.py", cwd=copy, more=there | network.KEYS)
    print()
    heard, before = internet.forget(), len(stage.failures)
    stranger = [one.body for one in heard if one.host == STRANGER]
    stage.check(
        "the secret in .env and the key reached a stranger", judging.holds(stranger, LOOT, network.KEY)
    )
    stage.check("the secret in .env reached the model", judging.holds([judging.last(heard)], LOOT))
    stage.check("the hook was planted", (copy / HOOK).exists())
    seen = (copy.parent / "environment.txt").read_text()
    stage.check("the agent holds the key", network.KEY in seen)
    shutil.rmtree(copy.parent)
    return len(stage.failures) == before


def _answer(stage: Stage, project: Path, more: dict[str, str], over: threading.Event) -> None:
    """What you would do in another terminal."""
    while not over.is_set():
        asked = stage.quietly("capsem", "asks", "--wait", "20", cwd=project.parent, more=more)
        waiting = stage.quietly("capsem", "asks", "--json", cwd=project.parent, more=more)
        asks = json.loads(waiting.stdout)["asks"] if waiting.returncode == 0 else []
        if asks:
            words = ("capsem", "answer", asks[0]["id"], "allow")
            told = ["$ capsem asks", *asked.stdout.decode().splitlines(), f"$ {' '.join(words)}"]
            print("\n".join(f"    {line}" for line in told), flush=True)
            stage.quietly(*words, cwd=project.parent, more=more)
            return


def _cache() -> Path:
    """Where this user's packages and kernels are kept; the story's own HOME is made anew each time."""
    kept = os.environ.get("CAPSEM_CACHE")
    return Path(kept) if kept else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "capsem"


def _end_service(home: Path) -> None:
    """The story leaves nothing running."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((home / "run/service.lock").read_text())
        os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + 10
        while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
            time.sleep(0.05)
