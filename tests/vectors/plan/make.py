"""Write the shared vectors of the plan reader; run it after a change of the format and commit what it writes.

Good vectors are canonical plans. A bad vector is `{"plan": text, "path": JSON path, "says": part of
the reason}`.
Refuses nothing; example: `python tests/vectors/plan/make.py`.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DIGEST = "blake3:" + "0" * 64
Json = Any


def origin(line: int) -> Json:
    """A place in the sample policy."""
    return {"file": "/w/capsule.yaml", "line": line, "column": 3}


def grant(path: str, line: int, *, optional: bool = False) -> Json:
    """A granted path."""
    return {"path": path, "optional": optional, "origin": origin(line)}


def small() -> Json:
    """The least that a plan can say."""
    return {
        "plan": 1,
        "name": "small",
        "compiler": "0.1.0",
        "policy": {"digest": DIGEST, "sources": [{"path": "preset:small", "digest": DIGEST}]},
        "filesystem": {k: [] for k in ("read", "write", "execute", "deny", "protect", "private", "hide")},
        "network": {"mode": "none", "ports": [], "unix": [], "egress": None, "origin": origin(1)},
        "syscalls": {"groups": [], "allow": [], "deny": []},
        "process": {"programs": None},
        "environment": {"pass": [], "set": {}, "scrub": []},
        "limits": dict.fromkeys(
            ("memory", "cpu", "processes", "wall_time", "open_files", "file_size", "output", "disk")
        ),
        "require": [],
        "audit": "run",
    }


def full() -> Json:
    """A line of every kind."""
    plan = small()
    plan["name"] = "full"
    plan["policy"]["sources"].insert(0, {"path": "/w/capsule.yaml", "digest": DIGEST})
    plan["filesystem"] = {
        "read": [grant("/usr", 1), grant("${home}/.gitconfig", 2, optional=True)],
        "write": [grant("${workspace}", 3), grant("${cwd}/out", 4, optional=True)],
        "execute": [grant("/usr/bin", 5)],
        "deny": [
            {"pattern": "${workspace}/**/.env*", "origin": origin(6)},
            {"pattern": "/**/id_[a-z]?[!.]*", "origin": origin(7)},
        ],
        "protect": [{"pattern": "${workspace}/.git/hooks", "origin": origin(8)}],
        "private": [{"path": "/tmp", "origin": origin(9)}],
        "hide": [{"path": "${home}", "origin": origin(10)}],
    }
    plan["network"] = {
        "mode": "none",
        "ports": [1, 65535],
        "unix": [grant("/run/x.sock", 11, optional=True)],
        "egress": None,
        "origin": origin(12),
    }
    plan["syscalls"] = {
        "groups": [
            {"name": "memory", "reason": "memory", "origin": origin(13), "members": ["brk", "mmap"]},
            {"name": "time", "reason": "clocks", "origin": origin(13), "members": ["nanosleep", "times"]},
        ],
        "allow": [
            {
                "name": "prctl",
                "reason": "names",
                "origin": origin(13),
                "when": [
                    {"arg": 0, "op": "mask", "value": 1, "mask": 3},
                    {"arg": 5, "op": "le", "value": 2**53 - 1, "mask": None},
                ],
            },
            {"name": "prctl", "reason": "other", "origin": origin(14), "when": []},
            {"name": "read", "reason": "files", "origin": origin(15), "when": []},
        ],
        "deny": [{"name": "io_uring_setup", "errno": "ENOSYS", "reason": "bypass", "origin": origin(16)}],
    }
    plan["process"]["programs"] = [
        {"path": "/usr/bin/git", "digest": DIGEST, "origin": origin(17)},
        {"path": "${workspace}/bin", "digest": None, "origin": origin(18)},
    ]
    plan["environment"] = {"pass": ["LC_*", "PATH"], "set": {"CI": "1", "ü": "ß\n"}, "scrub": ["*TOKEN*"]}
    plan["limits"] = dict.fromkeys(plan["limits"], 2**53 - 1) | {"cpu": 0, "disk": None}
    plan["require"] = ["cgroup", "landlock", "namespaces", "network", "seccomp", "supervisor"]
    plan["audit"] = "all"
    return plan


def secret(name: str, kind: str, carried: str, line: int, **fields: Json) -> Json:
    """A secret; `fields` are those of its source, and `field`, `to_user`, `to_env`."""
    source = dict.fromkeys(("env", "file", "service", "user", "command", "expires_ms")) | {"kind": kind}
    own = {"field": fields.pop("field", None), "user": fields.pop("to_user", None)}
    own["env"] = fields.pop("to_env", None)
    return {
        "name": name,
        "from": source | fields,
        "to": ["a.example"],
        "as": carried,
        "origin": origin(line),
    } | own


def host(name: str, line: int, **fields: Json) -> Json:
    """A host entry."""
    entry = {
        "host": name,
        "ports": [443, 80],
        "methods": None,
        "paths": None,
        "inspect": "auto",
        "private": False,
        "credential": None,
    }
    return entry | fields | {"origin": origin(line)}


def hosts() -> Json:
    """A line of everything that is reached by name."""
    plan = small()
    plan["name"] = "hosts"
    plan["network"] |= {"mode": "hosts", "egress": {
        "unlisted": "ask",
        "hosts": [
            host("a.example", 2, credential="one"),
            host("*.xn--bcher-kva.example", 3, methods=["GET", "M-SEARCH"], paths=["/a/**"], inspect="always"),
            host("10.1.2.3", 4, ports=[5432], inspect="never", private=True),
        ],
        "budget": {"requests": 1000, "bytes": 2**30, "tokens": None, "microdollars": 5_000_000},
        "upstreams": [
            {"host": "a.example", "address": "127.0.0.1:8443", "origin": origin(5)},
            {"host": "b.example", "address": "[::1]:1", "origin": origin(6)},
        ],
        "authorities": [grant("/etc/ssl/corp.pem", 7), grant("${workspace}/ca.pem", 8, optional=True)],
        "proxy": "http://proxy.example:3128",
        "secrets": [
            secret("one", "env", "header", 9, env="TOKEN", field="Authorization", to_env="TOKEN"),
            secret("two", "file", "basic", 10, file="${home}/.token", to_user="__token__", to_env="P"),
            secret("three-3", "keyring", "query", 11, service="maps", user="me", field="key"),
            secret("f_4", "command", "body", 12, command=["/bin/token", ""], expires_ms=900_000),
        ],
        "rules": [{"path": "${workspace}/rules.yaml", "origin": origin(13)}],
        "detect": [
            {"pack": "agents", "path": None, "origin": origin(14)},
            {"pack": None, "path": "${workspace}/sigma", "origin": origin(15)},
        ],
    }}  # fmt: skip
    return plan


def opened() -> Json:
    """The host's own network."""
    plan = small()
    plan["name"] = "open"
    plan["network"]["mode"] = "open"
    return plan


