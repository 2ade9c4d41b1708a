"""The demonstration: an agent-like script at work on a real project, under a policy, judged from outside.

First the script misbehaves without a sandbox, in a throwaway copy, so that every trap is known to work.
Then it does its job and misbehaves again under `capsule run`. What the script says of itself counts for
nothing: the host looks at its own listeners, files and processes. Fails loudly when a refusal did not
hold.

Refuses: to go on when the control run did not spring every trap.
Example: ``python scripts/demo/story.py .build/demo .venv/bin/capsule``
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECRET = "DECOY-KEY-6f1d2a"  # a decoy, planted to be looked for
LINGER_SECONDS = 2


@dataclass
class Traps:
    """A TCP and a UDP listener on the host's loopback that remember what reached them."""

    tcp: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    dns: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    heard: list[tuple[str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dns.bind(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        threading.Thread(target=self._receive, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self.tcp.accept()
            with connection:
                connection.settimeout(2)
                self.heard.append(("tcp", connection.recv(4096)))

    def _receive(self) -> None:
        while True:
            question, asker = self.dns.recvfrom(4096)
            self.heard.append(("dns", question))
            self.dns.sendto(question[:2] + b"\x81\x83" + question[4:], asker)  # no such name

    def environment(self) -> dict[str, str]:
        """Where the script finds the traps."""
        return {"DEMO_TCP": str(self.tcp.getsockname()[1]), "DEMO_DNS": str(self.dns.getsockname()[1])}

    def sprung(self) -> set[str]:
        """Which listeners were reached; forgets what they heard."""
        time.sleep(0.3)
        found = {kind for kind, _ in self.heard}
        self.heard.clear()
        return found


@dataclass
class Stage:
    """Where the story plays."""

    folder: Path
    capsule: Path
    traps: Traps = field(default_factory=Traps)
    failures: list[str] = field(default_factory=list)

    @property
    def project(self) -> Path:
        """The copy of h11."""
        return self.folder / "h11"

    def environment(self) -> dict[str, str]:
        """A decoy home, so that the demonstration touches nothing of the user's."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TERM") if name in os.environ}
        return {
            **kept,
            **self.traps.environment(),
            "HOME": str(self.folder / "home"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def show(self, *words: str, cwd: Path | None = None) -> int:
        """Run a command in the open; its output goes where ours goes."""
        sys.stdout.flush()
        return subprocess.run(words, cwd=cwd or self.project, env=self.environment(), check=False).returncode

    def check(self, statement: str, holds: bool) -> None:
        """One fact seen from the host."""
        print(f"  {'holds ' if holds else 'BROKEN'}  {statement}")
        if not holds:
            self.failures.append(statement)


def title(text: str) -> None:
    """A chapter."""
    print(f"\n── {text} {'─' * max(3, 74 - len(text))}\n", flush=True)


def hook_planted(project: Path) -> bool:
    """Whether any hook directory holds something git would run."""
    return any(path.exists() for path in project.glob(".git/hooks*/pre-commit"))


def beating(project: Path) -> bool:
    """Whether something still writes the heartbeat."""
    first = (project / "heartbeat").read_text()
    time.sleep(0.6)
    return (project / "heartbeat").read_text() != first


def control(stage: Stage) -> None:
    """Every trap must spring when nothing is in the way, else what follows would prove nothing."""
    title("Without capsule: do the traps work?")
    copy = stage.folder / "control"
    shutil.copytree(stage.project, copy)
    agent = str(stage.folder / "agent/agent.py")
    stage.show(sys.executable, agent, "misbehave", cwd=copy)
    leaked = stage.traps.sprung() == {"tcp", "dns"}
    lingering = subprocess.Popen(
        [sys.executable, agent, "linger"],
        cwd=copy, env=stage.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(LINGER_SECONDS / 2)
    lingering.kill()
    lingering.wait()
    outlived, planted = beating(copy), hook_planted(copy)
    while copy.exists():  # the orphan may write in between; once the directory is gone it cannot, and it ends
        shutil.rmtree(copy, ignore_errors=True)
    stage.check("the key reached the host's listeners, over TCP and DNS", leaked)
    stage.check("the hook was planted", planted)
    stage.check("the orphan outlived its parent", outlived)
    if stage.failures:
        sys.exit("stopped: the traps do not work on this machine, so nothing could be shown")


def main(folder: Path, capsule: Path) -> int:
    """Tell the story; 0 when every refusal held."""
    stage = Stage(folder, capsule)
    control(stage)
    agent = str(folder / "agent/agent.py")
    run = (str(capsule), "run")

    title("With capsule: the job, and what nobody asked for")
    code = stage.show(*run, "--", sys.executable, agent, "work", "misbehave", "dial")
    if code == 125:
        sys.exit("stopped: capsule refused to run; its reason is above, and `capsule doctor` names the fix")
    stage.check("the job was done: exit code 0", code == 0)

    title(f"With capsule: a process that wants to outlive its {LINGER_SECONDS} seconds")
    late = stage.show(*run, "--timeout", str(LINGER_SECONDS), "--", sys.executable, agent, "linger")

    title("What it did: git diff")
    stage.show("git", "--no-pager", "diff", "published")

    title("What happened: from capsule log --json")
    account(stage)

    title("Is the record whole: capsule verify")
    verified = stage.show(str(capsule), "verify", "capsule.log")

    title("Judged from the host")
    judge(stage, late, verified)
    print()
    if stage.failures:
        print(f"FAILED: {len(stage.failures)} of the above did not hold")
        return 1
    place = os.path.relpath(stage.project, Path(__file__).parents[2])
    print(f"All of it held. The project, its log and its policy: {place}")
    return 0


def judge(stage: Stage, late: int, verified: int) -> None:
    """Facts only: listeners, files, processes, exit codes."""
    project = stage.project
    subject = quietly(stage, "git", "log", "-1", "--format=%s").stdout
    tests = quietly(
        stage, sys.executable, "-m", "pytest", "-q", "-c", "pyproject.toml", "-p", "no:cacheprovider"
    )
    stage.check("the commit is there", subject.startswith(b"Refuse sequences"))
    stage.check("the project's tests, with its new one, pass outside too", tests.returncode == 0)
    stage.check("the private key is nowhere in the project", not contains(project, SECRET))
    stage.check("no hook was planted, here or beside", not hook_planted(project))
    sprung = stage.traps.sprung()
    stage.check("nothing reached the host over TCP", "tcp" not in sprung)
    stage.check("nothing reached the host over DNS", "dns" not in sprung)
    stage.check("the time limit ended the run: exit code 124", late == 124)
    began = (project / "heartbeat").exists()
    stage.check("the orphan had begun", began)
    stage.check("the orphan died with the run", began and not beating(project))
    stage.check("the record is authentic and complete: exit code 0", verified == 0)
    refused = quietly(stage, str(stage.capsule), "log", "--denied", "--json").stdout
    for name in ("id_ed25519", "pre-commit", "192.0.2.1"):
        stage.check(f"the refusal of {name} is on it", name.encode() in refused)
    log = project / "capsule.log"
    if not log.exists():
        stage.check("there is a log", False)
        return
    tampered = stage.folder / "tampered.log"
    tampered.write_bytes(log.read_bytes().replace(b"pre-commit", b"post-merge", 1))
    quiet = quietly(stage, str(stage.capsule), "verify", str(tampered))
    stage.check(
        f"the same record with one word changed is found out: exit code {quiet.returncode}",
        tampered.read_bytes() != log.read_bytes() and quiet.returncode >= 10,
    )


def quietly(stage: Stage, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command in the project without showing it."""
    return subprocess.run(words, cwd=stage.project, env=stage.environment(), capture_output=True, check=False)


def account(stage: Stage) -> None:
    """The record, one line for each program, change outside .git, refusal, limit and end."""
    lines = quietly(stage, str(stage.capsule), "log", "--json").stdout.splitlines()
    for entry in map(json.loads, lines):
        told = sentence(entry, str(stage.project))
        if told:
            print(f"  {entry['time'][11:19]}  {told}"[:79])


def sentence(entry: dict[str, Any], project: str) -> str | None:
    """One entry of the log, in a few words; None for what the account leaves out."""
    match entry["type"]:
        case "run.started":
            return f"run started, tier {entry['enforced']['tier']}, policy {entry['policy']['name']}"
        case "exec":
            return f"ran      {' '.join(Path(word).name for word in entry['argv'])}"
        case "write" if entry["target"].startswith(project) and "/.git/" not in entry["target"]:
            return f"{entry['operation']:<8} {os.path.relpath(entry['target'], project)}"
        case "denied":
            target = (
                os.path.relpath(entry["target"], project)
                if entry["target"].startswith("/")
                else entry["target"]
            )
            return f"REFUSED  {entry['operation']} {target} (by {entry['layer']})"
        case "limit":
            return f"limit    {entry['limit']}"
        case "run.ended":
            return f"run ended, {entry['exit']['cause']}, exit {entry['exit']['code']}, {entry['denials']} denials"
    return None


def contains(folder: Path, secret: str) -> bool:
    """Whether any file below holds the secret."""
    return any(secret.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()))
