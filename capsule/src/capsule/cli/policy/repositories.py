"""What `explain` says about git's own names, as the launcher and the monitor decide them in a run.

A `.git` that is a file is not written; the workspace's first one is not made; where `core.hooksPath`, a `.git` that
is a file or a link, or a bare repository lead git, the names there are protected as their like in `.git` is. Where a
repository begins below the workspace, what presets protect at the workspace's top is protected too. It reads a
bounded beginning of git's settings and of what they include, and starts no git.

    kept(access, "/w/.git")     # None: an ordinary directory, or nothing speaks against it
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from capsule.cli.files import load_policy
from capsule.sandbox.access import Access, Decision
from capsule.sandbox.compiler import compile_policy

_MOST = 256 * 1024
_NAMES = {"hooks": "hooks", "config": "config", "config.worktree": "config", "commondir": "config"}
_MOST_FILES = 64
_SECTION = re.compile(r'\s*\[((?:"(?:[^"\\]|\\.)*"|[^]"])*)\]\s*(.*)')
_SETTING = re.compile(r"\s*(\w+)\s*=\s*(.*)")


def kept(access: Access, path: str) -> Decision | None:
    """What keeps an absolute, resolved path from being written because of git; None: nothing beyond the lines."""
    if path.endswith("/.git") and access.keeps_repositories(path):
        file = os.path.lexists(path) and not (Path(path).is_dir() and not Path(path).is_symlink())
        first = path == f"{access.variables.workspace.rstrip('/')}/.git" and not os.path.lexists(path)
        if file or first:
            return access.about_repositories()
    workspace = Path(access.variables.workspace)
    for name, means, why in _led(workspace, Path(access.variables.home)):
        if path == str(name) or path.startswith(f"{name}/"):
            like = access.path(str(workspace / ".git" / means), "write")
            if like.kind == "protected" and like.rule is not None:
                return replace(like, rule=replace(like.rule, text=f"{like.rule.text}: {why}"))
    return _top(access, path)


def _top(access: Access, path: str) -> Decision | None:
    """What is kept at the top of a directory, where a repository begins below it."""
    for above in reversed(Path(path).parents[:-1]):
        if not os.path.lexists(above / ".git"):
            continue
        for base in above.parents:
            like = access.path(str(base / Path(path).relative_to(above)), "write")
            if like.rule is not None and _names_a_top(like.rule.text):
                why = f"a repository begins at {above.relative_to(base)}"
                return replace(like, rule=replace(like.rule, text=f"{like.rule.text}: {why}"))
    return None


def _names_a_top(text: str) -> bool:
    """Whether a line protects one of the names that the preset `workspace` keeps at its top, in one directory."""
    line = re.fullmatch(r'filesystem: protect: \["(?!.*\*\*)([^"]+)"\]', text)
    return line is not None and any(f"/{line[1]}".endswith(f"/{top}") for top in _tops())


@functools.cache
def _tops() -> frozenset[str]:
    lines = (line.pattern for line in compile_policy(load_policy("workspace")).filesystem.protect)
    return frozenset(line.removeprefix("${workspace}/") for line in lines if line.startswith("${workspace}/"))


def _led(workspace: Path, home: Path) -> Iterator[tuple[Path, str, str]]:
    dot = workspace / ".git"
    if not os.path.lexists(dot):
        if all((workspace / name).exists() for name in ("HEAD", "objects", "refs")):
            yield from ((workspace / name, means, "a bare repository") for name, means in _NAMES.items())
            yield from _leads(workspace, workspace, home)
        return
    own = Path(os.path.realpath(dot))
    if dot.is_file():
        to = _read(dot).removeprefix("gitdir: ").rstrip("\r\n")
        own = Path(os.path.realpath(workspace / to))
    leads = _read(own / "commondir").rstrip("\r\n")
    common = Path(os.path.realpath(own / leads)) if leads else own
    for directory in {own, common} - {dot}:
        yield from ((directory / name, means, "`.git` leads here") for name, means in _NAMES.items())
    for settings in (common, own):
        yield from _leads(settings, workspace, home)


def _leads(settings: Path, workspace: Path, home: Path) -> Iterator[tuple[Path, str, str]]:
    """What the settings in a directory, and those that they include, name: hooks, and settings."""
    files = [settings / "config", settings / "config.worktree"]
    for file in files:  # grows meanwhile
        for key, value in leading(_read(file)):
            base = workspace if key == "hookspath" else file.parent
            path = Path(os.path.realpath(home / value[2:] if value.startswith("~/") else base / value))
            if key == "hookspath":
                yield path, "hooks", "core.hooksPath leads here"
                continue
            yield path, "config", "the repository's settings include it"
            if path not in files and len(files) < _MOST_FILES:
                files.append(path)


def leading(text: str) -> list[tuple[str, str]]:
    """Every `core.hooksPath` ("hookspath"), and path of an include ("path"), in settings of git."""
    found: list[tuple[str, str]] = []
    key = ""
    for whole in re.sub(r"\\\r?\n", "", text).splitlines():
        line = whole
        if section := _SECTION.match(line):
            key, line = _key_of(section[1]), section[2]
        setting = _SETTING.match(line)
        if setting and setting[1].lower() == key:
            value = re.sub(r'("(?:[^"\\]|\\.)*")|\s*[#;].*', lambda match: match[1] or "", setting[2])
            found.append((key, re.sub(r'\\(.)|"', lambda match: match[1] or "", value).strip()))
    return [(name, value) for name, value in found if value]


def _key_of(section: str) -> str:
    """The setting that leads elsewhere in a section; empty where none does."""
    name, quote, _ = section.strip().partition('"')
    known = {("core", ""): "hookspath", ("include", ""): "path", ("includeif", '"'): "path"}
    return known.get((name.strip().lower(), quote), "")


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST).decode("utf-8", "replace") if path.is_file() else ""
    except OSError:
        return ""
