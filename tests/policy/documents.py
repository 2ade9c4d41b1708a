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
_durations = st.sampled_from(["none", "500ms", "60s", "10m", "2h"])
_counts = st.integers(1, 10**6) | st.just("none")

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
    "network": _optional(mode=st.just("none"), ports=_list(st.integers(1, 65535)), unix=_grants),
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
        memory=_sizes, cpu=_durations, processes=_counts, wall_time=_durations, open_files=_counts,
        file_size=_sizes, output=_sizes, disk=_sizes,
    ),
    "require": _list(st.sampled_from(LAYERS)),
    "audit": st.sampled_from(["run", "writes", "all"]),
}  # fmt: skip
_examples = st.lists(
    st.builds(lambda kind, path: {kind: path}, st.sampled_from(["read", "write", "execute"]), paths)
    | st.sampled_from(
        [{"connect": "tcp:a.example:443"}, {"connect": "unix:/run/x"}, {"syscall": "ptrace"}, {"env": "A"}]
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
