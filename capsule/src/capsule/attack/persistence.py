"""Attacks that wait: things left behind that run later, outside, with a person's rights.

The judge uses git on the host as a person would, and looks whether a trap went off.

    FAMILY.cases  # the list, in order
"""

from __future__ import annotations

import inspect
import os
import stat
import subprocess

from capsule.attack.case import Family
from capsule.attack.inside import Inside
from capsule.attack.judges import no_change, no_trap
from capsule.attack.stage import Stage

FAMILY = Family(no_trap)
case = FAMILY.case


@case("persist.git-hook", 3, "plant git hooks", source="devcontainers/cli issue 42", needs=("git",))
def git_hook(a: Inside) -> None:
    for name in ("pre-commit", "post-commit", "post-checkout", "post-index-change", "reference-transaction"):
        a.attempt(a.plant, a.ws + "/.git/hooks/" + name)


@case("persist.git-hooks-moved", 3, "replace the hooks directory by rename or link", needs=("git",))
def git_hooks_moved(a: Inside) -> None:
    os.mkdir(a.ws + "/evil")
    for name in ("pre-commit", "post-checkout"):
        a.plant(a.ws + "/evil/" + name)
    a.attempt(os.rename, a.ws + "/.git/hooks", a.ws + "/.git/old")
    a.attempt(os.rmdir, a.ws + "/.git/hooks")
    a.attempt(a.sys, "renameat2", -100, a.ws + "/evil", -100, a.ws + "/.git/hooks", 2)
    a.attempt(os.symlink, "../evil", a.ws + "/.git/hooks")


@case("persist.git-config", 3, "core.fsmonitor, hooksPath and pager in .git/config", needs=("git",))
def git_config(a: Inside) -> None:
    a.plant(a.ws + "/evil.sh")
    text = f'[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tfsmonitor = "{a.ws}/evil.sh"\n'
    text += f'\thooksPath = "{a.ws}"\n[diff]\n\texternal = "{a.ws}/evil.sh"\n'
    a.attempt(a.write, a.ws + "/.git/config", os.O_WRONLY | os.O_TRUNC, text)
    a.write(a.ws + "/config.new", text=text)
    a.attempt(os.rename, a.ws + "/config.new", a.ws + "/.git/config")


@case("persist.git-config-lock", 3, "the way git itself writes: config.lock, then rename", needs=("git",))
def git_config_lock(a: Inside) -> None:
    a.plant(a.ws + "/evil.sh")
    subprocess.call(["git", "config", "core.fsmonitor", a.ws + "/evil.sh"], cwd=a.ws)


@case("persist.git-replaced", 3, "move .git away and put another repository in its place", needs=("git",))
def git_replaced(a: Inside) -> None:
    os.rename(a.ws + "/.git", a.ws + "/.was-git")
    for folder in ("hooks", "objects", "refs/heads"):
        os.makedirs(a.ws + "/.git/" + folder)
    a.write(a.ws + "/.git/HEAD", text="ref: refs/heads/main\n")
    for name in ("pre-commit", "post-checkout"):
        a.plant(a.ws + "/.git/hooks/" + name)


@case(
    "persist.git-file",
    3,
    "replace .git by a file that points to a repository of the attacker's",
    needs=("git",),
)
def git_file(a: Inside) -> None:
    for folder in ("hooks", "objects", "refs/heads"):
        os.makedirs(a.ws + "/own/" + folder)
    a.write(a.ws + "/own/HEAD", text="ref: refs/heads/main\n")
    for name in ("pre-commit", "post-checkout"):
        a.plant(a.ws + "/own/hooks/" + name)
    a.attempt(os.rename, a.ws + "/.git", a.ws + "/.was-git")
    a.write(a.ws + "/.git", text="gitdir: own\n")


@case(
    "persist.git-commondir",
    3,
    "a commondir file that sends git elsewhere for config and hooks",
    needs=("git",),
)
def git_commondir(a: Inside) -> None:
    for folder in ("hooks", "objects", "refs/heads"):
        os.makedirs(a.ws + "/own/" + folder)
    a.plant(a.ws + "/evil.sh")
    for name in ("pre-commit", "post-checkout"):
        a.plant(a.ws + "/own/hooks/" + name)
    a.write(a.ws + "/own/config", text=f'[core]\n\tfsmonitor = "{a.ws}/evil.sh"\n')
    a.write(a.ws + "/.git/commondir", text="../own\n")