def canonical(plan: Json) -> str:
    """RFC 8785 for plans (keys here are sorted alike by code point and by UTF-16 unit)."""
    return json.dumps(plan, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def at(plan: Json, *steps: str | int) -> Json:
    """The value at a path."""
    for step in steps:
        plan = plan[step]
    return plan


def put(*steps: str | int, to: Json) -> Callable[[Json], None]:
    """A change that sets one value."""

    def change(plan: Json) -> None:
        at(plan, *steps[:-1])[steps[-1]] = to

    return change


def drop(*steps: str | int) -> Callable[[Json], None]:
    """A change that removes one field."""

    def change(plan: Json) -> None:
        del at(plan, *steps[:-1])[steps[-1]]

    return change


FS = "filesystem"
BAD: dict[str, tuple[Callable[[Json], None], str, str]] = {
    "version-2": (put("plan", to=2), "plan", "version 1"),
    "version-text": (put("plan", to="1"), "plan", "invalid type"),
    "name-empty": (put("name", to=""), "name", "empty"),
    "name-long": (put("name", to="x" * 4097), "name", "more than 4096"),
    "name-nul": (put("name", to="a\0b"), "name", "NUL"),
    "digest-short": (put("policy", "digest", to="blake3:00"), "policy.digest", "64"),
    "digest-upper": (
        put("policy", "sources", 1, "digest", to="blake3:" + "A" * 64),
        "policy.sources[1].digest",
        "hex",
    ),
    "source-relative": (
        put("policy", "sources", 0, "path", to="capsule.yaml"),
        "policy.sources[0].path",
        "absolute",
    ),
    "sources-none": (put("policy", "sources", to=[]), "policy.sources", "empty"),
    "unknown-top": (put("extra", to=1), "extra", "unknown field"),
    "unknown-deep": (put(FS, "read", 0, "why", to="x"), "filesystem.read[0].why", "unknown field"),
    "missing-top": (drop("audit"), ".", "missing field `audit`"),
    "missing-null": (drop("limits", "memory"), "limits", "missing field `memory`"),
    "missing-programs": (drop("process", "programs"), "process", "missing field `programs`"),
    "path-relative": (put(FS, "read", 0, "path", to="usr"), "filesystem.read[0].path", "begins with neither"),
    "path-tilde": (put(FS, "read", 0, "path", to="~/x"), "filesystem.read[0].path", "begins with neither"),
    "path-variable": (
        put(FS, "read", 0, "path", to="${root}/x"),
        "filesystem.read[0].path",
        "begins with neither",
    ),
    "path-stray": (
        put(FS, "read", 0, "path", to="/a/${home}"),
        "filesystem.read[0].path",
        "not at its beginning",
    ),
    "path-parent": (put(FS, "write", 0, "path", to="${workspace}/../x"), "filesystem.write[0].path", "`..`"),
    "path-slash": (put(FS, "execute", 0, "path", to="/usr/"), "filesystem.execute[0].path", "trailing slash"),
    "path-glob": (put(FS, "hide", 0, "path", to="/home/*"), "filesystem.hide[0].path", "glob"),
    "path-nul": (put(FS, "private", 0, "path", to="/a\0"), "filesystem.private[0].path", "NUL"),
    "pattern-unclosed": (
        put(FS, "deny", 0, "pattern", to="/a/[b"),
        "filesystem.deny[0].pattern",
        "never closed",
    ),
    "pattern-double": (
        put(FS, "protect", 0, "pattern", to="/a/b**"),
        "filesystem.protect[0].pattern",
        "whole segment",
    ),
    "pattern-long": (
        put(FS, "deny", 1, "pattern", to="/*" + "/a" * 60),
        "filesystem.deny[1].pattern",
        "more than 60",
    ),
    "origin-zero": (put(FS, "deny", 0, "origin", "line", to=0), "filesystem.deny[0].origin", "from 1"),
    "mode-host": (put("network", "mode", to="host"), "network.mode", "unknown variant"),
    "port-zero": (put("network", "ports", 0, to=0), "network.ports[0]", "not a port"),
    "port-big": (put("network", "ports", 0, to=65536), "network.ports[0]", "65536"),
    "port-float": (put("network", "ports", 0, to=80.5), "network.ports[0]", "invalid type"),
    "ports-many": (put("network", "ports", to=[1] * 4097), "network.ports", "more than 4096"),
    "syscall-name": (put("syscalls", "allow", 0, "name", to="Read"), "syscalls.allow[0].name", "system call"),
    "syscall-order": (put("syscalls", "allow", 0, "name", to="zz"), "syscalls.allow", "sorted"),
    "syscall-group-order": (
        put("syscalls", "groups", 0, "name", to="zz"),
        "syscalls.groups",
        "sorted",
    ),
    "syscall-member-name": (
        put("syscalls", "groups", 0, "members", 1, to="Mmap"),
        "syscalls.groups[0].members[1]",
        "system call",
    ),
    "syscall-member-order": (
        put("syscalls", "groups", 0, "members", 0, to="mmap"),
        "syscalls.groups[0].members",
        "sorted",
    ),
    "syscall-errno": (
        put("syscalls", "deny", 0, "errno", to="38"),
        "syscalls.deny[0].errno",
        "name of an error",
    ),
    "condition-arg": (
        put("syscalls", "allow", 0, "when", 0, "arg", to=6),
        "syscalls.allow[0].when[0].arg",
        "0 to 5",
    ),
    "condition-op": (
        put("syscalls", "allow", 0, "when", 0, "op", to="in"),
        "syscalls.allow[0].when[0].op",
        "unknown variant",
    ),
    "condition-negative": (
        put("syscalls", "allow", 0, "when", 0, "value", to=-1),
        "syscalls.allow[0].when[0].value",
        "-1",
    ),
    "condition-big": (
        put("syscalls", "allow", 0, "when", 1, "value", to=2**53),
        "syscalls.allow[0].when[1].value",
        "2^53",
    ),
    "condition-mask-null": (
        put("syscalls", "allow", 0, "when", 0, "mask", to=None),
        "syscalls.allow[0].when[0].mask",
        "needs one",
    ),
    "condition-mask-stray": (
        put("syscalls", "allow", 0, "when", 1, "mask", to=1),
        "syscalls.allow[0].when[1].mask",
        "`mask` alone",
    ),
    "condition-never": (
        put("syscalls", "allow", 0, "when", 0, "value", to=4),
        "syscalls.allow[0].when[0].value",
        "never hold",
    ),
    "program-digest": (
        put("process", "programs", 0, "digest", to="sha256:00"),
        "process.programs[0].digest",
        "blake3",
    ),
    "environment-glob": (put("environment", "pass", 0, to="[A"), "environment.pass[0]", "never closed"),
    "environment-empty": (put("environment", "scrub", 0, to=""), "environment.scrub[0]", "empty"),
    "environment-name": (put("environment", "set", to={"A=B": "1"}), 'environment.set["A=B"]', "`=`"),
    "limit-big": (put("limits", "memory", to=2**53), "limits.memory", "2^53"),
    "limit-text": (put("limits", "memory", to="1G"), "limits.memory", "invalid type"),
    "require-order": (put("require", to=["seccomp", "landlock"]), "require", "sorted"),
    "require-twice": (put("require", to=["seccomp", "seccomp"]), "require", "repeats"),
    "require-unknown": (put("require", to=["firewall"]), "require[0]", "unknown variant"),
    "audit-off": (put("audit", to="off"), "audit", "unknown variant"),
}

NET = "network"
EGRESS = "network.egress"


def egress(*steps: str | int, to: Json) -> Callable[[Json], None]:
    """A change below `network.egress`."""
    return put(NET, "egress", *steps, to=to)


HOSTS_BAD: dict[str, tuple[Callable[[Json], None], str, str]] = {
    "egress-null": (put(NET, "egress", to=None), EGRESS, "null"),
    "egress-missing": (drop(NET, "egress"), "network", "missing field `egress`"),
    "egress-none": (put(NET, "mode", to="none"), EGRESS, "`hosts` alone"),
    "egress-open": (put(NET, "mode", to="open"), EGRESS, "`hosts` alone"),
    "egress-unknown": (egress("hosts", 0, "scheme", to="x"), EGRESS + ".hosts[0].scheme", "unknown field"),
    "egress-no-methods": (drop(NET, "egress", "hosts", 0, "methods"), EGRESS + ".hosts[0]", "missing field"),
    "egress-unlisted": (egress("unlisted", to="allow"), EGRESS + ".unlisted", "unknown variant"),
    "host-upper": (egress("hosts", 0, "host", to="A.example"), EGRESS + ".hosts[0].host", "not a host"),
    "host-dot": (egress("hosts", 0, "host", to="a.example."), EGRESS + ".hosts[0].host", "not a host"),
    "host-star": (egress("hosts", 0, "host", to="*"), EGRESS + ".hosts[0].host", "not a host"),
    "host-star-inside": (egress("hosts", 0, "host", to="a.*.b"), EGRESS + ".hosts[0].host", "not a host"),
    "host-scheme": (egress("hosts", 0, "host", to="http://a"), EGRESS + ".hosts[0].host", "not a host"),
    "host-unicode": (
        egress("hosts", 0, "host", to="bücher.example"),
        EGRESS + ".hosts[0].host",
        "not a host",
    ),
    "host-long": (egress("hosts", 0, "host", to="a." * 126 + "bc"), EGRESS + ".hosts[0].host", "not a host"),
    "host-v6": (egress("hosts", 0, "host", to="::1"), EGRESS + ".hosts[0].host", "not a host"),
    "host-number": (egress("hosts", 0, "host", to="167772161"), EGRESS + ".hosts[0].host", "not a host"),
    "host-octal": (egress("hosts", 0, "host", to="010.0.0.1"), EGRESS + ".hosts[0].host", "not a host"),
    "host-hex": (egress("hosts", 0, "host", to="0x7f.0.0.0x1"), EGRESS + ".hosts[0].host", "not a host"),
    "host-star-number": (egress("hosts", 0, "host", to="*.0.0.1"), EGRESS + ".hosts[0].host", "not a host"),
    "host-ports-none": (egress("hosts", 0, "ports", to=[]), EGRESS + ".hosts[0].ports", "empty"),
    "host-port-zero": (egress("hosts", 0, "ports", to=[443, 0]), EGRESS + ".hosts[0].ports[1]", "not a port"),
    "host-port-53": (egress("hosts", 0, "ports", to=[53]), EGRESS + ".hosts[0].ports[0]", "names"),
    "host-ports-many": (
        egress("hosts", 0, "ports", to=list(range(1000, 1241))),
        EGRESS + ".hosts",
        "more than 240",
    ),
    "host-method": (
        egress("hosts", 0, "methods", to=["GE T"]),
        EGRESS + ".hosts[0].methods[0]",
        "HTTP method",
    ),
    "host-path": (egress("hosts", 0, "paths", to=["a"]), EGRESS + ".hosts[0].paths[0]", "begin"),
    "host-never": (
        egress("hosts", 1, "inspect", to="never"),
        EGRESS + ".hosts[1].inspect",
        "could not be checked",
    ),
    "host-never-bound": (
        egress("hosts", 0, "inspect", to="never"),
        EGRESS + ".hosts[0].inspect",
        "could not be checked",
    ),
    "host-credential": (
        egress("hosts", 0, "credential", to="other"),
        EGRESS + ".hosts[0].credential",
        "none of the secrets",
    ),
    "budget-big": (egress("budget", "tokens", to=2**53), EGRESS + ".budget.tokens", "2^53"),
    "budget-negative": (egress("budget", "tokens", to=-1), EGRESS + ".budget.tokens", "-1"),
    "upstream-name": (
        egress("upstreams", 0, "address", to="b.example:1"),
        EGRESS + ".upstreams[0].address",
        "address",
    ),
    "upstream-port": (
        egress("upstreams", 0, "address", to="127.0.0.1:0"),
        EGRESS + ".upstreams[0].address",
        "address",
    ),
    "authority-relative": (
        egress("authorities", 0, "path", to="x"),
        EGRESS + ".authorities[0].path",
        "neither",
    ),
    "proxy-empty": (egress("proxy", to=""), EGRESS + ".proxy", "empty"),
    "secret-name": (egress("secrets", 0, "name", to="One"), EGRESS + ".secrets[0].name", "is not"),
    "secret-name-long": (egress("secrets", 0, "name", to="a" * 33), EGRESS + ".secrets[0].name", "is not"),
    "secret-twice": (egress("secrets", 1, "name", to="one"), EGRESS + ".secrets", "one name"),
    "secret-nowhere": (egress("secrets", 0, "to", to=[]), EGRESS + ".secrets[0].to", "empty"),
    "secret-field": (egress("secrets", 0, "field", to=None), EGRESS + ".secrets[0].field", "goes with"),
    "secret-field-stray": (egress("secrets", 3, "field", to="x"), EGRESS + ".secrets[3].field", "goes with"),
    "secret-as": (egress("secrets", 0, "as", to="cookie"), EGRESS + ".secrets[0].as", "unknown variant"),
    "secret-env": (egress("secrets", 0, "env", to="A=B"), EGRESS + ".secrets[0].env", "`=`"),
    "secret-kind": (
        egress("secrets", 0, "from", "kind", to="file"),
        EGRESS + ".secrets[0].from",
        "other fields",
    ),
    "secret-both": (
        egress("secrets", 0, "from", "file", to="/a"),
        EGRESS + ".secrets[0].from",
        "other fields",
    ),
    "secret-command": (
        egress("secrets", 3, "from", "command", to=[]),
        EGRESS + ".secrets[3].from.command",
        "empty",
    ),
    "rule-path": (egress("rules", 0, "path", to="rules.yaml"), EGRESS + ".rules[0].path", "neither"),
    "detect-both": (egress("detect", 0, "path", to="/a"), EGRESS + ".detect[0]", "one of them"),
    "detect-neither": (egress("detect", 0, "pack", to=None), EGRESS + ".detect[0]", "one of them"),
}

TEXT_BAD: dict[str, tuple[Callable[[str], str], str, str]] = {
    "duplicate-top": (lambda t: t.replace('"audit":', '"audit":"run","audit":', 1), ".", "duplicate field"),
    "duplicate-set": (
        lambda t: t.replace('"CI":"1"', '"CI":"0","CI":"1"', 1),
        "environment.set",
        "duplicate field",
    ),
    "empty": (lambda _: "", ".", "EOF"),
    "trailing": (lambda t: t + "{}", ".", "trailing"),
    "array": (lambda t: f"[{t}]", ".", "invalid type"),
    "array-deep": (
        lambda t: t.replace('{"column":3,"file":"/w/capsule.yaml","line":1}', '["/w/capsule.yaml",1,3]', 1),
        "filesystem.read[0].origin",
        "invalid type",
    ),
    "cut": (lambda t: t[:-1], ".", "EOF"),
}

PATTERNS: list[tuple[str, str, bool]] = [
    ("/a", "/a", True),
    ("/a", "/a/b/c", True),
    ("/a", "/ab", False),
    ("/a", "/", False),
    ("/", "/", True),
    ("/", "/a", True),
    ("/**", "/", True),
    ("/**", "/a/b", True),
    ("/a/**", "/a", True),
    ("/a/**", "/a/b", True),
    ("/a/**", "/ab", False),
    ("/a/*", "/a", False),
    ("/a/*", "/a/b", True),
    ("/a/*", "/a/.b", True),
    ("/a/*", "/a/b/c", True),
    ("/a/*.pem", "/a/x.pem", True),
    ("/a/*.pem", "/a/.pem", True),
    ("/a/*.pem", "/a/b/x.pem", False),
    ("/a/*.pem", "/a/x.pem.bak", False),
    ("/a/**/.env", "/a/.env", True),
    ("/a/**/.env", "/a/b/c/.env", True),
    ("/a/**/.env", "/a/b/.env/c", True),
    ("/a/**/.env", "/a/b/.envrc", False),
    ("/a/**/.env", "/.env", False),
    ("/a/**/b/**/c", "/a/b/c", True),
    ("/a/**/b/**/c", "/a/x/b/y/z/c/d", True),
    ("/a/**/b/**/c", "/a/c/b", False),
    ("/a/**/b/c", "/a/b/b/c", True),
    ("/a/**/b/c", "/a/b/x/c", False),
    ("/**/*.key", "/x.key", True),
    ("/**/*.key", "/a/b.key/c", True),
    ("/a/?", "/a/b", True),
    ("/a/?", "/a/bc", False),
    ("/a/?", "/a/ü", False),
    ("/a/??", "/a/ü", True),
    ("/a/[bc]", "/a/b", True),
    ("/a/[bc]", "/a/d", False),
    ("/a/[b-d]x", "/a/cx", True),
    ("/a/[!b-d]x", "/a/cx", False),
    ("/a/[!b-d]x", "/a/ex", True),
    ("/a/[]]", "/a/]", True),
    ("/a/[!]]", "/a/]", False),
    ("/a/[a-]", "/a/-", True),
    ("/a/[^b]", "/a/^", True),
    ("/a/[^b]", "/a/c", False),
    ("/a/b*c*d", "/a/bcd", True),
    ("/a/b*c*d", "/a/bxcxcxd", True),
    ("/a/b*c*d", "/a/bxd", False),
    ("/a/\\*", "/a/*", False),
    ("/a/\\*", "/a/\\x", True),
    ("${workspace}/x", "/w/x", True),
    ("${workspace}", "/w/x", True),
    ("${workspace}/**/x", "/w/a/x", True),
    ("${cwd}/x", "/w/c/x", True),
    ("/A", "/a", False),
]


def main() -> None:
    """Write all of them."""
    for directory in ("good", "bad"):
        (HERE / directory).mkdir(exist_ok=True)
    for plan in (small(), full(), hosts(), opened()):
        (HERE / "good" / f"{plan['name']}.json").write_text(canonical(plan), encoding="utf-8")
    cases: dict[str, tuple[str, str, str]] = {}
    for name, (change, path, says) in BAD.items():
        plan = copy.deepcopy(full())
        change(plan)
        cases[name] = (canonical(plan), path, says)
    for name, (change, path, says) in HOSTS_BAD.items():
        plan = hosts()
        change(plan)
        cases[name] = (canonical(plan), path, says)
    for name, (edit, path, says) in TEXT_BAD.items():
        cases[name] = (edit(canonical(full())), path, says)
    for name, (text, path, says) in cases.items():
        case = {"path": path, "plan": text, "says": says}
        (HERE / "bad" / f"{name}.json").write_text(json.dumps(case) + "\n", encoding="utf-8")
    rows = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in PATTERNS)
    (HERE / "patterns.json").write_text(f"[\n{rows}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
