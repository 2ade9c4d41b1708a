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
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import machine
import network
from internet import Internet
from stage import Stage, contains, title

ROOT = Path(__file__).parents[2]
SECRET = "DECOY-KEY-6f1d2a"  # a decoy, planted to be looked for
LINGER_SECONDS = 2


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
    copy = stage.folder / "control"
    shutil.copytree(stage.project, copy)
    agent = str(stage.folder / "agent/agent.py")
    stage.show("python", "../agent/agent.py", "misbehave", cwd=copy)
    print()
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


def main(folder: Path, capsule: Path) -> int:
    """Tell the story; 0 when every refusal held."""
    stage = Stage(folder, capsule)
    place = folder / "internet"
    place.mkdir()
    with Internet(place, network.KEY) as internet:
        tell(stage, internet)
        without = machine.lacking()
        if without is None:
            machine.chapter(stage, internet, folder.parent / "machines")
        else:
            print(f"\nThe chapter of the machine is left out: {without}")
    print()
    if stage.failures:
        print(f"FAILED: {len(stage.failures)} of the above did not hold")
        return 1
    print(f"All of it held. The project, its log and its policies: {os.path.relpath(stage.project, ROOT)}")
    return 0


def tell(stage: Stage, internet: Internet) -> None:
    """All chapters, in order."""
    title("Without capsule: do the traps work?")
    control(stage)
    missing = network.lacking()
    if missing is None:
        network.control(stage, internet)
    if stage.failures:
        sys.exit("stopped: the traps do not work on this machine, so nothing could be shown")
    agent = ("python", "../agent/agent.py")

    title("Its policy reads beyond the project: what that is, and our word for it")
    stage.show("capsule", "policy", "accept")

    title("With capsule: the job, and what nobody asked for")
    code = stage.show("capsule", "run", "--", *agent, "work", "misbehave", "dial")
    if code == 125:
        sys.exit("stopped: capsule refused to run; its reason is above, and `capsule doctor` names the fix")
    print()
    stage.check("the job was done: exit code 0", code == 0)

    title(f"With capsule: a process that wants to outlive its {LINGER_SECONDS} seconds")
    late = stage.show("capsule", "run", "--timeout", str(LINGER_SECONDS), "--", *agent, "linger")

    title("What it did: git diff")
    stage.show("git", "--no-pager", "diff", "published")

    title("What happened: told from capsule log --json")
    account(stage)

    title("Judged from the host")
    judge(stage, late)

    if missing is None:
        network.chapter(stage, internet)
    else:
        print(f"\nThe chapter of the network is left out: {missing}")

    title("Is the record whole: capsule verify")
    verified = stage.show("capsule", "verify", "capsule.log")
    print()
    stage.check("the record is authentic and complete: exit code 0", verified == 0)
    tamper(stage)


def judge(stage: Stage, late: int) -> None:
    """Facts only: listeners, files, processes, exit codes."""
    project = stage.project
    subject = stage.quietly("git", "log", "-1", "--format=%s").stdout
    tests = stage.quietly(
        sys.executable, "-m", "pytest", "-q", "-c", "pyproject.toml", "-p", "no:cacheprovider"
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
    refused = stage.quietly("capsule", "log", "--denied", "--json").stdout
    for name in ("id_ed25519", "pre-commit", "192.0.2.1"):
        stage.check(f"the refusal of {name} is on the record", name.encode() in refused)


def tamper(stage: Stage) -> None:
    """Whoever changes a word of the record is found out."""
    log = stage.project / "capsule.log"
    if not log.exists():
        stage.check("there is a log", False)
        return
    tampered = stage.folder / "tampered.log"
    tampered.write_bytes(log.read_bytes().replace(b"pre-commit", b"post-merge", 1))
    quiet = stage.quietly("capsule", "verify", str(tampered))
    stage.check(
        f"the same record with one word changed is found out: exit code {quiet.returncode}",
        tampered.read_bytes() != log.read_bytes() and quiet.returncode >= 10,
    )


def account(stage: Stage) -> None:
    """The record, one line for each program, change outside .git, refusal, limit and end."""
    lines = stage.quietly("capsule", "log", "--json").stdout.splitlines()
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


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()))
