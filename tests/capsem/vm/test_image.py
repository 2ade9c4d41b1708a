from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest

from capsem.errors import ImageError
from capsem.vm.image import Kernel, Manifest, Package, Part, Root, canonical, check_name

DIGITS = "0" * 64


def manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "version": 1,
        "digest": "",
        "name": "default",
        "architecture": "x86_64",
        "kernel": Kernel(
            path="vmlinuz", sha256=DIGITS, size=5, flavour="hardened", version="6.1.1", config_sha256=DIGITS
        ),
        "initrd": Part(path="initrd", sha256=DIGITS, size=6),
        "root": Root(path="root.squashfs", sha256=DIGITS, size=7, format="squashfs"),
        "sbom": Part(path="sbom.cdx.json", sha256=DIGITS, size=8),
        "agent_sha256": DIGITS,
        "recipe_sha256": DIGITS,
        "suite": "bookworm",
        "epoch": 1_761_955_200,
        "environment": {"LANG": "C.UTF-8"},
        "packages": (Package(kind="deb", name="bash", version="5.2"),),
    }
    return Manifest(**(fields | changes)).sealed()


def test_what_is_written_is_read() -> None:
    whole = manifest()
    assert Manifest.parse(whole.encode()) == whole
    assert len(whole.digest) == 64


def test_the_digest_is_of_everything_else() -> None:
    assert manifest().digest == manifest().digest
    assert manifest().digest != manifest(epoch=1).digest
    assert manifest().digest != manifest(packages=()).digest
    assert manifest().sealed().digest == manifest().digest


def altered(change: dict[str, Any], *, seal: bool = True) -> bytes:
    fields = msgspec.to_builtins(manifest()) | change
    if seal:
        rest = {key: value for key, value in fields.items() if key != "digest"}
        fields["digest"] = hashlib.sha256(canonical(rest)).hexdigest()
    return canonical(fields)


PART = {"path": "initrd", "sha256": DIGITS, "size": 6}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not of the documented form"),
        (b"\xff\xfe", "not of the documented form"),
        (b"[]", "not of the documented form"),
        (altered({"more": 1}), "unknown field"),
        (altered({"epoch": "now"}), "not of the documented form"),
        (altered({"version": 2}), "has version 2"),
        (altered({"epoch": 5}, seal=False), "was changed"),
        (altered({"digest": DIGITS}, seal=False), "was changed"),
        (altered({"initrd": PART | {"path": "../initrd"}}), "no file of its directory"),
        (altered({"initrd": PART | {"path": "a/b"}}), "no file of its directory"),
        (altered({"initrd": PART | {"path": ".verified"}}), "no file of its directory"),
        (altered({"initrd": PART | {"path": "vmlinuz"}}), "one file for two parts"),
        (altered({"initrd": PART | {"size": -1}}), "no size or SHA-256"),
        (altered({"initrd": PART | {"sha256": "x"}}), "no size or SHA-256"),
        (altered({"name": "../x"}), "cannot name an image"),
    ],
)
def test_what_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        Manifest.parse(data)


def test_the_control_of_what_is_refused_passes() -> None:
    assert Manifest.parse(altered({"epoch": 5})).epoch == 5
    assert json.loads(altered({}))["digest"] == manifest().digest


@pytest.mark.parametrize("name", ["a", "default", "my-image_2.1", "abc"])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "a/b", ".a", "a.", "a" * 65, "deadbeefdead", "0" * 64, "a\n"])
def test_what_cannot_be_a_name(name: str) -> None:
    with pytest.raises(ImageError):
        check_name(name)