@case("persist.git-worktree-config", 3, "config.worktree and an attributes filter", needs=("git",))
def git_worktree_config(a: Inside) -> None:
    a.plant(a.ws + "/evil.sh")
    text = f'[core]\n\tfsmonitor = "{a.ws}/evil.sh"\n[filter "x"]\n\tclean = "{a.ws}/evil.sh"\n'
    a.attempt(a.write, a.ws + "/.git/config.worktree", os.O_WRONLY | os.O_CREAT, text)
    a.attempt(
        a.write, a.ws + "/.git/config", os.O_WRONLY | os.O_APPEND, "[extensions]\n\tworktreeConfig = true\n"
    )
    a.write(a.ws + "/.gitattributes", text="* filter=x\n")
    a.attempt(a.write, a.ws + "/.git/info/attributes", os.O_WRONLY | os.O_CREAT, "* filter=x\n")


@case("persist.home-startup", 4, "shell, git, package and login start-up files of the home", judge=no_change)
def home_startup(a: Inside) -> None:
    for name in (
        ".bashrc",
        ".profile",
        ".zshrc",
        ".bash_profile",
        ".gitconfig",
        ".npmrc",
        ".config/pip/pip.conf",
        ".config/systemd/user/kept.service",
        ".config/systemd/user/new.service",
        ".config/autostart/new.desktop",
        ".ssh/authorized_keys",
        ".ssh/rc",
        ".pam_environment",
        ".local/bin/git",
        ".config/git/hooks/pre-commit",
        ".local/lib/python3.11/site-packages/usercustomize.py",
        ".vscode/settings.json",
        ".claude/settings.json",
    ):
        path = a.home + "/" + name
        a.attempt(lambda p=path: os.makedirs(os.path.dirname(p), exist_ok=True))
        a.attempt(a.write, path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _tool_settings(stage: Stage) -> str | None:
    names = inspect.signature(tool_settings).parameters["names"].default
    made = [name for name in names if os.path.lexists(stage.ws / name)]
    return "made in the workspace: " + ", ".join(made) if made else None


@case(
    "persist.tool-settings",
    4,
    "settings that editors and agents execute: tasks.json, .mcp.json, .envrc",
    source="CVE-2026-25725",
    judge=_tool_settings,
)
def tool_settings(
    a: Inside,
    names: tuple[str, ...] = (
        ".vscode/tasks.json",
        "app.code-workspace",
        ".zed/tasks.json",
        ".exrc",
        ".nvim.lua",
        ".dir-locals.el",
        ".envrc",
        "mise.toml",
        ".mcp.json",
        ".claude/settings.json",
        ".codex/config.toml",
        ".windsurf/mcp.json",
    ),
) -> None:
    for name in names:
        path = a.ws + "/" + name
        a.attempt(lambda p=path: os.makedirs(os.path.dirname(p), exist_ok=True))
        a.attempt(a.write, path)


def _special_files(stage: Stage) -> str | None:
    for folder, _, names in os.walk(stage.ws):
        for name in names:
            mode = os.lstat(os.path.join(folder, name)).st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                return f"a set-user-ID file was left on the host: {name} {stat.filemode(mode)}"
            if stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and os.lstat(os.path.join(folder, name)).st_rdev):
                return f"a device node was left on the host: {name}"
    return None


@case("persist.setuid-file", 31, "leave a set-user-ID program in the workspace", judge=_special_files)
def setuid_file(a: Inside) -> None:
    a.write(a.ws + "/shell")
    a.attempt(os.chmod, a.ws + "/shell", 0o4755)
    a.attempt(os.chmod, a.ws + "/shell", 0o2755)
    descriptor = os.open(a.ws + "/shell", os.O_RDWR)
    a.attempt(os.fchmod, descriptor, 0o6755)
    a.attempt(a.sys, "fchmodat2", -100, a.ws + "/shell", 0o6755, 0)
    a.attempt(os.open, a.ws + "/born", os.O_WRONLY | os.O_CREAT, 0o4755)
    a.attempt(a.sys, "openat2", -100, a.ws + "/born2", b"\x41\0\0\0\0\0\0\0\xed\x09" + bytes(14), 24)
    a.attempt(a.sys, "mknodat", -100, a.ws + "/born3", 0o104755, 0)


@case("persist.device-node", 8, "make a device node in the workspace", needs=("root",), judge=_special_files)
def device_node(a: Inside) -> None:
    for mode in (0o060666, 0o020666):
        a.attempt(a.sys, "mknodat", -100, a.ws + f"/disk{mode:o}", mode, 0x0701)
