from __future__ import annotations

import pytest

from capsem.errors import ImageError
from capsem.vm.image import Package
from capsem.vm.packages import absent, debian, drift, lock_text, npm, python, read_lock

STATUS = """Package: zlib1g
Status: install ok installed
Version: 1:1.2.13
Description: compression
 Package: not a field

Package: bash
Status: install ok installed
Version: 5.2.15-2+b10

Package: gone
Status: deinstall ok config-files
Version: 1
"""
BASH = Package(kind="deb", name="bash", version="5.2.15-2+b10")
ZLIB = Package(kind="deb", name="zlib1g", version="1:1.2.13")


def test_debian() -> None:
    assert debian(STATUS) == (BASH, ZLIB)
    assert debian("") == ()


def test_debian_without_a_version() -> None:
    with pytest.raises(ImageError, match="Version"):
        debian("Package: a\nStatus: install ok installed\n")


def test_npm() -> None:
    lock = """{"packages": {"node_modules/@a/b": {"version": "1.0.0"},
        "node_modules/@a/b/node_modules/c": {"version": "2.0.0"}, "node_modules/l": {"link": true, "version": "3"}}}"""
    assert [(one.name, one.version) for one in npm(lock)] == [("@a/b", "1.0.0"), ("c", "2.0.0")]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"packages": {"node_modules/a": {}}}', '{"packages": {"a": 1}}']
)
def test_what_is_not_npm_s(text: str) -> None:
    with pytest.raises(ImageError):
        npm(text)


def test_python() -> None:
    found = python("Metadata-Version: 2.1\nName: rich\nVersion: 14.2\n\nName: not this\n")
    assert found == Package(kind="pypi", name="rich", version="14.2")
    with pytest.raises(ImageError, match="Version"):
        python("Name: x\n")


def test_a_lock_is_read_as_written() -> None:
    both = (
        BASH,
        ZLIB,
        Package(kind="npm", name="c", version="1"),
        Package(kind="npm", name="c", version="2"),
    )
    assert read_lock("# words\n\n" + lock_text(both[::-1]), "x.lock") == both


@pytest.mark.parametrize("line", ["deb bash", "deb bash 1 2", "rpm bash 1", "deb a 1\ndeb a 2"])
def test_what_is_no_lock(line: str) -> None:
    with pytest.raises(ImageError, match=r"x\.lock:[12]"):
        read_lock(line, "x.lock")


def test_drift_is_told_by_name() -> None:
    newer = Package(kind="deb", name="bash", version="6")
    more = Package(kind="npm", name="c", version="1")
    assert drift((BASH, ZLIB), (ZLIB, BASH)) == []
    assert drift((BASH, ZLIB), (newer, more)) == [
        "bash: locked 5.2.15-2+b10, found 6",
        "zlib1g: locked 1:1.2.13, found not at all",
        "c: locked not at all, found 1",
    ]


def test_what_pip_did_not_bring_is_told() -> None:
    here = (
        Package(kind="pypi", name="Ruamel.YAML", version="1"),
        Package(kind="deb", name="cowsay", version="6.1"),
    )
    assert absent({"ruamel_yaml": "1", "cowsay": "6.1"}, here) == ["cowsay"]
