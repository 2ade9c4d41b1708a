from __future__ import annotations

import json
from typing import Any

import pytest

from capsem.errors import ImageError
from capsem.vm.npm_lock import manifest, read

HASH = "sha512-" + "A" * 86 + "=="


def lock(wanted: dict[str, str], **more: dict[str, Any]) -> str:
    """A lock of these packages; `more` are fields of the first."""
    rows: dict[str, Any] = {"": {"dependencies": wanted}}
    for name, version in wanted.items():
        rows[f"node_modules/{name}"] = {"version": version, "integrity": HASH}
    if more:
        rows[f"node_modules/{next(iter(wanted))}"] |= more
    return json.dumps({"lockfileVersion": 3, "packages": rows})


def test_a_lock() -> None:
    document = json.loads(lock({"@a/b": "1.0.0"}, bin={"b": "./bin/b.js"}))
    document["packages"]["node_modules/@a/b/node_modules/c"] = {
        "name": "@x/c", "version": "2.0.0-x64", "integrity": HASH, "bin": {"c": "c.js"},
    }  # fmt: skip
    found = read(json.dumps(document), {"@a/b": "1.0.0"}, "x")
    assert found.links == {"b": "@a/b/bin/b.js"}, "programs are those of the packages that were asked for"
    assert found.packages["node_modules/@a/b/node_modules/c"].name == "@x/c"
    listed = json.loads(found.installed(frozenset({"node_modules/@a/b"})))["packages"]
    assert listed == {"node_modules/@a/b": {"name": "@a/b", "version": "1.0.0", "integrity": HASH}}


def test_what_is_asked_of_npm() -> None:
    assert json.loads(manifest({"a": "1"}))["dependencies"] == {"a": "1"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"resolved": "https://elsewhere.example/a.tgz"}, "where it comes from"),
        ({"resolved": "git+ssh://x"}, "where it comes from"),
        ({"link": True}, "where it comes from"),
        ({"integrity": "sha1-AAAA"}, "no SHA-512"),
        ({"integrity": None}, "no SHA-512"),
        ({"version": "2"}, "the recipe 1"),
        ({"bin": {"a": "../../../etc/passwd"}}, "calls"),
        ({"bin": {"a": "/etc/passwd"}}, "calls"),
        ({"bin": {"../a": "a.js"}}, "calls"),
        ({"bin": "a.js"}, "no package-lock"),
    ],
)
def test_what_a_package_may_not_say(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ImageError, match=words):
        read(lock({"a": "1"}, **more), {"a": "1"}, "x")


@pytest.mark.parametrize(
    "where",
    [
        "../a",
        "node_modules/../a",
        "packages/a",
        "node_modules/a/b",
        "node_modules/",
        "node_modules/..",
        "node_modules/@../a",
    ],
)
def test_where_a_package_may_not_lie(where: str) -> None:
    document = json.loads(lock({"a": "1"}))
    document["packages"][where] = {"version": "1", "integrity": HASH}
    with pytest.raises(ImageError, match="no place of a package"):
        read(json.dumps(document), {"a": "1"}, "x")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"packages": {}}', '{"packages": {"": 1}, "lockfileVersion": 3}']
)
def test_what_is_no_lock(text: str) -> None:
    with pytest.raises(ImageError, match="no package-lock"):
        read(text, {}, "x")


def test_a_lock_of_others() -> None:
    with pytest.raises(ImageError, match="other packages"):
        read(lock({"a": "1"}), {"a": "1", "b": "1"}, "x")
    with pytest.raises(ImageError, match="version 2"):
        read(lock({"a": "1"}).replace(": 3", ": 2"), {"a": "1"}, "x")
