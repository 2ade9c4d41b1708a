"""Writes the vectors beside it: plans, and what each path may be used for; both `Access` answer alike.

The expected answers stand here, written by hand; run `python -m tests.vectors.access.make` after changing them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ORIGIN = {"column": 1, "file": "/w/capsule.yaml", "line": 1}
DIGEST = "blake3:" + "0" * 64
LETTER = {"read": "r", "write": "w", "execute": "x"}
LISTS = ("read", "write", "execute", "deny", "protect", "private", "hide")
LIMITS = ("memory", "cpu", "processes", "wall_time", "open_files", "file_size", "output", "disk")

Rows = list[tuple[str, str, dict[str, Any]]]


def _plan(lists: dict[str, list[str]], programs: list[str] | None = None) -> dict[str, Any]:
    """A plan whose n-th entry (from 1, over all lists) has origin line n."""
    line = 0
    filesystem: dict[str, Any] = {}
    for name in LISTS:
        filesystem[name] = []
        for path in lists.get(name, []):
            line += 1
            entry: dict[str, Any] = {"origin": ORIGIN | {"line": line}}
            entry["pattern" if name in {"deny", "protect"} else "path"] = path
            if name in {"read", "write", "execute"}:
                entry["optional"] = False
            filesystem[name].append(entry)
    listed = None
    if programs is not None:
        listed = [{"digest": None, "origin": ORIGIN, "path": path} for path in programs]
    return {
        "audit": "run",
        "compiler": "vectors",
        "environment": {"pass": [], "scrub": [], "set": {}},
        "filesystem": filesystem,
        "limits": dict.fromkeys(LIMITS),
        "name": "vectors",
        "network": {"egress": None, "mode": "none", "origin": ORIGIN, "ports": [], "unix": []},
        "plan": 1,
        "policy": {"digest": DIGEST, "sources": [{"digest": DIGEST, "path": "/w/capsule.yaml"}]},
        "process": {"programs": listed},
        "require": [],
        "syscalls": {"groups": [], "allow": [], "deny": []},
    }


def _cases(rows: Rows, start: str = "") -> list[list[Any]]:
    """`(path, granted letters, refusals)` → `[path, want, kind, line of the rule or null]`."""
    found = []
    for path, granted, refusals in rows:
        for want, letter in LETTER.items():
            other = refusals.get(want, refusals.get("*", "not_granted"))
            kind: Any = "granted" if letter in granted else other
            line = None
            if isinstance(kind, tuple):
                kind, line = kind
            found.append([start + path, want, kind, line])
    return found


WORKSPACE = {
    "read": ["/usr", "/etc", "${home}/.cargo/bin", "${workspace}/vendor"],  # 1-4
    "write": ["${workspace}", "/dev/null"],  # 5-6
    "execute": ["/usr", "${workspace}", "${home}/.cargo/bin", "/tmp"],  # 7-10
    "deny": ["${home}/.ssh", "${workspace}/**/.env", "${workspace}/keys/*.pem"],  # 11-13
    "protect": ["${workspace}/.git/hooks", "${workspace}/**/[cC]apsule.y?ml"],  # 14-15
    "private": ["/tmp"],  # 16
    "hide": ["${home}", "/run"],  # 17-18
}
HIDDEN = {"*": "hidden"}
PLAIN: Rows = [
    ("/usr/bin/x", "rx", {}),
    ("/usr", "rx", {}),
    ("/usrx", "", {}),
    ("/etc/passwd", "r", {}),
    ("/", "", {}),
    ("/dev/null", "rw", {}),
    ("/dev/nullx", "", {}),
    ("/tmp", "rwx", {}),
    ("/tmp/a/b", "rwx", {}),
    ("/run/x", "", HIDDEN),
    ("/run", "", HIDDEN),
    ("/var/x", "", {}),
]
INSIDE: Rows = [
    ("/a", "rwx", {}),
    ("", "rwx", {}),
    ("/vendor/x", "rx", {}),
    ("/.env", "", {"*": ("denied", 12)}),
    ("/a/b/.env", "", {"*": ("denied", 12)}),
    ("/a/.env/below", "", {"*": ("denied", 12)}),
    ("/.envrc", "rwx", {}),
    ("/keys/a.pem", "", {"*": ("denied", 13)}),
    ("/keys/a.pem/x", "", {"*": ("denied", 13)}),
    ("/keys/sub/a.pem", "rwx", {}),
    ("/.git/hooks", "rx", {"write": ("protected", 14)}),
    ("/.git/hooks/pre-commit", "rx", {"write": ("protected", 14)}),
    ("/.git/config", "rwx", {}),
    ("/capsule.yaml", "rx", {"write": ("protected", 15)}),
    ("/a/Capsule.yxml", "rx", {"write": ("protected", 15)}),
    ("/a/capsule.yml", "rwx", {}),
    ("/é x", "rwx", {}),
]
HOME: Rows = [
    ("/x", "", HIDDEN),
    ("/.ssh", "", {"*": ("denied", 11)}),
    ("/.ssh/id", "", {"*": ("denied", 11)}),
    ("/.sshx", "", HIDDEN),
    ("/.cargo", "", HIDDEN),
    ("/.cargo/bin/cargo", "rx", {}),
    ("/.cargo/credentials", "", HIDDEN),
]
NESTED = {
    "read": ["/a", "/a/b/c/d", "/p", "/h/x"],
    "write": ["/a/b/c", "/h"],
    "execute": ["/a/b"],
    "private": ["/p"],
    "hide": ["/a/b/c/e", "/h", "/p/q"],
}
NESTED_ROWS: Rows = [
    ("/a/x", "r", {}),
    ("/a/b", "rx", {}),
    ("/a/b/c", "rwx", {}),
    ("/a/b/c/d", "rx", {}),
    ("/a/b/c/d/x", "rx", {}),
    ("/a/b/c/e", "", HIDDEN),
    ("/a/b/c/e/x", "", HIDDEN),
    ("/p", "r", {}),
    ("/p/x", "r", {}),
    ("/p/q/x", "", HIDDEN),
    ("/h/y", "rw", {}),
    ("/h/x", "r", {}),
    ("/h/x/y", "r", {}),
]
PROGRAMS = ["/usr/bin/git", "/usr/lib/git-core", "/w/run"]
PROGRAMS_ROWS: Rows = [
    ("/usr/bin/git", "rx", {}),
    ("/usr/bin/gitx", "r", {}),
    ("/usr/lib/git-core/git-add", "rx", {}),
    ("/usr/lib/x", "r", {}),
    ("/w/run", "", {}),
    ("/usr", "r", {}),
    ("/usr/bin", "r", {}),
]


def main() -> None:
    """Write all of them."""
    beside = {"cwd": "/w/sub", "home": "/home/u", "workspace": "/w"}
    within = {"cwd": "/home/u/code", "home": "/home/u", "workspace": "/home/u/code"}
    workspace = _plan(WORKSPACE)
    programs = _plan({"read": ["/usr"], "execute": ["/usr"]}, PROGRAMS)
    vectors = {
        "workspace": (workspace, beside, _cases(PLAIN) + _cases(INSIDE, "/w") + _cases(HOME, "/home/u")),
        "workspace-in-home": (workspace, within, _cases(INSIDE, "/home/u/code") + _cases(HOME, "/home/u")),
        "nested": (_plan(NESTED), beside, _cases(NESTED_ROWS)),
        "programs": (programs, beside, _cases(PROGRAMS_ROWS)),
    }
    for name, (plan, variables, cases) in vectors.items():
        rows = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in cases)
        head = json.dumps({"plan": plan, "variables": variables}, sort_keys=True)
        (HERE / f"{name}.json").write_text(f'{head[:-1]}, "cases": [\n{rows}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
