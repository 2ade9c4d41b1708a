"""Policies for tests: a loader over a dictionary, and strategies for documents the parser accepts.

resolve_text("version: 1", {"team.yaml": "version: 1"})
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from capsule.errors import Problem
from capsule.policy.merge import LoadError, resolve
from capsule.policy.model import CONDITION_OPERATORS, LAYERS, Policy, Source
from capsule.policy.sections import ERRNOS
from capsule.sandbox.syscalls import groups, numbers

TOP = "/w/capsule.yaml"


class DictLoader:
    """The loader port over texts by reference; `including` is not looked at."""

    def __init__(self, files: Mapping[str, str] | None = None) -> None:
        self.files = dict(files or {})

    def load(self, reference: str, including: str) -> Source:
        if reference not in self.files:
            raise LoadError(f"the file {reference} cannot be read: not there", "check the path")
        return Source("/w/" + reference.removeprefix("./"), self.files[reference].encode())


def resolve_text(text: str, files: Mapping[str, str] | None = None) -> Policy:
    """The policy of a text, as if it were `/w/capsule.yaml`."""
    return resolve(Source(TOP, text.encode()), DictLoader(files))


def places(problems: tuple[Problem, ...]) -> list[tuple[int, int]]:
    """Lines and columns."""
    return [(problem.line, problem.column) for problem in problems]


_SEGMENT = st.text("abz019._- é", min_size=1, max_size=6).filter(
    lambda s: s.strip() == s and s not in {".", ".."}
)
_ROOT = st.sampled_from(["/", "~/", "./", ""])
paths = st.builds(
    lambda root, segments: root + "/".join(segments), _ROOT, st.lists(_SEGMENT, min_size=1, max_size=3)
).filter(lambda path: not path.startswith("~") or path.startswith("~/"))
_GLOB = st.sampled_from(["**", "*", "*.pem", "[ab]x", "[!ab]", "?", ".env.*"])
patterns = st.builds(
    lambda root, segments: root + "/".join(segments),
    _ROOT,
    st.lists(_SEGMENT | _GLOB, min_size=1, max_size=4),
)
_reasons = st.text("ab é'\"#:", min_size=1, max_size=12)
_words = st.text("ABCXYZ_", min_size=1, max_size=6)


def _optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


def _list(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    listed = st.lists(items, max_size=3)
    return listed | st.builds(lambda entries: {"replace": entries}, listed)


def _entry(path: st.SearchStrategy[str], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return path | st.fixed_dictionaries({"path": path}, optional={"reason": _reasons, **more})


_grants = _list(_entry(paths, optional=st.booleans()))
_calls = st.sampled_from(
    sorted(name for group in groups().values() if group.kind == "grant" for name in group.members)
)
_conditions = st.builds(
    lambda arg, op, value, mask: (
        {"arg": arg, "op": op, "value": value & mask, "mask": mask}
        if op == "mask"
        else {"arg": arg, "op": op, "value": value}
    ),
    st.integers(0, 5),
    st.sampled_from(CONDITION_OPERATORS),
    st.integers(0, 2**53 - 1),
    st.integers(0, 2**53 - 1),
)
_sizes = st.sampled_from(["none", "1B", "64KiB", "10MB", "2GiB"])
_memories = st.sampled_from(["none", "4MiB", "10MB", "2GiB"])
_durations = st.sampled_from(["none", "500ms", "60s", "10m", "2h"])
_counts = st.integers(1, 10**6) | st.just("none")
_files = st.integers(16, 10**6) | st.just("none")

hosts = st.sampled_from(
    ["a.example", "*.a.example", "B.Example.", "xn--bcher-kva.example", "1.1.1.1", "a_b.c", "*.com"]
)
_host_entries = hosts | st.fixed_dictionaries(
    {"host": hosts},
    optional={
        "ports": st.lists(st.sampled_from([443, 80, 8443]), min_size=1, max_size=2, unique=True),
        "methods": st.lists(st.sampled_from(["GET", "POST", "M-SEARCH"]), min_size=1, unique=True),
        "paths": st.lists(st.sampled_from(["/", "/v1/**", "/a b/[xy]*", "/**/z"]), min_size=1, unique=True),
        "inspect": st.sampled_from(["auto", "always"]),
        "private": st.booleans(),
        "credential": st.sampled_from(["one", "two-2"]),
        "reason": _reasons,
    },
)
_sources = (
    st.fixed_dictionaries({"env": _words})
    | st.fixed_dictionaries({"file": paths})
    | st.fixed_dictionaries({"keyring": st.fixed_dictionaries({"service": _reasons, "user": _reasons})})
    | st.fixed_dictionaries(
        {"command": st.just(["/bin/token", "-x", ""])}, optional={"expires": st.sampled_from(["none", "15m"])}
    )
)
_secrets = st.builds(
    lambda fixed, more: fixed | more,
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["one", "two-2"]),
            "from": _sources,
            "to": st.lists(hosts, min_size=1, max_size=2),
            "env": _words,
        },
        optional={"reason": _reasons},
    ),
    st.sampled_from(
        [
            {"as": "header", "field": "X-Api-Key"},
            {"as": "query", "field": "key"},
            {"as": "basic"},
            {"as": "basic", "user": "__token__"},
            {"as": "body"},
        ]
    ),
)
_network = _optional(
    mode=st.sampled_from(["none", "hosts", "open"]),
    ports=_list(st.integers(1, 65535)),
    unix=_grants,
    hosts=_list(_host_entries),
    unlisted=st.sampled_from(["deny", "ask"]),
    budget=_optional(
        requests=_counts,
        bytes=_sizes,
        tokens=_counts,
        dollars=st.sampled_from(["none", "5", "0.50", "5.000001"]),
    ),
    upstreams=_list(
        st.fixed_dictionaries(
            {"host": hosts, "address": st.sampled_from(["127.0.0.1:8443", "[fd00::1]:1"])},
            optional={"reason": _reasons},
        )
    ),
    authorities=_grants,
    proxy=st.sampled_from([None, "http://proxy.example:3128"]),
).filter(lambda network: "hosts" not in network or network.get("mode") not in {"none", "open"})

sections: dict[str, st.SearchStrategy[Any]] = {
    "filesystem": _optional(
        read=_grants,
        write=_grants,
        execute=_grants,
        deny=_list(_entry(patterns)),
        protect=_list(_entry(patterns)),
        private=_list(_entry(paths)),
        hide=_list(_entry(paths)),
    ),
    "network": _network,
    "secrets": _list(_secrets),
    "rules": _list(_entry(paths)),
    "detect": _list(st.sampled_from(["agents", "./sigma", "/srv/rules", "~/x"])),
    "syscalls": _optional(
        groups=_list(st.sampled_from([name for name, group in groups().items() if group.kind == "grant"])),
        allow=_list(
            _calls
            | st.fixed_dictionaries(
                {"name": _calls},
                optional={"reason": _reasons, "when": st.lists(_conditions, min_size=1, max_size=2)},
            )
        ),
        deny=_list(
            st.sampled_from(sorted(numbers()))
            | st.fixed_dictionaries(
                {"name": _calls}, optional={"reason": _reasons, "errno": st.sampled_from(ERRNOS)}
            )
        ),
    ),
    "process": _optional(
        programs=st.just("any") | _list(_entry(paths, digest=st.just("blake3:" + "0a" * 32)))
    ),
    "env": _optional(
        **{
            "pass": _list(_words.map(lambda word: word + "*")),
            "set": st.dictionaries(_words, st.none() | st.text("ab 1", max_size=4), max_size=3),
            "scrub": _list(_words),
        }
    ),
    "limits": _optional(
        memory=_memories, cpu=_durations, processes=_counts, wall_time=_durations, open_files=_files,
        file_size=_sizes, output=_sizes, disk=_sizes,
    ),
    "require": _list(st.sampled_from(LAYERS)),
    "audit": st.sampled_from(["run", "writes", "all"]),
}  # fmt: skip
_examples = st.lists(
    st.builds(lambda kind, path: {kind: path}, st.sampled_from(["read", "write", "execute"]), paths)
    | st.sampled_from(
        [
            {"connect": "tcp:a.example:443"},
            {"connect": "unix:/run/x"},
            {"syscall": "ptrace"},
            {"env": "A"},
            {"request": "https://a.example"},
            {"request": "POST https://a.example:8443/x?y=1"},
        ]
    ),
    max_size=3,
)
documents = st.fixed_dictionaries(
    {"version": st.just(1)},
    optional={
        "name": st.text("abAB09", min_size=1, max_size=8),
        "extends": st.lists(st.sampled_from(["workspace", "strict", "git"]), unique=True, max_size=2),
        **sections,
        "tools": st.dictionaries(_words, _optional(**sections), max_size=2),
        "examples": _optional(allow=_examples, deny=_examples),
    },
)


def to_yaml(document: dict[str, Any]) -> bytes:
    """JSON is YAML; every string is quoted, so none is mistaken for something else."""
    return json.dumps(document, ensure_ascii=False).encode()
