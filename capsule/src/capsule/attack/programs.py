"""Attacks by what is run and with what around it: forbidden programs, loaders, variables, fake helpers.

FAMILY.cases  # the list, in order
"""

from __future__ import annotations

import os
import subprocess

from capsule.attack import host
from capsule.attack.case import Family, Launch
from capsule.attack.inside import Inside
from capsule.attack.judges import no_harm, no_leak
from capsule.attack.stage import Stage

FAMILY = Family(no_harm)
case = FAMILY.case


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
