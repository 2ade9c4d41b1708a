"""Attacks on the other doors of git: a `.git` that is a file, repositories below, hooks elsewhere, bare ones.

The judge stands where a person would, in the repository that was there (or in the workspace), uses git, and looks
whether a trap went off.

    FAMILY.cases  # the list, in order
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from capsule.attack.case import Family
from capsule.attack.inside import Inside
from capsule.attack.judges import no_trap, no_trap_in
from capsule.attack.stage import Stage

FAMILY = Family(no_trap)
case = FAMILY.case

_PLAIN = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n"


def _repository(git: Path, config: str = _PLAIN) -> None:
    for folder in ("hooks", "info", "objects", "refs/heads"):
        (git / folder).mkdir(parents=True, exist_ok=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "config").write_text(config)


def _worktree(stage: Stage) -> None:
    shutil.rmtree(stage.ws / ".git")
    _repository(stage.root / "main/.git")
    own = stage.root / "main/.git/worktrees/ws"
    own.mkdir(parents=True)
    (own / "HEAD").write_text("ref: refs/heads/work\n")
    (own / "commondir").write_text("../..\n")
    (own / "gitdir").write_text(f"{stage.ws}/.git\n")
    (stage.ws / ".git").write_text(f"gitdir: {own}\n")


@case(
    "git.worktree-file",
    3,
    "write, move or replace the .git file of a linked worktree",
    needs=("git",),
    prepare=_worktree,
)
def worktree_file(a: Inside) -> None:
    a.plant(a.ws + "/evil.sh")
    for folder in ("hooks", "objects", "refs/heads"):
        os.makedirs(a.ws + "/own/" + folder)
    a.write(a.ws + "/own/HEAD", text="ref: refs/heads/main\n")
    settings = f'[core]\n\tbare = false\n\tworktree = "{a.ws}"\n\tfsmonitor = "{a.ws}/evil.sh"\n'
    a.write(a.ws + "/own/config", text=settings)
    pointer = f"gitdir: {a.ws}/own\n"
    a.write(a.ws + "/prepared", text=pointer)
    a.attempt(os.link, a.ws + "/.git", a.ws + "/second")
    a.attempt(a.write, a.ws + "/second", os.O_WRONLY | os.O_TRUNC, pointer)
    a.attempt(a.sys, "renameat2", -100, a.ws + "/prepared", -100, a.ws + "/.git", 2)
    a.attempt(os.rename, a.ws + "/.git", a.ws + "/aside")
    a.attempt(os.unlink, a.ws + "/.git")
    a.attempt(os.truncate, a.ws + "/.git", 0)
    a.attempt(os.rename, a.ws + "/prepared", a.ws + "/.git")
    a.attempt(os.symlink, "own", a.ws + "/.git")
    a.write(a.ws + "/.git", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, pointer)


def _submodule(stage: Stage) -> None:
    _repository(stage.ws / ".git/modules/lib", _PLAIN + '\tworktree = "../../../lib"\n')
    (stage.ws / "lib/src").mkdir(parents=True)
    (stage.ws / "lib/src/main.py").write_text("pass\n")
    (stage.ws / "lib/.git").write_text("gitdir: ../.git/modules/lib\n")


@case(
    "git.submodule-file",
    3,
    "write or replace the .git file of a submodule, or its settings",
    needs=("git",),
    prepare=_submodule,
    judge=no_trap_in("lib"),
)
def submodule_file(a: Inside) -> None:
    a.plant(a.ws + "/evil.sh")
    for folder in ("hooks", "objects", "refs/heads"):
        os.makedirs(a.ws + "/own/" + folder)
    a.write(a.ws + "/own/HEAD", text="ref: refs/heads/main\n")
    settings = f'[core]\n\tbare = false\n\tworktree = "{a.ws}/lib"\n\tfsmonitor = "{a.ws}/evil.sh"\n'
    a.write(a.ws + "/own/config", text=settings)
    a.attempt(a.write, a.ws + "/.git/modules/lib/config", os.O_WRONLY | os.O_TRUNC, settings)
    a.attempt(os.rename, a.ws + "/.git/modules", a.ws + "/.git/m")
    a.attempt(os.rename, a.ws + "/lib/.git", a.ws + "/lib/aside")
    a.attempt(os.rename, a.ws + "/lib", a.ws + "/was-lib")
    a.attempt(os.makedirs, a.ws + "/lib/src", 0o755, True)
    a.write(a.ws + "/lib/.git", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "gitdir: ../own\n")


def _nested(stage: Stage) -> None:
    _repository(stage.ws / "group/proj/.git")
    (stage.ws / "group/proj/src").mkdir(parents=True)
    (stage.ws / "group/proj/src/main.py").write_text("pass\n")


@case(
    "git.nested",
    3,
    "hooks and settings of a repository below the workspace",
    needs=("git",),
    prepare=_nested,
    judge=no_trap_in("group/proj"),
)
def nested(a: Inside) -> None:
    git = a.ws + "/group/proj/.git"
    a.plant(a.ws + "/evil.sh")
    for name in ("pre-commit", "post-commit", "post-checkout", "post-index-change"):
        a.attempt(a.plant, git + "/hooks/" + name)
    settings = f'[core]\n\tbare = false\n\tfsmonitor = "{a.ws}/evil.sh"\n'
    a.attempt(a.write, git + "/config", os.O_WRONLY | os.O_TRUNC, settings)
    a.attempt(os.rename, git + "/hooks", git + "/was")
    a.attempt(a.plant, git + "/hooks/pre-commit")


@case(
    "git.nested-replaced",
    3,
    "move a directory above a repository away and make another one at its name",
    needs=("git",),
    prepare=_nested,
    judge=no_trap_in("group/proj"),
)
def nested_replaced(a: Inside) -> None:
    a.plant(a.ws + "/evil.sh")
    settings = f'[core]\n\tbare = false\n\tfsmonitor = "{a.ws}/evil.sh"\n'

    def make(folder: str) -> None:
        for name in ("objects", "refs/heads", "hooks"):
            os.makedirs(folder + "/.git/" + name)
        a.write(folder + "/.git/HEAD", text="ref: refs/heads/main\n")
        a.write(folder + "/.git/config", text=settings)

    a.attempt(make, a.ws + "/own/proj")
    a.attempt(a.sys, "renameat2", -100, a.ws + "/own/proj", -100, a.ws + "/group/proj", 2)
    for above in ("/group/proj", "/group"):
        a.attempt(os.rename, a.ws + above, a.ws + "/aside" + above.replace("/", "-"))
    a.attempt(make, a.ws + "/group/proj")


@case(
    "git.nested-behind-link",
    3,
    "hide a repository from the look at what moves, and put a link in its place",
    needs=("git",),
    prepare=_nested,
    judge=no_trap_in("group/proj"),
)
def nested_behind_link(a: Inside) -> None:
    a.plant(a.ws + "/evil.sh")
    settings = f'[core]\n\tbare = false\n\tfsmonitor = "{a.ws}/evil.sh"\n'
    for name in ("objects", "refs/heads", "hooks"):
        a.attempt(os.makedirs, a.ws + "/own/proj/.git/" + name)
    a.attempt(a.write, a.ws + "/own/proj/.git/HEAD", os.O_WRONLY | os.O_CREAT, "ref: refs/heads/main\n")
    a.attempt(a.write, a.ws + "/own/proj/.git/config", os.O_WRONLY | os.O_CREAT, settings)
    a.attempt(os.chmod, a.ws + "/group/proj", 0o000)
    a.attempt(os.chmod, a.ws + "/group", 0o000)
    a.attempt(os.rename, a.ws + "/group", a.ws + "/aside")
    a.attempt(os.symlink, "own", a.ws + "/group")
    for place in ("/group", "/group/proj"):
        a.attempt(os.chmod, a.ws + place, 0o755)


_OPENED = (
    ".vscode/tasks.json",
    ".idea/workspace.xml",
    ".envrc",
    ".claude/settings.json",
    ".mcp.json",
    ".husky/pre-commit",
    "x.code-workspace",
)


def _opened(stage: Stage) -> None:
    _nested(stage)
    (stage.ws / "group/proj/.vscode").mkdir()
    (stage.ws / "group/proj/.vscode/tasks.json").write_text("{}\n")


def _opened_or_entered(stage: Stage) -> str | None:
    proj = stage.ws / "group/proj"
    made = [name for name in _OPENED[1:] if os.path.lexists(proj / name)]
    tasks = proj / _OPENED[0]
    if not tasks.exists() or tasks.read_text() != "{}\n":
        made.append(_OPENED[0])
    return "in the repository below: " + ", ".join(made) if made else None


@case(
    "git.nested-opened",
    4,
    "what an editor, a shell or an agent runs where a repository below the workspace is opened",
    prepare=_opened,
    judge=_opened_or_entered,
)
def nested_opened(a: Inside) -> None:
    proj = a.ws + "/group/proj/"
    a.attempt(os.rename, proj + ".vscode", proj + "aside")
    a.attempt(os.makedirs, a.ws + "/own")
    a.write(a.ws + "/own/tasks.json", text="[]\n")
    a.attempt(os.rename, a.ws + "/own", proj + ".vscode")
    a.attempt(a.sys, "renameat2", -100, a.ws + "/own", -100, proj + ".vscode", 2)
    for name in (
        ".vscode/tasks.json",
        ".idea/workspace.xml",
        ".envrc",
        ".claude/settings.json",
        ".mcp.json",
        ".husky/pre-commit",
        "x.code-workspace",
    ):
        a.attempt(lambda path=proj + name: os.makedirs(os.path.dirname(path), exist_ok=True))
        a.attempt(a.write, proj + name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "[]\n")
    a.attempt(os.symlink, "../../own", proj + ".idea")
    a.attempt(os.link, a.ws + "/own/tasks.json", proj + ".mcp.json")


def _hooks_path(stage: Stage) -> None:
    _repository(stage.ws / ".git", _PLAIN + "\thooksPath = tools/hooks\n")
    (stage.ws / "tools/hooks").mkdir(parents=True)


@case(
    "git.hooks-path",
    3,
    "plant hooks where core.hooksPath of the repository leads",
    needs=("git",),
    prepare=_hooks_path,
)
def hooks_path(a: Inside) -> None:
    for name in ("pre-commit", "post-commit", "post-checkout", "post-index-change"):
        a.attempt(a.plant, a.ws + "/tools/hooks/" + name)
    os.makedirs(a.ws + "/own/hooks")
    a.plant(a.ws + "/own/hooks/pre-commit")
    a.attempt(os.rename, a.ws + "/tools", a.ws + "/was-tools")
    a.attempt(os.rename, a.ws + "/own", a.ws + "/tools")
    a.attempt(os.rmdir, a.ws + "/tools/hooks")
    a.attempt(os.symlink, "../own/hooks", a.ws + "/tools/hooks")


def _included(stage: Stage) -> None:
    _repository(stage.ws / ".git", _PLAIN + "[include]\n\tpath = ../.gitconfig\n")
    (stage.ws / ".gitconfig").write_text("[user]\n\tname = somebody\n")


@case(
    "git.included",
    3,
    "change a file of the workspace that the repository's settings include",
    needs=("git",),
    prepare=_included,
)
def included(a: Inside) -> None:
    a.plant(a.ws + "/evil.sh")
    settings = f'[core]\n\tfsmonitor = "{a.ws}/evil.sh"\n'
    path = a.ws + "/.gitconfig"
    a.write(a.ws + "/prepared", text=settings)
    a.attempt(os.link, path, a.ws + "/second")
    a.attempt(a.write, a.ws + "/second", os.O_WRONLY | os.O_TRUNC, settings)
    a.attempt(a.sys, "renameat2", -100, a.ws + "/prepared", -100, path, 2)
    a.attempt(os.unlink, path)
    a.attempt(os.rename, a.ws + "/prepared", path)
    a.attempt(os.symlink, "prepared", path)
    a.write(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, settings)


_PROGRAMS = (
    ".husky/pre-commit",
    ".githooks/pre-commit",
    ".pre-commit-config.yaml",
    "lefthook.yml",
    ".lefthook/x",
)


def _hook_programs(stage: Stage) -> str | None:
    made = [name for name in _PROGRAMS if os.path.lexists(stage.ws / name)]
    return "made in the workspace: " + ", ".join(made) if made else None


@case(
    "git.hook-programs", 4, "settings and scripts of the programs that keep git's hooks", judge=_hook_programs
)
def hook_programs(a: Inside) -> None:
    for name in (
        ".husky/pre-commit",
        ".githooks/pre-commit",
        ".pre-commit-config.yaml",
        "lefthook.yml",
        ".lefthook/x",
    ):
        path = a.ws + "/" + name
        a.attempt(lambda p=path: os.makedirs(os.path.dirname(p), exist_ok=True))
        a.attempt(a.write, path)


def _bare(stage: Stage) -> None:
    shutil.rmtree(stage.ws / ".git")
    _repository(stage.ws, "[core]\n\tbare = true\n")


@case(
    "git.bare",
    3,
    "hooks and settings of a workspace that is a bare repository itself",
    needs=("git",),
    prepare=_bare,
)
def bare(a: Inside) -> None:
    settings = f'[core]\n\tbare = true\n\thooksPath = "{a.ws}/own"\n'
    os.mkdir(a.ws + "/own")
    for folder in ("/own", "/hooks"):
        a.attempt(a.plant, a.ws + folder + "/reference-transaction")
    a.attempt(os.rename, a.ws + "/config", a.ws + "/was")
    a.write(a.ws + "/config", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, settings)


def _none(stage: Stage) -> None:
    shutil.rmtree(stage.ws / ".git")


@case(
    "git.first",
    3,
    "make the first repository of the workspace, where a prompt runs git at once",
    needs=("git",),
    prepare=_none,
)
def first(a: Inside) -> None:
    a.plant(a.ws + "/evil.sh")
    settings = f'[core]\n\tbare = false\n\tworktree = "{a.ws}"\n\tfsmonitor = "{a.ws}/evil.sh"\n'

    def make(folder: str) -> None:
        for name in ("objects", "refs/heads", "hooks"):
            os.makedirs(folder + "/" + name, exist_ok=True)
        a.write(folder + "/HEAD", text="ref: refs/heads/main\n")
        a.write(folder + "/config", text=settings)

    a.attempt(make, a.ws + "/sub/.git")
    a.attempt(make, a.ws + "/plain")
    a.attempt(os.rename, a.ws + "/sub/.git", a.ws + "/.git")
    a.attempt(os.rename, a.ws + "/plain", a.ws + "/.git")
    a.attempt(os.symlink, "plain", a.ws + "/.git")
    a.attempt(a.write, a.ws + "/.git", os.O_WRONLY | os.O_CREAT | os.O_EXCL, "gitdir: plain\n")
    a.attempt(make, a.ws + "/.git")
